/**
 * Classifier-free guidance.
 *
 * @module
 */

import { logSoftmax } from "../draw.ts";

/**
 * Leads a row's scores away from what would come after another prompt, in place:
 *
 *   s ← scale · (ln softmax s − ln softmax u) + ln softmax u
 *
 * in f32, step by step. A scale of 1 leaves ln softmax s.
 *
 * Source: Sanchez et al., "Stay on topic with classifier-free guidance", 2023
 *
 * @param scores [V], the row's logits
 * @param unconditional [V], the other prompt's logits u; not changed
 * @param scale how far; above 1 away from the other prompt
 */
export function applyGuidance(
  scores: Float32Array,
  unconditional: Float32Array,
  scale: number,
): void {
  logSoftmax(scores, scores);
  if (scale === 1) return;
  const factor = Math.fround(scale);
  const other = logSoftmax(unconditional);
  for (let i = 0; i < scores.length; i++) {
    const away = Math.fround(factor * Math.fround(scores[i]! - other[i]!));
    scores[i] = away + other[i]!;
  }
}
