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

  // Accumulate: two groups of four columns per row, with constant indices.
  var acc: array<vec4<f32>, 16>;
  for (var step = 0u; step < params.steps; step++) {
    let w0 = weight_at(low, step);
    let w1 = weight_at(high, step);
    let x0 = x_at(row0, step);
    acc[0] += multiply(x0, w0);
    acc[1] += multiply(x0, w1);
    if (ROWS == 8u) {
      let x1 = x_at(row1, step);
      acc[2] += multiply(x1, w0);
      acc[3] += multiply(x1, w1);
      let x2 = x_at(row2, step);
      acc[4] += multiply(x2, w0);
      acc[5] += multiply(x2, w1);
      let x3 = x_at(row3, step);
      acc[6] += multiply(x3, w0);
      acc[7] += multiply(x3, w1);
      let x4 = x_at(row4, step);
      acc[8] += multiply(x4, w0);
      acc[9] += multiply(x4, w1);
      let x5 = x_at(row5, step);
      acc[10] += multiply(x5, w0);
      acc[11] += multiply(x5, w1);
      let x6 = x_at(row6, step);
      acc[12] += multiply(x6, w0);
      acc[13] += multiply(x6, w1);
      let x7 = x_at(row7, step);
      acc[14] += multiply(x7, w0);
      acc[15] += multiply(x7, w1);
    }
  }

  // Write. Rolled, since compile time grows with the square of the number of stores.
  for (var r = 0u; r < ROWS && row + r < params.m; r++) {
    let start = (batch * params.m + row + r) * params.n;
    for (var j = 0u; j < 8u && column + j < params.n; j++) {
      var value = acc[r * 2u + j / 4u][j % 4u];
      if (HAS_BIAS) {
        value += load_bias(column + j);
      }
      store_y(start + column + j, value);
    }
  }
}
