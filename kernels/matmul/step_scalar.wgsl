// Operands of a tile kernel, one k at a time: either layout, any K and N.
// Expects: params.m, params.n, params.steps = K, params.weight_stride_n, params.weight_stride_k.

@group(0) @binding(1) var<storage, read> x: array<x_scalar>;            // [B, M, K]
@group(0) @binding(2) var<storage, read> weight: array<weight_scalar>;  // [B, N, K] or [B, K, N]

// Where a row begins. Rows past the end read the last one, and are not stored.
fn x_start(batch: u32, row: u32) -> u32 {
  return (batch * params.m + min(row, params.m - 1u)) * params.steps;
}

fn x_at(start: u32, step: u32) -> f32 {
  return load_x(start + step);
}

// Where the weights of four columns begin.
fn weight_starts(batch: u32, column: u32) -> vec4<u32> {
  let columns = min(column + vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(params.n - 1u));
  return batch * params.n * params.steps + columns * params.weight_stride_n;
}

fn weight_at(starts: vec4<u32>, step: u32) -> vec4<f32> {
  let at = starts + step * params.weight_stride_k;
  return vec4<f32>(load_weight(at.x), load_weight(at.y), load_weight(at.z), load_weight(at.w));
}

// The step's share of four neighbouring outputs.
fn multiply(a: f32, b: vec4<f32>) -> vec4<f32> {
  return a * b;
}
