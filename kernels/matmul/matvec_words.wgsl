// Products of up to eight rows of x with four columns of y, in pieces of 16 bytes of weight per column.
// Expects: override ROWS, FORMAT and HAS_BIAS, params.n, params.words.

@group(0) @binding(1) var<storage, read> x: array<x_vec4>;             // [B, ROWS, K/4] × 4
@group(0) @binding(2) var<storage, read> weight: array<vec4<u32>>;     // [B, N, words] × 16 bytes
@group(0) @binding(3) var<storage, read> bias: array<bias_scalar>;     // [N]
@group(0) @binding(4) var<storage, read_write> y: array<y_scalar>;     // [B, ROWS, N]

const F32 = 0u;
const F16 = 1u;  // and 2: bf16

// Groups of four k in a word.
const QUADS = select(2u, 1u, FORMAT == F32);

// One word of each of four columns.
struct Words {
  a: vec4<u32>,
  b: vec4<u32>,
  c: vec4<u32>,
  d: vec4<u32>,
}

// Where four columns begin. Columns past the end read the last one, and are not stored.
fn column_starts(batch: u32, column: u32) -> vec4<u32> {
  let columns = min(column + vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(params.n - 1u));
  return (batch * params.n + columns) * params.words;
}

fn load_words(starts: vec4<u32>, word: u32) -> Words {
  let at = starts + word;
  return Words(weight[at.x], weight[at.y], weight[at.z], weight[at.w]);
}

// The first four weights of a word, and the last four where it has eight.
fn first_four(word: vec4<u32>) -> vec4<f32> {
  if (FORMAT == F32) {
    return bitcast<vec4<f32>>(word);
  }
  return widen(word.xy);
}

fn widen(pairs: vec2<u32>) -> vec4<f32> {
  if (FORMAT == F16) {
    return vec4<f32>(unpack2x16float(pairs.x), unpack2x16float(pairs.y));
  }
  let low = pairs << vec2<u32>(16u);
  let high = pairs & vec2<u32>(0xffff0000u);
  return bitcast<vec4<f32>>(vec4<u32>(low.x, high.x, low.y, high.y));
}

// Adds the products of one word per column to the sums: a row of x each, four columns wide.
fn accumulate(sums: ptr<function, array<vec4<f32>, 8>>, batch: u32, word: u32, words: Words) {
  let first = mat4x4<f32>(
    first_four(words.a), first_four(words.b), first_four(words.c), first_four(words.d),
  );
  let last = mat4x4<f32>(
    widen(words.a.zw), widen(words.b.zw), widen(words.c.zw), widen(words.d.zw),
  );
  let row = params.words * QUADS;
  let at = batch * ROWS * row + word * QUADS;
  (*sums)[0] += products(at, first, last);
  // Constant conditions: rows that are not there cost nothing.
  if (ROWS > 1u) { (*sums)[1] += products(at + row, first, last); }
  if (ROWS > 2u) { (*sums)[2] += products(at + 2u * row, first, last); }
  if (ROWS > 3u) { (*sums)[3] += products(at + 3u * row, first, last); }
  if (ROWS > 4u) { (*sums)[4] += products(at + 4u * row, first, last); }
  if (ROWS > 5u) { (*sums)[5] += products(at + 5u * row, first, last); }
  if (ROWS > 6u) { (*sums)[6] += products(at + 6u * row, first, last); }
  if (ROWS > 7u) { (*sums)[7] += products(at + 7u * row, first, last); }
}

fn products(at: u32, first: mat4x4<f32>, last: mat4x4<f32>) -> vec4<f32> {
  let sum = load_x4(at) * first;
  if (QUADS == 1u) {
    return sum;
  }
  return sum + load_x4(at + 1u) * last;
}

// The sums of one invocation, which takes every `stride`-th word from `lane` on.
fn sum_words(batch: u32, column: u32, lane: u32, stride: u32, words: u32) -> array<vec4<f32>, 8> {
  var sums: array<vec4<f32>, 8>;
  let starts = column_starts(batch, column);
  // Two words at once, both loaded before either is used, so that memory has more to work on.
  var word = lane;
  for (; word + stride < words; word += 2u * stride) {
    let near = load_words(starts, word);
    let far = load_words(starts, word + stride);
    accumulate(&sums, batch, word, near);
    accumulate(&sums, batch, word + stride, far);
  }
  if (word < words) {
    accumulate(&sums, batch, word, load_words(starts, word));
  }
  return sums;
}

// Adds the bias to one sum and stores it.
fn finish(batch: u32, row: u32, column: u32, sum: f32) {
  if (column < params.n) {
    var value = sum;
    if (HAS_BIAS) {
      value += load_bias(column);
    }
    store_y((batch * ROWS + row) * params.n + column, value);
  }
}
