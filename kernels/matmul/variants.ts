import type { DeviceProfile } from "../../runtime/device.ts";
import type { Dispatch, Inputs, Plan, Variant } from "../../runtime/op.ts";
import {
  bytesPerElement,
  type Dtype,
  elementCount,
  type TensorSpec,
} from "../../runtime/tensor.ts";
import type { WgslFile } from "../../runtime/wgsl.ts";
import { linearGrid } from "../grid.ts";
import { supportsStoring } from "../support.ts";
import direct from "./direct.wgsl" with { type: "text" };
import type { MatmulAttributes, MatmulLayout } from "./matmul.ts";
import matvecSubgroup from "./matvec_subgroup.wgsl" with { type: "text" };
import matvecTree from "./matvec_tree.wgsl" with { type: "text" };
import matvecWords from "./matvec_words.wgsl" with { type: "text" };
import naive from "./naive.wgsl" with { type: "text" };
import stepLinear from "./step_linear.wgsl" with { type: "text" };
import stepPlain from "./step_plain.wgsl" with { type: "text" };
import stepScalar from "./step_scalar.wgsl" with { type: "text" };
import subgroupTile from "./subgroup_tile.wgsl" with { type: "text" };
import { type TileForm, type TileShape, tileWgsl } from "./tile.wgsl.ts";

type Operands = Inputs<TensorSpec, "x" | "weight" | "bias", "bias">;
type MatmulVariant = Variant<"x" | "weight" | "bias", "bias", MatmulAttributes>;

/** Sizes of a call: `batches` products of [m, k] by [k, n]. */
export interface Geometry {
  /** Products; 1 where weight is shared by all rows. */
  readonly batches: number;
  /** Rows of x per product. */
  readonly m: number;
  /** Columns of y. */
  readonly n: number;
  /** Terms of a sum. */
  readonly k: number;
}

/** Reads the sizes off the shapes. A shared weight makes every leading axis of x a part of m. */
export function geometry({ x, weight }: Operands, layout: MatmulLayout): Geometry {
  const k = x.shape.at(-1)!;
  const n = weight.shape.at(layout === "linear" ? -2 : -1)!;
  if (weight.shape.length === 3) return { batches: x.shape[0]!, m: x.shape[1]!, n, k };
  return { batches: 1, m: elementCount(x.shape.slice(0, -1)), n, k };
}

/** Rows up to which a product is bound by reading the weights, and takes one pass over them. */
const MATVEC_ROWS = 8;

/** Weight dtypes, numbered as in `matvec_words.wgsl`. */
const WEIGHT_FORMATS: readonly Dtype[] = ["f32", "f16", "bf16"];

/**
 * Workgroups that fill a device: one for each of the 132 multiprocessors of an H100, nearly; smaller
 * devices are full sooner. WebGPU does not tell how many a device has.
 */
const FULL_DEVICE = 128;

