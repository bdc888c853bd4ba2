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
  const act = ACTIVATION[activation], exponent = EXPONENT[activation];
  for (const row of rows) {
    for (let i = row * columns; i < (row + 1) * columns; i++) {
      const x = gate.values[i]!;
      y.values[i] = act(x) * up.values[i]!;
      const ulps = 8 + 2 * Math.min(Math.abs(exponent(x)), 80);
      // A scale of 0 would ask for the same bits, also where the result underflows to 0 in f64 alone.
      y.scale[i] = Math.max(Math.abs(y.values[i]!) * ulps, Number.MIN_VALUE);
    }
  }
}

const ACTIVATION: Readonly<Record<SwigluAttributes["activation"], (x: number) => number>> = {
  silu: (x) => x / (1 + Math.exp(-x)),
  gelu: (x) => 0.5 * x * (1 + erf(x / Math.SQRT2)),
  gelu_tanh: (x) => 0.5 * x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3))),
  relu: (x) => Math.max(x, 0),
};

/** What a kernel takes the exponential of: the larger it is, the less accurate WGSL lets it be. */
const EXPONENT: Readonly<Record<SwigluAttributes["activation"], (x: number) => number>> = {
  silu: (x) => x,
  gelu: (x) => x * x / 2,
  gelu_tanh: (x) => Math.sqrt(8 / Math.PI) * (x + 0.044715 * x ** 3),
  relu: () => 0,
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
