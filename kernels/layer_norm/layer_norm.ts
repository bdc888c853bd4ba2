/**
 * Layer normalisation, with the residual add before it.
 *
 * @module
 */

import type { DeviceProfile } from "../../runtime/device.ts";
import { requireArgument } from "../../runtime/errors.ts";
import type { Inputs, Op, Plan, Variant } from "../../runtime/op.ts";
import {
  byteLength,
  describe,
  elementCount,
  sameShape,
  type TensorSpec,
} from "../../runtime/tensor.ts";
import type { WgslFile } from "../../runtime/wgsl.ts";
import { linearGrid } from "../grid.ts";
import { rowWorkgroupSize, supportsStoring, supportsSubgroupRows } from "../support.ts";
import { benchCases, cases, relations } from "./cases.ts";
import naive from "./naive.wgsl" with { type: "text" };
import reduceSubgroup from "./reduce_subgroup.wgsl" with { type: "text" };
import reduceTree from "./reduce_tree.wgsl" with { type: "text" };
import reduceWorkgroup from "./reduce_workgroup.wgsl" with { type: "text" };
import { reference } from "./reference.ts";
import rowWgsl from "./row.wgsl" with { type: "text" };

/** Attributes of {@linkcode layerNorm}. */
export interface LayerNormAttributes {
  /** What is added to the variance, so that a constant row has a finite result. */
  readonly epsilon: number;
}

/** Inputs of {@linkcode layerNorm}. */
export type LayerNormInput = "x" | "residual" | "weight" | "bias";

/** Inputs of {@linkcode layerNorm} that may be absent. */
export type LayerNormOptional = "residual" | "bias";

type Specs = Inputs<TensorSpec, LayerNormInput, LayerNormOptional>;

const NAIVE_WORKGROUP_SIZE = 64;

/** Smallest normal f32: a smaller epsilon may be flushed to 0. */
const SMALLEST_EPSILON = 2 ** -126;

/** One subgroup keeps up with a row this long; a longer one is better spread over several. */
const LONGEST_SUBGROUP_ROW = 1024;

/**
 * Layer normalisation over the last axis, of x or of x + residual.
 *
 *   s = x + residual,   y = (s − mean s) / √(var s + ε) · weight + bias,   sum = s
 *
 * Shapes:  x, residual [..., C]; weight, bias [C], or [H, C] with x [..., H, C]: one for each head
 *          → y [..., C], and sum [..., C] where residual is given
 * Numbers: x, residual, y and sum are f32 or f16, one dtype for all; weight and bias f32, f16 or bf16.
 *          s is rounded to f32 and no further before it is normalised, also where sum is stored as
 *          f16. Mean, then variance (divided by C) about that mean, in f32. The mean is summed as
 *          distances from the row's first element, and the second pass corrects its rounding, so that
 *          a row far from 0 loses no digits
 * Limits:  finite s whose squared deviations add up to a finite f32
 * Source:  Ba, Kiros and Hinton 2016, arXiv:1607.06450, section 3; Chan, Golub and LeVeque 1983,
 *          "Algorithms for computing the sample variance", equation 1.7
 *
 * @throws {KernelArgumentError} If a shape or dtype does not fit, or epsilon is not above 0
 */
