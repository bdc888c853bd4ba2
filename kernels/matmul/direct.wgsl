// y = x · Wᵀ + bias, ROWS rows by eight columns per invocation, all in registers.
//
// Neither workgroup memory nor subgroups: for rasterisers that run on a CPU, where both cost more than
// loading an operand again. One row is the matrix-vector product of a decode step.
// Needs step_linear.wgsl, step_plain.wgsl or step_scalar.wgsl, which bind x and weight.

override WORKGROUP_SIZE: u32;  // invocations
override ROWS: u32;            // rows of a tile: 1 or 8
override HAS_BIAS: bool;

struct Params {
  m: u32,                      // rows of x per batch, at least 1
  n: u32,                      // columns of y, at least 1
  steps: u32,                  // steps of the sum over k
  weight_stride_n: u32,        // elements from one n to the next
  weight_stride_k: u32,        // elements from one k to the next
  row_tiles: u32,              // tiles along m
  column_tiles: u32,           // tiles along n
  count: u32,                  // tiles of all batches
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(3) var<storage, read> bias: array<bias_scalar>;  // [N]
@group(0) @binding(4) var<storage, read_write> y: array<y_scalar>;  // [B, M, N]

@compute @workgroup_size(WORKGROUP_SIZE)
fn matmul_direct(
  @builtin(workgroup_id) workgroup: vec3<u32>,
  @builtin(num_workgroups) workgroups: vec3<u32>,
  @builtin(local_invocation_index) lane: u32,
) {
  let tile = (workgroup.y * workgroups.x + workgroup.x) * WORKGROUP_SIZE + lane;
  if (tile >= params.count) {
    return;
  }
  let batch = tile / (params.row_tiles * params.column_tiles);
  let row = tile / params.column_tiles % params.row_tiles * ROWS;
  let column = tile % params.column_tiles * 8u;
  let low = weight_starts(batch, column);
  let high = weight_starts(batch, column + 4u);
  let row0 = x_start(batch, row);
  let row1 = x_start(batch, row + 1u);
  let row2 = x_start(batch, row + 2u);
  let row3 = x_start(batch, row + 3u);
  let row4 = x_start(batch, row + 4u);
  let row5 = x_start(batch, row + 5u);
  let row6 = x_start(batch, row + 6u);
  let row7 = x_start(batch, row + 7u);

  // workgroup.z is 0. Without it Mesa 22.3 sees a loop bound that is a uniform's value, and for some
  // values (m = 512) compiles the kernel anew at every dispatch.
  let steps = params.steps + workgroup.z;

  // Accumulate: four rows by four columns per matrix, a row in each of its columns. All indices are
  // constants, written out, or the sums would live in memory and each use would be a load.
  var acc0 = mat4x4<f32>();  // rows 0 to 3, columns 0 to 3
  var acc1 = mat4x4<f32>();  // rows 0 to 3, columns 4 to 7
  var acc2 = mat4x4<f32>();  // rows 4 to 7, columns 0 to 3
  var acc3 = mat4x4<f32>();  // rows 4 to 7, columns 4 to 7
  for (var step = 0u; step < steps; step++) {
    let w0 = weight_at(low, step);
    let w1 = weight_at(high, step);
    let x0 = x_at(row0, step);
    acc0[0] += multiply(x0, w0);
    acc1[0] += multiply(x0, w1);
    if (ROWS == 8u) {
      let x1 = x_at(row1, step);
      acc0[1] += multiply(x1, w0);
      acc1[1] += multiply(x1, w1);
      let x2 = x_at(row2, step);
      acc0[2] += multiply(x2, w0);
      acc1[2] += multiply(x2, w1);
      let x3 = x_at(row3, step);
      acc0[3] += multiply(x3, w0);
      acc1[3] += multiply(x3, w1);
      let x4 = x_at(row4, step);
      acc2[0] += multiply(x4, w0);
      acc3[0] += multiply(x4, w1);
      let x5 = x_at(row5, step);
      acc2[1] += multiply(x5, w0);
      acc3[1] += multiply(x5, w1);
      let x6 = x_at(row6, step);
      acc2[2] += multiply(x6, w0);
      acc3[2] += multiply(x6, w1);
      let x7 = x_at(row7, step);
      acc2[3] += multiply(x7, w0);
      acc3[3] += multiply(x7, w1);
    }
  }

  // Write. Rolled, since compile time grows with the square of the number of stores: the next matrix
  // moves to the front in each turn.
  for (var part = 0u; part < 4u; part++) {
    var sums = acc0;
    let first_row = part / 2u * 4u;
    let first_column = column + part % 2u * 4u;
    for (var i = first_row; i < min(first_row + 4u, ROWS) && row + i < params.m; i++) {
      let start = (batch * params.m + row + i) * params.n;
      for (var j = 0u; j < 4u && first_column + j < params.n; j++) {
        var value = sums[i % 4u][j];
        if (HAS_BIAS) {
          value += load_bias(first_column + j);
        }
        store_y(start + first_column + j, value);
      }
    }
    acc0 = acc1;
    acc1 = acc2;
    acc2 = acc3;
  }
}
