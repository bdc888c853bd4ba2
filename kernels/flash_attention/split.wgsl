// Attention of up to four rows to SPLIT of the keys: the first half of split_decode, for long
// caches and few rows. A row is one token and one of the heads that share a key head.
//
//   m = max_j s_j,   l = Σ_j 2^(s_j − m),   o = Σ_j 2^(s_j − m) · v_j,   s_j = scale · q · k_j
//
// Splits begin at the same keys whatever the batch, so that it does not change the result.
// Needs rows.wgsl, visible.wgsl and reduce_tree.wgsl.

override SPLIT: u32;     // keys of a workgroup, one for each invocation: a power of 2, at least 64
override ROWS: u32;      // rows of a workgroup: 1, 2 or 4
override GROUPS: u32;    // of four elements of a head, at most 64
override HAS_MASK: bool;

struct Params {
  rows: u32,             // R = T · H / G
  t: u32,                // tokens
  h: u32,                // query heads
  g: u32,                // key heads; divides h
  capacity: u32,         // slots of the cache, C
  key_length: u32,       // keys in the cache, at least 1 and at most C
  causal: u32,           // 1: row t sees the keys before key_length − (T − 1 − t), 0: every key
  key_heads: u32,        // B · G
  row_tiles: u32,        // of ROWS rows
  splits: u32,           // of SPLIT keys
  scale: f32,            // scale · log2 e, as powers of 2 are taken
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> q: array<q_vec4>;                    // [B, T, H, D]
@group(0) @binding(2) var<storage, read> k: array<k_vec4>;                    // [B, G, C, D]
@group(0) @binding(3) var<storage, read> v: array<v_vec4>;                    // [B, G, C, D]
@group(0) @binding(4) var<storage, read> mask: array<u32>;                    // [B, key_length]
@group(0) @binding(5) var<storage, read_write> partials: array<vec4<f32>>;    // o [B·G·R, splits, D]
@group(0) @binding(6) var<storage, read_write> statistics: array<vec2<f32>>;  // m, l [B·G·R, splits]

const STEPS = (GROUPS + 3u) / 4u;        // of sixteen elements
const KEY_LANES = SPLIT / GROUPS;        // keys whose v are loaded at once
const LOWEST = -1.0e38;                  // below every score
const UNSEEN = -2.0e38;                  // the score of a key that is not seen: its power of 2 is 0

var<workgroup> queries: array<vec4<f32>, ROWS * STEPS * 4u>;        // zeros after each row
var<workgroup> weights: array<vec4<f32>, SPLIT + 3u * KEY_LANES>;   // [key][row], then zeros
var<workgroup> exchange: array<vec4<f32>, SPLIT>;

@compute @workgroup_size(SPLIT)
fn flash_attention_split(
  @builtin(workgroup_id) workgroup: vec3<u32>,
  @builtin(num_workgroups) workgroups: vec3<u32>,
  @builtin(local_invocation_index) lane: u32,
) {
  let index = workgroup.y * workgroups.x + workgroup.x;
  if (index >= params.key_heads * params.row_tiles * params.splits) {
    return;
  }
  let split = index % params.splits;
  let row = index / params.splits % params.row_tiles * ROWS;
  let key_head = index / params.splits / params.row_tiles;
  let first_key = key_head * params.capacity;
  let last = params.key_length - 1u;

  for (var i = lane; i < ROWS * GROUPS; i += SPLIT) {
    let r = i / GROUPS;
    let column = i % GROUPS;
    let wanted = load_q4(row_start(key_head, row + r) + column);
    queries[r * STEPS * 4u + column] = params.scale * wanted;
  }
  workgroupBarrier();  // every row of q is there before any is read

  // Scores. Each invocation takes one key; four loads are under way at a time.
  let key = split * SPLIT + lane;
  let k_start = (first_key + min(key, last)) * GROUPS;
  var s = vec4<f32>();
  for (var i = 0u; i < STEPS; i++) {
    let k0 = load_k4(k_start + 4u * i);
    let k1 = load_k4(k_start + min(4u * i + 1u, GROUPS - 1u));
    let k2 = load_k4(k_start + min(4u * i + 2u, GROUPS - 1u));
    let k3 = load_k4(k_start + min(4u * i + 3u, GROUPS - 1u));
    s.x += score(0u, i, k0, k1, k2, k3);
    if (ROWS > 1u) {
      s.y += score(1u, i, k0, k1, k2, k3);
    }
    if (ROWS > 2u) {
      s.z += score(2u, i, k0, k1, k2, k3);
      s.w += score(3u, i, k0, k1, k2, k3);
    }
  }
  let limits = vec4<u32>(visible(row), visible(row + 1u), visible(row + 2u), visible(row + 3u));
  var seen = vec4<u32>(key) < limits;
  if (HAS_MASK) {
    seen = seen & vec4<bool>(mask[key_head / params.g * params.key_length + min(key, last)] != 0u);
  }
  s = select(vec4<f32>(UNSEEN), s, seen);

  // Weights, their maximum and their sum.
  let highest = max(reduce_max(s, lane), vec4<f32>(LOWEST));
  let p = exp2(s - highest);
  weights[lane] = p;
  let total = reduce_sum(p, lane);  // its barriers also bring every weight here before any is read
  if (lane < ROWS && row + lane < params.rows) {
    let at = (key_head * params.rows + row + lane) * params.splits + split;
    statistics[at] = vec2<f32>(highest[lane], total[lane]);
  }

  // Result. Each invocation takes four columns of every KEY_LANES-th key.
  let column = lane % GROUPS;
  let count = min(SPLIT, params.key_length - split * SPLIT);
  var acc0 = vec4<f32>();
  var acc1 = vec4<f32>();
  var acc2 = vec4<f32>();
  var acc3 = vec4<f32>();
  if (lane < KEY_LANES * GROUPS) {
    for (var j = lane / GROUPS; j < count; j += 4u * KEY_LANES) {
      let from_key = split * SPLIT + j;
      let p0 = weights[j];
      let p1 = weights[j + KEY_LANES];
      let p2 = weights[j + 2u * KEY_LANES];
      let p3 = weights[j + 3u * KEY_LANES];
      var v0 = load_v4((first_key + from_key) * GROUPS + column);
      var v1 = load_v4((first_key + min(from_key + KEY_LANES, last)) * GROUPS + column);
      var v2 = load_v4((first_key + min(from_key + 2u * KEY_LANES, last)) * GROUPS + column);
      var v3 = load_v4((first_key + min(from_key + 3u * KEY_LANES, last)) * GROUPS + column);
      if (HAS_MASK) {  // padding may hold NaN, which a weight of 0 would not silence
        v0 = select(v0, vec4<f32>(), all(p0 == vec4<f32>()));
        v1 = select(v1, vec4<f32>(), all(p1 == vec4<f32>()));
        v2 = select(v2, vec4<f32>(), all(p2 == vec4<f32>()));
        v3 = select(v3, vec4<f32>(), all(p3 == vec4<f32>()));
      }
      acc0 += p0.x * v0 + p1.x * v1 + p2.x * v2 + p3.x * v3;
      if (ROWS > 1u) {
        acc1 += p0.y * v0 + p1.y * v1 + p2.y * v2 + p3.y * v3;
      }
      if (ROWS > 2u) {
        acc2 += p0.z * v0 + p1.z * v1 + p2.z * v2 + p3.z * v3;
        acc3 += p0.w * v0 + p1.w * v1 + p2.w * v2 + p3.w * v3;
      }
    }
  }
  let start = ((key_head * params.rows + row) * params.splits + split) * GROUPS;
  write_sum(acc0, 0u, row, start, lane);
  if (ROWS > 1u) {
    write_sum(acc1, 1u, row, start, lane);
  }
  if (ROWS > 2u) {
    write_sum(acc2, 2u, row, start, lane);
    write_sum(acc3, 3u, row, start, lane);
  }
}

// Part of the scores of one row: sixteen terms.
fn score(r: u32, i: u32, k0: vec4<f32>, k1: vec4<f32>, k2: vec4<f32>, k3: vec4<f32>) -> f32 {
  let at = (r * STEPS + i) * 4u;
  return (dot(queries[at], k0) + dot(queries[at + 1u], k1)) +
    (dot(queries[at + 2u], k2) + dot(queries[at + 3u], k3));
}

// Adds up what the invocations have for a column, and writes it.
fn write_sum(acc: vec4<f32>, r: u32, row: u32, start: u32, lane: u32) {
  workgroupBarrier();  // the last use of `exchange` is over before it is overwritten
  exchange[lane] = acc;
  workgroupBarrier();  // every part is there before any is read
  if (lane < GROUPS && row + r < params.rows) {
    var sum = exchange[lane];
    for (var i = 1u; i < KEY_LANES; i++) {
      sum += exchange[i * GROUPS + lane];
    }
    partials[start + r * params.splits * GROUPS + lane] = sum;
  }
}
