import type { Inputs, ReferenceInput, ReferenceOutput } from "../../runtime/op.ts";
import type { AttentionValuesAttributes, AttentionValuesInput } from "./attention_values.ts";

/** Each row of y is the sum of its keys' rows of v, weighted. */
export function reference(
  { weights, v }: Inputs<ReferenceInput, AttentionValuesInput, never>,
  { keyLength }: AttentionValuesAttributes,
  { y }: { readonly y: ReferenceOutput },
  rows: Iterable<number>,
): void {
  const [, heads, tokens] = weights.shape as [number, number, number, number];
  const [, keyHeads, capacity, size] = v.shape as [number, number, number, number];
  for (const row of rows) {
    const head = row % heads, token = Math.floor(row / heads) % tokens;
    const batch = Math.floor(row / heads / tokens);
    const keyHead = batch * keyHeads + Math.floor(head / (heads / keyHeads));
    const first = ((batch * heads + head) * tokens + token) * keyLength;
    const output = y.values.subarray(row * size, (row + 1) * size).fill(0);
    const scale = y.scale.subarray(row * size, (row + 1) * size).fill(0);
    for (let s = 0; s < keyLength; s++) {
      const weight = weights.values[first + s]!;
      if (weight === 0) continue;
      for (let d = 0; d < size; d++) {
        const term = weight * v.values[(keyHead * capacity + s) * size + d]!;
        output[d]! += term;
        scale[d]! += Math.abs(term);
      }
    }
  }
}
