/**
 * Random numbers that are a function of where they are used, and of a seed.
 *
 * Source: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011 (Philox4x32-10)
 *
 * @module
 */

import { requireInput } from "../../runtime/errors.ts";

/**
 * What a random number is for. Numbers of different purposes have nothing to do with each other: `draw` is
 * for the next token of a row, `beam` for those of a beam search, `draft` for a drafted token and `accept`
 * for whether one is taken.
 */
export type RandomPurpose = "draw" | "beam" | "draft" | "accept";

const PURPOSES: Readonly<Record<RandomPurpose, number>> = { draw: 0, beam: 1, draft: 2, accept: 3 };

const ROUNDS = 10;
/** Multipliers and key increments of the published generator. */
const MULTIPLIER_0 = 0xd2511f53;
const MULTIPLIER_1 = 0xcd9e8d57;
const KEY_STEP_0 = 0x9e3779b9;
const KEY_STEP_1 = 0xbb67ae85;

/** Largest f32 below 1. */
const BELOW_1 = 1 - 2 ** -24;

/**
 * Random numbers without a state: each is a function of the seed, of what it is for, and of row, step and
 * index. So a row's numbers do not depend on the rows beside it, nor on the order in which they are asked
 * for, and a GPU can make the same ones.
 *
 *   counter = (⌊index / 4⌋, step, row, purpose),   key = seed,   word index mod 4 of Philox4x32-10
 */
export class CounterRandom {
  /** What the numbers depend on, besides their place: 64 bits. */
  readonly seed: bigint;
  readonly #key0: number;
  readonly #key1: number;

  /**
   * Takes the seed.
   *
   * @throws {ModelInputError} If it is not a whole number from 0 to 2⁶⁴ − 1
   */
  constructor(seed: number | bigint) {
    const isWhole = typeof seed === "bigint" || Number.isSafeInteger(seed);
    const rule = "must be a whole number from 0 to 2^64 - 1, a bigint from 2^53 on";
    requireInput(isWhole && seed >= 0 && seed < 2n ** 64n, "generate", "seed", rule, seed);
    this.seed = BigInt(seed);
    this.#key0 = Number(this.seed & 0xffffffffn);
    this.#key1 = Number(this.seed >> 32n);
  }

  /** Writes the four numbers of indices 4 · block … 4 · block + 3, as 32 bits each. */
  block(
    purpose: RandomPurpose,
    row: number,
    step: number,
    block: number,
    into: Uint32Array,
  ): void {
    philox4x32(block, step, row, PURPOSES[purpose], this.#key0, this.#key1, into);
  }

  /** A number above 0 and below 1, as {@linkcode uniformOf} has it. */
  uniform(purpose: RandomPurpose, row: number, step: number, index = 0): number {
    const words = new Uint32Array(4);
    this.block(purpose, row, step, index >>> 2, words);
    return uniformOf(words[index & 3]!);
  }
}

/**
 * 32 random bits as an f32 above 0 and below 1. Small ones are finer than large ones; the smallest is 2⁻³³.
 *
 * In WGSL: `min((f32(bits) + 0.5) * 0x1p-32f, 0x1.fffffep-1f)`; every step here rounds as that does.
 */
export function uniformOf(bits: number): number {
  return Math.min(Math.fround(Math.fround(bits) + 0.5) * 2 ** -32, BELOW_1);
}

/**
 * A standard Gumbel number from a uniform one: g = −ln(−ln(1 − u)). The large ones, which win draws, come
 * from small u and are as fine as these.
 *
 * WGSL has no log1p: u + u²/2 + u³/3 + u⁴/4 is as good an f32 where u < 1/64.
 */
export function gumbelOf(uniform: number): number {
  return -Math.log(-Math.log1p(-uniform));
}

/** The largest number that {@linkcode gumbelOf} makes of a uniform one. */
export const LARGEST_GUMBEL: number = gumbelOf(uniformOf(0));

/**
 * Philox4x32-10: four words of 32 bits from a counter of four words and a key of two.
 *
 * @param into where they go: 4 words
 */
export function philox4x32(
  counter0: number,
  counter1: number,
  counter2: number,
  counter3: number,
  key0: number,
  key1: number,
  into: Uint32Array,
): void {
  // Signed 32-bit numbers throughout: the engine keeps these out of memory.
  let [w0, w1, w2, w3] = [counter0 | 0, counter1 | 0, counter2 | 0, counter3 | 0];
  let [k0, k1] = [key0 | 0, key1 | 0];
  for (let round = 0; round < ROUNDS; round++) {
    const high0 = highProduct(w0, MULTIPLIER_0 >>> 16, MULTIPLIER_0 & 0xffff);
    const high1 = highProduct(w2, MULTIPLIER_1 >>> 16, MULTIPLIER_1 & 0xffff);
    const low0 = Math.imul(w0, MULTIPLIER_0);
    const low1 = Math.imul(w2, MULTIPLIER_1);
    w0 = high1 ^ w1 ^ k0;
    w1 = low1;
    w2 = high0 ^ w3 ^ k1;
    w3 = low0;
    k0 = (k0 + KEY_STEP_0) | 0;
    k1 = (k1 + KEY_STEP_1) | 0;
  }
  into[0] = w0;
  into[1] = w1;
  into[2] = w2;
  into[3] = w3;
}

/** Upper 32 bits of the product of two unsigned words, the second given in halves. */
function highProduct(a: number, high: number, low: number): number {
  const aHigh = a >>> 16;
  const aLow = a & 0xffff;
  // No sum is above 2³² − 1, so none of them loses a carry.
  const first = (Math.imul(aHigh, low) + (Math.imul(aLow, low) >>> 16)) | 0;
  const second = (Math.imul(aLow, high) + (first & 0xffff)) | 0;
  return (Math.imul(aHigh, high) + (first >>> 16) + (second >>> 16)) | 0;
}
