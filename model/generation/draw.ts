/**
 * Choosing tokens by their scores: the best one, or one or several by chance.
 *
 * @module
 */

import { requireInput } from "../../runtime/errors.ts";
import { logSumExp } from "./processors/softmax.ts";
import {
  type CounterRandom,
  gumbelOf,
  LARGEST_GUMBEL,
  type RandomPurpose,
  uniformOf,
} from "./random.ts";

/**
 * The token of the highest score, on ties the first. +∞ counts as the highest.
 *
 * transformers takes token 0 where every score is −∞, and a NaN for the highest score; both are errors here.
 *
 * @param scores [V]
 * @param row the row's number, for messages
 * @throws {ModelInputError} If a score is NaN, or all are −∞
 */
export function bestToken(scores: Float32Array, row = 0): number {
  let best = -1;
  let largest = -Infinity;
  for (let token = 0; token < scores.length; token++) {
    const score = scores[token]!;
    // True for NaN, too.
    if (!(score <= largest)) {
      requireNumber(score, token, row);
      best = token;
      largest = score;
    }
  }
  requireToken(best >= 0, scores, row);
  return best;
}

/**
 * One token, drawn with the probabilities that the softmax of the scores has.
 *
 * @param scores [V]
 * @param random what the draw depends on
 * @param row the row's number, and with `step` the draw's place among all
 * @param step tokens before this one
 * @param purpose what the draw is for
 * @throws {ModelInputError} If a score is NaN or +∞, or all are −∞
 */
export function drawToken(
  scores: Float32Array,
  random: CounterRandom,
  row: number,
  step: number,
  purpose: RandomPurpose = "draw",
): number {
  return drawTokens(scores, 1, random, row, step, purpose)[0]!;
}

/**
 * Several tokens, one after another without putting back, each drawn with the probabilities that the
 * softmax of the scores of those left has.
 *
 *   tokens = the greatest s + g, where gᵢ are Gumbel numbers, in descending order; on ties the first
 *
 * Source: Vieira, "Gumbel-max trick and weighted reservoir sampling", 2014
 *
 * @param scores [V], or the scores of several rows one after another
 * @param count how many tokens; as many as there are where fewer have a finite score
 * @param random what the draw depends on
 * @param row the row's number, and with `step` the draw's place among all
 * @param step tokens before this one
 * @param purpose what the draw is for
 * @returns places in `scores`, in the order in which they were drawn
 * @throws {ModelInputError} If a score is NaN or +∞, or all are −∞
 */
export function drawTokens(
  scores: Float32Array,
  count: number,
  random: CounterRandom,
  row: number,
  step: number,
  purpose: RandomPurpose = "beam",
): number[] {
  const leaders = new Leaders(count);
  const words = new Uint32Array(4);
  for (let first = 0; first < scores.length; first += 4) {
    const end = Math.min(first + 4, scores.length);
    let mayLead = false;
    for (let token = first; token < end; token++) {
      // False only where even the largest Gumbel number is too small; true for NaN.
      mayLead ||= !(scores[token]! + LARGEST_GUMBEL <= leaders.bar);
    }
    if (!mayLead) continue;
    random.block(purpose, row, step, first >>> 2, words);
    for (let token = first; token < end; token++) {
      const score = scores[token]!;
      if (score === -Infinity) continue;
      requireFinite(score, token, row);
      const uniform = uniformOf(words[token & 3]!);
      if (isBelow(leaders.bar - score, uniform)) continue;
      leaders.offer(token, score + gumbelOf(uniform));
    }
  }
  requireToken(leaders.tokens.length > 0, scores, row);
  return leaders.tokens;
}

/**
 * Log-probabilities: s − ln Σ exp(s).
 *
 * −∞ stays −∞, also in a row that has nothing else. Where a row has NaN or +∞, all else in it becomes NaN.
 *
 * @param scores [V]
 * @param into [V], where the result goes; it may be `scores`. Its own array unless given
 * @returns where the result went
 */
export function logSoftmax(
  scores: Float32Array,
  into: Float32Array = new Float32Array(scores.length),
): Float32Array {
  const sum = logSumExp(scores);
  for (let i = 0; i < scores.length; i++) {
    const score = scores[i]!;
    into[i] = score === -Infinity ? score : score - sum;
  }
  return into;
}

/** The tokens of the greatest keys so far. */
export class Leaders {
  /** They, in descending order of their keys; of equal keys the smaller token comes first. */
  readonly tokens: number[] = [];
  readonly #keys: number[] = [];
  readonly #count: number;
  /** A key has to be greater than this one to matter. */
  bar: number = -Infinity;

  /** Takes how many to keep. */
  constructor(count: number) {
    this.#count = count;
  }

  /** Takes a token whose key is great enough; tokens come in ascending order. */
  offer(token: number, key: number): void {
    if (!(key > this.bar)) return;
    // Behind all keys that are as great: their tokens are smaller.
    let [low, high] = [0, this.#keys.length];
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#keys[middle]! >= key) low = middle + 1;
      else high = middle;
    }
    this.#keys.splice(low, 0, key);
    this.tokens.splice(low, 0, token);
    if (this.tokens.length > this.#count) {
      this.#keys.pop();
      this.tokens.pop();
    }
    if (this.tokens.length === this.#count) this.bar = this.#keys.at(-1)!;
  }
}

/**
 * Whether a Gumbel number is certainly below `bar`, found without a logarithm, which for most tokens of a
 * row is enough: −ln(1 − u) ≥ u and e^z > 1 + z + z²/2 + z³/6, so g ≤ −ln u, and that is below z where
 * u · (1 + z + z²/2 + z³/6) ≥ 1.
 */
function isBelow(bar: number, uniform: number): boolean {
  return bar > 0 && uniform * (1 + bar * (1 + bar * (1 / 2 + bar / 6))) >= 1;
}

function requireNumber(score: number, token: number, row: number): void {
  if (!Number.isNaN(score)) return;
  requireInput(false, "generate", "scores", "must not be NaN", `token ${token} of row ${row} is`);
}

function requireFinite(score: number, token: number, row: number): void {
  requireNumber(score, token, row);
  const value = `token ${token} of row ${row} has +∞`;
  requireInput(score < Infinity, "generate", "scores", "must be finite or −∞ to draw", value);
}

function requireToken(isThere: boolean, scores: Float32Array, row: number): void {
  const value = `row ${row} has −∞ for each of ${scores.length}`;
  requireInput(isThere, "generate", "scores", "must leave a token to choose", value);
}
