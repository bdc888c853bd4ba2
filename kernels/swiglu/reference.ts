import type { Inputs, ReferenceInput, ReferenceOutput } from "../../runtime/op.ts";
import type { SwigluAttributes } from "./swiglu.ts";

/** y = act(gate) · up, element by element. */
export function reference(
  { gate, up }: Inputs<ReferenceInput, "gate" | "up", never>,
  { activation }: SwigluAttributes,
  { y }: { readonly y: ReferenceOutput },
  rows: Iterable<number>,
): void {
  const columns = y.shape.at(-1) ?? 1;
  const act = ACTIVATION[activation];
  for (const row of rows) {
    for (let i = row * columns; i < (row + 1) * columns; i++) {
      y.values[i] = act(gate.values[i]!) * up.values[i]!;
    }
  }
}

const ACTIVATION: Readonly<Record<SwigluAttributes["activation"], (x: number) => number>> = {
  silu: (x) => x / (1 + Math.exp(-x)),
  gelu: (x) => 0.5 * x * (1 + erf(x / Math.SQRT2)),
  gelu_tanh: (x) => 0.5 * x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3))),
  relu: (x) => Math.max(x, 0),
};

/**
 * The error function to f64 precision: its Taylor series near 0, the continued fraction of its
 * complement (Lentz's method) further out.
 */
export function erf(x: number): number {
  const a = Math.abs(x);
  if (a > 6) return Math.sign(x);
  if (a < 2.5) {
    let term = a, sum = a;
    for (let n = 1; Math.abs(term) > 1e-18 * sum; n++) {
      term *= -a * a / n;
      sum += term / (2 * n + 1);
    }
    return Math.sign(x) * 2 / Math.sqrt(Math.PI) * sum;
  }
  let fraction = 0;
  for (let k = 60; k >= 1; k--) fraction = (k / 2) / (a + fraction);
  return Math.sign(x) * (1 - Math.exp(-a * a) / (Math.sqrt(Math.PI) * (a + fraction)));
}
