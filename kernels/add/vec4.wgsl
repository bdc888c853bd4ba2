// y = a + b, four elements per invocation.

override WORKGROUP_SIZE: u32;  // invocations

struct Params {
  count: u32,                  // groups of four elements
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> a: array<a_vec4>;        // [count × 4]
@group(0) @binding(2) var<storage, read> b: array<b_vec4>;        // [count × 4]
@group(0) @binding(3) var<storage, read_write> y: array<y_vec4>;  // [count × 4]

@compute @workgroup_size(WORKGROUP_SIZE)
fn add_vec4(
  @builtin(workgroup_id) workgroup: vec3<u32>,
  @builtin(num_workgroups) workgroups: vec3<u32>,
  @builtin(local_invocation_index) lane: u32,
) {
  let i = (workgroup.y * workgroups.x + workgroup.x) * WORKGROUP_SIZE + lane;
  if (i >= params.count) {
    return;
  }
  store_y4(i, load_a4(i) + load_b4(i));
}
