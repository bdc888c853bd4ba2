import type { Inputs, ReferenceInput, ReferenceOutput } from "../../runtime/op.ts";
import type { SoftmaxAttributes } from "./softmax.ts";

/** The row's maximum, then its exponentials and their sum, then the quotients. */
export function reference(
  { x }: Inputs<ReferenceInput, "x", never>,
  { scale = 1, causal = false }: SoftmaxAttributes,
  { y }: { readonly y: ReferenceOutput },
  rows: Iterable<number>,
): void {
  const columns = x.shape.at(-1)!, tokens = x.shape.at(-2) ?? 1;
  for (const row of rows) {
    const first = row * columns;
    const visible = causal ? row % tokens + columns - tokens + 1 : columns;
    let highest = -Infinity;
    for (let j = 0; j < visible; j++) highest = Math.max(highest, scale * x.values[first + j]!);
    let total = 0;
    for (let j = 0; j < visible; j++) total += Math.exp(scale * x.values[first + j]! - highest);
    for (let j = 0; j < columns; j++) {
      const score = scale * x.values[first + j]!;
      const p = j < visible ? Math.exp(score - highest) / total : 0;
      y.values[first + j] = p;
      // Where x is scaled, the product is rounded, and the exponential turns that into a factor.
      const roundings = scale === 1 ? 0 : (Math.abs(score) + Math.abs(highest)) / EXP_UNITS;
      y.scale[first + j] = p * (1 + roundings);
    }
  }
}

/**
 * Roundings of f32 that a quotient may be off by. WGSL allows exp an error of 3 + 2|x| ULP at x;
 * beyond x = −16 the result is under the absolute part; the rest is for the sum and the division.
 */
export const EXP_UNITS = 64;
