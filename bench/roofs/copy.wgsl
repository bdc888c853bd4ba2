// Copy bandwidth: y = x, 16 bytes a load and a store; as many bytes are read as written. The order of
// access is that of read.wgsl.

override WORKGROUP_SIZE: u32;  // invocations; the subgroup's size on a software device

struct Params {
  rounds: u32,                 // groups of four vectors per invocation
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;          // [workgroups · WORKGROUP_SIZE · rounds · 4]
@group(0) @binding(2) var<storage, read_write> y: array<vec4<f32>>;    // [workgroups · WORKGROUP_SIZE · rounds · 4]

@compute @workgroup_size(WORKGROUP_SIZE)
fn copy_bandwidth(
  @builtin(workgroup_id) workgroup: vec3<u32>,
  @builtin(local_invocation_index) lane: u32,
) {
  var i = workgroup.x * params.rounds * 4u * WORKGROUP_SIZE + lane;
  for (var round = 0u; round < params.rounds; round++) {
    y[i] = x[i];
    y[i + WORKGROUP_SIZE] = x[i + WORKGROUP_SIZE];
    y[i + 2u * WORKGROUP_SIZE] = x[i + 2u * WORKGROUP_SIZE];
    y[i + 3u * WORKGROUP_SIZE] = x[i + 3u * WORKGROUP_SIZE];
    i += 4u * WORKGROUP_SIZE;
  }
}
