// Copy bandwidth: y = x, 16 bytes a load and a store; as many bytes are read as written.

override WORKGROUP_SIZE: u32;  // invocations

struct Params {
  stride: u32,                 // invocations in the grid
  rounds: u32,                 // vectors per invocation
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;          // [stride · rounds] vectors
@group(0) @binding(2) var<storage, read_write> y: array<vec4<f32>>;    // [stride · rounds] vectors

@compute @workgroup_size(WORKGROUP_SIZE)
fn copy_bandwidth(@builtin(global_invocation_id) id: vec3<u32>) {
  var i = id.x;
  for (var round = 0u; round < params.rounds; round++) {
    y[i] = x[i];
    i += params.stride;
  }
}
