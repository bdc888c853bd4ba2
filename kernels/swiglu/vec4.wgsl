// y = act(gate) · up, four elements per invocation. Needs activation.wgsl.

override WORKGROUP_SIZE: u32;  // invocations
override ACTIVATION: u32;      // 0 silu, 1 gelu (erf), 2 gelu (tanh), 3 relu

struct Params {
  count: u32,                  // groups of four elements
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> gate: array<gate_vec4>;    // [count × 4]
@group(0) @binding(2) var<storage, read> up: array<up_vec4>;        // [count × 4]
@group(0) @binding(3) var<storage, read_write> y: array<y_vec4>;    // [count × 4]

@compute @workgroup_size(WORKGROUP_SIZE)
fn swiglu_vec4(
  @builtin(workgroup_id) workgroup: vec3<u32>,
  @builtin(num_workgroups) workgroups: vec3<u32>,
  @builtin(local_invocation_index) lane: u32,
) {
  let i = (workgroup.y * workgroups.x + workgroup.x) * WORKGROUP_SIZE + lane;
  if (i >= params.count) {
    return;
  }
  let g = load_gate4(i);
  store_y4(i, vec4<f32>(act(g.x), act(g.y), act(g.z), act(g.w)) * load_up4(i));
}
