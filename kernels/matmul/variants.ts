import type { DeviceProfile } from "../../runtime/device.ts";
import type { Dispatch, Inputs, Plan, Variant } from "../../runtime/op.ts";
import { elementCount, type TensorSpec } from "../../runtime/tensor.ts";
import { linearGrid } from "../grid.ts";
import direct from "./direct.wgsl" with { type: "text" };
import type { MatmulAttributes, MatmulLayout } from "./matmul.ts";
import naive from "./naive.wgsl" with { type: "text" };
import stepLinear from "./step_linear.wgsl" with { type: "text" };
import stepPlain from "./step_plain.wgsl" with { type: "text" };
import stepScalar from "./step_scalar.wgsl" with { type: "text" };
import subgroupTile from "./subgroup_tile.wgsl" with { type: "text" };

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

/** Rows up to which a product is a matrix-vector product: bound by reading the weights once. */
const MATVEC_ROWS = 8;

/** Ways to compute it, most preferred first. */
export const variants: readonly MatmulVariant[] = [
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
  { hasF16 }: DeviceProfile,
): true | string {
  return dtype !== "f16" || hasF16 || "f16 output needs the feature shader-f16";
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
