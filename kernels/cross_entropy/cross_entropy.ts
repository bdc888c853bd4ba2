/**
 * The loss of a classifier: cross entropy with the class that was right.
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
import reduceSubgroup from "../reduce_subgroup.wgsl" with { type: "text" };
import reduceTree from "../reduce_tree.wgsl" with { type: "text" };
import reduceWorkgroup from "../reduce_workgroup.wgsl" with { type: "text" };
import { rowWorkgroupSize, supportsLoops, supportsSubgroupRows } from "../support.ts";
import { benchCases, cases, relations } from "./cases.ts";
import groupScalar from "./group_scalar.wgsl" with { type: "text" };
import groupVec4 from "./group_vec4.wgsl" with { type: "text" };
import naive from "./naive.wgsl" with { type: "text" };
import { reference } from "./reference.ts";
import rowWgsl from "./row.wgsl" with { type: "text" };

/** Inputs of {@linkcode crossEntropy}. */
export type CrossEntropyInput = "logits" | "labels" | "ignored";

type Operands = Inputs<TensorSpec, CrossEntropyInput, "ignored">;
type CrossEntropyVariant = Variant<CrossEntropyInput, "ignored", Record<never, never>>;

const NAIVE_WORKGROUP_SIZE = 64;

/** One subgroup keeps up with a row this long; a longer one is better spread over several. */
const LONGEST_SUBGROUP_ROW = 1024;

/**
 * Cross entropy of each row of logits with its label. No probability is stored.
 *
 *   loss[r] = ln Σ_j exp x[r, j] − x[r, labels[r]],   and 0 where ignored[r] is not 0
 *
 * What is to be ignored has a flag of its own and not a label outside the classes, so that every label
 * outside them is a mistake and is refused. An ignored row still has a label, any that is below V; its
 * logits are not read.
 *
 * Shapes:  logits [..., V]; labels, ignored [...] → loss [...]; one row of logits [V] gives a scalar
 * Numbers: logits f32 or f16, labels and ignored u32, loss f32. Maximum, sum and logarithm in f32, in
 *          one pass over the logits
 * Limits:  V at least 1; every label below V; logits below 1e38 in magnitude
 * Source:  Milakov and Gimelshein 2018, arXiv:1805.02867, section 3, for the single pass
 *
 * @throws {KernelArgumentError} If a dtype or a shape does not fit, or a label may not be below V
 */
export const crossEntropy: Op<CrossEntropyInput, "loss", Record<never, never>, "ignored"> = {
  name: "cross_entropy",
  summary: "loss = ln Σ exp x − x[label]",
  inputs: ["logits", "labels", "ignored"],
  optional: ["ignored"],
  outputs: ["loss"],
  attributes: [],
  infer({ logits, labels, ignored }) {
    requireArgument(
      logits.dtype === "f32" || logits.dtype === "f16",
      "cross_entropy",
      "logits",
      "must be f32 or f16",
      describe(logits),
    );
    requireArgument(
      logits.shape.length >= 1 && classesOf(logits) >= 1,
      "cross_entropy",
      "logits",
      "must have a last axis with at least one element",
      describe(logits),
    );
    requireWords("labels", labels, logits);
    requireArgument(
      labels.below !== undefined && labels.below <= classesOf(logits),
      "cross_entropy",
      "labels",
      `must be less than ${classesOf(logits)}, the last axis of logits`,
      labels.below === undefined ? "of unknown size" : String(labels.below - 1),
    );
    if (ignored) requireWords("ignored", ignored, logits);
    return { loss: { shape: labels.shape, dtype: "f32" } };
  },
  reference,
  variants: [
    rowVariant({
      name: "subgroup_row",
      summary: "one subgroup per row, no barrier",
      reduction: { file: "reduce_subgroup.wgsl", text: reduceSubgroup },
      needs: supportsSubgroupRows,
      workgroupSize: (_classes, device) => device.subgroupMinSize,
      preferred: ({ logits }, _attributes, device) =>
        device.isSoftware || classesOf(logits) <= LONGEST_SUBGROUP_ROW,
    }),
    rowVariant({
      name: "row_workgroup",
      summary: "one workgroup per row, reduced by subgroups and then over workgroup memory",
      reduction: { file: "reduce_workgroup.wgsl", text: reduceWorkgroup },
      needs: (device) => device.hasSubgroups || "subgroups are not available",
      // A workgroup must hold whole subgroups, however large they are.
      workgroupSize: (classes, { subgroupMaxSize }) =>
        Math.max(rowWorkgroupSize(classes), subgroupMaxSize),
      preferred: (_inputs, _attributes, device) => !device.isSoftware,
    }),
    rowVariant({
      name: "row_workgroup_tree",
      summary: "one workgroup per row, reduced in a tree over workgroup memory",
      reduction: { file: "reduce_tree.wgsl", text: reduceTree },
      needs: () => true,
      workgroupSize: rowWorkgroupSize,
      preferred: (_inputs, _attributes, device) => !device.isSoftware,
    }),
    {
      name: "naive",
      summary: "one row per invocation",
      // Two loops over the row.
      supports: ({ logits }, _attributes, device) =>
        supportsLoops(2 * (classesOf(logits) + 1), device),
      plan(inputs, _attributes, device) {
        const workgroups = linearGrid(Math.ceil(rowsOf(inputs) / NAIVE_WORKGROUP_SIZE), device);
        const kernel = { file: "cross_entropy/naive.wgsl", text: naive };
        return plan(kernel, NAIVE_WORKGROUP_SIZE, workgroups, inputs);
      },
    },
  ],
  work({ logits, labels, ignored }) {
    return {
      // Maximum, difference, exponential and sum.
      flop: 4 * elementCount(logits.shape),
      bytes: byteLength(logits) + 2 * byteLength(labels) + (ignored ? byteLength(ignored) : 0),
    };
  },
  tolerance({ logits }) {
    const classes = classesOf(logits);
    // Of the loss: three ULP of the logarithm, the difference with the label's logit, the last sum.
    const units = 8;
    // An error of Σ exp in parts is one of the loss in absolute terms. In units of 2⁻²⁴:
    //   8            the logarithm's own 2⁻²¹, near 1
    //   30 + 17 ln V the exponentials. WGSL allows 3 + 2|a| ULP at a, a unit of |a| is for the rounding
    //                of a, and what lies d below the maximum reaches it in steps of 1 or more: 30 + 17d
    //                at most. Weighted by the probabilities, d is ln V at most
    //   1.5 √V       the sum of terms of one sign, one after another
    const absolute = 38 + 17 * Math.log(classes) + 1.5 * Math.sqrt(classes);
    return { units, absolute: absolute * 2 ** -24 };
  },
  cases,
  benchCases,
  relations,
};

