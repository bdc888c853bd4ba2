// y = x · Wᵀ + bias for few rows: eight rows and four columns of y per subgroup, lanes along k.
//
// Decoding is bound by reading W, so W is read once, in words of 16 bytes, neighbouring lanes taking
// neighbouring words, and each word meets every row of x. From nine rows on W is read once for each
// eight. How a sum is made does not depend on the number of rows. Needs matvec_words.wgsl.

override WORKGROUP_SIZE: u32;  // invocations; a multiple of the largest subgroup
override ROWS: u32;            // rows of a subgroup: 8, or all of x's where there are fewer
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

var<workgroup> subgroups: atomic<u32>;

@compute @workgroup_size(WORKGROUP_SIZE)
fn matmul_matvec_subgroup(
  @builtin(workgroup_id) workgroup: vec3<u32>,
  @builtin(num_workgroups) workgroups: vec3<u32>,
  @builtin(subgroup_invocation_id) lane: u32,
  @builtin(subgroup_size) size: u32,
) {
  // WebGPU does not say how invocations are dealt out to subgroups, so each subgroup draws a number. It
  // only decides which columns are whose: the sums are the same whoever makes them.
  var drawn = 0u;
  if (lane == 0u) {
    drawn = atomicAdd(&subgroups, 1u);
  }
  let subgroup = subgroupBroadcastFirst(drawn);
  let group = (workgroup.y * workgroups.x + workgroup.x) * (WORKGROUP_SIZE / size) + subgroup;

  // Subgroups without columns have no words, rather than leaving: subgroup operations want everyone.
  let words = select(0u, params.words, group < params.count);
  let place = place_of(group);
  let sums = sum_words(place, lane, size, words);

  // Reduce and write: lane j has column j.
  let is_mine = lane < 4u && group < params.count;
  write_row(place, 0u, lane, is_mine, subgroupAdd(sums[0]));
  if (ROWS > 1u) { write_row(place, 1u, lane, is_mine, subgroupAdd(sums[1])); }
  if (ROWS > 2u) { write_row(place, 2u, lane, is_mine, subgroupAdd(sums[2])); }
  if (ROWS > 3u) { write_row(place, 3u, lane, is_mine, subgroupAdd(sums[3])); }
  if (ROWS > 4u) { write_row(place, 4u, lane, is_mine, subgroupAdd(sums[4])); }
  if (ROWS > 5u) { write_row(place, 5u, lane, is_mine, subgroupAdd(sums[5])); }
  if (ROWS > 6u) { write_row(place, 6u, lane, is_mine, subgroupAdd(sums[6])); }
  if (ROWS > 7u) { write_row(place, 7u, lane, is_mine, subgroupAdd(sums[7])); }
}

fn write_row(place: Place, i: u32, lane: u32, is_mine: bool, sum: vec4<f32>) {
  if (is_mine) {
    finish(place, i, lane, sum[lane]);
  }
}
