import type { Inputs, ReferenceInput, ReferenceOutput } from "../../runtime/op.ts";
import type { WriteColumnsAttributes, WriteColumnsInput } from "./write_columns.ts";

/** Copies each row of x to its place; y already holds what it held. */
export function reference(
  { x }: Inputs<ReferenceInput, WriteColumnsInput, never>,
  { column }: WriteColumnsAttributes,
  { y }: { readonly y: ReferenceOutput },
  rows: Iterable<number>,
): void {
  const [xColumns, yColumns] = [x.shape.at(-1)!, y.shape.at(-1)!];
  for (const row of rows) {
    for (let j = 0; j < xColumns; j++) {
      y.values[row * yColumns + column + j] = x.values[row * xColumns + j]!;
    }
  }
}
