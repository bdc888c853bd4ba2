// y = a + b, one element per invocation.

override WORKGROUP_SIZE: u32;  // invocations

struct Params {
  count: u32,                  // elements
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> a: array<a_scalar>;        // [count]
@group(0) @binding(2) var<storage, read> b: array<b_scalar>;        // [count]
@group(0) @binding(3) var<storage, read_write> y: array<y_scalar>;  // [count]

@compute @workgroup_size(WORKGROUP_SIZE)
fn add_naive(
  @builtin(workgroup_id) workgroup: vec3<u32>,
  @builtin(num_workgroups) workgroups: vec3<u32>,
  @builtin(local_invocation_index) lane: u32,
) {
  let i = (workgroup.y * workgroups.x + workgroup.x) * WORKGROUP_SIZE + lane;
  if (i >= params.count) {
    return;
  }
  store_y(i, load_a(i) + load_b(i));
}
