// indexes[r, c] = the lowest i of chunk c for which x[r, i] is largest, and its order; one chunk per
// workgroup. Needs order.wgsl and one of reduce_subgroups.wgsl and reduce_tree.wgsl.

override WORKGROUP_SIZE: u32;  // invocations

struct Params {
  rows: u32,
  columns: u32,                // V
  chunks: u32,                 // chunks of a row
  chunk: u32,                  // elements of a chunk; the last one may have fewer
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<x_scalar>;         // [rows, V]
@group(0) @binding(2) var<storage, read_write> orders: array<u32>;   // [rows, chunks]
@group(0) @binding(3) var<storage, read_write> indexes: array<u32>;  // [rows, chunks]

@compute @workgroup_size(WORKGROUP_SIZE)
fn argmax_scan(
  @builtin(workgroup_id) workgroup: vec3<u32>,
  @builtin(num_workgroups) workgroups: vec3<u32>,
  @builtin(local_invocation_index) lane: u32,
) {
  let at = workgroup.y * workgroups.x + workgroup.x;
  let row = at / params.chunks;
  if (row >= params.rows) {
    return;
  }
  let begin = (at % params.chunks) * params.chunk;
  let end = min(begin + params.chunk, params.columns);
  let first = row * params.columns;
  // A number's order is never 0, so that an invocation without one loses to any other.
  var best = Best(0u, 0u);
  for (var i = begin + lane; i < end; i += WORKGROUP_SIZE) {
    let order = order_of(load_x(first + i));
    if (order > best.order) {
      best = Best(order, i);
    }
  }
  best = reduce(best, lane);
  if (lane == 0u) {
    orders[at] = best.order;
    indexes[at] = best.index;
  }
}
