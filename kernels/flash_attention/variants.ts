import type { DeviceProfile } from "../../runtime/device.ts";
import type { Inputs, Plan, Variant } from "../../runtime/op.ts";
import type { TensorSpec } from "../../runtime/tensor.ts";
import type { WgslFile } from "../../runtime/wgsl.ts";
import { geometry, scaleOf } from "../attention.ts";
import { linearGrid } from "../grid.ts";
import { supportsStoring } from "../support.ts";
import combineWgsl from "./combine.wgsl" with { type: "text" };
import type { FlashAttentionAttributes, FlashAttentionInput } from "./flash_attention.ts";
import naive from "./naive.wgsl" with { type: "text" };
import reduceTree from "./reduce_tree.wgsl" with { type: "text" };
import rowsWgsl from "./rows.wgsl" with { type: "text" };
import splitWgsl from "./split.wgsl" with { type: "text" };
import { subgroup8 } from "./subgroup_8.wgsl.ts";
import { type TileShape, tileShape, tileWgsl } from "./tile.wgsl.ts";
import visibleWgsl from "./visible.wgsl" with { type: "text" };

type Operands = Inputs<TensorSpec, FlashAttentionInput, "mask">;
type FlashAttentionVariant = Variant<FlashAttentionInput, "mask", FlashAttentionAttributes>;

const NAIVE_WORKGROUP_SIZE = 64;
const COMBINE_WORKGROUP_SIZE = 64;

const SPLIT_KERNEL = {
  file: "flash_attention/split.wgsl",
  text: splitWgsl + rowsWgsl + visibleWgsl + reduceTree,
};
const COMBINE_KERNEL = { file: "flash_attention/combine.wgsl", text: combineWgsl + rowsWgsl };

/** Keys of a workgroup of split.wgsl. Fixed, so that a result depends on nothing but its own keys. */
const SPLIT = 128;

/** Beyond this many, a tile is less work. */
const MOST_DECODE_ROWS = 16;

/** What a tile may take of the workgroup memory: with more, too few workgroups share a processor. */
const MOST_TILE_BYTES = 48 * 1024;

/** Ways to compute it, most preferred first. */
export const variants: readonly FlashAttentionVariant[] = [
  {
    name: "subgroup_8",
    summary: "a tile of rows per subgroup of eight, for software adapters",
    supports(inputs, attributes, device) {
      if (device.subgroupMinSize !== 8 || device.subgroupMaxSize !== 8) {
        return "subgroups must be of size 8";
      }
      const { keyLength } = attributes;
      const { size } = geometry(inputs);
      const { rows, keysPerLane } = subgroupTile(inputs, attributes);
      // A tile of keys: scores over D / 4 groups, the result over 8 keys, and leaving each loop.
      const perTile = (size / 4 + 1) + (8 + 1) + 1;
      const iterations = Math.ceil(keyLength / (8 * keysPerLane)) * perTile + rows + 2;
      return refuseLongLoops(iterations, device) ?? supportsGroups(inputs, device);
    },
    preferred: (_inputs, _attributes, device) => device.isSoftware,
    plan(inputs, attributes, device) {
      const tile = subgroupTile(inputs, attributes);
      const wanted = { headDim: geometry(inputs).size, ...tile };
      const kernel = once(`subgroup_8 ${JSON.stringify(wanted)}`, () => subgroup8(wanted));
      return planTiles(kernel, tile.rows, inputs, attributes, device);
    },
  },
  {
    name: "split_decode",
    summary: "few rows: the keys are split over workgroups, and a second dispatch combines them",
    supports: (inputs, attributes, device) =>
      decisiveRows(inputs, attributes) > MOST_DECODE_ROWS
        ? `at most ${MOST_DECODE_ROWS} rows may share a key head`
        : supportsGroups(inputs, device),
    plan: planSplits,
  },
  {
    name: "tile",
    summary: "a tile of rows per workgroup; scores, weights and result in registers",
    supports(inputs, { keyLength }, device) {
      const { size } = geometry(inputs);
      if (size % 4 !== 0) return "the head size must be a multiple of 4";
      const shape = tileOf(inputs, device);
      if (!shape) return "the device has too little workgroup memory";
      const { invocations, rows, keys, scoreKeys, resultRows } = shape;
      const staging = (tokens: number) => Math.ceil(tokens * size / 4 / invocations) + 1;
      const overKeys = keys / scoreKeys + 1;
      // A tile of keys: k and v are loaded, then scores, maxima and the result.
      const perTile = 2 * staging(keys) + (size / 4 + 1) + 2 * overKeys + 1;
      const around = staging(rows) + resultRows * overKeys + 1;
      const iterations = Math.ceil(keyLength / keys) * perTile + around;
      return refuseLongLoops(iterations, device) ?? supportsGroups(inputs, device);
    },
    plan(inputs, attributes, device) {
      const shape = tileOf(inputs, device)!;
      const { size } = geometry(inputs);
      const kernel = once(`tile ${size} ${JSON.stringify(shape)}`, () => tileWgsl(size, shape));
      return planTiles(kernel, shape.rows, inputs, attributes, device);
    },
  },
  {
    name: "naive",
    summary: "one query row and head per invocation",
    supports(inputs, { keyLength }, device) {
      const { size } = geometry(inputs);
      // Two passes over the keys with a dot product each, a sum over columns, and leaving each loop.
      const iterations = keyLength * (2 * (size + 2) + (size + 1)) + size + 3;
      return refuseLongLoops(iterations, device) ?? supportsStoring(inputs.q.dtype, device);
    },
    plan(inputs, attributes, device) {
      const { batch, tokens, heads, size } = geometry(inputs);
      const rows = batch * tokens * heads;
      return {
        dispatches: [{
          kernel: { file: "flash_attention/naive.wgsl", text: naive },
          constants: {
            WORKGROUP_SIZE: NAIVE_WORKGROUP_SIZE,
            D: size,
            HAS_MASK: inputs.mask ? 1 : 0,
          },
          params: { ...commonParams(inputs, attributes), rows, scale: scaleOf(inputs, attributes) },
          workgroups: linearGrid(Math.ceil(rows / NAIVE_WORKGROUP_SIZE), device),
        }],
      };
    },
  },
];

