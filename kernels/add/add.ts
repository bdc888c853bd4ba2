/**
 * The sum of two tensors.
 *
 * @module
 */

import type { DeviceProfile } from "../../runtime/device.ts";
import { requireArgument } from "../../runtime/errors.ts";
import type { Op, Plan } from "../../runtime/op.ts";
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

const WORKGROUP_SIZE = 64;

/**
 * Elementwise sum: the residual connection where no norm follows it at once.
 *
 *   y = a + b
 *
 * Shapes:  a, b [...] → y [...], all of one shape
 * Numbers: a, b and y are f32 or f16, one dtype for all; added in f32
 * Limits:  y at most maxStorageBufferBindingSize bytes
 *
 * @throws {KernelArgumentError} If the shapes or dtypes differ
 */
export const add: Op<"a" | "b", "y", Record<never, never>> = {
  name: "add",
  summary: "y = a + b",
  inputs: ["a", "b"],
  outputs: ["y"],
  attributes: [],
  infer({ a, b }) {
    requireArgument(
      a.dtype === "f32" || a.dtype === "f16",
      "add",
      "a",
      "must be f32 or f16",
      describe(a),
    );
    requireArgument(
      sameShape(a.shape, b.shape) && a.dtype === b.dtype,
      "add",
      "b",
      `must be ${describe(a)}, as a is`,
      describe(b),
    );
    return { y: { shape: a.shape, dtype: a.dtype } };
  },
  reference,
  variants: [
    {
      name: "vec4",
      summary: "four elements per invocation in one load each",
      supports: ({ a }, _attributes, device) =>
        // The row's length and not the number of elements, which depends on the batch.
        a.shape.at(-1)! % 4 !== 0
          ? "the row length must be a multiple of 4"
          : supportsStoring(a.dtype, device),
      plan: ({ a }, _attributes, device) => planElementwise("add/vec4.wgsl", vec4, 4, a, device),
    },
    {
      name: "naive",
      summary: "one element per invocation",
      supports: ({ a }, _attributes, device) => supportsStoring(a.dtype, device),
      plan: ({ a }, _attributes, device) => planElementwise("add/naive.wgsl", naive, 1, a, device),
    },
  ],
  work({ a }) {
    return { flop: elementCount(a.shape), bytes: 3 * byteLength(a) };
  },
  tolerance() {
    // One rounding to f32; subnormal operands may be flushed to 0.
    return { units: 1, absolute: 2 ** -125 };
  },
  cases,
  benchCases,
  relations,
};

function planElementwise(
  file: string,
  text: string,
  lanes: number,
  { shape }: TensorSpec,
  device: DeviceProfile,
): Plan {
  const count = elementCount(shape) / lanes;
  return {
    dispatches: [{
      kernel: { file, text },
      constants: { WORKGROUP_SIZE },
      params: { count },
      workgroups: linearGrid(Math.ceil(count / WORKGROUP_SIZE), device),
    }],
  };
}
