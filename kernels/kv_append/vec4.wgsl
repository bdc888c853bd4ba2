// key_cache[b, g, position + t] = keys[b, t, g], likewise values, four elements per invocation.

override WORKGROUP_SIZE: u32;  // invocations
override G: u32;               // heads
override D: u32;               // elements of a head; a multiple of 4

struct Params {
  count: u32,                  // groups of four elements of keys
  tokens: u32,                 // T
  capacity: u32,               // C
  position: u32,               // slot of the first token; position + T is at most C
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> keys: array<keys_vec4>;                    // [B, T, G, D]
@group(0) @binding(2) var<storage, read> values: array<values_vec4>;                // [B, T, G, D]
@group(0) @binding(3) var<storage, read_write> key_cache: array<key_cache_vec4>;    // [B, G, C, D]
@group(0) @binding(4) var<storage, read_write> value_cache: array<value_cache_vec4>;  // [B, G, C, D]

const GROUPS = D / 4u;

@compute @workgroup_size(WORKGROUP_SIZE)
fn kv_append_vec4(
  @builtin(workgroup_id) workgroup: vec3<u32>,
  @builtin(num_workgroups) workgroups: vec3<u32>,
  @builtin(local_invocation_index) lane: u32,
) {
  let i = (workgroup.y * workgroups.x + workgroup.x) * WORKGROUP_SIZE + lane;
  if (i >= params.count) {
    return;
  }
  let head = i / GROUPS % G;
  let token = i / (GROUPS * G) % params.tokens;
  let batch = i / (GROUPS * G) / params.tokens;
  let slot = (batch * G + head) * params.capacity + params.position + token;
  store_key_cache4(slot * GROUPS + i % GROUPS, load_keys4(i));
  store_value_cache4(slot * GROUPS + i % GROUPS, load_values4(i));
}
