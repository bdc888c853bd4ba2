/**
 * Softmax over the last axis.
 *
 * @module
 */

import type { DeviceProfile } from "../../runtime/device.ts";
import { requireArgument } from "../../runtime/errors.ts";
import type { Inputs, Op, Plan, Variant } from "../../runtime/op.ts";
import { byteLength, describe, elementCount, type TensorSpec } from "../../runtime/tensor.ts";
import { linearGrid } from "../grid.ts";
import { rowWorkgroupSize, supportsStoring, supportsSubgroupRows } from "../support.ts";
import { benchCases, cases, relations } from "./cases.ts";
import groupScalar from "./group_scalar.wgsl" with { type: "text" };
import groupVec4 from "./group_vec4.wgsl" with { type: "text" };
import naive from "./naive.wgsl" with { type: "text" };
import reduceSubgroup from "../reduce_subgroup.wgsl" with { type: "text" };
import reduceTree from "../reduce_tree.wgsl" with { type: "text" };
import reduceWorkgroup from "../reduce_workgroup.wgsl" with { type: "text" };
import { EXP_UNITS, reference } from "./reference.ts";
import rowWgsl from "./row.wgsl" with { type: "text" };

/** Attributes of {@linkcode softmax}. */
export interface SoftmaxAttributes {
  /** What x is multiplied by first; 1 unless given. */
  readonly scale?: number;
  /** Row t of the last two axes sees only the columns j ≤ t + (S − T); false unless given. */
  readonly causal?: boolean;
}

const NAIVE_WORKGROUP_SIZE = 64;

/** One subgroup keeps up with a row this long; a longer one is better spread over several. */
const LONGEST_SUBGROUP_ROW = 1024;

/**
 * Softmax over the last axis, causal on request.
 *
 *   y_j = exp(scale · x_j − m) / Σ_i exp(scale · x_i − m),   m = max_i scale · x_i
 *
 *   causal, T = 3, S = 5:   1 1 1 0 0      the last row sees everything; what is not seen is 0
 *                           1 1 1 1 0
 *                           1 1 1 1 1
 *
 * Shapes:  x [..., T, S] → y [..., T, S]; x may also be [S]
 * Numbers: x and y are f32 or f16, one dtype for both; maximum, sum and quotient in f32
 * Limits:  scale · x finite in f32; S ≥ T where causal
 * Source:  Bridle 1990, "Probabilistic interpretation of feedforward classification network outputs";
 *          Milakov and Gimelshein 2018, arXiv:1805.02867, section 3, for the single first pass
 *
 * @throws {KernelArgumentError} If the dtype, the shape or an attribute does not fit
 */
