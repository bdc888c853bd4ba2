/**
 * The write of one product into its columns of a wider tensor.
 *
 * @module
 */

import type { DeviceProfile } from "../../runtime/device.ts";
import { requireArgument } from "../../runtime/errors.ts";
import type { Inputs, Op, Plan } from "../../runtime/op.ts";
import {
  byteLength,
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

/** Attributes of {@linkcode writeColumns}. */
export interface WriteColumnsAttributes {
  /** Column of y that x's first column goes to. */
  readonly column: number;
}

/** Inputs of {@linkcode writeColumns}. */
export type WriteColumnsInput = "y" | "x";

const WORKGROUP_SIZE = 64;

/**
 * Writes x into a run of y's columns, in place.
 *
 *   y[..., column + j] = x[..., j]
 *
 *   columns of y:   0 … column−1 | column … column+n−1 | column+n … N−1
 *                   kept         | written             | kept
 *
 * A linear layer or LM head whose weight is larger than a binding is kept as pieces of its rows; the
 * product with each piece is a run of columns of the whole.
 *
 * Shapes:  y [..., N], x [..., n] with the same leading axes → y itself
 * Numbers: f32 or f16, one dtype for both; exact, and what is not written keeps its bits
 * Limits:  column + n at most N; y at most maxStorageBufferBindingSize bytes
 *
 * @throws {KernelArgumentError} If a shape or dtype does not fit, or y has no such columns
 */
export const writeColumns: Op<WriteColumnsInput, "y", WriteColumnsAttributes> = {
  name: "write_columns",
  summary: "y[..., column + j] = x[..., j]",
  inputs: ["y", "x"],
  outputs: ["y"],
  aliases: { y: "y" },
  attributes: ["column"],
  infer({ y, x }, { column }) {
    requireArgument(
      y.dtype === "f32" || y.dtype === "f16",
      "write_columns",
      "y",
      "must be f32 or f16",
      describe(y),
    );
    requireArgument(
      y.shape.length >= 1,
      "write_columns",
      "y",
      "must have at least one axis",
      describe(y),
    );
    const leading = y.shape.slice(0, -1);
    requireArgument(
      x.dtype === y.dtype && x.shape.length >= 1 && sameShape(x.shape.slice(0, -1), leading),
      "write_columns",
      "x",
      `must be ${y.dtype}[${[...leading, "columns"].join(", ")}], as y is ${describe(y)}`,
      describe(x),
    );
    const [most, columns] = [columnsOf(y), columnsOf(x)];
    requireArgument(
      columns <= most,
      "write_columns",
      "x",
      `must have at most ${most} columns, as y is ${describe(y)}`,
      describe(x),
    );
    requireArgument(
      Number.isSafeInteger(column) && column >= 0 && column + columns <= most,
      "write_columns",
      "column",
      `must be a whole number from 0 to ${most - columns}, as ${columns} columns go into ${
        describe(y)
      }`,
      String(column),
    );
    return { y: { shape: y.shape, dtype: y.dtype } };
  },
  reference,
  variants: [
    {
      name: "vec4",
      summary: "four elements per invocation in one load",
      supports: ({ y, x }, { column }, device) =>
        [columnsOf(y), columnsOf(x), column].some((count) => count % 4 !== 0)
          ? "column and the columns of x and y must be multiples of 4"
          : supportsStoring(y.dtype, device),
      plan: (inputs, attributes, device) =>
        planCopy("write_columns/vec4.wgsl", vec4, 4, inputs, attributes, device),
    },
    {
      name: "naive",
      summary: "one element per invocation",
      supports: ({ y }, _attributes, device) => supportsStoring(y.dtype, device),
      plan: (inputs, attributes, device) =>
        planCopy("write_columns/naive.wgsl", naive, 1, inputs, attributes, device),
    },
  ],
  work: ({ x }) => ({ flop: 0, bytes: 2 * byteLength(x) }),
  tolerance: () => "exact",
  cases,
  benchCases,
  relations,
};

function columnsOf({ shape }: TensorSpec): number {
  return shape.at(-1) ?? 1;
}

function planCopy(
  file: string,
  text: string,
  lanes: number,
  { y, x }: Inputs<TensorSpec, WriteColumnsInput, never>,
  { column }: WriteColumnsAttributes,
  device: DeviceProfile,
): Plan {
  const count = elementCount(x.shape) / lanes;
  // Nothing is written of an empty x, though y, which is the output, need not be empty.
  if (count === 0) return { dispatches: [] };
  return {
    dispatches: [{
      kernel: { file, text },
      constants: { WORKGROUP_SIZE },
      params: {
        count,
        xColumns: columnsOf(x) / lanes,
        yColumns: columnsOf(y) / lanes,
        column: column / lanes,
      },
      workgroups: linearGrid(Math.ceil(count / WORKGROUP_SIZE), device),
    }],
  };
}
