// Peak rate of f32 multiply-adds: a ← k·a + b, two vectors of four.
//
// k = −1 and b = 1 come from the host, so that no compiler can fold the chain: a flips between its
// first value and 1 less that, which keeps the bits moving and the result known and exact. No two
// lanes start alike, or they would be computed once. Eight chains fill a
// software rasteriser's registers without spilling, and hide a GPU's latency.

override WORKGROUP_SIZE: u32;  // invocations

struct Params {
  rounds: u32,                 // of 16 multiply-adds in each of 8 lanes
  k: f32,
  b: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;    // [workgroups · WORKGROUP_SIZE]

@compute @workgroup_size(WORKGROUP_SIZE)
fn fma_f32(@builtin(global_invocation_id) id: vec3<u32>) {
  let k = vec4<f32>(params.k);
  let b = vec4<f32>(params.b);
  let x = f32(id.x % 16u) / 32.0;
  var a0 = x + vec4<f32>(0.0, 1.0, 2.0, 3.0) / 64.0;
  var a1 = x + vec4<f32>(4.0, 5.0, 6.0, 7.0) / 64.0;
  for (var i = 0u; i < params.rounds; i++) {
    a0 = fma(a0, k, b); a1 = fma(a1, k, b);
    a0 = fma(a0, k, b); a1 = fma(a1, k, b);
    a0 = fma(a0, k, b); a1 = fma(a1, k, b);
    a0 = fma(a0, k, b); a1 = fma(a1, k, b);
    a0 = fma(a0, k, b); a1 = fma(a1, k, b);
    a0 = fma(a0, k, b); a1 = fma(a1, k, b);
    a0 = fma(a0, k, b); a1 = fma(a1, k, b);
    a0 = fma(a0, k, b); a1 = fma(a1, k, b);
    a0 = fma(a0, k, b); a1 = fma(a1, k, b);
    a0 = fma(a0, k, b); a1 = fma(a1, k, b);
    a0 = fma(a0, k, b); a1 = fma(a1, k, b);
    a0 = fma(a0, k, b); a1 = fma(a1, k, b);
    a0 = fma(a0, k, b); a1 = fma(a1, k, b);
    a0 = fma(a0, k, b); a1 = fma(a1, k, b);
    a0 = fma(a0, k, b); a1 = fma(a1, k, b);
    a0 = fma(a0, k, b); a1 = fma(a1, k, b);
  }
  // One step more than an even number: a result that equals the start would prove nothing.
  var total = vec4<f32>();
  total += fma(a0, k, b);
  total += fma(a1, k, b);
  y[id.x] = total.x + total.y + total.z + total.w;
}
