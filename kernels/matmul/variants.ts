import type { DeviceProfile } from "../../runtime/device.ts";
import type { Dispatch, Plan } from "../../runtime/op.ts";
import type { WgslFile } from "../../runtime/wgsl.ts";
import { linearGrid } from "../grid.ts";
import { supportsStoring } from "../support.ts";
import direct from "./direct.wgsl" with { type: "text" };
import { type Geometry, geometry, type MatmulVariant, type Operands, orderOf } from "./geometry.ts";
import type { MatmulAttributes, MatmulLayout } from "./matmul.ts";
import { matvecVariants } from "./matvec.ts";
import naive from "./naive.wgsl" with { type: "text" };
import stepLinear from "./step_linear.wgsl" with { type: "text" };
import stepPlain from "./step_plain.wgsl" with { type: "text" };
import stepScalar from "./step_scalar.wgsl" with { type: "text" };
import subgroupTile from "./subgroup_tile.wgsl" with { type: "text" };
import { type TileForm, type TileShape, tileWgsl } from "./tile.wgsl.ts";

/**
 * Workgroups that fill a device: one for each of the 132 multiprocessors of an H100, nearly; smaller
 * devices are full sooner. WebGPU does not tell how many a device has.
 */
const FULL_DEVICE = 128;

/** Ways to compute it, most preferred first. */
export const variants: readonly MatmulVariant[] = [
  ...matvecVariants,
  {
    name: "matvec_direct",
    summary: "one row; eight columns per invocation, for software adapters",
    supports: (inputs, attributes, device) =>
      geometry(inputs, attributes.layout).m !== 1
        ? "it computes a single row"
        : supportsTile(inputs, attributes, device),
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
        : supportsTile(inputs, attributes, device),
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
    supports: supportsTile,
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

/**
 * For the kernels whose sums are made one term after the other: the order `tile`. Those that a software
 * adapter prefers make them in steps of four k, those that a GPU prefers one k at a time; among either
 * a row has the same bits.
 */
function supportsTile(
  inputs: Operands,
  attributes: MatmulAttributes,
  device: DeviceProfile,
): true | string {
  return orderOf(inputs, attributes) === "vector"
    ? "the order must be tile"
    : supportsOutput(inputs, attributes, device);
}

function weightStrides(layout: MatmulLayout, { n, k }: Geometry) {
  return layout === "linear"
    ? { weightStrideN: k, weightStrideK: 1 }
    : { weightStrideN: 1, weightStrideK: n };
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
      kernel: joined(kernel, step),
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

/** Kernels with their step, each put together once. */
const JOINED = new Map<string, WgslFile>();

function joined(kernel: WgslFile, step: WgslFile): WgslFile {
  const file = `${kernel.file} + ${step.file}`;
  let whole = JOINED.get(file);
  if (!whole) JOINED.set(file, whole = { file, text: kernel.text + step.text });
  return whole;
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
    supports: supportsTile,
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
