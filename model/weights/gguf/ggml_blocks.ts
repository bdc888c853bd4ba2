/**
 * The quantised blocks of ggml, turned into f32.
 *
 * A row is stored as blocks of 32 or 256 elements: small integers with one f16 scale, in the types of
 * 256 elements (`_K`) with a further integer scale for every 16 or 32 of them. Each product below has at
 * most 11 + 7 + 5 significant bits, which f32 holds without rounding: what is left is one rounding
 * when the value is stored. The results are therefore ggml's own to the bit, in whatever order or with
 * whatever fused operations either side multiplies and adds.
 *
 * Layouts: https://github.com/ggml-org/llama.cpp/blob/master/ggml/src/ggml-common.h
 *
 * @module
 */

/**
 * Dequantises whole blocks.
 *
 * @param blocks the blocks' bytes, from an even offset of their buffer
 * @param values takes as many elements as the blocks hold
 */
export type Dequantize = (blocks: Uint8Array<ArrayBuffer>, values: Float32Array) => void;

/** Elements of a block of the types without `_K`. */
export const SMALL_BLOCK = 32;

/** Elements of a block of the `_K` types. */
export const LARGE_BLOCK = 256;

/** Bytes of a block, by type. All are even, so that every f16 of a row lies on a 16-bit boundary. */
export const BLOCK_BYTES = {
  Q4_0: 18,
  Q4_1: 20,
  Q5_0: 22,
  Q5_1: 24,
  Q8_0: 34,
  Q2_K: 84,
  Q3_K: 110,
  Q4_K: 144,
  Q5_K: 176,
  Q6_K: 210,
} as const;

/** Q4_0: scale, 16 bytes of two elements (j and j + 16); value = scale · (q − 8). */
export function dequantizeQ4_0(blocks: Uint8Array<ArrayBuffer>, values: Float32Array): void {
  const halves = halvesOf(blocks);
  let at = 0;
  for (let out = 0; out < values.length; out += 32) {
    const scale = halves[at >> 1]!;
    for (let j = 0; j < 16; j++) {
      const pair = blocks[at + 2 + j]!;
      values[out + j] = scale * ((pair & 15) - 8);
      values[out + 16 + j] = scale * ((pair >> 4) - 8);
    }
    at += BLOCK_BYTES.Q4_0;
  }
}

/** Q4_1: scale, least value, 16 bytes of two elements; value = scale · q + least. */
export function dequantizeQ4_1(blocks: Uint8Array<ArrayBuffer>, values: Float32Array): void {
  const halves = halvesOf(blocks);
  let at = 0;
  for (let out = 0; out < values.length; out += 32) {
    const scale = halves[at >> 1]!;
    const least = halves[(at >> 1) + 1]!;
    for (let j = 0; j < 16; j++) {
      const pair = blocks[at + 4 + j]!;
      values[out + j] = scale * (pair & 15) + least;
      values[out + 16 + j] = scale * (pair >> 4) + least;
    }
    at += BLOCK_BYTES.Q4_1;
  }
}

/** Q5_0: scale, 32 fifth bits, 16 bytes of two elements; value = scale · (q − 16). */
export function dequantizeQ5_0(blocks: Uint8Array<ArrayBuffer>, values: Float32Array): void {
  const halves = halvesOf(blocks);
  let at = 0;
  for (let out = 0; out < values.length; out += 32) {
    const scale = halves[at >> 1]!;
    const high = wordAt(blocks, at + 2);
    for (let j = 0; j < 16; j++) {
      const pair = blocks[at + 6 + j]!;
      values[out + j] = scale * ((pair & 15 | (high >> j & 1) << 4) - 16);
      values[out + 16 + j] = scale * ((pair >> 4 | (high >> 16 + j & 1) << 4) - 16);
    }
    at += BLOCK_BYTES.Q5_0;
  }
}

/** Q5_1: scale, least value, 32 fifth bits, 16 bytes of two elements; value = scale · q + least. */
export function dequantizeQ5_1(blocks: Uint8Array<ArrayBuffer>, values: Float32Array): void {
  const halves = halvesOf(blocks);
  let at = 0;
  for (let out = 0; out < values.length; out += 32) {
    const scale = halves[at >> 1]!;
    const least = halves[(at >> 1) + 1]!;
    const high = wordAt(blocks, at + 4);
    for (let j = 0; j < 16; j++) {
      const pair = blocks[at + 8 + j]!;
      values[out + j] = scale * (pair & 15 | (high >> j & 1) << 4) + least;
      values[out + 16 + j] = scale * (pair >> 4 | (high >> 16 + j & 1) << 4) + least;
    }
    at += BLOCK_BYTES.Q5_1;
  }
}

