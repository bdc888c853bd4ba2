// y = Σ_i 2^(m_i − M) · o_i / Σ_i 2^(m_i − M) · l_i with M = max_i m_i, over the splits i that
// split.wgsl wrote: the second half of split_decode. One group of four columns per invocation.
// Needs rows.wgsl.

override WORKGROUP_SIZE: u32;  // invocations
override GROUPS: u32;          // of four elements of a head

struct Params {
  rows: u32,                   // R = T · H / G
  t: u32,                      // tokens
  h: u32,                      // query heads
  g: u32,                      // key heads; divides h
  key_heads: u32,              // B · G
  splits: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> partials: array<vec4<f32>>;    // o [B·G·R, splits, D]
@group(0) @binding(2) var<storage, read> statistics: array<vec2<f32>>;  // m, l [B·G·R, splits]
@group(0) @binding(3) var<storage, read_write> y: array<y_vec4>;        // [B, T, H, D]

@compute @workgroup_size(WORKGROUP_SIZE)
fn flash_attention_combine(
  @builtin(workgroup_id) workgroup: vec3<u32>,
  @builtin(num_workgroups) workgroups: vec3<u32>,
  @builtin(local_invocation_index) lane: u32,
) {
  let index = (workgroup.y * workgroups.x + workgroup.x) * WORKGROUP_SIZE + lane;
  let row = index / GROUPS;
  let column = index % GROUPS;
  if (row >= params.key_heads * params.rows) {
    return;
  }
  let first = row * params.splits;

  var highest = statistics[first].x;
  for (var i = 1u; i < params.splits; i++) {
    highest = max(highest, statistics[first + i].x);
  }
  var total = 0.0;
  var sum = vec4<f32>();
  for (var i = 0u; i < params.splits; i++) {
    let of_split = statistics[first + i];
    let factor = exp2(of_split.x - highest);
    total += factor * of_split.y;
    sum += factor * partials[(first + i) * GROUPS + column];
  }
  let share = select(0.0, 1.0 / total, total > 0.0);  // a row that sees no key is 0
  store_y4(row_start(row / params.rows, row % params.rows) + column, share * sum);
}
