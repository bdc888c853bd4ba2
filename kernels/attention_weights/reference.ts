import type { Inputs, ReferenceInput, ReferenceOutput } from "../../runtime/op.ts";
import type { AttentionWeightsAttributes, AttentionWeightsInput } from "./attention_weights.ts";

/** Every score of the row, then their softmax in two passes. */
export function reference(
  { q, k, mask }: Inputs<ReferenceInput, AttentionWeightsInput, "mask">,
  { keyLength, causal, scale }: AttentionWeightsAttributes,
  { weights }: { readonly weights: ReferenceOutput },
  rows: Iterable<number>,
): void {
  const [, tokens, heads, size] = q.shape as [number, number, number, number];
  const [, keyHeads, capacity] = k.shape as [number, number, number];
  const factor = scale ?? 1 / Math.sqrt(size);
  const magnitudes = new Float64Array(keyLength);
  for (const row of rows) {
    const token = row % tokens, head = Math.floor(row / tokens) % heads;
    const batch = Math.floor(row / tokens / heads);
    const position = keyLength - tokens + token;
    const keyHead = batch * keyHeads + Math.floor(head / (heads / keyHeads));
    const isSeen = (j: number) =>
      (!causal || j <= position) && (!mask || mask.values[batch * keyLength + j] !== 0);
    const seen = Array.from({ length: keyLength }, (_, j) => j).filter(isSeen);

    const output = weights.values.subarray(row * keyLength, (row + 1) * keyLength).fill(0);
    const units = weights.scale.subarray(row * keyLength, (row + 1) * keyLength).fill(0);
    const query = ((batch * tokens + token) * heads + head) * size;
    let highest = -Infinity;
    for (const j of seen) {
      const key = (keyHead * capacity + j) * size;
      let score = 0, magnitude = 0;
      for (let d = 0; d < size; d++) {
        const term = factor * q.values[query + d]! * k.values[key + d]!;
        score += term;
        magnitude += Math.abs(term);
      }
      output[j] = score;
      magnitudes[j] = magnitude;
      highest = Math.max(highest, score);
    }
    let total = 0;
    for (const j of seen) total += Math.exp(output[j]! - highest);
    let meanDepth = 0, meanMagnitude = 0;
    for (const j of seen) {
      const depth = highest - output[j]!;
      const weight = output[j] = Math.exp(-depth) / total;
      units[j] = depth;
      meanDepth += weight * depth;
      meanMagnitude += weight * magnitudes[j]!;
    }
    const common = 46 + 17 * meanDepth + 1.5 * Math.sqrt(seen.length);
    const scoreUnits = 4 + 1.5 * Math.sqrt(size);
    for (const j of seen) {
      const roundings = common + 5 * units[j]! + scoreUnits * (magnitudes[j]! + meanMagnitude);
      // A scale of 0 would ask for the same bits, also where the result underflows to 0 in f64 alone.
      units[j] = Math.max(output[j]! * roundings, Number.MIN_VALUE);
    }
  }
}