/** Ways to compute it, most preferred first. */
export const variants: readonly MatmulVariant[] = [
  {
    name: "matvec_subgroup",
    summary: "up to 8 rows, four columns per subgroup, one pass over the weights in 16-byte words",
    supports: (inputs, attributes, device) =>
      !device.hasSubgroups
        ? "the device has no subgroups"
        : supportsMatvec(inputs, attributes, device),
    // A software adapter computes rather than waits for memory: from two rows on it prefers a tile.
    preferred: (inputs, { layout }, device) =>
      !device.isSoftware || geometry(inputs, layout).m === 1,
    plan(inputs, attributes, device) {
      // Two subgroups of the usual 32: small enough to spread 2560 columns over a large device.
      const WORKGROUP_SIZE = Math.max(64, device.subgroupMaxSize);
      return planMatvec(
        { file: "matmul/matvec_subgroup.wgsl", text: matvecSubgroup },
        { WORKGROUP_SIZE },
        WORKGROUP_SIZE / device.subgroupMaxSize,
        inputs,
        attributes,
        device,
      );
    },
  },
  {
    name: "matvec_tree",
    summary: "the same without subgroups, by a tree in workgroup memory",
    supports: supportsMatvec,
    preferred: (_inputs, _attributes, device) => !device.isSoftware,
    plan: (inputs, attributes, device) =>
      planMatvec(
        { file: "matmul/matvec_tree.wgsl", text: matvecTree },
        { GROUPS: 2 },
        2,
        inputs,
        attributes,
        device,
      ),
  },
  {
    name: "matvec_direct",
    summary: "one row; eight columns per invocation, for software adapters",
    supports: (inputs, attributes, device) =>
      geometry(inputs, attributes.layout).m !== 1
        ? "it computes a single row"
        : supportsOutput(inputs, attributes, device),
    preferred: (_inputs, _attributes, device) => device.isSoftware,
    plan: (inputs, attributes, device) =>
      planStepped(
        { file: "matmul/direct.wgsl", text: direct, rows: 1, columns: 8, tiles: 8 },
        { WORKGROUP_SIZE: 8, ROWS: 1 },
        inputs,
        attributes,
        device,
      ),
  },
  {
    name: "subgroup_tile",
    summary: "32×32 outputs per subgroup of 8, by broadcasts, for software adapters",
    supports: (inputs, attributes, device) =>
      !device.hasSubgroups
        ? "the device has no subgroups"
        : device.subgroupMinSize !== 8 || device.subgroupMaxSize !== 8
        ? "every subgroup must have 8 invocations"
        : supportsOutput(inputs, attributes, device),
    preferred: (_inputs, _attributes, device) => device.isSoftware,
    plan(inputs, attributes, device) {
      const rowBlocks = geometry(inputs, attributes.layout).m <= 8 ? 1 : 4;
      return planStepped(
        {
          file: "matmul/subgroup_tile.wgsl",
          text: subgroupTile,
          rows: 8 * rowBlocks,
          columns: 32,
          tiles: 1,
        },
        { ROW_BLOCKS: rowBlocks },
        inputs,
        attributes,
        device,
      );
    },
  },
  {
    name: "direct_8x8",
    summary: "8×8 outputs per invocation in registers, for software adapters without subgroups",
    supports: supportsOutput,
    preferred: (_inputs, _attributes, device) => device.isSoftware,
    plan: (inputs, attributes, device) =>
      planStepped(
        { file: "matmul/direct.wgsl", text: direct, rows: 8, columns: 8, tiles: 8 },
        { WORKGROUP_SIZE: 8, ROWS: 8 },
        inputs,
        attributes,
        device,
      ),
  },
  tileVariant(
    "tile_128",
    { tileM: 128, tileN: 128, tileK: 16, invocations: [16, 16] },
    "128×128 outputs per workgroup: most products per load, for products that fill the device",
  ),
  tileVariant(
    "tile_64",
    { tileM: 64, tileN: 64, tileK: 16, invocations: [8, 8] },
    "64×64 outputs per workgroup, for products that would leave a device of larger tiles idle",
  ),
  tileVariant(
    "tile_32",
    { tileM: 32, tileN: 32, tileK: 16, invocations: [8, 8] },
    "32×32 outputs per workgroup, for small products",
  ),
  {
    name: "naive",
    summary: "one output per invocation",
    supports: supportsOutput,
    plan(inputs, { layout }, device) {
      const sizes = geometry(inputs, layout);
      const { batches, m, n, k } = sizes;
      const count = batches * m * n;
      const WORKGROUP_SIZE = 64;
      return {
        dispatches: [{
          kernel: { file: "matmul/naive.wgsl", text: naive },
          constants: { WORKGROUP_SIZE, HAS_BIAS: inputs.bias ? 1 : 0 },
          params: { count, m, n, k, ...weightStrides(layout, sizes) },
          workgroups: linearGrid(Math.ceil(count / WORKGROUP_SIZE), device),
        }],
      };
    },
  },
];

function supportsOutput(
  { x }: Operands,
  { dtype = x.dtype as "f32" | "f16" }: MatmulAttributes,
  device: DeviceProfile,
): true | string {
  return supportsStoring(dtype, device);
}

function weightStrides(layout: MatmulLayout, { n, k }: Geometry) {
  return layout === "linear"
    ? { weightStrideN: k, weightStrideK: 1 }
    : { weightStrideN: 1, weightStrideK: n };
}

function supportsMatvec(
  inputs: Operands,
  attributes: MatmulAttributes,
  device: DeviceProfile,
): true | string {
  const { m, k } = geometry(inputs, attributes.layout);
  const perWord = 16 / bytesPerElement(inputs.weight.dtype);
  if (attributes.layout !== "linear") return "the layout must be linear";
  if (m < 1 || m > MATVEC_ROWS) return `it computes 1 to ${MATVEC_ROWS} rows`;
  if (k % perWord !== 0) return `K must be a multiple of ${perWord}, 16 bytes of weight`;
  return supportsOutput(inputs, attributes, device);
}

