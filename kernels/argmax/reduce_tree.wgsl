
// The best of a workgroup: highest order, then lowest index. Invocation 0 has the result.
// Expects: WORKGROUP_SIZE, a power of two.

struct Best {
  order: u32,
  index: u32,
}

var<workgroup> tree_orders: array<u32, WORKGROUP_SIZE>;
var<workgroup> tree_indexes: array<u32, WORKGROUP_SIZE>;

fn reduce(own: Best, lane: u32) -> Best {
  var best = own;
  tree_orders[lane] = own.order;
  tree_indexes[lane] = own.index;
  workgroupBarrier();  // every value is there before any is read
  for (var width = WORKGROUP_SIZE / 2u; width > 0u; width /= 2u) {
    if (lane < width) {
      let other = Best(tree_orders[lane + width], tree_indexes[lane + width]);
      if (other.order > best.order || (other.order == best.order && other.index < best.index)) {
        best = other;
        tree_orders[lane] = best.order;
        tree_indexes[lane] = best.index;
      }
    }
    workgroupBarrier();  // this level of the tree is complete before the next one reads it
  }
  return best;
}
