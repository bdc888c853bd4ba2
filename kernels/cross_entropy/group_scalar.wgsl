
// Four logits of a row, for any V: what the last group lacks is LOWEST. Expects: params, LOWEST.

@group(0) @binding(1) var<storage, read> logits: array<logits_scalar>;  // [rows, V]

fn load_group(row: u32, i: u32) -> vec4<f32> {
  let first = row * params.v;
  let column = 4u * i + vec4<u32>(0u, 1u, 2u, 3u);
  let near = min(column, vec4<u32>(params.v - 1u));
  let x = vec4<f32>(
    load_logits(first + near.x),
    load_logits(first + near.y),
    load_logits(first + near.z),
    load_logits(first + near.w),
  );
  return select(vec4<f32>(LOWEST), x, column == near);
}

fn load_one(row: u32, column: u32) -> f32 {
  return load_logits(row * params.v + column);
}
