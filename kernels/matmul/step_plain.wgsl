// Operands of a tile kernel, four k at a time: weight is [B, K, N]; K and N are multiples of 4.
// Expects: params.m, params.n, params.steps = K / 4.

@group(0) @binding(1) var<storage, read> x: array<x_vec4>;            // [B, M, K/4] × 4
@group(0) @binding(2) var<storage, read> weight: array<weight_vec4>;  // [B, K, N/4] × 4

// Where a row begins. Rows past the end read the last one, and are not stored.
fn x_start(batch: u32, row: u32) -> u32 {
  return (batch * params.m + min(row, params.m - 1u)) * params.steps;
}

fn x_at(start: u32, step: u32) -> vec4<f32> {
  return load_x4(start + step);
}

// Where the first four k of four columns begin.
fn weight_starts(batch: u32, column: u32) -> vec4<u32> {
  let quads = params.n / 4u;
  let first = batch * params.steps * params.n + min(column / 4u, quads - 1u);
  return first + quads * vec4<u32>(0u, 1u, 2u, 3u);
}

// One k per matrix column.
fn weight_at(starts: vec4<u32>, step: u32) -> mat4x4<f32> {
  let at = starts + step * params.n;
  return mat4x4<f32>(
    load_weight4(at.x),
    load_weight4(at.y),
    load_weight4(at.z),
    load_weight4(at.w),
  );
}

// The step's share of four neighbouring outputs.
fn multiply(a: vec4<f32>, b: mat4x4<f32>) -> vec4<f32> {
  return b * a;
}
