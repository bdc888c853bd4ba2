
// Sum over a workgroup without subgroup operations. Expects: WORKGROUP_SIZE, a power of two.

var<workgroup> partials: array<vec2<f32>, WORKGROUP_SIZE>;

fn reduce(value: vec2<f32>, turn: u32, lane: u32) -> vec2<f32> {
  workgroupBarrier();  // the result of the previous call was read before it is overwritten
  partials[lane] = value;
  workgroupBarrier();  // every value is there before any is read
  for (var width = WORKGROUP_SIZE / 2u; width > 0u; width /= 2u) {
    if (lane < width) {
      partials[lane] += partials[lane + width];
    }
    workgroupBarrier();  // this level of the tree is complete before the next one reads it
  }
  return partials[0];
}
