
// Maximum and sum over a workgroup without subgroup operations. Expects: WORKGROUP_SIZE, a power of
// two.

var<workgroup> maxima: array<f32, WORKGROUP_SIZE>;
var<workgroup> sums: array<f32, WORKGROUP_SIZE>;

fn reduce_max(value: f32, lane: u32) -> f32 {
  maxima[lane] = value;
  workgroupBarrier();  // every value is there before any is read
  for (var width = WORKGROUP_SIZE / 2u; width > 0u; width /= 2u) {
    if (lane < width) {
      maxima[lane] = max(maxima[lane], maxima[lane + width]);
    }
    workgroupBarrier();  // this level of the tree is complete before the next one reads it
  }
  return maxima[0];
}

fn reduce_sum(value: f32, lane: u32) -> f32 {
  sums[lane] = value;
  workgroupBarrier();  // every value is there before any is read
  for (var width = WORKGROUP_SIZE / 2u; width > 0u; width /= 2u) {
    if (lane < width) {
      sums[lane] += sums[lane + width];
    }
    workgroupBarrier();  // this level of the tree is complete before the next one reads it
  }
  return sums[0];
}
