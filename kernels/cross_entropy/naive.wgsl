// loss = ln Σ_j exp(x_j − max) + max − x_label, one row x of V logits per invocation; 0 where the row
// is ignored.

override WORKGROUP_SIZE: u32;  // invocations
override HAS_IGNORED: bool;

struct Params {
  rows: u32,
  v: u32,                      // classes
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> logits: array<logits_scalar>;  // [rows, V]
@group(0) @binding(2) var<storage, read> labels: array<u32>;            // [rows], each below V
@group(0) @binding(3) var<storage, read> ignored: array<u32>;           // [rows] or absent
@group(0) @binding(4) var<storage, read_write> loss: array<f32>;        // [rows]

@compute @workgroup_size(WORKGROUP_SIZE)
fn cross_entropy_naive(
  @builtin(workgroup_id) workgroup: vec3<u32>,
  @builtin(num_workgroups) workgroups: vec3<u32>,
  @builtin(local_invocation_index) lane: u32,
) {
  let row = (workgroup.y * workgroups.x + workgroup.x) * WORKGROUP_SIZE + lane;
  if (row >= params.rows) {
    return;
  }
  if (HAS_IGNORED) {
    if (ignored[row] != 0u) {
      loss[row] = 0.0;
      return;
    }
  }
  let first = row * params.v;

  var highest = load_logits(first);
  for (var j = 1u; j < params.v; j++) {
    highest = max(highest, load_logits(first + j));
  }
  var total = 0.0;
  for (var j = 0u; j < params.v; j++) {
    total += exp(load_logits(first + j) - highest);
  }
  loss[row] = log(total) + (highest - load_logits(first + labels[row]));
}
