// y = exp(scale · x − max) / Σ exp(scale · x − max), one row per invocation.
// T rows of S columns; causal: row t sees the columns j ≤ t + (S − T), and the others are 0.

override WORKGROUP_SIZE: u32;  // invocations
override CAUSAL: bool;

struct Params {
  rows: u32,                   // of all batches
  t: u32,                      // rows of a batch; a causal one has no more rows than columns
  s: u32,                      // columns
  scale: f32,                  // what x is multiplied by
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<x_scalar>;        // [rows, S]
@group(0) @binding(2) var<storage, read_write> y: array<y_scalar>;  // [rows, S]

@compute @workgroup_size(WORKGROUP_SIZE)
fn softmax_naive(
  @builtin(workgroup_id) workgroup: vec3<u32>,
  @builtin(num_workgroups) workgroups: vec3<u32>,
  @builtin(local_invocation_index) lane: u32,
) {
  let row = (workgroup.y * workgroups.x + workgroup.x) * WORKGROUP_SIZE + lane;
  if (row >= params.rows) {
    return;
  }
  let first = row * params.s;
  var visible = params.s;
  if (CAUSAL) {
    visible = row % params.t + params.s - params.t + 1u;
  }

  var highest = params.scale * load_x(first);
  for (var j = 1u; j < visible; j++) {
    highest = max(highest, params.scale * load_x(first + j));
  }
  var total = 0.0;
  for (var j = 0u; j < visible; j++) {
    total += exp(params.scale * load_x(first + j) - highest);
  }
  for (var j = 0u; j < visible; j++) {
    store_y(first + j, exp(params.scale * load_x(first + j) - highest) / total);
  }
  for (var j = visible; j < params.s; j++) {
    store_y(first + j, 0.0);
  }
}
