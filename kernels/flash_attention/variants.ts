import type { DeviceProfile } from "../../runtime/device.ts";
import type { Inputs, Plan, Variant } from "../../runtime/op.ts";
import type { TensorSpec } from "../../runtime/tensor.ts";
import { linearGrid } from "../grid.ts";
import type { FlashAttentionAttributes, FlashAttentionInput } from "./flash_attention.ts";
import naive from "./naive.wgsl" with { type: "text" };
import { subgroup8 } from "./subgroup_8.wgsl.ts";

type Operands = Inputs<TensorSpec, FlashAttentionInput, "mask">;
type FlashAttentionVariant = Variant<FlashAttentionInput, "mask", FlashAttentionAttributes>;

/** Sizes of a call. */
export interface Geometry {
  /** Sequences, B. */
  readonly batch: number;
  /** Query tokens, T. */
  readonly tokens: number;
  /** Query heads, H. */
  readonly heads: number;
  /** Key heads, G. */
  readonly keyHeads: number;
  /** Slots of the cache, C. */
  readonly capacity: number;
  /** Elements of a head, D. */
  readonly size: number;
  /** Rows that read the same keys: a row for each token and each head that shares a key head. */
  readonly rows: number;
}

/** Reads the sizes off the shapes. */
export function geometry({ q, k }: Pick<Operands, "q" | "k">): Geometry {
  const [batch, tokens, heads, size] = q.shape as [number, number, number, number];
  const [, keyHeads, capacity] = k.shape as [number, number, number];
  const rows = tokens * heads / keyHeads;
  return { batch, tokens, heads, keyHeads, capacity, size, rows };
}

const NAIVE_WORKGROUP_SIZE = 64;

/** Ways to compute it, most preferred first. */
export const variants: readonly FlashAttentionVariant[] = [
  {
    name: "subgroup_8",
    summary: "a tile of rows per subgroup of eight, for software adapters",
    supports: (inputs, _attributes, device) =>
      device.subgroupMinSize !== 8 || device.subgroupMaxSize !== 8
        ? "subgroups must be of size 8"
        : supportsGroups(inputs, device),
    preferred: (_inputs, _attributes, device) => device.isSoftware,
    plan(inputs, attributes, device) {
      const { size, rows } = geometry(inputs);
      const tileRows = rows <= 4 ? 4 : rows <= 8 ? 8 : 16;
      return planTiles(
        subgroup8({ headDim: size, rows: tileRows, keysPerLane: tileRows === 4 ? 4 : 2 }),
        tileRows,
        inputs,
        attributes,
        device,
      );
    },
  },
  {
    name: "naive",
    summary: "one query row and head per invocation",
    supports: ({ q }, _attributes, device) => supportsDtype(q, device),
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

function supportsDtype({ dtype }: TensorSpec, { hasF16 }: DeviceProfile): true | string {
  return dtype !== "f16" || hasF16 || "f16 output needs the feature shader-f16";
}

function supportsGroups(inputs: Operands, device: DeviceProfile): true | string {
  return geometry(inputs).size % 4 !== 0
    ? "the head size must be a multiple of 4"
    : supportsDtype(inputs.q, device);
}

function scaleOf(inputs: Operands, { scale }: FlashAttentionAttributes): number {
  return scale ?? 1 / Math.sqrt(geometry(inputs).size);
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
  kernel: Plan["dispatches"][number]["kernel"],
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