/** Undefined where the device lets an invocation run this many iterations, leaving a loop being one. */
function refuseLongLoops(
  iterations: number,
  { maxLoopIterations }: DeviceProfile,
): string | undefined {
  return iterations > maxLoopIterations
    ? `this device ends loops after ${maxLoopIterations} iterations`
    : undefined;
}

/** The rows per key head that a kernel is chosen for: a call's, or those of one of its tokens. */
function decisiveRows(inputs: Operands, { stepwise }: FlashAttentionAttributes): number {
  const { rows, heads, keyHeads } = geometry(inputs);
  return stepwise ? heads / keyHeads : rows;
}

/** The tile of subgroup_8: as many rows as there are, up to 16. */
function subgroupTile(
  inputs: Operands,
  attributes: FlashAttentionAttributes,
): { readonly rows: number; readonly keysPerLane: number } {
  const { size } = geometry(inputs);
  const rows = decisiveRows(inputs, attributes);
  const tileRows = rows <= 4 ? 4 : rows <= 8 ? 8 : 16;
  // More keys share a load of q, but with many columns as well the kernel takes long to compile.
  return { rows: tileRows, keysPerLane: tileRows < 16 || size <= 96 ? 4 : 2 };
}

function supportsGroups(inputs: Operands, device: DeviceProfile): true | string {
  return geometry(inputs).size % 4 !== 0
    ? "the head size must be a multiple of 4"
    : supportsStoring(inputs.q.dtype, device);
}

function commonParams(
  inputs: Operands,
  { keyLength, causal }: FlashAttentionAttributes,
): Record<string, number> {
  const { tokens, heads, keyHeads, capacity } = geometry(inputs);
  return { t: tokens, h: heads, g: keyHeads, capacity, keyLength, causal: causal ? 1 : 0 };
}

/** One workgroup for each key head and each tile of the rows that read it. */
function planTiles(
  kernel: WgslFile,
  tileRows: number,
  inputs: Operands,
  attributes: FlashAttentionAttributes,
  device: DeviceProfile,
): Plan {
  const { batch, keyHeads, rows } = geometry(inputs);
  const tiles = Math.ceil(rows / tileRows);
  return {
    dispatches: [{
      kernel,
      constants: { HAS_MASK: inputs.mask ? 1 : 0 },
      params: {
        ...commonParams(inputs, attributes),
        rows,
        keyHeads: batch * keyHeads,
        tiles,
        scale: scaleOf(inputs, attributes) * Math.LOG2E,
      },
      workgroups: linearGrid(batch * keyHeads * tiles, device),
    }],
  };
}

function tileOf(inputs: Operands, { limits }: DeviceProfile): TileShape | undefined {
  const bytes = Math.min(limits.maxComputeWorkgroupStorageSize, MOST_TILE_BYTES);
  const { size } = geometry(inputs);
  const key = `${size} ${bytes}`;
  if (!tileShapes.has(key)) tileShapes.set(key, tileShape(size, bytes));
  return tileShapes.get(key);
}

/** Texts and shapes are the same for every layer and token, so each is made once. */
const kernels = new Map<string, WgslFile>();
const tileShapes = new Map<string, TileShape | undefined>();

function once(key: string, make: () => WgslFile): WgslFile {
  const kernel = kernels.get(key) ?? make();
  kernels.set(key, kernel);
  return kernel;
}

/** One workgroup for each split of the keys of each key head and each four of its rows. */
function planSplits(
  inputs: Operands,
  attributes: FlashAttentionAttributes,
  device: DeviceProfile,
): Plan {
  const { batch, tokens, heads, keyHeads, size, rows } = geometry(inputs);
  const groups = size / 4;
  const splits = Math.ceil(attributes.keyLength / SPLIT);
  const decisive = decisiveRows(inputs, attributes);
  const tileRows = decisive <= 2 ? decisive : 4;
  const rowTiles = Math.ceil(rows / tileRows);
  const allRows = batch * keyHeads * rows;
  const perKeyHead = { rows, keyHeads: batch * keyHeads, splits };
  return {
    scratch: {
      partials: { shape: [allRows, splits, size], dtype: "f32" },
      statistics: { shape: [allRows, splits, 2], dtype: "f32" },
    },
    dispatches: [
      {
        kernel: SPLIT_KERNEL,
        constants: { SPLIT, ROWS: tileRows, GROUPS: groups, HAS_MASK: inputs.mask ? 1 : 0 },
        params: {
          ...commonParams(inputs, attributes),
          ...perKeyHead,
          rowTiles,
          scale: scaleOf(inputs, attributes) * Math.LOG2E,
        },
        workgroups: linearGrid(batch * keyHeads * rowTiles * splits, device),
      },
      {
        kernel: COMBINE_KERNEL,
        constants: { WORKGROUP_SIZE: COMBINE_WORKGROUP_SIZE, GROUPS: groups },
        params: { ...perKeyHead, t: tokens, h: heads, g: keyHeads },
        workgroups: linearGrid(Math.ceil(allRows * groups / COMBINE_WORKGROUP_SIZE), device),
      },
    ],
  };
}
