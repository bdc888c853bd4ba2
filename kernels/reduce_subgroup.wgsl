
// Maximum and sum over a workgroup that is one subgroup: no workgroup memory, no barrier.

fn reduce_max(value: f32, lane: u32) -> f32 {
  return subgroupMax(value);
}

fn reduce_sum(value: f32, lane: u32) -> f32 {
  return subgroupAdd(value);
}
