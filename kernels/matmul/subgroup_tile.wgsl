// y = x · Wᵀ + bias, a tile of 8 · ROW_BLOCKS rows by 32 columns per subgroup of 8.
//
// For rasterisers that run on a CPU: there a load costs as much as ten arithmetic operations, whatever
// its address, and a broadcast costs one. Each lane owns four columns and loads their weights; each
// lane loads x for one row of a block, and the eight rows are broadcast to all lanes in turn.
// Needs step_linear.wgsl, step_plain.wgsl or step_scalar.wgsl, which bind x and weight.

override ROW_BLOCKS: u32;  // blocks of eight rows: 1 or 4
override HAS_BIAS: bool;

struct Params {
  m: u32,                  // rows of x per batch, at least 1
  n: u32,                  // columns of y, at least 1
  steps: u32,              // steps of the sum over k
  weight_stride_n: u32,    // elements from one n to the next
  weight_stride_k: u32,    // elements from one k to the next
  row_tiles: u32,          // tiles along m
  column_tiles: u32,       // tiles along n
  count: u32,              // tiles of all batches
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(3) var<storage, read> bias: array<bias_scalar>;  // [N]
@group(0) @binding(4) var<storage, read_write> y: array<y_scalar>;  // [B, M, N]

@compute @workgroup_size(8)
fn matmul_subgroup_tile(
  @builtin(workgroup_id) workgroup: vec3<u32>,
  @builtin(num_workgroups) workgroups: vec3<u32>,
  @builtin(local_invocation_index) lane: u32,
) {
  let tile = workgroup.y * workgroups.x + workgroup.x;
  if (tile >= params.count) {
    return;
  }
  let batch = tile / (params.row_tiles * params.column_tiles);
  let row = tile / params.column_tiles % params.row_tiles * 8u * ROW_BLOCKS;
  let column = tile % params.column_tiles * 32u + lane * 4u;
  let columns = weight_starts(batch, column);
  let rows0 = x_start(batch, row + lane);
  let rows1 = x_start(batch, row + 8u + lane);
  let rows2 = x_start(batch, row + 16u + lane);
  let rows3 = x_start(batch, row + 24u + lane);

  // workgroup.z is 0. Without it Mesa 22.3 sees a loop bound that is a uniform's value, and for some
  // values (m = 512) compiles the kernel anew at every dispatch.
  let steps = params.steps + workgroup.z;

  // Accumulate: four rows by four columns per matrix, a row in each of its columns. All indices are
  // constants, written out, or the sums would live in memory and each use would be a load.
  var acc0 = mat4x4<f32>();
  var acc1 = mat4x4<f32>();
  var acc2 = mat4x4<f32>();
  var acc3 = mat4x4<f32>();
  var acc4 = mat4x4<f32>();
  var acc5 = mat4x4<f32>();
  var acc6 = mat4x4<f32>();
  var acc7 = mat4x4<f32>();
  for (var step = 0u; step < steps; step++) {
    let w = weight_at(columns, step);
    let x0 = x_at(rows0, step);
    acc0[0] += multiply(subgroupBroadcast(x0, 0u), w);
    acc0[1] += multiply(subgroupBroadcast(x0, 1u), w);
    acc0[2] += multiply(subgroupBroadcast(x0, 2u), w);
    acc0[3] += multiply(subgroupBroadcast(x0, 3u), w);
    acc1[0] += multiply(subgroupBroadcast(x0, 4u), w);
    acc1[1] += multiply(subgroupBroadcast(x0, 5u), w);
    acc1[2] += multiply(subgroupBroadcast(x0, 6u), w);
    acc1[3] += multiply(subgroupBroadcast(x0, 7u), w);
    if (ROW_BLOCKS == 4u) {
      let x1 = x_at(rows1, step);
      acc2[0] += multiply(subgroupBroadcast(x1, 0u), w);
      acc2[1] += multiply(subgroupBroadcast(x1, 1u), w);
      acc2[2] += multiply(subgroupBroadcast(x1, 2u), w);
      acc2[3] += multiply(subgroupBroadcast(x1, 3u), w);
      acc3[0] += multiply(subgroupBroadcast(x1, 4u), w);
      acc3[1] += multiply(subgroupBroadcast(x1, 5u), w);
      acc3[2] += multiply(subgroupBroadcast(x1, 6u), w);
      acc3[3] += multiply(subgroupBroadcast(x1, 7u), w);
      let x2 = x_at(rows2, step);
      acc4[0] += multiply(subgroupBroadcast(x2, 0u), w);
      acc4[1] += multiply(subgroupBroadcast(x2, 1u), w);
      acc4[2] += multiply(subgroupBroadcast(x2, 2u), w);
      acc4[3] += multiply(subgroupBroadcast(x2, 3u), w);
      acc5[0] += multiply(subgroupBroadcast(x2, 4u), w);
      acc5[1] += multiply(subgroupBroadcast(x2, 5u), w);
      acc5[2] += multiply(subgroupBroadcast(x2, 6u), w);
      acc5[3] += multiply(subgroupBroadcast(x2, 7u), w);
      let x3 = x_at(rows3, step);
      acc6[0] += multiply(subgroupBroadcast(x3, 0u), w);
      acc6[1] += multiply(subgroupBroadcast(x3, 1u), w);
      acc6[2] += multiply(subgroupBroadcast(x3, 2u), w);
      acc6[3] += multiply(subgroupBroadcast(x3, 3u), w);
      acc7[0] += multiply(subgroupBroadcast(x3, 4u), w);
      acc7[1] += multiply(subgroupBroadcast(x3, 5u), w);
      acc7[2] += multiply(subgroupBroadcast(x3, 6u), w);
      acc7[3] += multiply(subgroupBroadcast(x3, 7u), w);
    }
  }

  // Write. Rolled, since compile time grows with the square of the number of stores: the next four
  // rows move to the front in each turn.
  for (var group = 0u; group < 2u * ROW_BLOCKS; group++) {
    var sums = acc0;
    for (var i = 0u; i < 4u && row + group * 4u + i < params.m; i++) {
      let start = (batch * params.m + row + group * 4u + i) * params.n;
      for (var j = 0u; j < 4u && column + j < params.n; j++) {
        var value = sums[i][j];
        if (HAS_BIAS) {
          value += load_bias(column + j);
        }
        store_y(start + column + j, value);
      }
    }
    acc0 = acc1;
    acc1 = acc2;
    acc2 = acc3;
    acc3 = acc4;
    acc4 = acc5;
    acc5 = acc6;
    acc6 = acc7;
  }
}
