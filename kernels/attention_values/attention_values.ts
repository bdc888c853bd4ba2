/**
 * The values of a KV cache, summed by attention weights.
 *
 * @module
 */

import type { DeviceProfile } from "../../runtime/device.ts";
import { requireArgument } from "../../runtime/errors.ts";
import type { Inputs, Op, Plan } from "../../runtime/op.ts";
import {
  byteLength,
  bytesPerElement,
  describe,
  elementCount,
  type TensorSpec,
} from "../../runtime/tensor.ts";
import type { WgslFile } from "../../runtime/wgsl.ts";
import { requireHeads } from "../attention.ts";
import { linearGrid } from "../grid.ts";
import { supportsLoops, supportsStoring } from "../support.ts";
import { benchCases, cases, relations } from "./cases.ts";
import naive from "./naive.wgsl" with { type: "text" };
import { reference } from "./reference.ts";
import vec4 from "./vec4.wgsl" with { type: "text" };

/** Inputs of {@linkcode attentionValues}. */
export type AttentionValuesInput = "weights" | "v";

/** Attributes of {@linkcode attentionValues}. */
export interface AttentionValuesAttributes {
  /** Keys that are in the cache, and that the weights are for. */
  readonly keyLength: number;
}

type Operands = Inputs<TensorSpec, AttentionValuesInput, never>;

const WORKGROUP_SIZE = 64;

/**
 * Sums of the values in a cache, weighted for each token and head: the second half of attention that is
 * not fused, after `attention_weights`.
 *
 *   y[b, t, h] = Σ_s weights[b, h, t, s] · v[b, ⌊h / (H / G)⌋, s]
 *
 * What has a weight of 0 is left out, whatever v holds there, NaN included: a key that is hidden from a
 * token cannot show in its row.
 *
 * Shapes:  weights [B, H, T, keyLength]; v [B, G, C, D], a cache with room for C keys
 *          → y [B, T, H, D]. Query head h reads key head ⌊h / (H / G)⌋
 * Numbers: weights and y are f32 or f16, one dtype for both; v f32 or f16; sums in f32, in the order of
 *          the keys
 * Limits:  G divides H; 1 ≤ keyLength ≤ C; finite weights, and finite v where they are not 0. Slots
 *          from keyLength on are not read
 * Source:  Vaswani et al. 2017, arXiv:1706.03762, equation 1; Ainslie et al. 2023, arXiv:2305.13245,
 *          for the grouped heads
 *
 * @throws {KernelArgumentError} If a shape, a dtype or the attribute does not fit
 */
export const attentionValues: Op<AttentionValuesInput, "y", AttentionValuesAttributes> = {
  name: "attention_values",
  summary: "y = weights · v over the keys of a cache",
  inputs: ["weights", "v"],
  outputs: ["y"],
  attributes: ["keyLength"],
  infer({ weights, v }, { keyLength }) {
    const demand = (condition: boolean, argument: string, rule: string, value: string): void =>
      requireArgument(condition, "attention_values", argument, rule, value);
    requireHeads("attention_values", "weights", weights, "[B, H, T, keyLength]");
    requireHeads("attention_values", "v", v, "[B, G, C, D]");
    const [batch, heads, tokens, weighted] = weights.shape as [number, number, number, number];
    const [valueBatch, keyHeads, capacity, size] = v.shape as [number, number, number, number];
    demand(
      valueBatch === batch && size >= 1,
      "v",
      `must have the batch ${batch} and a head size of at least 1, as weights is ${
        describe(weights)
      }`,
      describe(v),
    );
    demand(
      keyHeads >= 1 && heads % keyHeads === 0,
      "v",
      `must have a number of heads that divides ${heads}, as weights is ${describe(weights)}`,
      describe(v),
    );
    demand(
      Number.isInteger(keyLength) && keyLength >= 1 && keyLength <= capacity,
      "keyLength",
      `must be a whole number from 1 to ${capacity}, as v is ${describe(v)}`,
      String(keyLength),
    );
    demand(
      keyLength === weighted,
      "keyLength",
      `must be ${weighted}, as weights is ${describe(weights)}`,
      String(keyLength),
    );
    return { y: { shape: [batch, tokens, heads, size], dtype: weights.dtype } };
  },
  reference,
  variants: [
    {
      name: "vec4",
      summary: "four elements of a head per invocation",
      supports: (inputs, attributes, device) =>
        inputs.v.shape[3]! % 4 !== 0
          ? "the head size must be a multiple of 4"
          : supportsSum(inputs, attributes, device),
      plan: (inputs, attributes, device) =>
        plan({ file: "attention_values/vec4.wgsl", text: vec4 }, 4, inputs, attributes, device),
    },
    {
      name: "naive",
      summary: "one element per invocation",
      supports: supportsSum,
      plan: (inputs, attributes, device) =>
        plan({ file: "attention_values/naive.wgsl", text: naive }, 1, inputs, attributes, device),
    },
  ],
  work({ weights, v }, { keyLength }) {
    const [batch, keyHeads, , size] = v.shape as [number, number, number, number];
    const [, heads, tokens] = weights.shape as [number, number, number, number];
    const valueBytes = batch * keyHeads * keyLength * size * bytesPerElement(v.dtype);
    const output = { shape: [batch, tokens, heads, size], dtype: weights.dtype };
    return {
      // A product and a sum for each weight and each element of a head.
      flop: 2 * size * elementCount(weights.shape),
      bytes: byteLength(weights) + valueBytes + byteLength(output),
    };
  },
  tolerance(_inputs, { keyLength }) {
    // 2.5 √keys for the sum, one after another: six standard deviations, with all of them at full
    // scale after one key that has most of the weight. 2 for the products and what is left of small
    // sums. A term below f32's normal range may be flushed.
    const units = 2 + 2.5 * Math.sqrt(keyLength);
    return { units, absolute: keyLength * 2 ** -125, nmse: 1e-10 };
  },
  cases,
  benchCases,
  relations,
};

function supportsSum(
  { weights }: Operands,
  { keyLength }: AttentionValuesAttributes,
  device: DeviceProfile,
): true | string {
  const allowed = supportsLoops(keyLength + 1, device);
  return allowed === true ? supportsStoring(weights.dtype, device) : allowed;
}

function plan(
  kernel: WgslFile,
  lanes: number,
  { weights, v }: Operands,
  { keyLength }: AttentionValuesAttributes,
  device: DeviceProfile,
): Plan {
  const [batch, heads, tokens] = weights.shape as [number, number, number, number];
  const [, keyHeads, capacity, size] = v.shape as [number, number, number, number];
  const count = batch * tokens * heads * size / lanes;
  return {
    dispatches: [{
      kernel,
      constants: { WORKGROUP_SIZE },
      params: { count, t: tokens, h: heads, g: keyHeads, d: size / lanes, capacity, keyLength },
      workgroups: linearGrid(Math.ceil(count / WORKGROUP_SIZE), device),
    }],
  };
}
