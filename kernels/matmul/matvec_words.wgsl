// Products of up to eight rows of x with four columns of y, in pieces of 16 bytes of weight per column.
// Expects: override ROWS, FORMAT and HAS_BIAS, params.m, n, words, row_groups and column_groups.

@group(0) @binding(1) var<storage, read> x: array<x_vec4>;             // [B, M, K/4] × 4
@group(0) @binding(2) var<storage, read> weight: array<vec4<u32>>;     // [B, N, words] × 16 bytes
@group(0) @binding(3) var<storage, read> bias: array<bias_scalar>;     // [N]
@group(0) @binding(4) var<storage, read_write> y: array<y_scalar>;     // [B, M, N]

const F32 = 0u;
const F16 = 1u;  // and 2: bf16

// Groups of four k in a word.
const QUADS = select(2u, 1u, FORMAT == F32);

// The ROWS rows and four columns of one group of invocations.
struct Place {
  batch: u32,
  row: u32,        // first row that it computes
  first_own: u32,  // first row that it stores
  column: u32,
}

// Groups of the same columns follow each other, so that they meet in the cache. The last of them begins
// early enough to have all its rows, and leaves those that it shares with the one before it to that one.
fn place_of(group: u32) -> Place {
  let first_own = group % params.row_groups * ROWS;
  let columns = group / params.row_groups;
  return Place(
    columns / params.column_groups,
    min(first_own, params.m - ROWS),
    first_own,
    columns % params.column_groups * 4u,
  );
}

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

// Adds the products of one word per column to the sums: a row of x each, four columns wide. `at` is
// where the word's k are in the first row of x.
fn accumulate(sums: ptr<function, array<vec4<f32>, 8>>, at: u32, words: Words) {
  let first = transpose(mat4x4<f32>(
    first_four(words.a), first_four(words.b), first_four(words.c), first_four(words.d),
  ));
  let last = transpose(mat4x4<f32>(
    widen(words.a.zw), widen(words.b.zw), widen(words.c.zw), widen(words.d.zw),
  ));
  let row = params.words * QUADS;
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
  let sum = four_products(load_x4(at), first);
  if (QUADS == 1u) {
    return sum;
  }
  return sum + four_products(load_x4(at + 1u), last);
}

// The products of four k, a matrix column each. It is spelled out which of them are fused with their
// addition: a compiler might choose differently for another ROWS, and a row would have other bits.
fn four_products(x: vec4<f32>, w: mat4x4<f32>) -> vec4<f32> {
  let two = fma(x.yyyy, w[1], x.xxxx * w[0]);
  return fma(x.wwww, w[3], fma(x.zzzz, w[2], two));
}

// The sums of one invocation, which takes every `stride`-th word from `lane` on.
fn sum_words(place: Place, lane: u32, stride: u32, words: u32) -> array<vec4<f32>, 8> {
  var sums: array<vec4<f32>, 8>;
  let starts = column_starts(place.batch, place.column);
  let x_start = (place.batch * params.m + place.row) * params.words * QUADS;
  // Two words at once, both loaded before either is used, so that memory has more to work on.
  var word = lane;
  for (; word + stride < words; word += 2u * stride) {
    let near = load_words(starts, word);
    let far = load_words(starts, word + stride);
    accumulate(&sums, x_start + word * QUADS, near);
    accumulate(&sums, x_start + (word + stride) * QUADS, far);
  }
  if (word < words) {
    accumulate(&sums, x_start + word * QUADS, load_words(starts, word));
  }
  return sums;
}

// Adds the bias to the sum of one of the group's rows, and stores it where it is the group's to store.
fn finish(place: Place, i: u32, lane: u32, sum: f32) {
  let row = place.row + i;
  let column = place.column + lane;
  if (row >= place.first_own && column < params.n) {
    var value = sum;
    if (HAS_BIAS) {
      value += load_bias(column);
    }
    store_y((place.batch * params.m + row) * params.n + column, value);
  }
}
