// ids[r] = indexes[r, c] of the chunk with the highest order, and of those the lowest; one row per
// workgroup. Needs one of reduce_subgroups.wgsl and reduce_tree.wgsl.

override WORKGROUP_SIZE: u32;  // invocations

struct Params {
  rows: u32,
  chunks: u32,                 // chunks of a row
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> orders: array<u32>;     // [rows, chunks]
@group(0) @binding(2) var<storage, read> indexes: array<u32>;    // [rows, chunks]
@group(0) @binding(3) var<storage, read_write> ids: array<u32>;  // [rows]

@compute @workgroup_size(WORKGROUP_SIZE)
fn argmax_combine(
  @builtin(workgroup_id) workgroup: vec3<u32>,
  @builtin(num_workgroups) workgroups: vec3<u32>,
  @builtin(local_invocation_index) lane: u32,
) {
  let row = workgroup.y * workgroups.x + workgroup.x;
  if (row >= params.rows) {
    return;
  }
  let first = row * params.chunks;
  var best = Best(0u, 0u);
  for (var c = lane; c < params.chunks; c += WORKGROUP_SIZE) {
    if (orders[first + c] > best.order) {
      best = Best(orders[first + c], indexes[first + c]);
    }
  }
  best = reduce(best, lane);
  if (lane == 0u) {
    ids[row] = best.index;
  }
}
