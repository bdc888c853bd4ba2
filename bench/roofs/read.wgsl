// Read bandwidth: y = Σ x over a run of vectors, four loads of 16 bytes in flight per invocation.
//
// A workgroup reads one contiguous run, its lanes side by side: GPUs merge their loads, and a software
// rasteriser, which finishes one subgroup before the next, uses each cache line while it has it.

override WORKGROUP_SIZE: u32;  // invocations; the subgroup's size on a software device

struct Params {
  rounds: u32,                 // groups of four loads per invocation
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;    // [workgroups · WORKGROUP_SIZE · rounds · 4]
@group(0) @binding(2) var<storage, read_write> y: array<f32>;    // [workgroups · WORKGROUP_SIZE]

@compute @workgroup_size(WORKGROUP_SIZE)
fn read_bandwidth(
  @builtin(workgroup_id) workgroup: vec3<u32>,
  @builtin(global_invocation_id) id: vec3<u32>,
  @builtin(local_invocation_index) lane: u32,
) {
  var a0 = vec4<f32>();
  var a1 = vec4<f32>();
  var a2 = vec4<f32>();
  var a3 = vec4<f32>();
  var i = workgroup.x * params.rounds * 4u * WORKGROUP_SIZE + lane;
  for (var round = 0u; round < params.rounds; round++) {
    a0 += x[i];
    a1 += x[i + WORKGROUP_SIZE];
    a2 += x[i + 2u * WORKGROUP_SIZE];
    a3 += x[i + 3u * WORKGROUP_SIZE];
    i += 4u * WORKGROUP_SIZE;
  }
  let total = (a0 + a1) + (a2 + a3);
  y[id.x] = (total.x + total.y) + (total.z + total.w);
}
