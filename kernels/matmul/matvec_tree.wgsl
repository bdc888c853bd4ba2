// y = x · Wᵀ + bias for few rows: eight rows and four columns of y per 32 invocations, lanes along k.
//
// As matvec_subgroup.wgsl, with a tree of additions in workgroup memory in place of a subgroup's sum.
// Needs matvec_words.wgsl.

override GROUPS: u32;          // groups of 32 invocations
override ROWS: u32;            // rows of a group: 8, or all of x's where there are fewer
override FORMAT: u32;          // of weight: 0 f32, 1 f16, 2 bf16
override HAS_BIAS: bool;

struct Params {
  m: u32,                      // rows of x per batch, at least ROWS
  n: u32,                      // columns of y, at least 1
  words: u32,                  // words of 16 bytes in a column of W
  row_groups: u32,             // groups of ROWS rows
  column_groups: u32,          // groups of four columns
  count: u32,                  // groups of all batches
}

@group(0) @binding(0) var<uniform> params: Params;

const LANES = 32u;

var<workgroup> partial: array<vec4<f32>, ROWS * GROUPS * LANES>;  // [ROWS, GROUPS, LANES]

@compute @workgroup_size(GROUPS * LANES)
fn matmul_matvec_tree(
  @builtin(workgroup_id) workgroup: vec3<u32>,
  @builtin(num_workgroups) workgroups: vec3<u32>,
  @builtin(local_invocation_index) invocation: u32,
) {
  let group = (workgroup.y * workgroups.x + workgroup.x) * GROUPS + invocation / LANES;
  let lane = invocation % LANES;
  // Groups without columns have no words, rather than leaving: barriers want everyone.
  let words = select(0u, params.words, group < params.count);
  let place = place_of(group);
  let sums = sum_words(place, lane, LANES, words);

  // Reduce: halves add up until lane 0 has all.
  partial[invocation] = sums[0];
  if (ROWS > 1u) { partial[GROUPS * LANES + invocation] = sums[1]; }
  if (ROWS > 2u) { partial[2u * GROUPS * LANES + invocation] = sums[2]; }
  if (ROWS > 3u) { partial[3u * GROUPS * LANES + invocation] = sums[3]; }
  if (ROWS > 4u) { partial[4u * GROUPS * LANES + invocation] = sums[4]; }
  if (ROWS > 5u) { partial[5u * GROUPS * LANES + invocation] = sums[5]; }
  if (ROWS > 6u) { partial[6u * GROUPS * LANES + invocation] = sums[6]; }
  if (ROWS > 7u) { partial[7u * GROUPS * LANES + invocation] = sums[7]; }
  for (var half = LANES / 2u; half > 0u; half /= 2u) {
    // Makes the sums of the previous turn visible to the lanes that add them.
    workgroupBarrier();
    if (lane < half) {
      for (var row = 0u; row < ROWS; row++) {
        let at = row * GROUPS * LANES + invocation;
        partial[at] += partial[at + half];
      }
    }
  }
  // Makes the totals visible to the lanes that write them.
  workgroupBarrier();

  // Write: lane j has column j.
  if (lane < 4u && group < params.count) {
    for (var row = 0u; row < ROWS; row++) {
      finish(place, row, lane, partial[row * GROUPS * LANES + invocation - lane][lane]);
    }
  }
}
