/**
 * What is done to all scores alike.
 *
 * @module
 */

import { logSoftmax } from "../draw.ts";
import { LARGEST_F32 } from "./penalties.ts";
import type { LogitsProcessor } from "./processor.ts";

/** Divides by a temperature above 0: below 1, the likely tokens become likelier. */
export function temperature(value: number): LogitsProcessor {
  const divisor = Math.fround(value);
  return (scores) => {
    for (let i = 0; i < scores.length; i++) scores[i]! /= divisor;
  };
}

/** Makes 0 of NaN, and the largest f32 of its sign of what is infinite. */
export function removeInvalid(): LogitsProcessor {
  return (scores) => {
    for (let i = 0; i < scores.length; i++) {
      const score = scores[i]!;
      scores[i] = Number.isNaN(score) ? 0 : Math.max(-LARGEST_F32, Math.min(score, LARGEST_F32));
    }
  };
}

/** Makes log-probabilities of scores. */
export function renormalize(): LogitsProcessor {
  return (scores) => void logSoftmax(scores, scores);
}