function classesOf({ shape }: TensorSpec): number {
  return shape.at(-1)!;
}

function rowsOf({ labels }: Operands): number {
  return elementCount(labels.shape);
}

function requireWords(
  argument: "labels" | "ignored",
  words: TensorSpec,
  logits: TensorSpec,
): void {
  const shape = logits.shape.slice(0, -1);
  requireArgument(
    words.dtype === "u32" && sameShape(words.shape, shape),
    "cross_entropy",
    argument,
    `must be u32[${shape.join(", ")}], as logits is ${describe(logits)}`,
    describe(words),
  );
}

interface RowVariant {
  readonly name: string;
  readonly summary: string;
  /** The functions `reduce_max` and `reduce_sum`. */
  readonly reduction: WgslFile;
  readonly needs: (device: DeviceProfile) => true | string;
  readonly workgroupSize: (classes: number, device: DeviceProfile) => number;
  readonly preferred: NonNullable<CrossEntropyVariant["preferred"]>;
}

/** The variants with one workgroup per row differ in how they reduce over it, and in nothing else. */
function rowVariant(
  { reduction, needs, workgroupSize, ...description }: RowVariant,
): CrossEntropyVariant {
  return {
    ...description,
    supports({ logits }, _attributes, device) {
      const available = needs(device);
      if (available !== true) return available;
      const classes = classesOf(logits);
      const size = workgroupSize(classes, device);
      // Every SIZE-th group of four, then a loop of each of two reductions, and leaving each loop.
      return supportsLoops(Math.ceil(classes / 4 / size) + 1 + 2 * (size / 4 + 1), device);
    },
    plan(inputs, _attributes, device) {
      const classes = classesOf(inputs.logits);
      const group = classes % 4 === 0
        ? { file: "group_vec4.wgsl", text: groupVec4 }
        : { file: "group_scalar.wgsl", text: groupScalar };
      const kernel = {
        file: `cross_entropy/row.wgsl + ${group.file} + ${reduction.file}`,
        text: rowWgsl + group.text + reduction.text,
      };
      const workgroups = linearGrid(rowsOf(inputs), device);
      return plan(kernel, workgroupSize(classes, device), workgroups, inputs);
    },
  };
}

function plan(
  kernel: WgslFile,
  workgroupSize: number,
  workgroups: [number, number, number],
  inputs: Operands,
): Plan {
  return {
    dispatches: [{
      kernel,
      constants: { WORKGROUP_SIZE: workgroupSize, HAS_IGNORED: inputs.ignored ? 1 : 0 },
      params: { rows: rowsOf(inputs), v: classesOf(inputs.logits) },
      workgroups,
    }],
  };
}
