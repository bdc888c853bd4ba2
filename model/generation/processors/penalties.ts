/**
 * Penalties: scores that are made smaller or greater, and none of them −∞. Arithmetic is in f32, step by
 * step as transformers has it.
 *
 * @module
 */

import type { LogitsProcessor } from "./processor.ts";

/**
 * Makes each token that the row has less likely, once: s / penalty where s ≥ 0, s · penalty where s < 0. A
 * penalty below 1 makes it more likely.
 *
 * Source: Keskar et al., "CTRL", 2019
 */
export function repetitionPenalty(penalty: number, vocabSize: number): LogitsProcessor {
  const penalise = tokenPenalty(penalty, vocabSize);
  return (scores, ids) => penalise(scores, ids);
}

/**
 * Makes each token of the prompt more likely, and so all others less: the repetition penalty of 1 / penalty,
 * for the prompt's tokens.
 *
 * transformers does so for the first rows only where a prompt has several.
 *
 * @param prompts the prompt of each row
 */
export function encoderRepetitionPenalty(
  penalty: number,
  vocabSize: number,
  prompts: readonly (readonly number[])[],
): LogitsProcessor {
  const penalise = tokenPenalty(1 / penalty, vocabSize);
  return (scores, _ids, row) => penalise(scores, prompts[row]!);
}

/**
 * From `start` tokens on, adds |s| · (factorⁿ − 1) to the scores s of eos, where n are the tokens since. A banned
 * token stays banned, and no score grows beyond f32; transformers makes NaN or ∞ of these.
 */
export function exponentialDecay(
  start: number,
  factor: number,
  eos: readonly number[],
): LogitsProcessor {
  const tokens = [...new Set(eos)];
  return (scores, ids) => {
    const late = ids.length - start;
    if (late <= 0) return;
    const growth = Math.fround(Math.min(factor ** late - 1, LARGEST_F32));
    for (const token of tokens) {
      const score = scores[token]!;
      if (score === -Infinity) continue;
      scores[token] = Math.min(score + Math.fround(Math.abs(score) * growth), LARGEST_F32);
    }
  };
}

/** The largest f32. */
export const LARGEST_F32: number = (2 - 2 ** -23) * 2 ** 127;

/** Penalises each of some tokens once. */
function tokenPenalty(
  penalty: number,
  vocabSize: number,
): (scores: Float32Array, ids: readonly number[]) => void {
  const factor = Math.fround(penalty);
  const done = new Uint8Array(vocabSize);
  return (scores, ids) => {
    for (const id of ids) {
      if (done[id] !== 0) continue;
      done[id] = 1;
      const score = scores[id]!;
      scores[id] = score < 0 ? score * factor : score / factor;
    }
    for (const id of ids) done[id] = 0;
  };
}
