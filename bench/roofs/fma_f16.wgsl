// Peak rate of f16 multiply-adds: a ← k·a + b, eight packed pairs.
//
// k = −1 and b = 1 come from the host, so that no compiler can fold the chain: a flips between its
// first value and 1 less that, which keeps the bits moving and the result known and exact. No two
// lanes start alike, or they would be computed once. Pairs, since GPUs pack
// two halves into a register.

override WORKGROUP_SIZE: u32;  // invocations

struct Params {
  rounds: u32,                 // of 8 multiply-adds in each of 16 lanes
  k: f32,
  b: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;    // [workgroups · WORKGROUP_SIZE]

@compute @workgroup_size(WORKGROUP_SIZE)
fn fma_f16(@builtin(global_invocation_id) id: vec3<u32>) {
  let k = vec2<f16>(f16(params.k));
  let b = vec2<f16>(f16(params.b));
  let x = f16(f32(id.x % 16u) / 32.0);
  var a0 = x + vec2<f16>(0.0, 1.0) / 64.0;
  var a1 = x + vec2<f16>(2.0, 3.0) / 64.0;
  var a2 = x + vec2<f16>(4.0, 5.0) / 64.0;
  var a3 = x + vec2<f16>(6.0, 7.0) / 64.0;
  var a4 = x + vec2<f16>(8.0, 9.0) / 64.0;
  var a5 = x + vec2<f16>(10.0, 11.0) / 64.0;
  var a6 = x + vec2<f16>(12.0, 13.0) / 64.0;
  var a7 = x + vec2<f16>(14.0, 15.0) / 64.0;
  for (var i = 0u; i < params.rounds; i++) {
    a0 = fma(a0, k, b); a1 = fma(a1, k, b); a2 = fma(a2, k, b); a3 = fma(a3, k, b);
    a4 = fma(a4, k, b); a5 = fma(a5, k, b); a6 = fma(a6, k, b); a7 = fma(a7, k, b);
    a0 = fma(a0, k, b); a1 = fma(a1, k, b); a2 = fma(a2, k, b); a3 = fma(a3, k, b);
    a4 = fma(a4, k, b); a5 = fma(a5, k, b); a6 = fma(a6, k, b); a7 = fma(a7, k, b);
    a0 = fma(a0, k, b); a1 = fma(a1, k, b); a2 = fma(a2, k, b); a3 = fma(a3, k, b);
    a4 = fma(a4, k, b); a5 = fma(a5, k, b); a6 = fma(a6, k, b); a7 = fma(a7, k, b);
    a0 = fma(a0, k, b); a1 = fma(a1, k, b); a2 = fma(a2, k, b); a3 = fma(a3, k, b);
    a4 = fma(a4, k, b); a5 = fma(a5, k, b); a6 = fma(a6, k, b); a7 = fma(a7, k, b);
    a0 = fma(a0, k, b); a1 = fma(a1, k, b); a2 = fma(a2, k, b); a3 = fma(a3, k, b);
    a4 = fma(a4, k, b); a5 = fma(a5, k, b); a6 = fma(a6, k, b); a7 = fma(a7, k, b);
    a0 = fma(a0, k, b); a1 = fma(a1, k, b); a2 = fma(a2, k, b); a3 = fma(a3, k, b);
    a4 = fma(a4, k, b); a5 = fma(a5, k, b); a6 = fma(a6, k, b); a7 = fma(a7, k, b);
    a0 = fma(a0, k, b); a1 = fma(a1, k, b); a2 = fma(a2, k, b); a3 = fma(a3, k, b);
    a4 = fma(a4, k, b); a5 = fma(a5, k, b); a6 = fma(a6, k, b); a7 = fma(a7, k, b);
    a0 = fma(a0, k, b); a1 = fma(a1, k, b); a2 = fma(a2, k, b); a3 = fma(a3, k, b);
    a4 = fma(a4, k, b); a5 = fma(a5, k, b); a6 = fma(a6, k, b); a7 = fma(a7, k, b);
  }
  // One step more than an even number: a result that equals the start would prove nothing.
  var total = vec2<f16>();
  total += fma(a0, k, b);
  total += fma(a1, k, b);
  total += fma(a2, k, b);
  total += fma(a3, k, b);
  total += fma(a4, k, b);
  total += fma(a5, k, b);
  total += fma(a6, k, b);
  total += fma(a7, k, b);
  y[id.x] = f32(total.x) + f32(total.y);
}
