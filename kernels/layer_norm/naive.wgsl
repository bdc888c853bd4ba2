// y = (s − mean s) / √(var s + ε) · weight + bias with s = x + residual, one row per invocation.
// C columns; row r takes weight row r % weight_rows.

override WORKGROUP_SIZE: u32;  // invocations
override C: u32;               // elements of a row
override HAS_RESIDUAL: bool;    // s = x + residual, and s is written to `sum`
override HAS_BIAS: bool;        // bias is added

struct Params {
  rows: u32,
  weight_rows: u32,            // 1, or the number of heads
  epsilon: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<x_scalar>;                // [rows, C]
@group(0) @binding(2) var<storage, read> residual: array<residual_scalar>;  // [rows, C] or absent
@group(0) @binding(3) var<storage, read> weight: array<weight_scalar>;      // [weight_rows, C]
@group(0) @binding(4) var<storage, read> bias: array<bias_scalar>;          // [weight_rows, C] or absent
@group(0) @binding(5) var<storage, read_write> y: array<y_scalar>;          // [rows, C]
@group(0) @binding(6) var<storage, read_write> sum: array<sum_scalar>;      // [rows, C] or absent

fn load_sum_of(i: u32) -> f32 {
  if (HAS_RESIDUAL) {
    return load_x(i) + load_residual(i);
  }
  return load_x(i);
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn layer_norm_naive(
  @builtin(workgroup_id) workgroup: vec3<u32>,
  @builtin(num_workgroups) workgroups: vec3<u32>,
  @builtin(local_invocation_index) lane: u32,
) {
  let row = (workgroup.y * workgroups.x + workgroup.x) * WORKGROUP_SIZE + lane;
  if (row >= params.rows) {
    return;
  }
  let first = row * C;
  let weight_first = (row % params.weight_rows) * C;

  // First pass: the mean, summed as distances from one element, which are small where the row is far
  // from 0.
  let pivot = load_sum_of(first);
  var distance = 0.0;
  for (var c = 0u; c < C; c++) {
    distance += load_sum_of(first + c) - pivot;
  }
  let mean = pivot + distance / f32(C);

  // Second pass: the variance, and what the rounding of the mean left over.
  var drift = 0.0;
  var squares = 0.0;
  for (var c = 0u; c < C; c++) {
    let d = load_sum_of(first + c) - mean;
    drift += d;
    squares += d * d;
  }
  drift /= f32(C);
  let variance = max(squares / f32(C) - drift * drift, 0.0);
  let scale = inverseSqrt(variance + params.epsilon);

  for (var c = 0u; c < C; c++) {
    let s = load_sum_of(first + c);
    var value = ((s - mean) - drift) * scale * load_weight(weight_first + c);
    if (HAS_BIAS) {
      value += load_bias(weight_first + c);
    }
    store_y(first + c, value);
    if (HAS_RESIDUAL) {
      store_sum(first + c, s);
    }
  }
}
