import type { Inputs, ReferenceInput, ReferenceOutput } from "../../runtime/op.ts";
import type { LayerNormAttributes, LayerNormInput, LayerNormOptional } from "./layer_norm.ts";

/**
 * Mean, then variance, then the normalised row, from the sum as f32 holds it: where the mean is far
 * from 0 that rounding is larger than anything the kernel does, and it is not the kernel's to avoid.
 */
export function reference(
  { x, residual, weight, bias }: Inputs<ReferenceInput, LayerNormInput, LayerNormOptional>,
  { epsilon }: LayerNormAttributes,
  { y, sum }: { readonly y: ReferenceOutput; readonly sum: ReferenceOutput },
  rows: Iterable<number>,
): void {
  const columns = x.shape.at(-1) ?? 1;
  const weightRows = weight.values.length / columns;
  const s = new Float64Array(columns);
  for (const row of rows) {
    const first = row * columns, weightFirst = (row % weightRows) * columns;
    for (let c = 0; c < columns; c++) {
      s[c] = Math.fround(x.values[first + c]! + (residual?.values[first + c] ?? 0));
    }
    let mean = 0;
    for (let c = 0; c < columns; c++) mean += s[c]! / columns;
    let variance = 0;
    for (let c = 0; c < columns; c++) variance += (s[c]! - mean) ** 2 / columns;
    const deviation = Math.sqrt(variance + epsilon);
    for (let c = 0; c < columns; c++) {
      const z = (s[c]! - mean) / deviation;
      const w = weight.values[weightFirst + c]!, b = bias?.values[weightFirst + c] ?? 0;
      y.values[first + c] = z * w + b;
      // An error of the mean shifts every z alike, one of the deviation in proportion to z.
      y.scale[first + c] = Math.abs(w) * (1 + Math.abs(z)) + Math.abs(b);
      if (residual) {
        sum.values[first + c] = s[c]!;
        sum.scale[first + c] = 0;
      }
    }
  }
}
