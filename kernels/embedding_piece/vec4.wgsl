// y[t] = table[ids[t] − first_row] where table has that row, four elements per invocation.

override WORKGROUP_SIZE: u32;  // invocations
override C: u32;               // elements of a row; a multiple of 4

struct Params {
  count: u32,                  // groups of four elements of y
  rows: u32,                   // V
  first_row: u32,              // id of the first row
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> table: array<table_vec4>;  // [V, C]
@group(0) @binding(2) var<storage, read> ids: array<u32>;           // [T]
@group(0) @binding(3) var<storage, read_write> y: array<y_vec4>;    // [T, C]

const GROUPS = C / 4u;

@compute @workgroup_size(WORKGROUP_SIZE)
fn embedding_piece_vec4(
  @builtin(workgroup_id) workgroup: vec3<u32>,
  @builtin(num_workgroups) workgroups: vec3<u32>,
  @builtin(local_invocation_index) lane: u32,
) {
  let i = (workgroup.y * workgroups.x + workgroup.x) * WORKGROUP_SIZE + lane;
  if (i >= params.count) {
    return;
  }
  // An id below first_row wraps around, and is past the end as well.
  let row = ids[i / GROUPS] - params.first_row;
  if (row < params.rows) {
    store_y4(i, load_table4(row * GROUPS + i % GROUPS));
  }
}
