// Rotary embedding, one element per invocation: with the angle of its pair and its position,
//   y₁ = x₁ cos − x₂ sin,   y₂ = x₂ cos + x₁ sin,   and y = x from column R on.

override WORKGROUP_SIZE: u32;  // invocations
override D: u32;               // elements of a head
override R: u32;               // elements of a head that are rotated; even, at most D
override INTERLEAVED: bool;    // pairs (2i, 2i + 1), else (i, i + R/2)

struct Params {
  count: u32,                  // elements
  heads: u32,                  // heads of one position
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<x_scalar>;        // [tokens, heads, D]
@group(0) @binding(2) var<storage, read> cos: array<f32>;           // [P, R/2]
@group(0) @binding(3) var<storage, read> sin: array<f32>;           // [P, R/2]
@group(0) @binding(4) var<storage, read> positions: array<u32>;     // [tokens]
@group(0) @binding(5) var<storage, read_write> y: array<y_scalar>;  // [tokens, heads, D]

const HALF = R / 2u;

@compute @workgroup_size(WORKGROUP_SIZE)
fn rope_naive(
  @builtin(workgroup_id) workgroup: vec3<u32>,
  @builtin(num_workgroups) workgroups: vec3<u32>,
  @builtin(local_invocation_index) lane: u32,
) {
  let i = (workgroup.y * workgroups.x + workgroup.x) * WORKGROUP_SIZE + lane;
  if (i >= params.count) {
    return;
  }
  let column = i % D;
  if (column >= R) {
    store_y(i, load_x(i));
    return;
  }
  let is_second = select(column >= HALF, column % 2u == 1u, INTERLEAVED);
  let distance = select(HALF, 1u, INTERLEAVED);
  let pair = select(column % HALF, column / 2u, INTERLEAVED);
  let token = i / (D * params.heads);
  let angle = positions[token] * HALF + pair;
  let turn = load_x(select(i + distance, i - distance, is_second)) * sin[angle];
  store_y(i, load_x(i) * cos[angle] + select(-turn, turn, is_second));
}