/** @param groups groups of four columns per workgroup, at the least */
function planMatvec(
  { file, text }: WgslFile,
  constants: NonNullable<Dispatch["constants"]>,
  groups: number,
  inputs: Operands,
  { layout }: MatmulAttributes,
  device: DeviceProfile,
): Plan {
  const { batches, m, n, k } = geometry(inputs, layout);
  const { dtype } = inputs.weight;
  const columnGroups = Math.ceil(n / 4);
  const count = batches * columnGroups;
  return {
    dispatches: [{
      kernel: { file, text: text + matvecWords },
      constants: {
        ...constants,
        ROWS: m,
        FORMAT: WEIGHT_FORMATS.indexOf(dtype),
        HAS_BIAS: inputs.bias ? 1 : 0,
      },
      params: { n, words: k * bytesPerElement(dtype) / 16, columnGroups, count },
      workgroups: linearGrid(Math.ceil(count / groups), device),
    }],
  };
}

/** A kernel that takes its operands from a `step_*.wgsl`, and the tile that an invocation or group has. */
interface SteppedKernel {
  readonly file: string;
  readonly text: string;
  readonly rows: number;
  readonly columns: number;
  /** Tiles per workgroup. */
  readonly tiles: number;
}

function planStepped(
  kernel: SteppedKernel,
  constants: NonNullable<Dispatch["constants"]>,
  inputs: Operands,
  { layout }: MatmulAttributes,
  device: DeviceProfile,
): Plan {
  const sizes = geometry(inputs, layout);
  const { batches, m, n, k } = sizes;
  const step = chooseStep(layout, sizes);
  const rowTiles = Math.ceil(m / kernel.rows);
  const columnTiles = Math.ceil(n / kernel.columns);
  const count = batches * rowTiles * columnTiles;
  return {
    dispatches: [{
      kernel: { file: `${kernel.file} + ${step.file}`, text: kernel.text + step.text },
      constants: { ...constants, HAS_BIAS: inputs.bias ? 1 : 0 },
      params: {
        m,
        n,
        steps: k / step.depth,
        ...weightStrides(layout, sizes),
        rowTiles,
        columnTiles,
        count,
      },
      workgroups: linearGrid(Math.ceil(count / kernel.tiles), device),
    }],
  };
}

/** Four k at a time where rows of four begin on a multiple of four elements, else one. */
function chooseStep(layout: MatmulLayout, { n, k }: Geometry) {
  if (k % 4 === 0 && layout === "linear") {
    return { file: "step_linear.wgsl", text: stepLinear, depth: 4 };
  }
  if (k % 4 === 0 && n % 4 === 0) {
    return { file: "step_plain.wgsl", text: stepPlain, depth: 4 };
  }
  return { file: "step_scalar.wgsl", text: stepScalar, depth: 1 };
}

/** A kernel that stages tiles in workgroup memory; preferred on GPUs where its tiles fill the device. */
function tileVariant(name: string, shape: TileShape, summary: string): MatmulVariant {
  const { tileM, tileN, tileK } = shape;
  const isSmallest = tileM === 32;
  const tilesOf = ({ batches, m, n }: Geometry) => {
    const [rowTiles, columnTiles] = [Math.ceil(m / tileM), Math.ceil(n / tileN)];
    return { rowTiles, columnTiles, count: batches * rowTiles * columnTiles };
  };
  const kernels = new Map<string, WgslFile>();
  const kernelOf = (form: TileForm) => {
    const key = Object.values(form).join();
    let kernel = kernels.get(key);
    if (kernel === undefined) kernels.set(key, kernel = tileWgsl(shape, form));
    return kernel;
  };
  return {
    name,
    summary,
    supports: supportsOutput,
    preferred(inputs, { layout }, device) {
      if (device.isSoftware || isSmallest) return !device.isSoftware;
      const sizes = geometry(inputs, layout);
      // A tile that is not half full along an axis does more work than a smaller one would.
      const isFull = 2 * sizes.m > tileM && 2 * sizes.n > tileN;
      return isFull && tilesOf(sizes).count >= FULL_DEVICE;
    },
    plan(inputs, { layout }, device) {
      const sizes = geometry(inputs, layout);
      const { m, n, k } = sizes;
      const tiles = tilesOf(sizes);
      const lanes = (size: number) => size % 4 === 0 ? 4 : 1;
      return {
        dispatches: [{
          kernel: kernelOf({
            layout,
            xLanes: lanes(k),
            weightLanes: lanes(layout === "linear" ? k : n),
            yLanes: lanes(n),
          }),
          constants: { HAS_BIAS: inputs.bias ? 1 : 0, K_TAIL: k % tileK === 0 ? 0 : 1 },
          params: { m, n, k, ...tiles },
          workgroups: linearGrid(tiles.count, device),
        }],
      };
    },
  };
}
