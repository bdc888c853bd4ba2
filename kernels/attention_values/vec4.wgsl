// y = Σ_s weights_s · v_s over the keys s of a cache, four elements of a head per invocation.
// T tokens, H query heads, G key heads, C slots of the cache, D elements of a head. What has a weight
// of 0 is left out, whatever v holds there.

override WORKGROUP_SIZE: u32;  // invocations

struct Params {
  count: u32,                  // groups of four elements of y
  t: u32,
  h: u32,
  g: u32,                      // divides h
  d: u32,                      // in groups of four: D / 4
  capacity: u32,               // C
  key_length: u32,             // keys in the cache, at most C
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> weights: array<weights_scalar>;  // [B, H, T, key_length]
@group(0) @binding(2) var<storage, read> v: array<v_vec4>;                // [B, G, C, D]
@group(0) @binding(3) var<storage, read_write> y: array<y_vec4>;          // [B, T, H, D]

@compute @workgroup_size(WORKGROUP_SIZE)
fn attention_values_vec4(
  @builtin(workgroup_id) workgroup: vec3<u32>,
  @builtin(num_workgroups) workgroups: vec3<u32>,
  @builtin(local_invocation_index) lane: u32,
) {
  let i = (workgroup.y * workgroups.x + workgroup.x) * WORKGROUP_SIZE + lane;
  if (i >= params.count) {
    return;
  }
  let column = i % params.d;
  let head = i / params.d % params.h;
  let token = i / params.d / params.h % params.t;
  let batch = i / params.d / params.h / params.t;
  let first = ((batch * params.h + head) * params.t + token) * params.key_length;
  let v_start = (batch * params.g + head / (params.h / params.g)) * params.capacity * params.d;

  var sum = vec4<f32>();
  for (var s = 0u; s < params.key_length; s++) {
    let weight = load_weights(first + s);
    if (weight != 0.0) {
      sum += weight * load_v4(v_start + s * params.d + column);
    }
  }
  store_y4(i, sum);
}
