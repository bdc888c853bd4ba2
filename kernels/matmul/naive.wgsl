// y[b, m, n] = Σₖ x[b, m, k] · W[b, n, k] + bias[n], one output per invocation.
//
// The plain layout stores W as [b, k, n]: the two strides say which layout it is.

override WORKGROUP_SIZE: u32;  // invocations
override HAS_BIAS: bool;

struct Params {
  count: u32,                  // elements of y
  m: u32,                      // rows of x, at least 1
  n: u32,                      // columns of y, at least 1
  k: u32,                      // terms of a sum, at least 1
  weight_stride_n: u32,        // elements from one n to the next: k if linear, 1 if plain
  weight_stride_k: u32,        // elements from one k to the next: 1 if linear, n if plain
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<x_scalar>;            // [B, M, K]
@group(0) @binding(2) var<storage, read> weight: array<weight_scalar>;  // [B, N, K] or [B, K, N]
@group(0) @binding(3) var<storage, read> bias: array<bias_scalar>;      // [N]
@group(0) @binding(4) var<storage, read_write> y: array<y_scalar>;      // [B, M, N]

@compute @workgroup_size(WORKGROUP_SIZE)
fn matmul_naive(
  @builtin(workgroup_id) workgroup: vec3<u32>,
  @builtin(num_workgroups) workgroups: vec3<u32>,
  @builtin(local_invocation_index) lane: u32,
) {
  let i = (workgroup.y * workgroups.x + workgroup.x) * WORKGROUP_SIZE + lane;
  if (i >= params.count) {
    return;
  }
  let column = i % params.n;
  let row = i / params.n;  // over all batches
  let batch = row / params.m;
  let weight_start = batch * params.n * params.k + column * params.weight_stride_n;
  var sum = 0.0;
  for (var k = 0u; k < params.k; k++) {
    sum += load_x(row * params.k + k) * load_weight(weight_start + k * params.weight_stride_k);
  }
  if (HAS_BIAS) {
    sum += load_bias(column);
  }
  store_y(i, sum);
}
