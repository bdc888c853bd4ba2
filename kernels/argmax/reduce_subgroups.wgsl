
// The best of a workgroup: highest order, then lowest index. Invocation 0 has the result.
// Expects: WORKGROUP_SIZE, a multiple of every subgroup size.

struct Best {
  order: u32,
  index: u32,
}

const MOST_SUBGROUPS = WORKGROUP_SIZE / 4u;

var<workgroup> partial_orders: array<u32, MOST_SUBGROUPS>;
var<workgroup> partial_indexes: array<u32, MOST_SUBGROUPS>;

fn reduce(own: Best, lane: u32) -> Best {
  let order = subgroupMax(own.order);
  let index = subgroupMin(select(0xffffffffu, own.index, own.order == order));
  let subgroup_lanes = subgroupAdd(1u);
  if (lane % subgroup_lanes == 0u) {
    partial_orders[lane / subgroup_lanes] = order;
    partial_indexes[lane / subgroup_lanes] = index;
  }
  workgroupBarrier();  // every partial is there before any is read
  var best = Best(order, index);
  for (var i = 1u; i < WORKGROUP_SIZE / subgroup_lanes; i++) {
    let other = Best(partial_orders[i], partial_indexes[i]);
    if (other.order > best.order || (other.order == best.order && other.index < best.index)) {
      best = other;
    }
  }
  return best;
}