export const softmax: Op<"x", "y", SoftmaxAttributes> = {
  name: "softmax",
  summary: "y = exp(scale · x − m) / Σ exp(scale · x − m), m = max scale · x",
  inputs: ["x"],
  outputs: ["y"],
  attributes: ["scale", "causal"],
  infer({ x }, { scale = 1, causal = false }) {
    requireArgument(
      Number.isFinite(scale) && Number.isFinite(Math.fround(scale)),
      "softmax",
      "scale",
      "must be a finite number",
      String(scale),
    );
    requireArgument(
      typeof causal === "boolean",
      "softmax",
      "causal",
      "must be true or false",
      String(causal),
    );
    requireArgument(
      x.dtype === "f32" || x.dtype === "f16",
      "softmax",
      "x",
      "must be f32 or f16",
      describe(x),
    );
    requireArgument(
      x.shape.length >= (causal ? 2 : 1),
      "softmax",
      "x",
      causal ? "must have at least two axes, as causal is true" : "must have at least one axis",
      describe(x),
    );
    requireArgument(
      !causal || x.shape.at(-1)! >= x.shape.at(-2)!,
      "softmax",
      "x",
      "must have at least as many columns as rows, as causal is true",
      describe(x),
    );
    return { y: { shape: x.shape, dtype: x.dtype } };
  },
  reference,
  variants: [
    rowVariant({
      name: "subgroup_row",
      summary: "one subgroup per row, no barrier",
      reduction: reduceSubgroup,
      needs: supportsSubgroupRows,
      workgroupSize: (_columns, device) => device.subgroupMinSize,
      preferred: ({ x }, _attributes, device) =>
        device.isSoftware || x.shape.at(-1)! <= LONGEST_SUBGROUP_ROW,
    }),
    rowVariant({
      name: "row_workgroup",
      summary: "one workgroup per row, reduced by subgroups and then over workgroup memory",
      reduction: reduceWorkgroup,
      needs: (device) => device.hasSubgroups || "subgroups are not available",
      workgroupSize: rowWorkgroupSize,
      preferred: (_inputs, _attributes, device) => !device.isSoftware,
    }),
    rowVariant({
      name: "row_workgroup_tree",
      summary: "one workgroup per row, reduced in a tree over workgroup memory",
      reduction: reduceTree,
      needs: () => true,
      workgroupSize: rowWorkgroupSize,
      preferred: (_inputs, _attributes, device) => !device.isSoftware,
    }),
    {
      name: "naive",
      summary: "one row per invocation",
      supports: ({ x }, _attributes, device) =>
        3 * (x.shape.at(-1)! + 1) > device.maxLoopIterations
          ? `this device ends loops after ${device.maxLoopIterations} iterations`
          : supportsStoring(x.dtype, device),
      plan(inputs, attributes, device) {
        const workgroups = linearGrid(Math.ceil(rowsOf(inputs.x) / NAIVE_WORKGROUP_SIZE), device);
        return plan("naive", naive, NAIVE_WORKGROUP_SIZE, workgroups, inputs, attributes);
      },
    },
  ],
  work({ x }, { causal = false }) {
    const tokens = x.shape.at(-2) ?? 1;
    const unseen = causal ? rowsOf(x) / Math.max(tokens, 1) * tokens * (tokens - 1) / 2 : 0;
    return {
      // Scale, maximum, subtract, exp, sum, divide for what is seen; the rest is written as 0.
      flop: 6 * (elementCount(x.shape) - unseen),
      bytes: 2 * byteLength(x) - unseen / Math.max(elementCount(x.shape), 1) * byteLength(x),
    };
  },
  tolerance() {
    return { units: EXP_UNITS, absolute: 1e-7 };
  },
  cases,
  benchCases,
  relations,
};

type SoftmaxVariant = Variant<"x", never, SoftmaxAttributes>;

function rowsOf({ shape }: TensorSpec): number {
  return elementCount(shape.slice(0, -1));
}

interface RowVariant {
  readonly name: string;
  readonly summary: string;
  /** WGSL of the functions `reduce_max` and `reduce_sum`. */
  readonly reduction: string;
  readonly needs: (device: DeviceProfile) => true | string;
  readonly workgroupSize: (columns: number, device: DeviceProfile) => number;
  readonly preferred: NonNullable<SoftmaxVariant["preferred"]>;
}

/** The variants with one workgroup per row differ in how they reduce over it, and in nothing else. */
function rowVariant(
  { name, summary, reduction, needs, workgroupSize, preferred }: RowVariant,
): SoftmaxVariant {
  return {
    name,
    summary,
    preferred,
    supports({ x }, _attributes, device) {
      const available = needs(device);
      return available === true ? supportsStoring(x.dtype, device) : available;
    },
    plan(inputs, attributes, device) {
      const columns = inputs.x.shape.at(-1)!;
      const [group, suffix] = columns % 4 === 0 ? [groupVec4, ""] : [groupScalar, "_scalar"];
      const text = rowWgsl + group + reduction;
      const workgroups = linearGrid(rowsOf(inputs.x), device);
      const size = workgroupSize(columns, device);
      return plan(name + suffix, text, size, workgroups, inputs, attributes);
    },
  };
}

function plan(
  kernel: string,
  text: string,
  workgroupSize: number,
  workgroups: [number, number, number],
  { x }: Inputs<TensorSpec, "x", never>,
  { scale = 1, causal = false }: SoftmaxAttributes,
): Plan {
  return {
    dispatches: [{
      kernel: { file: `softmax/${kernel}.wgsl`, text },
      constants: { WORKGROUP_SIZE: workgroupSize, CAUSAL: causal ? 1 : 0 },
      params: { rows: rowsOf(x), t: x.shape.at(-2) ?? 1, s: x.shape.at(-1)!, scale },
      workgroups,
    }],
  };
}
