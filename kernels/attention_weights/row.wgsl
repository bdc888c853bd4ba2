// weights = softmax_j(scale · q · k_j), one query row and head per workgroup. The scores are computed
// twice, which saves a place to keep them in f32.
// T tokens, H query heads, G key heads, C slots of the cache, D elements of a head; row t sees the
// keys before key_length − causal · (T − 1 − t) whose mask is not 0, and the others have a weight of 0.
// Needs reduce_subgroup.wgsl or reduce_tree.wgsl.

override WORKGROUP_SIZE: u32;  // invocations
override HAS_MASK: bool;

struct Params {
  rows: u32,                   // B · H · T
  t: u32,
  h: u32,
  g: u32,                      // divides h
  groups: u32,                 // of four elements of a head: D / 4
  capacity: u32,               // C
  key_length: u32,             // keys in the cache, at most C
  causal: u32,                 // 0 or 1
  scale: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> q: array<q_vec4>;                      // [B, T, H, D]
@group(0) @binding(2) var<storage, read> k: array<k_vec4>;                      // [B, G, C, D]
@group(0) @binding(3) var<storage, read> mask: array<u32>;                      // [B, key_length]
@group(0) @binding(4) var<storage, read_write> weights: array<weights_scalar>;  // [B, H, T, key_length]

const MOST_GROUPS = 64u;       // D is at most 256
const LOWEST = -1.0e38;        // stands for −∞, which WGSL does not promise to keep

var<workgroup> query: array<vec4<f32>, MOST_GROUPS>;  // scale · q

@compute @workgroup_size(WORKGROUP_SIZE)
fn attention_weights_row(
  @builtin(workgroup_id) workgroup: vec3<u32>,
  @builtin(num_workgroups) workgroups: vec3<u32>,
  @builtin(local_invocation_index) lane: u32,
) {
  let row = workgroup.y * workgroups.x + workgroup.x;
  if (row >= params.rows) {
    return;
  }
  let token = row % params.t;
  let head = row / params.t % params.h;
  let batch = row / params.t / params.h;
  let q_start = ((batch * params.t + token) * params.h + head) * params.groups;
  let key_head = batch * params.g + head / (params.h / params.g);
  let visible = params.key_length - params.causal * (params.t - 1u - token);

  for (var i = lane; i < params.groups; i += WORKGROUP_SIZE) {
    query[i] = params.scale * load_q4(q_start + i);
  }
  workgroupBarrier();  // the whole row of q is there before any of it is read

  // First pass: each invocation's own maximum, and the sum that belongs to it. A score less than 1
  // above the maximum does not raise it: scores that rise slowly would round the sum at every step.
  var highest = LOWEST;
  var total = 0.0;
  for (var j = lane; j < visible; j += WORKGROUP_SIZE) {
    if (is_real(batch, j)) {
      let s = score(key_head, j);
      if (s > highest + 1.0) {
        total *= exp_below(highest - s);
        highest = s;
      }
      total += exp_below(s - highest);
    }
  }
  let row_highest = reduce_max(highest, lane);
  let row_total = reduce_sum(total * exp_below(highest - row_highest), lane);

  // Second pass: normalise and write.
  for (var j = lane; j < params.key_length; j += WORKGROUP_SIZE) {
    var weight = 0.0;
    if (j < visible && is_real(batch, j)) {
      weight = exp_below(score(key_head, j) - row_highest) / row_total;
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

fn score(key_head: u32, j: u32) -> f32 {
  let k_start = (key_head * params.capacity + j) * params.groups;
  var sum = vec4<f32>();
  for (var i = 0u; i < params.groups; i++) {
    sum += query[i] * load_k4(k_start + i);
  }
  return (sum.x + sum.y) + (sum.z + sum.w);
}

// e to a power of at most 1. Far below, where it would vanish, the argument may have overflowed.
fn exp_below(x: f32) -> f32 {
  return exp(max(x, -100.0));
}
