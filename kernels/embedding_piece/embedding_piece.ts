/**
 * The look-up of token embeddings in a part of their table.
 *
 * @module
 */

import type { DeviceProfile } from "../../runtime/device.ts";
import { requireArgument } from "../../runtime/errors.ts";
import type { Inputs, Op, Plan } from "../../runtime/op.ts";
import {
  byteLength,
  bytesPerElement,
  describe,
  elementCount,
  sameShape,
  type TensorSpec,
} from "../../runtime/tensor.ts";
import { linearGrid } from "../grid.ts";
import { supportsStoring } from "../support.ts";
import { benchCases, cases, relations } from "./cases.ts";
import naive from "./naive.wgsl" with { type: "text" };
import { reference } from "./reference.ts";
import vec4 from "./vec4.wgsl" with { type: "text" };

/** Attributes of {@linkcode embeddingPiece}. */
export interface EmbeddingPieceAttributes {
  /** The id that the first row of table belongs to: the number of rows in the pieces before it. */
  readonly firstRow: number;
}

/** Inputs of {@linkcode embeddingPiece}. */
export type EmbeddingPieceInput = "table" | "ids" | "y";

const WORKGROUP_SIZE = 64;

/**
 * Rows of a piece of a table, by number, in place: the piece's own rows are written, the others kept.
 *
 *   y[t] = table[ids[t] − firstRow]   where 0 ≤ ids[t] − firstRow < V
 *
 *   ids of the whole table:   0 … firstRow−1 | firstRow … firstRow+V−1 | firstRow+V …
 *                             kept           | written                 | kept
 *
 * A table that is larger than a binding is looked up by one call for each of its pieces, which gives the
 * bits that `embedding` would give for the whole. An id that is in no piece leaves its row as it was.
 *
 * Shapes:  table [V, C], ids [...], y [..., C] → y itself
 * Numbers: table f32, f16 or bf16; y f32 or f16; ids any u32. Exact, except that what f16 cannot hold is
 *          rounded to the nearest, ties to even; beyond 65,519 WGSL does not say what f16 holds
 * Limits:  table and y at most maxStorageBufferBindingSize bytes each
 *
 * @throws {KernelArgumentError} If a shape or dtype does not fit, or firstRow is not a whole number, or so
 * large that the last row would have no u32 id
 */
export const embeddingPiece: Op<EmbeddingPieceInput, "y", EmbeddingPieceAttributes> = {
  name: "embedding_piece",
  summary: "y[t] = table[ids[t] − firstRow] where table has that row",
  inputs: ["table", "ids", "y"],
  outputs: ["y"],
  aliases: { y: "y" },
  attributes: ["firstRow"],
  infer({ table, ids, y }, { firstRow }) {
    requireArgument(
      table.dtype === "f32" || table.dtype === "f16" || table.dtype === "bf16",
      "embedding_piece",
      "table",
      "must be f32, f16 or bf16",
      describe(table),
    );
    requireArgument(
      table.shape.length === 2,
      "embedding_piece",
      "table",
      "must have two axes, ids and elements",
      describe(table),
    );
    const { rows, columns } = sizesOf(table);
    requireArgument(ids.dtype === "u32", "embedding_piece", "ids", "must be u32", describe(ids));
    requireArgument(
      y.dtype === "f32" || y.dtype === "f16",
      "embedding_piece",
      "y",
      "must be f32 or f16",
      describe(y),
    );
    const shape = [...ids.shape, columns];
    requireArgument(
      sameShape(y.shape, shape),
      "embedding_piece",
      "y",
      `must have shape [${shape.join(", ")}], as table is ${describe(table)} and ids are ${
        describe(ids)
      }`,
      describe(y),
    );
    requireArgument(
      Number.isSafeInteger(firstRow) && firstRow >= 0 && firstRow + rows <= 2 ** 32,
      "embedding_piece",
      "firstRow",
      `must be a whole number from 0 to ${2 ** 32 - rows}, as table is ${describe(table)}`,
      String(firstRow),
    );
    return { y: { shape, dtype: y.dtype } };
  },
  reference,
  variants: [
    {
      name: "vec4",
      summary: "four elements per invocation in one load",
      supports: ({ table, y }, _attributes, device) =>
        sizesOf(table).columns % 4 !== 0
          ? "the row length must be a multiple of 4"
          : supportsStoring(y.dtype, device),
      plan: (inputs, attributes, device) =>
        planGather("embedding_piece/vec4.wgsl", vec4, 4, inputs, attributes, device),
    },
    {
      name: "naive",
      summary: "one element per invocation",
      supports: ({ y }, _attributes, device) => supportsStoring(y.dtype, device),
      plan: (inputs, attributes, device) =>
        planGather("embedding_piece/naive.wgsl", naive, 1, inputs, attributes, device),
    },
  ],
  work({ table, ids, y }) {
    // As if every id were in this piece. None can be in a piece that has no rows.
    const count = sizesOf(table).rows === 0 ? 0 : elementCount(y.shape);
    const rowBytes = bytesPerElement(table.dtype) + bytesPerElement(y.dtype);
    return { flop: 0, bytes: byteLength(ids) + count * rowBytes };
  },
  tolerance: () => "exact",
  cases,
  benchCases,
  relations,
};

function sizesOf({ shape }: TensorSpec): { rows: number; columns: number } {
  const [rows, columns] = shape as [number, number];
  return { rows, columns };
}

function planGather(
  file: string,
  text: string,
  lanes: number,
  { table, y }: Inputs<TensorSpec, EmbeddingPieceInput, never>,
  { firstRow }: EmbeddingPieceAttributes,
  device: DeviceProfile,
): Plan {
  const { rows, columns } = sizesOf(table);
  if (rows === 0) return { dispatches: [] };
  const count = elementCount(y.shape) / lanes;
  return {
    dispatches: [{
      kernel: { file, text },
      constants: { WORKGROUP_SIZE, C: columns },
      params: { count, rows, firstRow },
      workgroups: linearGrid(Math.ceil(count / WORKGROUP_SIZE), device),
    }],
  };
}
