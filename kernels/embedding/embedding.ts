/**
 * The look-up of token embeddings.
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
  type TensorSpec,
} from "../../runtime/tensor.ts";
import { linearGrid } from "../grid.ts";
import { supportsStoring } from "../support.ts";
import { benchCases, cases, relations } from "./cases.ts";
import naive from "./naive.wgsl" with { type: "text" };
import { reference } from "./reference.ts";
import vec4 from "./vec4.wgsl" with { type: "text" };

/** Attributes of {@linkcode embedding}. */
export interface EmbeddingAttributes {
  /** Dtype of y. */
  readonly dtype: "f32" | "f16";
}

/** Inputs of {@linkcode embedding}. */
export type EmbeddingInput = "table" | "ids";

const WORKGROUP_SIZE = 64;

/**
 * Rows of a table, by number.
 *
 *   y[t] = table[ids[t]]
 *
 * Shapes:  table [V, C], ids [...] → y [..., C]
 * Numbers: table f32, f16 or bf16; y f32 or f16 as `dtype` says. Exact, except that what f16 cannot
 *          hold is rounded to the nearest, ties to even; beyond 65,519 WGSL does not say what f16 holds
 * Limits:  every id below V; table and y at most maxStorageBufferBindingSize bytes each; a larger table
 *          is looked up piece by piece, by `embedding_piece`
 *
 * @throws {KernelArgumentError} If a dtype or the table's rank does not fit, or an id may be outside
 * the table
 */
export const embedding: Op<EmbeddingInput, "y", EmbeddingAttributes> = {
  name: "embedding",
  summary: "y[t] = table[ids[t]]",
  inputs: ["table", "ids"],
  outputs: ["y"],
  attributes: ["dtype"],
  infer({ table, ids }, { dtype }) {
    requireArgument(
      dtype === "f32" || dtype === "f16",
      "embedding",
      "dtype",
      "must be one of f32, f16",
      String(dtype),
    );
    requireArgument(
      table.dtype === "f32" || table.dtype === "f16" || table.dtype === "bf16",
      "embedding",
      "table",
      "must be f32, f16 or bf16",
      describe(table),
    );
    requireArgument(
      table.shape.length === 2,
      "embedding",
      "table",
      "must have two axes, ids and elements",
      describe(table),
    );
    const [rows, columns] = table.shape as [number, number];
    requireArgument(ids.dtype === "u32", "embedding", "ids", "must be u32", describe(ids));
    requireArgument(
      ids.below !== undefined && ids.below <= rows,
      "embedding",
      "ids",
      `must be less than ${rows}, the rows of table`,
      ids.below === undefined ? "of unknown size" : String(ids.below - 1),
    );
    return { y: { shape: [...ids.shape, columns], dtype } };
  },
  reference,
  variants: [
    {
      name: "vec4",
      summary: "four elements per invocation in one load",
      supports: ({ table }, attributes, device) =>
        columnsOf(table) % 4 !== 0
          ? "the row length must be a multiple of 4"
          : supportsStoring(attributes.dtype, device),
      plan: (inputs, _attributes, device) =>
        planGather("embedding/vec4.wgsl", vec4, 4, inputs, device),
    },
    {
      name: "naive",
      summary: "one element per invocation",
      supports: (_inputs, attributes, device) => supportsStoring(attributes.dtype, device),
      plan: (inputs, _attributes, device) =>
        planGather("embedding/naive.wgsl", naive, 1, inputs, device),
    },
  ],
  work({ table, ids }, { dtype }) {
    const count = elementCount(ids.shape) * columnsOf(table);
    const rowBytes = bytesPerElement(table.dtype) + bytesPerElement(dtype);
    return { flop: 0, bytes: byteLength(ids) + count * rowBytes };
  },
  tolerance: () => "exact",
  cases,
  benchCases,
  relations,
};

function columnsOf({ shape }: TensorSpec): number {
  return shape[1]!;
}

function planGather(
  file: string,
  text: string,
  lanes: number,
  { table, ids }: Inputs<TensorSpec, EmbeddingInput, never>,
  device: DeviceProfile,
): Plan {
  const columns = columnsOf(table);
  const count = elementCount(ids.shape) * columns / lanes;
  return {
    dispatches: [{
      kernel: { file, text },
      constants: { WORKGROUP_SIZE, C: columns },
      params: { count },
      workgroups: linearGrid(Math.ceil(count / WORKGROUP_SIZE), device),
    }],
  };
}
