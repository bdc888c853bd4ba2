// y = exp(scale · x − max) / Σ exp(scale · x − max), one row per workgroup.
// T rows of S columns; causal: row t sees the columns j ≤ t + (S − T), and the others are 0.
// Needs group_vec4.wgsl or group_scalar.wgsl, which bind x and y, and one of reduce_subgroup.wgsl,
// reduce_workgroup.wgsl and reduce_tree.wgsl.

override WORKGROUP_SIZE: u32;  // invocations
override CAUSAL: bool;

struct Params {
  rows: u32,                   // of all batches
  t: u32,                      // rows of a batch; a causal one has no more rows than columns
  s: u32,                      // columns
  scale: f32,                  // what x is multiplied by
}

@group(0) @binding(0) var<uniform> params: Params;

const LOWEST = -3.0e38;        // stands for −∞, which WGSL does not promise to keep
const COLUMNS = vec4<u32>(0u, 1u, 2u, 3u);

@compute @workgroup_size(WORKGROUP_SIZE)
fn softmax_row(
  @builtin(workgroup_id) workgroup: vec3<u32>,
  @builtin(num_workgroups) workgroups: vec3<u32>,
  @builtin(local_invocation_index) lane: u32,
) {
  let row = workgroup.y * workgroups.x + workgroup.x;
  if (row >= params.rows) {
    return;
  }
  var visible = params.s;
  if (CAUSAL) {
    visible = row % params.t + params.s - params.t + 1u;
  }
  let seen_groups = (visible + 3u) / 4u;
  let groups = (params.s + 3u) / 4u;

  // First pass: each invocation's own maximum, and the sum that belongs to it.
  var highest = LOWEST;
  var total = 0.0;
  for (var i = lane; i < seen_groups; i += WORKGROUP_SIZE) {
    let seen = 4u * i + COLUMNS < vec4<u32>(visible);
    let score = select(vec4<f32>(LOWEST), params.scale * load_group(row, i), seen);
    let raised = max(highest, max(max(score.x, score.y), max(score.z, score.w)));
    let e = select(vec4<f32>(), exp_below(score - raised), seen);
    total = total * exp_below(vec4<f32>(highest - raised)).x + ((e.x + e.y) + (e.z + e.w));
    highest = raised;
  }
  let row_highest = reduce_max(highest, lane);
  let row_total = reduce_sum(total * exp_below(vec4<f32>(highest - row_highest)).x, lane);

  // Second pass: normalise and write.
  for (var i = lane; i < groups; i += WORKGROUP_SIZE) {
    let seen = 4u * i + COLUMNS < vec4<u32>(visible);
    var value = vec4<f32>();
    if (4u * i < visible) {
      value = exp_below(params.scale * load_group(row, i) - row_highest) / row_total;
    }
    store_group(row, i, select(vec4<f32>(), value, seen));
  }
}

// e to a power of at most 0. Far below, where it would vanish, the argument may have overflowed.
fn exp_below(x: vec4<f32>) -> vec4<f32> {
  return exp(max(x, vec4<f32>(-100.0)));
}
