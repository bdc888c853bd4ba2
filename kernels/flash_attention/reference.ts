import type { Inputs, ReferenceInput, ReferenceOutput } from "../../runtime/op.ts";
import type { FlashAttentionAttributes } from "./flash_attention.ts";

/** Largest error that an output may have, in units of 2⁻²⁴ of the largest |v|: 4e-6 of it. */
export const OUTPUT_UNITS = 4e-6 * 2 ** 24;

/** Largest error that a score may have, in units of 2⁻²⁴ of Σ |q_d · k_d|. */
const SCORE_UNITS = 8;

/** Every score of the row, then their softmax in two passes, then the weighted sum of v. */
export function reference(
  { q, k, v, mask }: Inputs<ReferenceInput, "q" | "k" | "v" | "mask", "mask">,
  { keyLength, causal, scale }: FlashAttentionAttributes,
  { y }: { readonly y: ReferenceOutput },
  rows: Iterable<number>,
): void {
  const [, tokens, heads, size] = q.shape as [number, number, number, number];
  const [, keyHeads, capacity] = k.shape as [number, number, number, number];
  const factor = scale ?? 1 / Math.sqrt(size);
  const scores = new Float64Array(keyLength), magnitudes = new Float64Array(keyLength);
  for (const row of rows) {
    const head = row % heads, batch = Math.floor(row / heads / tokens);
    const position = keyLength - tokens + Math.floor(row / heads) % tokens;
    const keyHead = batch * keyHeads + Math.floor(head / (heads / keyHeads));
    const isSeen = (j: number) =>
      (!causal || j <= position) && (!mask || mask.values[batch * keyLength + j] !== 0);
    const seen = Array.from({ length: keyLength }, (_, j) => j).filter(isSeen);
    const start = (j: number) => (keyHead * capacity + j) * size;

    let highest = -Infinity;
    for (const j of seen) {
      const first = start(j);
      let score = 0, magnitude = 0;
      for (let d = 0; d < size; d++) {
        const term = factor * q.values[row * size + d]! * k.values[first + d]!;
        score += term;
        magnitude += Math.abs(term);
      }
      scores[j] = score;
      magnitudes[j] = magnitude;
      highest = Math.max(highest, score);
    }
    let total = 0;
    for (const j of seen) total += Math.exp(scores[j]! - highest);
    const output = y.values.subarray(row * size, (row + 1) * size);
    output.fill(0);
    let largest = 0;
    for (const j of seen) {
      const p = scores[j] = Math.exp(scores[j]! - highest) / total;
      const first = start(j);
      for (let d = 0; d < size; d++) {
        output[d]! += p * v.values[first + d]!;
        largest = Math.max(largest, Math.abs(v.values[first + d]!));
      }
    }
    // Where scores are large, their own rounding moves the weights by more than all else together.
    const scale = y.scale.subarray(row * size, (row + 1) * size).fill(0);
    for (const j of seen) {
      const shift = scores[j]! * magnitudes[j]! * SCORE_UNITS / OUTPUT_UNITS;
      const first = start(j);
      for (let d = 0; d < size; d++) {
        scale[d]! += shift * Math.abs(v.values[first + d]! - output[d]!);
      }
    }
    for (let d = 0; d < size; d++) scale[d] = Math.max(scale[d]!, largest);
  }
}
