// ids[r] = the lowest i for which x[r, i] is largest, one row per invocation. Needs order.wgsl.

override WORKGROUP_SIZE: u32;  // invocations

struct Params {
  rows: u32,
  columns: u32,                // V
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<x_scalar>;       // [rows, V]
@group(0) @binding(2) var<storage, read_write> ids: array<u32>;    // [rows]

@compute @workgroup_size(WORKGROUP_SIZE)
fn argmax_naive(
  @builtin(workgroup_id) workgroup: vec3<u32>,
  @builtin(num_workgroups) workgroups: vec3<u32>,
  @builtin(local_invocation_index) lane: u32,
) {
  let row = (workgroup.y * workgroups.x + workgroup.x) * WORKGROUP_SIZE + lane;
  if (row >= params.rows) {
    return;
  }
  var best = 0u;
  var best_order = 0u;
  for (var i = 0u; i < params.columns; i++) {
    let order = order_of(load_x(row * params.columns + i));
    if (order > best_order) {
      best = i;
      best_order = order;
    }
  }
  ids[row] = best;
}
