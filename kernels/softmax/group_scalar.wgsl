
// Four columns of a row, for any S: the last group may be cut short.

@group(0) @binding(1) var<storage, read> x: array<x_scalar>;        // [rows, S]
@group(0) @binding(2) var<storage, read_write> y: array<y_scalar>;  // [rows, S]

fn load_group(row: u32, i: u32) -> vec4<f32> {
  let first = row * params.s;
  let column = min(4u * i + COLUMNS, vec4<u32>(params.s - 1u));
  return vec4<f32>(
    load_x(first + column.x),
    load_x(first + column.y),
    load_x(first + column.z),
    load_x(first + column.w),
  );
}

fn store_group(row: u32, i: u32, v: vec4<f32>) {
  let first = row * params.s;
  for (var j = 0u; j < 4u; j++) {
    if (4u * i + j < params.s) {
      store_y(first + 4u * i + j, v[j]);
    }
  }
}
