// y = (s − mean s) / √(var s + ε) · weight + bias with s = x + residual, one row per workgroup.
// C columns in groups of four; row r takes weight row r % weight_rows.
// Needs one of reduce_subgroup.wgsl, reduce_workgroup.wgsl and reduce_tree.wgsl.

override WORKGROUP_SIZE: u32;  // invocations
override C: u32;               // elements of a row; a multiple of 4
override HAS_RESIDUAL: bool;    // s = x + residual, and s is written to `sum`
override HAS_BIAS: bool;        // bias is added

struct Params {
  rows: u32,
  weight_rows: u32,            // 1, or the number of heads
  epsilon: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<x_vec4>;                // [rows, C]
@group(0) @binding(2) var<storage, read> residual: array<residual_vec4>;  // [rows, C] or absent
@group(0) @binding(3) var<storage, read> weight: array<weight_vec4>;      // [weight_rows, C]
@group(0) @binding(4) var<storage, read> bias: array<bias_vec4>;          // [weight_rows, C] or absent
@group(0) @binding(5) var<storage, read_write> y: array<y_vec4>;          // [rows, C]
@group(0) @binding(6) var<storage, read_write> sum: array<sum_vec4>;      // [rows, C] or absent

const GROUPS = C / 4u;

// Not read back from `sum`, which may have been rounded to f16.
fn load_sum_of(i: u32) -> vec4<f32> {
  if (HAS_RESIDUAL) {
    return load_x4(i) + load_residual4(i);
  }
  return load_x4(i);
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn layer_norm_row(
  @builtin(workgroup_id) workgroup: vec3<u32>,
  @builtin(num_workgroups) workgroups: vec3<u32>,
  @builtin(local_invocation_index) lane: u32,
) {
  let row = workgroup.y * workgroups.x + workgroup.x;
  if (row >= params.rows) {
    return;
  }
  let first = row * GROUPS;
  let weight_first = (row % params.weight_rows) * GROUPS;

  // First pass: the mean, summed as distances from one element, which are small where the row is far
  // from 0.
  let pivot = load_sum_of(first).x;
  var distance = vec4<f32>();
  for (var i = lane; i < GROUPS; i += WORKGROUP_SIZE) {
    distance += load_sum_of(first + i) - pivot;
  }
  let mean = pivot + reduce(vec2<f32>(across(distance), 0.0), 0u, lane).x / f32(C);

  // Second pass: the variance, and what the rounding of the mean left over.
  var deviations = vec4<f32>();
  var squares = vec4<f32>();
  for (var i = lane; i < GROUPS; i += WORKGROUP_SIZE) {
    let d = load_sum_of(first + i) - mean;
    deviations += d;
    squares += d * d;
  }
  let moments = reduce(vec2<f32>(across(deviations), across(squares)), 1u, lane) / f32(C);
  let drift = moments.x;
  let variance = max(moments.y - drift * drift, 0.0);
  let scale = inverseSqrt(variance + params.epsilon);

  // Third pass: normalise and write.
  for (var i = lane; i < GROUPS; i += WORKGROUP_SIZE) {
    let s = load_sum_of(first + i);
    var value = ((s - mean) - drift) * scale * load_weight4(weight_first + i);
    if (HAS_BIAS) {
      value += load_bias4(weight_first + i);
    }
    store_y4(first + i, value);
    if (HAS_RESIDUAL) {
      store_sum4(first + i, s);
    }
  }
}

fn across(v: vec4<f32>) -> f32 {
  return (v.x + v.y) + (v.z + v.w);
}
