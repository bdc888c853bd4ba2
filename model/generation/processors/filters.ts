/**
 * Filters: which tokens may be drawn. What they take away becomes −∞.
 *
 * A filter of probabilities leaves a row without a softmax (with NaN or +∞, or of −∞ alone) as it is. Where a
 * cut goes through equal scores, the smallest ids stay; transformers leaves that to its sort. Sums are
 * in f64, so a token whose share is within f32 rounding of a bound may stay here and not there, or
 * the other way round.
 *
 * @module
 */

import { applyCut, crossing, type Cut, cutAfter, looser } from "./cut.ts";
import type { LogitsProcessor } from "./processor.ts";
import { entropyOf, largestOf, type Spread, spreadOf } from "./softmax.ts";

/**
 * Leaves the k highest scores, and all that equal the lowest of these.
 *
 * Source: Fan et al., "Hierarchical neural story generation", 2018
 */
export function topK(k: number, least: number): LogitsProcessor {
  const count = Math.max(k, least);
  return (scores) => {
    if (count >= scores.length) return;
    applyCut({ value: crossing(scores, count).value, ties: Infinity }, scores);
  };
}

/**
 * Leaves the most probable tokens: as few as reach the probability p, and not fewer than `least`.
 *
 * Source: Holtzman et al., "The curious case of neural text degeneration", 2019
 */
export function topP(p: number, least: number, vocabSize: number): LogitsProcessor {
  const weights = new Float64Array(vocabSize);
  return (scores) => {
    const spread = spreadOf(scores, weights);
    if (!spread) return;
    const target = p * spread.total;
    const { value, above } = crossing(scores, target, weights);
    const each = Math.exp(value - spread.largest);
    const ties = Math.max(1, Math.ceil((target - above) / each));
    applyCut(atLeast(least, { value, ties }, scores), scores);
  };
}

/**
 * Leaves the tokens that are at least m times as probable as the most probable one, and not fewer than
 * `least`.
 *
 * Source: Nguyen et al., "Turning up the heat: min-p sampling", 2024
 */
export function minP(m: number, least: number): LogitsProcessor {
  return (scores) => {
    const largest = largestOf(scores);
    if (!Number.isFinite(largest)) return;
    const value = largest + Math.log(m);
    applyCut(atLeast(least, { value, ties: Infinity }, scores), scores);
  };
}

/** Tokens that {@linkcode topH} looks at. */
const TOP_H_TOKENS = 100;

/**
 * Leaves the most probable of the 100 most probable tokens: as many as together have no more than the share h
 * of the entropy that these 100 have among themselves, and one at least.
 *
 * Source: Baghaei Potraghloo et al., "Top-H decoding", 2025
 */
export function topH(h: number): LogitsProcessor {
  return (scores) => {
    if (!Number.isFinite(largestOf(scores))) return;
    const top = highest(scores, TOP_H_TOKENS);
    const weights = new Float64Array(top.length);
    const { total } = spreadOf(top, weights)!;
    const terms = weights.map((weight) =>
      weight === 0 ? 0 : -weight / total * Math.log(weight / total)
    );
    const bound = h * terms.reduce((sum, term) => sum + term, 0);
    let [kept, sum] = [1, terms[0]!];
    while (kept < top.length && (sum += terms[kept]!) <= bound) kept++;
    const value = top[kept - 1]!;
    applyCut({ value, ties: kept - top.indexOf(value) }, scores);
  };
}

/**
 * Leaves the tokens whose surprise −ln p is nearest to the entropy: as few as reach the probability `mass`,
 * all that are as near as the last of these, and not fewer than `least`.
 *
 * Source: Meister et al., "Locally typical sampling", 2022
 */
export function typicalP(mass: number, least: number, vocabSize: number): LogitsProcessor {
  const weights = new Float64Array(vocabSize);
  const nearness = new Float32Array(vocabSize);
  return (scores) => {
    const spread = spreadOf(scores, weights);
    if (!spread) return;
    const logTotal = spread.largest + Math.log(spread.total);
    const entropy = entropyOf(scores, weights, spread);
    for (let i = 0; i < scores.length; i++) {
      nearness[i] = -Math.abs(logTotal - scores[i]! - entropy);
    }
    const { value } = crossing(nearness, mass * spread.total, weights);
    applyCut(atLeast(least, { value, ties: Infinity }, nearness), scores, nearness);
  };
}

/**
 * Leaves the tokens whose probability is at least `epsilon`, and the `least` most probable ones with all that
 * equal the last of these.
 *
 * Source: Hewitt et al., "Truncation sampling as language model desmoothing", 2022
 */
export function epsilonCutoff(epsilon: number, least: number): LogitsProcessor {
  return (scores) => {
    const spread = spreadOf(scores);
    if (spread) cutProbability(scores, epsilon, spread, least);
  };
}

/**
 * The same with the bound min(ε, √ε · exp(−entropy)), which is lower where many tokens are about as good.
 *
 * Source: Hewitt et al., "Truncation sampling as language model desmoothing", 2022
 */
export function etaCutoff(epsilon: number, least: number, vocabSize: number): LogitsProcessor {
  const weights = new Float64Array(vocabSize);
  return (scores) => {
    const spread = spreadOf(scores, weights);
    if (!spread) return;
    const entropy = entropyOf(scores, weights, spread);
    const eta = Math.min(epsilon, Math.sqrt(epsilon) * Math.exp(-entropy));
    cutProbability(scores, eta, spread, least);
  };
}

/** Takes away what is less probable than `bound` and lower than the `least` highest scores. */
function cutProbability(
  scores: Float32Array,
  bound: number,
  { largest, total }: Spread,
  least: number,
): void {
  const lowest = least === 1 ? largest : crossing(scores, least).value;
  const value = Math.min(largest + Math.log(bound * total), lowest);
  applyCut({ value, ties: Infinity }, scores);
}

/** A cut that leaves one score, made to leave `least` of them. */
function atLeast(least: number, cut: Cut, scores: Float32Array): Cut {
  return least === 1 ? cut : looser(cut, cutAfter(scores, least));
}

/** The highest scores, in descending order: `count` of them, or all where there are fewer. */
function highest(scores: Float32Array, count: number): Float32Array {
  const size = Math.min(count, scores.length);
  const { value } = crossing(scores, size);
  const top = new Float32Array(size).fill(value);
  let place = 0;
  for (let i = 0; i < scores.length; i++) {
    if (scores[i]! > value) top[place++] = scores[i]!;
  }
  return top.sort().reverse();
}
