// y = Σ_j p_j · v_j with p = softmax_j(scale · q · k_j), one query row and head per invocation.
// T tokens, H query heads, G key heads, C slots of the cache, D elements of a head; row t sees the
// keys before key_length − causal · (T − 1 − t) whose mask is not 0.

override WORKGROUP_SIZE: u32;  // invocations
override D: u32;               // elements of a head, at most 256
override HAS_MASK: bool;

struct Params {
  rows: u32,                   // B · T · H
  t: u32,
  h: u32,
  g: u32,                      // divides h
  capacity: u32,               // C
  key_length: u32,             // keys in the cache, at most C
  causal: u32,                 // 0 or 1
  scale: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> q: array<q_scalar>;        // [B, T, H, D]
@group(0) @binding(2) var<storage, read> k: array<k_scalar>;        // [B, G, C, D]
@group(0) @binding(3) var<storage, read> v: array<v_scalar>;        // [B, G, C, D]
@group(0) @binding(4) var<storage, read> mask: array<u32>;          // [B, key_length] or absent
@group(0) @binding(5) var<storage, read_write> y: array<y_scalar>;  // [B, T, H, D]

const LOWEST = -1.0e38;        // stands for −∞, which WGSL does not promise to keep

@compute @workgroup_size(WORKGROUP_SIZE)
fn flash_attention_naive(
  @builtin(workgroup_id) workgroup: vec3<u32>,
  @builtin(num_workgroups) workgroups: vec3<u32>,
  @builtin(local_invocation_index) lane: u32,
) {
  let row = (workgroup.y * workgroups.x + workgroup.x) * WORKGROUP_SIZE + lane;
  if (row >= params.rows) {
    return;
  }
  let head = row % params.h;
  let token = row / params.h % params.t;
  let batch = row / params.h / params.t;
  let key_head = batch * params.g + head / (params.h / params.g);
  let visible = params.key_length - params.causal * (params.t - 1u - token);

  // First pass: the largest score.
  var highest = LOWEST;
  for (var j = 0u; j < visible; j++) {
    if (is_real(batch, j)) {
      highest = max(highest, score(row, key_head, j));
    }
  }

  // Second pass: the sum of the exponentials, and of v weighted by them.
  var total = 0.0;
  var weighted: array<f32, D>;
  for (var j = 0u; j < visible; j++) {
    if (is_real(batch, j)) {
      let p = exp(score(row, key_head, j) - highest);
      total += p;
      let start = (key_head * params.capacity + j) * D;
      for (var d = 0u; d < D; d++) {
        weighted[d] += p * load_v(start + d);
      }
    }
  }

  // A row that sees no key is 0.
  let factor = select(0.0, 1.0 / total, total > 0.0);
  for (var d = 0u; d < D; d++) {
    store_y(row * D + d, factor * weighted[d]);
  }
}

fn is_real(batch: u32, j: u32) -> bool {
  if (HAS_MASK) {
    return mask[batch * params.key_length + j] != 0u;
  }
  return true;
}

fn score(row: u32, key_head: u32, j: u32) -> f32 {
  let start = (key_head * params.capacity + j) * D;
  var sum = 0.0;
  for (var d = 0u; d < D; d++) {
    sum += load_q(row * D + d) * load_k(start + d);
  }
  return params.scale * sum;
}
