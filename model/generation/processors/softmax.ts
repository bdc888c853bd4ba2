/**
 * What filters need of the softmax of a row of scores.
 *
 * @module
 */

/** A row of scores s as its softmax sees it. */
export interface Spread {
  /** Largest score. */
  readonly largest: number;
  /** Σ exp(s − largest), in f64. */
  readonly total: number;
}

/**
 * The spread of scores, and by the way the weight exp(s − largest) of each.
 *
 * @param scores [V]
 * @param weights [V], where the weights go
 * @returns `undefined` for a row that has no softmax: one with NaN or +∞, or with −∞ alone
 */
export function spreadOf(scores: Float32Array, weights?: Float64Array): Spread | undefined {
  const largest = largestOf(scores);
  if (!Number.isFinite(largest)) return undefined;
  let total = 0;
  for (let i = 0; i < scores.length; i++) {
    const score = scores[i]!;
    // Most of a row is −∞ once tokens were filtered, and an exp costs more than a test.
    const weight = score === -Infinity ? 0 : Math.exp(score - largest);
    if (weights) weights[i] = weight;
    total += weight;
  }
  return { largest, total };
}

/** ln Σ exp(s); not finite where {@linkcode spreadOf} has nothing. */
export function logSumExp(scores: Float32Array): number {
  const spread = spreadOf(scores);
  return spread ? spread.largest + Math.log(spread.total) : NaN;
}

/** Entropy of the softmax, in nats: ln Σ w − Σ w · (s − largest) / Σ w. */
export function entropyOf(scores: Float32Array, weights: Float64Array, spread: Spread): number {
  const { largest, total } = spread;
  let sum = 0;
  for (let i = 0; i < scores.length; i++) {
    const weight = weights[i]!;
    if (weight > 0) sum += weight * (scores[i]! - largest);
  }
  return Math.log(total) - sum / total;
}

/** The largest score; NaN where there is a NaN. */
export function largestOf(scores: Float32Array): number {
  let largest = -Infinity;
  // By index: an iterator takes seven times as long.
  for (let i = 0; i < scores.length; i++) {
    const score = scores[i]!;
    // True for NaN, too.
    if (!(score <= largest)) {
      if (Number.isNaN(score)) return NaN;
      largest = score;
    }
  }
  return largest;
}
