
// Sum over a workgroup that is one subgroup: no workgroup memory, no barrier.

fn reduce(value: vec2<f32>, turn: u32, lane: u32) -> vec2<f32> {
  return subgroupAdd(value);
}
