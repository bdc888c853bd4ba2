import type { Inputs, ReferenceInput, ReferenceOutput } from "../../runtime/op.ts";
import type { EmbeddingPieceAttributes, EmbeddingPieceInput } from "./embedding_piece.ts";

/** Writes the rows whose ids are in the piece; y already holds what it held. */
export function reference(
  { table, ids }: Inputs<ReferenceInput, EmbeddingPieceInput, never>,
  { firstRow }: EmbeddingPieceAttributes,
  { y }: { readonly y: ReferenceOutput },
  rows: Iterable<number>,
): void {
  const [pieceRows, columns] = table.shape as [number, number];
  for (const row of rows) {
    const own = ids.values[row]! - firstRow;
    if (own < 0 || own >= pieceRows) continue;
    for (let c = 0; c < columns; c++) {
      y.values[row * columns + c] = table.values[own * columns + c]!;
    }
  }
}
