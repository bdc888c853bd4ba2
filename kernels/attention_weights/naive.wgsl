// weights = softmax_j(scale · q · k_j), one query row and head per invocation.
// T tokens, H query heads, G key heads, C slots of the cache, D elements of a head; row t sees the
// keys before key_length − causal · (T − 1 − t) whose mask is not 0, and the others have a weight of 0.

override WORKGROUP_SIZE: u32;  // invocations
override HAS_MASK: bool;

struct Params {
  rows: u32,                   // B · H · T
  t: u32,
  h: u32,
  g: u32,                      // divides h
  d: u32,
  capacity: u32,               // C
  key_length: u32,             // keys in the cache, at most C
  causal: u32,                 // 0 or 1
  scale: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> q: array<q_scalar>;                    // [B, T, H, D]
@group(0) @binding(2) var<storage, read> k: array<k_scalar>;                    // [B, G, C, D]
@group(0) @binding(3) var<storage, read> mask: array<u32>;                      // [B, key_length]
@group(0) @binding(4) var<storage, read_write> weights: array<weights_scalar>;  // [B, H, T, key_length]

const LOWEST = -1.0e38;        // stands for −∞, which WGSL does not promise to keep

@compute @workgroup_size(WORKGROUP_SIZE)
fn attention_weights_naive(
  @builtin(workgroup_id) workgroup: vec3<u32>,
  @builtin(num_workgroups) workgroups: vec3<u32>,
  @builtin(local_invocation_index) lane: u32,
) {
  let row = (workgroup.y * workgroups.x + workgroup.x) * WORKGROUP_SIZE + lane;
  if (row >= params.rows) {
    return;
  }
  let token = row % params.t;
  let head = row / params.t % params.h;
  let batch = row / params.t / params.h;
  let q_start = ((batch * params.t + token) * params.h + head) * params.d;
  let key_head = batch * params.g + head / (params.h / params.g);
  let visible = params.key_length - params.causal * (params.t - 1u - token);

  var highest = LOWEST;
  for (var j = 0u; j < visible; j++) {
    if (is_real(batch, j)) {
      highest = max(highest, score(q_start, key_head, j));
    }
  }
  var total = 0.0;
  for (var j = 0u; j < visible; j++) {
    if (is_real(batch, j)) {
      total += exp(score(q_start, key_head, j) - highest);
    }
  }
  for (var j = 0u; j < params.key_length; j++) {
    var weight = 0.0;
    if (j < visible && is_real(batch, j)) {
      weight = exp(score(q_start, key_head, j) - highest) / total;
    }
    store_weights(row * params.key_length + j, weight);
  }
}

fn is_real(batch: u32, j: u32) -> bool {
  if (HAS_MASK) {
    return mask[batch * params.key_length + j] != 0u;
  }
  return true;
}

fn score(q_start: u32, key_head: u32, j: u32) -> f32 {
  let k_start = (key_head * params.capacity + j) * params.d;
  var sum = 0.0;
  for (var d = 0u; d < params.d; d++) {
    sum += load_q(q_start + d) * load_k(k_start + d);
  }
  return params.scale * sum;
}
