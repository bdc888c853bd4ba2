/**
 * Tokens that may come next, guessed at little cost, and the rule by which drawn ones are taken.
 *
 * @module
 */

import { drawToken } from "./draw.ts";
import { spreadOf } from "./processors/softmax.ts";
import type { CounterRandom } from "./random.ts";

/** Tokens that may follow a row. */
export interface Draft {
  /** The tokens; there may be none. */
  readonly tokens: readonly number[];
  /** For each token the probabilities [V] that it was drawn with; absent where nothing was drawn. */
  readonly probabilities?: readonly Float64Array[];
}

/** What drafts the next tokens of a row. */
export interface Drafter extends Disposable {
  /**
   * Drafts tokens.
   *
   * @param ids the row so far, prompt and padding included: that of the draft before, and at least one token more
   * @param most tokens that there is room for; may be 0
   */
  draft(ids: readonly number[], most: number): Promise<Draft>;
  /** Learns how many tokens of its last draft, which had some, were taken. */
  learn(drafted: number, taken: number): void;
}

/**
 * A token with the probabilities p that the softmax of the scores has, given one that was drawn with others, q.
 * The drafted token is taken with probability min(1, p / q); else one is drawn from what q gives too little to:
 *
 *   P(x) = q(x) · min(1, p(x) / q(x)) + P(not taken) · max(p(x) − q(x), 0) / Σ max(p − q, 0) = p(x)
 *
 * Source: Leviathan, Kalman and Matias, "Fast inference from transformers via speculative decoding", 2023,
 * algorithm 1
 *
 * @param scores [V]
 * @param drafted a token that was drawn with the probabilities q
 * @param q [V]
 * @param random what the draws depend on
 * @param step the token's number among the new ones
 * @throws {ModelInputError} If a score is NaN or +∞, or all are −∞
 */
export function drawGiven(
  scores: Float32Array,
  drafted: number,
  q: Float64Array,
  random: CounterRandom,
  step: number,
): number {
  const p = probabilitiesOf(scores);
  // Says what is wrong with the scores.
  if (!p) return drawToken(scores, random, 0, step);
  if (random.uniform("accept", 0, step) * q[drafted]! < p[drafted]!) return drafted;
  const rest = Float32Array.from(p, (x, token) => Math.log(Math.max(x - q[token]!, 0)));
  // Both add up to 1, but for rounding: where p has nowhere more than q, the two are the same.
  const isSame = rest.every((score) => score === -Infinity);
  return drawToken(isSame ? scores : rest, random, 0, step);
}

/** The softmax of scores [V]; undefined where they have none. */
export function probabilitiesOf(scores: Float32Array): Float64Array | undefined {
  const weights = new Float64Array(scores.length);
  const spread = spreadOf(scores, weights);
  return spread && weights.map((weight) => weight / spread.total);
}