export const layerNorm: Op<LayerNormInput, "y" | "sum", LayerNormAttributes, LayerNormOptional> = {
  name: "layer_norm",
  summary: "y = (s − mean s) / √(var s + ε) · weight + bias, s = x + residual",
  inputs: ["x", "residual", "weight", "bias"],
  optional: ["residual", "bias"],
  outputs: ["y", "sum"],
  attributes: ["epsilon"],
  infer({ x, residual, weight, bias }, { epsilon }) {
    requireArgument(
      Number.isFinite(epsilon) && epsilon >= SMALLEST_EPSILON,
      "layer_norm",
      "epsilon",
      "must be a finite number of at least 2^-126",
      String(epsilon),
    );
    requireArgument(
      x.dtype === "f32" || x.dtype === "f16",
      "layer_norm",
      "x",
      "must be f32 or f16",
      describe(x),
    );
    requireArgument(
      x.shape.length >= 1,
      "layer_norm",
      "x",
      "must have at least one axis",
      describe(x),
    );
    if (residual) {
      requireArgument(
        sameShape(residual.shape, x.shape) && residual.dtype === x.dtype,
        "layer_norm",
        "residual",
        `must be ${describe(x)}, as x is`,
        describe(residual),
      );
    }
    requireWeightShape(weight, x);
    if (bias) {
      requireWeightDtype("bias", bias);
      requireArgument(
        sameShape(bias.shape, weight.shape),
        "layer_norm",
        "bias",
        `must have shape [${weight.shape.join(", ")}], as weight is ${describe(weight)}`,
        describe(bias),
      );
    }
    const output = { shape: x.shape, dtype: x.dtype };
    return residual ? { y: output, sum: output } : { y: output };
  },
  reference,
  variants: [
    rowVariant({
      name: "subgroup_row",
      summary: "one subgroup per row, no barrier",
      reduction: { file: "reduce_subgroup.wgsl", text: reduceSubgroup },
      needs: supportsSubgroupRows,
      workgroupSize: (_columns, device) => device.subgroupMinSize,
      preferred: ({ x }, _attributes, device) =>
        device.isSoftware || columnsOf(x) <= LONGEST_SUBGROUP_ROW,
    }),
    rowVariant({
      name: "row_workgroup",
      summary: "one workgroup per row, summed by subgroups and then over workgroup memory",
      reduction: { file: "reduce_workgroup.wgsl", text: reduceWorkgroup },
      needs: (device) => device.hasSubgroups || "subgroups are not available",
      // A workgroup must hold whole subgroups, however large they are.
      workgroupSize: (columns, { subgroupMaxSize }) =>
        Math.max(rowWorkgroupSize(columns), subgroupMaxSize),
      preferred: (_inputs, _attributes, device) => !device.isSoftware,
    }),
    rowVariant({
      name: "row_workgroup_tree",
      summary: "one workgroup per row, summed in a tree over workgroup memory",
      reduction: { file: "reduce_tree.wgsl", text: reduceTree },
      needs: () => true,
      workgroupSize: rowWorkgroupSize,
      preferred: (_inputs, _attributes, device) => !device.isSoftware,
    }),
    {
      name: "naive",
      summary: "one row per invocation",
      supports: ({ x }, _attributes, device) =>
        // Three loops over the row.
        3 * columnsOf(x) > device.maxLoopIterations
          ? `this device ends loops after ${device.maxLoopIterations} iterations`
          : supportsStoring(x.dtype, device),
      plan(inputs, attributes, device) {
        const workgroups = linearGrid(Math.ceil(rowsOf(inputs.x) / NAIVE_WORKGROUP_SIZE), device);
        const kernel = { file: "layer_norm/naive.wgsl", text: naive };
        return plan(kernel, NAIVE_WORKGROUP_SIZE, workgroups, inputs, attributes);
      },
    },
  ],
  work({ x, residual, weight, bias }) {
    const tensors = [x, x, weight, ...(residual ? [x, x] : []), ...(bias ? [bias] : [])];
    return {
      // Sum, deviation, square and its sum, two for the result; one each for residual and bias.
      flop: (6 + (residual ? 1 : 0) + (bias ? 1 : 0)) * elementCount(x.shape),
      bytes: tensors.reduce((bytes, tensor) => bytes + byteLength(tensor), 0),
    };
  },
  tolerance({ x }) {
    // 2√C for the sums: the root, as roundings have either sign, and twice, as one large element may
    // make all later ones as large. 16 for the rest: deviation 2, its correction 1, inverseSqrt 4
    // (2 ULP), three products, the bias, half of the variance. At C = 5120 that is 1e-5 of
    // |weight| · (1 + |z|) + |bias|, half of what LayerNorm is commonly held to.
    return { units: 2 * Math.sqrt(columnsOf(x)) + 16, absolute: 2 ** -125 };
  },
  cases,
  benchCases,
  relations,
};

function columnsOf({ shape }: TensorSpec): number {
  return shape.at(-1) ?? 1;
}

function rowsOf({ shape }: TensorSpec): number {
  return elementCount(shape.slice(0, -1));
}

function requireWeightDtype(argument: "weight" | "bias", spec: TensorSpec): void {
  requireArgument(
    spec.dtype === "f32" || spec.dtype === "f16" || spec.dtype === "bf16",
    "layer_norm",
    argument,
    "must be f32, f16 or bf16",
    describe(spec),
  );
}

function requireWeightShape(weight: TensorSpec, x: TensorSpec): void {
  requireWeightDtype("weight", weight);
  const legal = [x.shape.slice(-1), ...(x.shape.length > 1 ? [x.shape.slice(-2)] : [])];
  requireArgument(
    legal.some((shape) => sameShape(shape, weight.shape)),
    "layer_norm",
    "weight",
    `must have shape ${legal.map((shape) => `[${shape.join(", ")}]`).join(" or ")}, as x is ${
      describe(x)
    }`,
    describe(weight),
  );
}

interface RowVariant {
  readonly name: string;
  readonly summary: string;
  /** The function `reduce`. */
  readonly reduction: WgslFile;
  readonly needs: (device: DeviceProfile) => true | string;
  readonly workgroupSize: (columns: number, device: DeviceProfile) => number;
  readonly preferred: NonNullable<LayerNormVariant["preferred"]>;
}

type LayerNormVariant = Variant<LayerNormInput, LayerNormOptional, LayerNormAttributes>;

/** The variants with one workgroup per row differ in how they sum over it, and in nothing else. */
function rowVariant(
  { name, summary, reduction, needs, workgroupSize, preferred }: RowVariant,
): LayerNormVariant {
  const kernel = {
    file: `layer_norm/row.wgsl + ${reduction.file}`,
    text: rowWgsl + reduction.text,
  };
  return {
    name,
    summary,
    preferred,
    supports({ x }, _attributes, device) {
      if (columnsOf(x) % 4 !== 0) return "the row length must be a multiple of 4";
      const available = needs(device);
      return available === true ? supportsStoring(x.dtype, device) : available;
    },
    plan(inputs, attributes, device) {
      const { x } = inputs;
      const size = workgroupSize(columnsOf(x), device);
      const workgroups = linearGrid(rowsOf(x), device);
      return plan(kernel, size, workgroups, inputs, attributes);
    },
  };
}

function plan(
  kernel: WgslFile,
  workgroupSize: number,
  workgroups: [number, number, number],
  { x, residual, weight, bias }: Specs,
  { epsilon }: LayerNormAttributes,
): Plan {
  return {
    dispatches: [{
      kernel,
      constants: {
        WORKGROUP_SIZE: workgroupSize,
        C: columnsOf(x),
        HAS_RESIDUAL: residual ? 1 : 0,
        HAS_BIAS: bias ? 1 : 0,
      },
      params: { rows: rowsOf(x), weightRows: rowsOf(weight), epsilon },
      workgroups,
    }],
  };
}
