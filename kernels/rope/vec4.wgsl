// Rotary embedding, four neighbouring elements of a head per invocation: with the angle of a pair,
//   y₁ = x₁ cos − x₂ sin,   y₂ = x₂ cos + x₁ sin,   and y = x from column R on.
// All copies come first and all rotations after them, so that neighbouring invocations do the same.

override WORKGROUP_SIZE: u32;  // invocations
override D: u32;               // elements of a head; a multiple of 4
override R: u32;               // elements of a head that are rotated; even, at most D
override INTERLEAVED: bool;    // pairs (2i, 2i + 1), else (i, i + R/2)

struct Params {
  copies: u32,                 // groups of four that are copied
  count: u32,                  // groups of four
  heads: u32,                  // heads of one position
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<x_vec4>;          // [tokens, heads, D]
@group(0) @binding(2) var<storage, read> partner: array<partner_scalar>;  // x, element by element
@group(0) @binding(3) var<storage, read> cos: array<f32>;           // [P, R/2]
@group(0) @binding(4) var<storage, read> sin: array<f32>;           // [P, R/2]
@group(0) @binding(5) var<storage, read> positions: array<u32>;     // [tokens]
@group(0) @binding(6) var<storage, read_write> y: array<y_vec4>;    // [tokens, heads, D]

const HALF = R / 2u;
const GROUPS = D / 4u;
const ROTATED = (R + 3u) / 4u;          // groups of a head with a rotated element
const COPIED = max(GROUPS - ROTATED, 1u);  // divides nothing where there are none

@compute @workgroup_size(WORKGROUP_SIZE)
fn rope_vec4(
  @builtin(workgroup_id) workgroup: vec3<u32>,
  @builtin(num_workgroups) workgroups: vec3<u32>,
  @builtin(local_invocation_index) lane: u32,
) {
  let i = (workgroup.y * workgroups.x + workgroup.x) * WORKGROUP_SIZE + lane;
  if (i >= params.count) {
    return;
  }
  if (i < params.copies) {
    let at = (i / COPIED) * GROUPS + ROTATED + i % COPIED;
    store_y4(at, load_x4(at));
    return;
  }
  let rotation = i - params.copies;
  let head = rotation / ROTATED;
  let group = rotation % ROTATED;
  let first_angle = positions[head / params.heads] * HALF;
  let own = load_x4(head * GROUPS + group);
  var value = own;
  for (var k = 0u; k < 4u; k++) {
    let column = 4u * group + k;
    if (column < R) {
      let is_second = select(column >= HALF, column % 2u == 1u, INTERLEAVED);
      let distance = select(HALF, 1u, INTERLEAVED);
      let angle = first_angle + select(column % HALF, column / 2u, INTERLEAVED);
      let other = load_partner(head * D + select(column + distance, column - distance, is_second));
      let sine = select(-sin[angle], sin[angle], is_second);
      value[k] = own[k] * cos[angle] + other * sine;
    }
  }
  store_y4(head * GROUPS + group, value);
}
