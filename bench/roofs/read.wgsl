// Read bandwidth: y = Σ x over a stride of the whole grid, 16 bytes a load, four loads in flight.

override WORKGROUP_SIZE: u32;  // invocations

struct Params {
  stride: u32,                 // invocations in the grid
  rounds: u32,                 // groups of four loads per invocation
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;    // [stride · rounds · 4] vectors
@group(0) @binding(2) var<storage, read_write> y: array<f32>;    // [stride]

@compute @workgroup_size(WORKGROUP_SIZE)
fn read_bandwidth(@builtin(global_invocation_id) id: vec3<u32>) {
  var a0 = vec4<f32>(0.0);
  var a1 = vec4<f32>(0.0);
  var a2 = vec4<f32>(0.0);
  var a3 = vec4<f32>(0.0);
  var i = id.x;
  for (var round = 0u; round < params.rounds; round++) {
    a0 += x[i];
    a1 += x[i + params.stride];
    a2 += x[i + 2u * params.stride];
    a3 += x[i + 3u * params.stride];
    i += 4u * params.stride;
  }
  let total = (a0 + a1) + (a2 + a3);
  y[id.x] = (total.x + total.y) + (total.z + total.w);
}