/** Q8_0: scale, 32 signed bytes; value = scale · q. */
export function dequantizeQ8_0(blocks: Uint8Array<ArrayBuffer>, values: Float32Array): void {
  const halves = halvesOf(blocks);
  const signed = signedOf(blocks);
  let at = 0;
  for (let out = 0; out < values.length; out += 32) {
    const scale = halves[at >> 1]!;
    for (let j = 0; j < 32; j++) values[out + j] = scale * signed[at + 2 + j]!;
    at += BLOCK_BYTES.Q8_0;
  }
}

/**
 * Q2_K: 16 bytes of a scale and an offset in 4 bits each, 64 bytes of four elements, then the scales of
 * those; value = scale · q − offset, in groups of 16.
 */
export function dequantizeQ2_K(blocks: Uint8Array<ArrayBuffer>, values: Float32Array): void {
  const halves = halvesOf(blocks);
  let at = 0;
  for (let out = 0; out < values.length; out += LARGE_BLOCK) {
    const scaleUnit = halves[(at + 80) >> 1]!;
    const offsetUnit = halves[(at + 82) >> 1]!;
    for (let group = 0; group < 16; group++) {
      const packed = blocks[at + group]!;
      const scale = scaleUnit * (packed & 15);
      const offset = offsetUnit * (packed >> 4);
      const quads = at + 16 + (group >> 3) * 32 + (group & 1) * 16;
      const shift = (group >> 1 & 3) * 2;
      const first = out + group * 16;
      for (let j = 0; j < 16; j++) {
        values[first + j] = scale * (blocks[quads + j]! >> shift & 3) - offset;
      }
    }
    at += BLOCK_BYTES.Q2_K;
  }
}

/**
 * Q3_K: 32 bytes of third bits (element e in bit e / 32 of byte e % 32), 64 bytes of four elements, 12
 * bytes of 16 scales in 6 bits, then the scale of those; value = scale · (q − 4), in groups of 16.
 */
export function dequantizeQ3_K(blocks: Uint8Array<ArrayBuffer>, values: Float32Array): void {
  const halves = halvesOf(blocks);
  let at = 0;
  for (let out = 0; out < values.length; out += LARGE_BLOCK) {
    const unit = halves[(at + 108) >> 1]!;
    for (let group = 0; group < 16; group++) {
      const low = blocks[at + 96 + (group & 7)]! >> (group >> 3) * 4 & 15;
      const high = blocks[at + 104 + (group & 3)]! >> (group >> 2) * 2 & 3;
      const scale = unit * ((low | high << 4) - 32);
      const within = (group & 1) * 16;
      const quads = at + 32 + (group >> 3) * 32 + within;
      const shift = (group >> 1 & 3) * 2;
      const thirds = at + within;
      const bit = group >> 1;
      const first = out + group * 16;
      for (let j = 0; j < 16; j++) {
        const q = blocks[quads + j]! >> shift & 3 | (blocks[thirds + j]! >> bit & 1) << 2;
        values[first + j] = scale * (q - 4);
      }
    }
    at += BLOCK_BYTES.Q3_K;
  }
}

/**
 * Q4_K: the units of scales and offsets, 12 bytes of 8 scales and 8 offsets in 6 bits, 128 bytes of two
 * elements (j and j + 32 of each 64); value = scale · q − offset, in groups of 32.
 */
export function dequantizeQ4_K(blocks: Uint8Array<ArrayBuffer>, values: Float32Array): void {
  const halves = halvesOf(blocks);
  let at = 0;
  for (let out = 0; out < values.length; out += LARGE_BLOCK) {
    const scaleUnit = halves[at >> 1]!;
    const offsetUnit = halves[(at >> 1) + 1]!;
    for (let quarter = 0; quarter < 4; quarter++) {
      const group = quarter * 2;
      const scale = scaleUnit * sixBitScale(blocks, at + 4, group);
      const offset = offsetUnit * sixBitOffset(blocks, at + 4, group);
      const scaleNext = scaleUnit * sixBitScale(blocks, at + 4, group + 1);
      const offsetNext = offsetUnit * sixBitOffset(blocks, at + 4, group + 1);
      const pairs = at + 16 + quarter * 32;
      const first = out + quarter * 64;
      for (let j = 0; j < 32; j++) {
        const pair = blocks[pairs + j]!;
        values[first + j] = scale * (pair & 15) - offset;
        values[first + 32 + j] = scaleNext * (pair >> 4) - offsetNext;
      }
    }
    at += BLOCK_BYTES.Q4_K;
  }
}

