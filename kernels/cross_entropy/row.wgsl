// loss = ln Σ_j exp(x_j − m) + m − x_label, one row x of V logits per workgroup; 0 where the row is
// ignored. m is within 1 of the largest logit, which is near enough.
// Needs group_vec4.wgsl or group_scalar.wgsl, which bind the logits, and one of reduce_subgroup.wgsl,
// reduce_workgroup.wgsl and reduce_tree.wgsl.

override WORKGROUP_SIZE: u32;  // invocations
override HAS_IGNORED: bool;

struct Params {
  rows: u32,
  v: u32,                      // classes
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(2) var<storage, read> labels: array<u32>;      // [rows], each below V
@group(0) @binding(3) var<storage, read> ignored: array<u32>;     // [rows] or absent
@group(0) @binding(4) var<storage, read_write> loss: array<f32>;  // [rows]

const LOWEST = -1.0e38;        // stands for −∞, which WGSL does not promise to keep

@compute @workgroup_size(WORKGROUP_SIZE)
fn cross_entropy_row(
  @builtin(workgroup_id) workgroup: vec3<u32>,
  @builtin(num_workgroups) workgroups: vec3<u32>,
  @builtin(local_invocation_index) lane: u32,
) {
  let row = workgroup.y * workgroups.x + workgroup.x;
  if (row >= params.rows) {
    return;
  }
  if (HAS_IGNORED) {
    if (ignored[row] != 0u) {
      if (lane == 0u) {
        loss[row] = 0.0;
      }
      return;
    }
  }

  // Each invocation's own maximum, and the sums that belong to it. A logit less than 1 above the
  // maximum does not raise it: in a row that rises slowly the sums would be rounded at every step.
  var highest = LOWEST;
  var total = vec4<f32>();
  for (var i = lane; i < (params.v + 3u) / 4u; i += WORKGROUP_SIZE) {
    let x = load_group(row, i);
    let top = max(max(x.x, x.y), max(x.z, x.w));
    if (top > highest + 1.0) {
      total *= exp_below(vec4<f32>(highest - top));
      highest = top;
    }
    total += exp_below(x - highest);
  }
  let row_highest = reduce_max(highest, lane);
  total *= exp_below(vec4<f32>(highest - row_highest));
  let row_total = reduce_sum((total.x + total.y) + (total.z + total.w), lane);
  if (lane == 0u) {
    loss[row] = log(row_total) + (row_highest - load_one(row, labels[row]));
  }
}

// e to a power of at most 1. Far below, where it would vanish, the argument may have overflowed.
fn exp_below(x: vec4<f32>) -> vec4<f32> {
  return exp(max(x, vec4<f32>(-100.0)));
}
