// y[row, column + j] = x[row, j], one element per invocation.

override WORKGROUP_SIZE: u32;  // invocations

struct Params {
  count: u32,                  // elements of x
  x_columns: u32,              // n
  y_columns: u32,              // N
  column: u32,                 // first one that is written; column + n is at most N
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<x_scalar>;        // [rows, n]
@group(0) @binding(2) var<storage, read_write> y: array<y_scalar>;  // [rows, N]

@compute @workgroup_size(WORKGROUP_SIZE)
fn write_columns_naive(
  @builtin(workgroup_id) workgroup: vec3<u32>,
  @builtin(num_workgroups) workgroups: vec3<u32>,
  @builtin(local_invocation_index) lane: u32,
) {
  let i = (workgroup.y * workgroups.x + workgroup.x) * WORKGROUP_SIZE + lane;
  if (i >= params.count) {
    return;
  }
  let row = i / params.x_columns;
  store_y(row * params.y_columns + params.column + i % params.x_columns, load_x(i));
}
