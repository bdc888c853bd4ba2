
// Four columns of a row in one access. Needs S a multiple of 4.

@group(0) @binding(1) var<storage, read> x: array<x_vec4>;        // [rows, S]
@group(0) @binding(2) var<storage, read_write> y: array<y_vec4>;  // [rows, S]

fn load_group(row: u32, i: u32) -> vec4<f32> {
  return load_x4(row * (params.s / 4u) + i);
}

fn store_group(row: u32, i: u32, v: vec4<f32>) {
  store_y4(row * (params.s / 4u) + i, v);
}
