
// Sum over a workgroup of several subgroups. Expects: WORKGROUP_SIZE, a multiple of every subgroup size.

const MOST_SUBGROUPS = WORKGROUP_SIZE / 4u;

var<workgroup> partials: array<vec2<f32>, 2u * MOST_SUBGROUPS>;

// `turn` numbers the calls, 0 or 1; each has its own half of `partials`, so that the second call need
// not wait until every invocation has read the result of the first.
fn reduce(value: vec2<f32>, turn: u32, lane: u32) -> vec2<f32> {
  let partial = subgroupAdd(value);
  let subgroup_lanes = subgroupAdd(1u);
  let base = turn * MOST_SUBGROUPS;
  if (lane % subgroup_lanes == 0u) {
    partials[base + lane / subgroup_lanes] = partial;
  }
  workgroupBarrier();  // every partial is there before any is read
  var result = vec2<f32>();
  for (var i = 0u; i < WORKGROUP_SIZE / subgroup_lanes; i++) {
    result += partials[base + i];
  }
  return result;
}
