import type { Inputs, ReferenceInput, ReferenceOutput } from "../../runtime/op.ts";
import type { MatmulAttributes } from "./matmul.ts";

/** y = x · Wᵀ + bias, or x · W in the plain layout: three loops. */
export function reference(
  { x, weight, bias }: Inputs<ReferenceInput, "x" | "weight" | "bias", "bias">,
  { layout }: MatmulAttributes,
  { y }: { readonly y: ReferenceOutput },
  rows: Iterable<number>,
): void {
  const k = x.shape.at(-1)!;
  const n = y.shape.at(-1)!;
  const rowsPerBatch = weight.shape.length === 3 ? x.shape[1]! : Infinity;
  const [strideN, strideK] = layout === "linear" ? [k, 1] : [1, n];
  for (const row of rows) {
    const batch = Math.floor(row / rowsPerBatch);
    for (let column = 0; column < n; column++) {
      let sum = bias?.values[column] ?? 0;
      let scale = Math.abs(sum);
      for (let i = 0; i < k; i++) {
        const at = batch * n * k + column * strideN + i * strideK;
        const term = x.values[row * k + i]! * weight.values[at]!;
        sum += term;
        scale += Math.abs(term);
      }
      y.values[row * n + column] = sum;
      y.scale[row * n + column] = scale;
    }
  }
}
