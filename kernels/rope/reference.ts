import type { Inputs, ReferenceInput, ReferenceOutput } from "../../runtime/op.ts";
import type { RopeAttributes, RopeInput } from "./rope.ts";

/** Copies each head, then turns its pairs in the plane. */
export function reference(
  { x, cos, sin, positions }: Inputs<ReferenceInput, RopeInput, never>,
  { rotaryDim, pairing }: RopeAttributes,
  { y }: { readonly y: ReferenceOutput },
  rows: Iterable<number>,
): void {
  const [heads, columns] = x.shape.slice(-2) as [number, number];
  const half = rotaryDim / 2;
  for (const row of rows) {
    const first = row * columns;
    for (let c = first; c < first + columns; c++) {
      y.values[c] = x.values[c]!;
      y.scale[c] = 0;
    }
    const position = positions.values[Math.floor(row / heads)]!;
    for (let i = 0; i < half; i++) {
      const [a, b] = pairing === "halves"
        ? [first + i, first + i + half]
        : [first + 2 * i, first + 2 * i + 1];
      const real = x.values[a]!, imaginary = x.values[b]!;
      const c = cos.values[position * half + i]!, s = sin.values[position * half + i]!;
      y.values[a] = real * c - imaginary * s;
      y.scale[a] = Math.abs(real * c) + Math.abs(imaginary * s);
      y.values[b] = imaginary * c + real * s;
      y.scale[b] = Math.abs(imaginary * c) + Math.abs(real * s);
    }
  }
}
