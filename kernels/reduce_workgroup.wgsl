
// Maximum and sum over a workgroup of several subgroups. Expects: WORKGROUP_SIZE, a multiple of
// every subgroup size.

const MOST_SUBGROUPS = WORKGROUP_SIZE / 4u;

// Each reduction has its own array, so that the second need not wait until every invocation has
// read the result of the first.
var<workgroup> maxima: array<f32, MOST_SUBGROUPS>;
var<workgroup> sums: array<f32, MOST_SUBGROUPS>;

fn reduce_max(value: f32, lane: u32) -> f32 {
  let partial = subgroupMax(value);
  let subgroup_lanes = subgroupAdd(1u);
  if (lane % subgroup_lanes == 0u) {
    maxima[lane / subgroup_lanes] = partial;
  }
  workgroupBarrier();  // every maximum is there before any is read
  var result = maxima[0];
  for (var i = 1u; i < WORKGROUP_SIZE / subgroup_lanes; i++) {
    result = max(result, maxima[i]);
  }
  return result;
}

fn reduce_sum(value: f32, lane: u32) -> f32 {
  let partial = subgroupAdd(value);
  let subgroup_lanes = subgroupAdd(1u);
  if (lane % subgroup_lanes == 0u) {
    sums[lane / subgroup_lanes] = partial;
  }
  workgroupBarrier();  // every sum is there before any is read
  var result = 0.0;
  for (var i = 0u; i < WORKGROUP_SIZE / subgroup_lanes; i++) {
    result += sums[i];
  }
  return result;
}
