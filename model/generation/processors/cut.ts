/**
 * Cutting the small scores of a row off, without sorting the row.
 *
 * @module
 */

/** What stays of a row: the scores above `value`, and the first `ties` of those that equal it. */
export interface Cut {
  /** Where the cut is. */
  readonly value: number;
  /** How many of the scores that are as high stay, those of the smallest ids first. */
  readonly ties: number;
}

/** Where the sum of weights, from the highest value down, reaches a target. */
export interface Crossing {
  /** The value at which it does; the lowest one with a weight, where it does not. */
  readonly value: number;
  /** Sum of the weights of higher values. */
  readonly above: number;
}

/** The digits of a radix sort, highest first: from which bit on, and how many bits. */
const DIGITS = [[21, 11], [10, 11], [0, 10]] as const;

/** The bits of −0. */
const MINUS_0 = -(2 ** 31);

/**
 * Finds where the sum of weights, from the highest value down, reaches `target`: a radix sort from the
 * highest digit on that goes into one bucket only, so that its time grows with V alone.
 *
 * @param values [V]; a NaN has no place among them, and no cut takes it away
 * @param weights [V], each at least 0; 1 each unless given
 */
export function crossing(
  values: Float32Array,
  target: number,
  weights?: Float64Array,
): Crossing {
  let left: Candidates = {
    bits: new Int32Array(values.buffer, values.byteOffset, values.length),
    weights,
  };
  let order = 0;
  let above = 0;
  for (const [shift, width] of DIGITS) {
    const mask = 2 ** width - 1;
    const sums = sumsByDigit(left, shift, mask);
    const lowest = Math.max(0, sums.findIndex((sum) => sum > 0));
    let digit = mask;
    while (digit > lowest && (sums[digit] === 0 || above + sums[digit]! < target)) {
      above += sums[digit]!;
      digit--;
    }
    order |= digit << shift;
    if (shift > 0) left = withDigit(left, shift, mask, digit);
  }
  return { value: valueOf(order), above };
}

/** The cut that leaves the `count` highest scores. */
export function cutAfter(scores: Float32Array, count: number): Cut {
  const { value, above } = crossing(scores, count);
  return { value, ties: count - above };
}

/** Of two cuts, the one that leaves more. */
export function looser(a: Cut, b: Cut): Cut {
  if (a.value !== b.value) return a.value < b.value ? a : b;
  return a.ties > b.ties ? a : b;
}

/**
 * Makes −∞ of what a cut does not leave.
 *
 * @param scores [V]
 * @param by [V], what the cut is about; the scores themselves unless given
 */
export function applyCut(cut: Cut, scores: Float32Array, by: Float32Array = scores): void {
  const { value } = cut;
  let { ties } = cut;
  for (let i = 0; i < scores.length; i++) {
    const place = by[i]!;
    if (place < value || (place === value && --ties < 0)) scores[i] = -Infinity;
  }
}

/** Values that are still looked at: their bits, and their weights where these are not 1. */
interface Candidates {
  readonly bits: Int32Array;
  readonly weights: Float64Array | undefined;
}

/** Sums of the weights of each digit. */
function sumsByDigit({ bits, weights }: Candidates, shift: number, mask: number): Float64Array {
  const sums = new Float64Array(mask + 1);
  for (let i = 0; i < bits.length; i++) {
    const weight = weights === undefined ? 1 : weights[i]!;
    if (weight > 0) sums[(orderOf(bits[i]!) >>> shift) & mask]! += weight;
  }
  return sums;
}

/** The candidates that have a digit. */
function withDigit(
  { bits, weights }: Candidates,
  shift: number,
  mask: number,
  digit: number,
): Candidates {
  // Mostly few: lists that grow cost less than arrays for all.
  const kept: number[] = [];
  const keptWeights: number[] = [];
  for (let i = 0; i < bits.length; i++) {
    if (((orderOf(bits[i]!) >>> shift) & mask) !== digit) continue;
    kept.push(bits[i]!);
    if (weights) keptWeights.push(weights[i]!);
  }
  return { bits: Int32Array.from(kept), weights: weights && Float64Array.from(keptWeights) };
}

/** The bits of an f32 made such that they sort, as an unsigned number, as the f32 does. */
function orderOf(bits: number): number {
  // −0 is no less than 0.
  return bits === MINUS_0 ? bits : bits ^ ((bits >> 31) | MINUS_0);
}

/** The f32 that has an order. */
function valueOf(order: number): number {
  const bits = order < 0 ? order ^ MINUS_0 : ~order;
  return new Float32Array(Int32Array.of(bits).buffer)[0]!;
}
