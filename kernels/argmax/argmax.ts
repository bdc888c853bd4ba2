/**
 * The index of the largest element: greedy sampling on the GPU.
 *
 * @module
 */

import type { DeviceProfile } from "../../runtime/device.ts";
import { requireArgument } from "../../runtime/errors.ts";
import type { Op, Plan, Variant } from "../../runtime/op.ts";
import { byteLength, describe, elementCount, type TensorSpec } from "../../runtime/tensor.ts";
import type { WgslFile } from "../../runtime/wgsl.ts";
import { linearGrid } from "../grid.ts";
import { benchCases, cases, relations } from "./cases.ts";
import combine from "./combine.wgsl" with { type: "text" };
import naive from "./naive.wgsl" with { type: "text" };
import orderWgsl from "./order.wgsl" with { type: "text" };
import reduceSubgroups from "./reduce_subgroups.wgsl" with { type: "text" };
import reduceTree from "./reduce_tree.wgsl" with { type: "text" };
import { reference } from "./reference.ts";
import scan from "./scan.wgsl" with { type: "text" };

const NAIVE_WORKGROUP_SIZE = 64;

/** How the rows are cut up, for a device that runs many workgroups at once and for a CPU. */
const CUTS = {
  hardware: { workgroupSize: 256, workgroups: 512, smallestChunk: 2048 },
  // A wider workgroup would only add barriers to what runs eight lanes at a time anyway.
  software: { workgroupSize: 32, workgroups: 16, smallestChunk: 2048 },
} as const;

/**
 * Index of the largest element along the last axis.
 *
 *   ids[r] = min { i : x[r, i] = maxⱼ x[r, j] }
 *
 * Shapes:  x [..., V] → ids [...]; one row x [V] gives a scalar
 * Numbers: x f32 or f16, ids u32 and below V. Exact: of equal elements the first wins, and −0 equals 0.
 *          A NaN never wins; a row of nothing else gives 0
 * Limits:  V at least 1
 *
 * @throws {KernelArgumentError} If x has another dtype or empty rows
 */
export const argmax: Op<"x", "ids", Record<never, never>> = {
  name: "argmax",
  summary: "ids = the first index of the largest element",
  inputs: ["x"],
  outputs: ["ids"],
  attributes: [],
  infer({ x }) {
    requireArgument(
      x.dtype === "f32" || x.dtype === "f16",
      "argmax",
      "x",
      "must be f32 or f16",
      describe(x),
    );
    requireArgument(
      x.shape.length >= 1 && columnsOf(x) >= 1,
      "argmax",
      "x",
      "must have a last axis with at least one element",
      describe(x),
    );
    return { ids: { shape: x.shape.slice(0, -1), dtype: "u32", below: columnsOf(x) } };
  },
  reference,
  variants: [
    chunkVariant(
      "chunks",
      "a workgroup per chunk of a row, reduced by subgroups; then one per row",
      { file: "reduce_subgroups.wgsl", text: reduceSubgroups },
    ),
    chunkVariant(
      "chunks_tree",
      "a workgroup per chunk of a row, reduced in workgroup memory; then one per row",
      { file: "reduce_tree.wgsl", text: reduceTree },
    ),
    {
      name: "naive",
      summary: "one row per invocation",
      supports: ({ x }, _attributes, { maxLoopIterations }) =>
        columnsOf(x) <= maxLoopIterations ||
        `a row must have at most ${maxLoopIterations} elements, as this device ends longer loops`,
      plan({ x }, _attributes, device) {
        const rows = rowsOf(x);
        return {
          dispatches: [{
            kernel: { file: "argmax/naive.wgsl + order.wgsl", text: naive + orderWgsl },
            constants: { WORKGROUP_SIZE: NAIVE_WORKGROUP_SIZE },
            params: { rows, columns: columnsOf(x) },
            workgroups: linearGrid(Math.ceil(rows / NAIVE_WORKGROUP_SIZE), device),
          }],
        };
      },
    },
  ],
  work({ x }) {
    // One comparison each.
    return { flop: elementCount(x.shape), bytes: byteLength(x) + 4 * rowsOf(x) };
  },
  tolerance: () => "exact",
  cases,
  benchCases,
  relations,
};

function columnsOf({ shape }: TensorSpec): number {
  return shape.at(-1)!;
}

function rowsOf({ shape }: TensorSpec): number {
  return elementCount(shape.slice(0, -1));
}

function chunkVariant(
  name: "chunks" | "chunks_tree",
  summary: string,
  reduction: WgslFile,
): Variant<"x", never, Record<never, never>> {
  return {
    name,
    summary,
    supports: (_inputs, _attributes, { hasSubgroups }) =>
      name !== "chunks" || hasSubgroups || "subgroups are not available",
    plan: ({ x }, _attributes, device) => planChunks(reduction, x, device),
  };
}

function planChunks(
  reduction: WgslFile,
  x: TensorSpec,
  device: DeviceProfile,
): Plan {
  const rows = rowsOf(x), columns = columnsOf(x);
  const { workgroupSize, workgroups, smallestChunk } = cutFor(device);
  const wanted = Math.min(Math.ceil(workgroups / rows), Math.ceil(columns / smallestChunk));
  const chunk = Math.ceil(columns / wanted);
  const chunks = Math.ceil(columns / chunk);
  const partial = { shape: [rows, chunks], dtype: "u32" } as const;
  const constants = { WORKGROUP_SIZE: workgroupSize };
  const scanning = {
    kernel: {
      file: `argmax/scan.wgsl + order.wgsl + ${reduction.file}`,
      text: scan + orderWgsl + reduction.text,
    },
    constants,
    params: { rows, columns, chunks, chunk },
    workgroups: linearGrid(rows * chunks, device),
  };
  // The only chunk of a row already has the row's result.
  if (chunks === 1) {
    return {
      scratch: { orders: partial },
      dispatches: [{ ...scanning, bind: { indexes: "ids" } }],
    };
  }
  return {
    scratch: { orders: partial, indexes: partial },
    dispatches: [
      scanning,
      {
        kernel: {
          file: `argmax/combine.wgsl + ${reduction.file}`,
          text: combine + reduction.text,
        },
        constants,
        params: { rows, chunks },
        workgroups: linearGrid(rows, device),
      },
    ],
  };
}

/** A workgroup must hold whole subgroups, however large they are. */
function cutFor({ isSoftware, subgroupMaxSize }: DeviceProfile) {
  const cut = isSoftware ? CUTS.software : CUTS.hardware;
  return { ...cut, workgroupSize: Math.max(cut.workgroupSize, subgroupMaxSize) };
}