/** Q5_K: as Q4_K, with 32 bytes of fifth bits (group g in bit g) between scales and elements. */
export function dequantizeQ5_K(blocks: Uint8Array<ArrayBuffer>, values: Float32Array): void {
  const halves = halvesOf(blocks);
  let at = 0;
  for (let out = 0; out < values.length; out += LARGE_BLOCK) {
    const scaleUnit = halves[at >> 1]!;
    const offsetUnit = halves[(at >> 1) + 1]!;
    for (let quarter = 0; quarter < 4; quarter++) {
      const group = quarter * 2;
      const scale = scaleUnit * sixBitScale(blocks, at + 4, group);
      const offset = offsetUnit * sixBitOffset(blocks, at + 4, group);
      const scaleNext = scaleUnit * sixBitScale(blocks, at + 4, group + 1);
      const offsetNext = offsetUnit * sixBitOffset(blocks, at + 4, group + 1);
      const pairs = at + 48 + quarter * 32;
      const first = out + quarter * 64;
      for (let j = 0; j < 32; j++) {
        const pair = blocks[pairs + j]!;
        const fifths = blocks[at + 16 + j]! >> group;
        values[first + j] = scale * (pair & 15 | (fifths & 1) << 4) - offset;
        values[first + 32 + j] = scaleNext * (pair >> 4 | (fifths & 2) << 3) - offsetNext;
      }
    }
    at += BLOCK_BYTES.Q5_K;
  }
}

/**
 * Q6_K: 128 bytes of two elements' low 4 bits, 64 bytes of four elements' high 2 bits, 16 signed scales,
 * then the unit of those; value = scale · (q − 32), in groups of 16.
 */
export function dequantizeQ6_K(blocks: Uint8Array<ArrayBuffer>, values: Float32Array): void {
  const halves = halvesOf(blocks);
  const signed = signedOf(blocks);
  let at = 0;
  for (let out = 0; out < values.length; out += LARGE_BLOCK) {
    const unit = halves[(at + 208) >> 1]!;
    for (let half = 0; half < 2; half++) {
      for (let within = 0; within < 32; within += 16) {
        // Four groups of 16 share their high bits: those of j, j + 32, j + 64 and j + 96.
        const scales = at + 192 + half * 8 + (within >> 4);
        const scale0 = unit * signed[scales]!;
        const scale1 = unit * signed[scales + 2]!;
        const scale2 = unit * signed[scales + 4]!;
        const scale3 = unit * signed[scales + 6]!;
        const low = at + half * 64 + within;
        const high = at + 128 + half * 32 + within;
        const first = out + half * 128 + within;
        for (let j = 0; j < 16; j++) {
          const a = blocks[low + j]!;
          const b = blocks[low + 32 + j]!;
          const bits = blocks[high + j]!;
          values[first + j] = scale0 * ((a & 15 | (bits & 3) << 4) - 32);
          values[first + 32 + j] = scale1 * ((b & 15 | (bits & 12) << 2) - 32);
          values[first + 64 + j] = scale2 * ((a >> 4 | bits & 48) - 32);
          values[first + 96 + j] = scale3 * ((b >> 4 | (bits & 192) >> 2) - 32);
        }
      }
    }
    at += BLOCK_BYTES.Q6_K;
  }
}

/** Scale `group` of Q4_K and Q5_K: of the last four, the top two bits lie above those of the first four. */
function sixBitScale(blocks: Uint8Array, at: number, group: number): number {
  if (group < 4) return blocks[at + group]! & 63;
  return blocks[at + 4 + group]! & 15 | blocks[at + group - 4]! >> 6 << 4;
}

/** Offset `group` of Q4_K and Q5_K, packed like the scales. */
function sixBitOffset(blocks: Uint8Array, at: number, group: number): number {
  if (group < 4) return blocks[at + 4 + group]! & 63;
  return blocks[at + 4 + group]! >> 4 | blocks[at + group]! >> 6 << 4;
}

function wordAt(bytes: Uint8Array, at: number): number {
  return bytes[at]! | bytes[at + 1]! << 8 | bytes[at + 2]! << 16 | bytes[at + 3]! << 24;
}

function halvesOf({ buffer, byteOffset, byteLength }: Uint8Array<ArrayBuffer>): Float16Array {
  return new Float16Array(buffer, byteOffset, byteLength >> 1);
}

function signedOf({ buffer, byteOffset, byteLength }: Uint8Array<ArrayBuffer>): Int8Array {
  return new Int8Array(buffer, byteOffset, byteLength);
}
