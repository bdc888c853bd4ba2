// Rotary embedding, four neighbouring elements of a head per invocation: with the angle of a pair,
//   y₁ = x₁ cos − x₂ sin,   y₂ = x₂ cos + x₁ sin,   and y = x from column R on.
// All copies come first and all rotations after them, so that neighbouring invocations do the same.

override WORKGROUP_SIZE: u32;  // invocations
override D: u32;               // elements of a head; a multiple of 4
override R: u32;               // elements of a head that are rotated; a multiple of 4, at most D
override INTERLEAVED: bool;    // pairs (2i, 2i + 1), else (i, i + R/2)

struct Params {
  copies: u32,                 // groups of four that are copied
  count: u32,                  // groups of four
  heads: u32,                  // heads of one position
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<x_vec4>;        // [tokens, heads, D]
@group(0) @binding(2) var<storage, read> cos: array<vec2<f32>>;   // [P, R/2]
@group(0) @binding(3) var<storage, read> sin: array<vec2<f32>>;   // [P, R/2]
@group(0) @binding(4) var<storage, read> positions: array<u32>;   // [tokens]
@group(0) @binding(5) var<storage, read_write> y: array<y_vec4>;  // [tokens, heads, D]

const HALF = R / 2u;
const ROTATED = R / 4u;                    // groups of a head that are rotated
const COPIED = max(D / 4u - ROTATED, 1u);  // groups that are not; where there are none, 1 divides

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
  let is_copy = i < params.copies;
  let work = select(i - params.copies, i, is_copy);
  let head = work / select(ROTATED, COPIED, is_copy);
  let group = select(work % ROTATED, ROTATED + work % COPIED, is_copy);
  let head_first = head * (D / 4u);
  var value = load_x4(head_first + group);
  if (!is_copy) {
    let angles = positions[head / params.heads] * HALF;
    if (INTERLEAVED) {
      let at = (angles + 2u * group) / 2u;
      value = value * cos[at].xxyy + value.yxwz * sin[at].xxyy * vec4<f32>(-1.0, 1.0, -1.0, 1.0);
    } else {
      // A pair's other half is HALF columns on, in a circle of R: two columns of one group and two of
      // the next where HALF is no multiple of 4.
      let column = 4u * group;
      let near = load_x4(head_first + (column + HALF) % R / 4u);
      let far = load_x4(head_first + (column + HALF + 2u) % R / 4u);
      let other = select(near, vec4<f32>(near.zw, far.xy), HALF % 4u == 2u);
      let first = (angles + column % HALF) / 2u;
      let second = (angles + (column + 2u) % HALF) / 2u;
      let turn = other * vec4<f32>(sin[first], sin[second]);
      let columns = vec4<u32>(column) + vec4<u32>(0u, 1u, 2u, 3u);
      let is_second = columns >= vec4<u32>(HALF);
      value = value * vec4<f32>(cos[first], cos[second]) + select(-turn, turn, is_second);
    }
  }
  store_y4(head_first + group, value);
}
