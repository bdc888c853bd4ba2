// y[row, column + j] = x[row, j], four elements per invocation.

override WORKGROUP_SIZE: u32;  // invocations

struct Params {
  count: u32,                  // groups of four elements of x
  x_columns: u32,              // n / 4
  y_columns: u32,              // N / 4
  column: u32,                 // first group that is written
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<x_vec4>;        // [rows, n/4] × 4
@group(0) @binding(2) var<storage, read_write> y: array<y_vec4>;  // [rows, N/4] × 4

@compute @workgroup_size(WORKGROUP_SIZE)
fn write_columns_vec4(
  @builtin(workgroup_id) workgroup: vec3<u32>,
  @builtin(num_workgroups) workgroups: vec3<u32>,
  @builtin(local_invocation_index) lane: u32,
) {
  let i = (workgroup.y * workgroups.x + workgroup.x) * WORKGROUP_SIZE + lane;
  if (i >= params.count) {
    return;
  }
  let row = i / params.x_columns;
  store_y4(row * params.y_columns + params.column + i % params.x_columns, load_x4(i));
}
