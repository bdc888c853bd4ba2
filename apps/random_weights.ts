/**
 * Weights for a model that nobody trained: made fast enough to fill a disk.
 *
 * @module
 */

import type { NewTensor } from "../model/weights/safetensors_writer.ts";
import type { WeightDtype } from "../model/weights/weight_source.ts";
import { Random } from "../runtime/random.ts";
import { elementCount, HostTensor } from "../runtime/tensor.ts";

/** Bytes of a piece: a whole number of elements of any dtype. */
const PIECE_BYTES = 4 * 1024 * 1024;

/** Values that a weight may have: an element is drawn by 16 random bits. */
const TABLE_LENGTH = 2 ** 16;

/** Standard deviation, StableLM's `initializer_range`; layers keep their outputs finite with it. */
const DEVIATION = 0.02;

/**
 * Draws tensors: norms' weights from N(1, 0.02²), all else from N(0, 0.02²). A tensor depends on the
 * seed, its name and its dtype alone.
 */
export class RandomWeights {
  readonly #seed: number;
  readonly #tables = new Map<string, Uint16Array | Uint32Array>();

  /** Takes a 32-bit seed. */
  constructor(seed: number) {
    this.#seed = seed;
  }

  /** A tensor's bytes in pieces, all in one buffer: each is to be used before the next is asked for. */
  *bytesOf(tensor: NewTensor): Generator<Uint8Array<ArrayBuffer>> {
    const { name, dtype, shape } = tensor;
    const isNorm = name.includes("norm") && name.endsWith(".weight");
    const table = this.#table(dtype, isNorm ? 1 : 0);
    let left = elementCount(shape) * table.BYTES_PER_ELEMENT;
    const buffer = new ArrayBuffer(Math.min(PIECE_BYTES, left));
    const elements = dtype === "f32" ? new Uint32Array(buffer) : new Uint16Array(buffer);
    // xorshift32 stands still at 0.
    let state = new Random(this.#seed, name).bits() || 1;
    while (left > 0) {
      state = fill(elements, table, state);
      yield new Uint8Array(buffer, 0, Math.min(left, buffer.byteLength));
      left -= buffer.byteLength;
    }
  }

  #table(dtype: WeightDtype, mean: number): Uint16Array | Uint32Array {
    const key = `${dtype} ${mean}`;
    let table = this.#tables.get(key);
    if (table === undefined) {
      const random = new Random(this.#seed, key);
      const numbers = Float64Array.from({ length: TABLE_LENGTH }, () => {
        return mean + DEVIATION * random.normal();
      });
      const { buffer } = HostTensor.from([TABLE_LENGTH], numbers, dtype).bytes;
      table = dtype === "f32" ? new Uint32Array(buffer) : new Uint16Array(buffer);
      this.#tables.set(key, table);
    }
    return table;
  }
}

/** Draws elements by xorshift32 (Marsaglia), two to each of its numbers, and returns its state. */
function fill(
  elements: Uint16Array | Uint32Array,
  table: Uint16Array | Uint32Array,
  state: number,
): number {
  let x = state;
  for (let i = 0; i < elements.length; i += 2) {
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    elements[i] = table[x & 0xffff]!;
    elements[i + 1] = table[x >>> 16]!;
  }
  return x;
}
