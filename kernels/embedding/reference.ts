import type { Inputs, ReferenceInput, ReferenceOutput } from "../../runtime/op.ts";
import type { EmbeddingInput } from "./embedding.ts";

/** Each row of y is the row of the table that its id names. */
export function reference(
  { table, ids }: Inputs<ReferenceInput, EmbeddingInput, never>,
  _attributes: object,
  { y }: { readonly y: ReferenceOutput },
  rows: Iterable<number>,
): void {
  const columns = table.shape[1]!;
  for (const row of rows) {
    const id = ids.values[row]!;
    for (let c = 0; c < columns; c++) {
      y.values[row * columns + c] = table.values[id * columns + c]!;
    }
  }
}
