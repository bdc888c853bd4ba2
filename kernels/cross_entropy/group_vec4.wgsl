
// Four logits of a row in one access. Needs V a multiple of 4. Expects: params.

@group(0) @binding(1) var<storage, read> logits: array<logits_vec4>;  // [rows, V]

fn load_group(row: u32, i: u32) -> vec4<f32> {
  return load_logits4(row * (params.v / 4u) + i);
}

fn load_one(row: u32, column: u32) -> f32 {
  return load_group(row, column / 4u)[column % 4u];
}
