
// Maximum and sum of four numbers each over a workgroup of SPLIT, in `exchange`. Expects: both.

fn reduce_max(value: vec4<f32>, lane: u32) -> vec4<f32> {
  exchange[lane] = value;
  workgroupBarrier();  // every value is there before any is read
  for (var width = SPLIT / 2u; width > 0u; width /= 2u) {
    if (lane < width) {
      exchange[lane] = max(exchange[lane], exchange[lane + width]);
    }
    workgroupBarrier();  // this level of the tree is complete before the next one reads it
  }
  return exchange[0];
}

fn reduce_sum(value: vec4<f32>, lane: u32) -> vec4<f32> {
  workgroupBarrier();  // the maximum was read before it is overwritten
  exchange[lane] = value;
  workgroupBarrier();  // every value is there before any is read
  for (var width = SPLIT / 2u; width > 0u; width /= 2u) {
    if (lane < width) {
      exchange[lane] += exchange[lane + width];
    }
    workgroupBarrier();  // this level of the tree is complete before the next one reads it
  }
  return exchange[0];
}
