/**
 * The weights that attention gives to each key, for those who want to see them.
 *
 * @module
 */

import type { DeviceProfile } from "../../runtime/device.ts";
import type { Inputs, Op, Plan, Variant } from "../../runtime/op.ts";
import {
  byteLength,
  bytesPerElement,
  elementCount,
  type TensorSpec,
} from "../../runtime/tensor.ts";
import type { WgslFile } from "../../runtime/wgsl.ts";
import { geometry, requireScores, scaleOf, visiblePairs } from "../attention.ts";
import { linearGrid } from "../grid.ts";
import reduceSubgroup from "../reduce_subgroup.wgsl" with { type: "text" };
import reduceTree from "../reduce_tree.wgsl" with { type: "text" };
import { supportsLoops, supportsStoring, supportsSubgroupRows } from "../support.ts";
import { benchCases, cases, relations } from "./cases.ts";
import naive from "./naive.wgsl" with { type: "text" };
import { reference } from "./reference.ts";
import rowWgsl from "./row.wgsl" with { type: "text" };

/** Inputs of {@linkcode attentionWeights}. */
export type AttentionWeightsInput = "q" | "k" | "mask";

/** Attributes of {@linkcode attentionWeights}. */
export interface AttentionWeightsAttributes {
  /** Keys that are in the cache, those of this call's tokens among them. */
  readonly keyLength: number;
  /** Token t, at position keyLength − T + t, sees no key after its own. */
  readonly causal: boolean;
  /** What the scores are multiplied by; 1 / √D unless given. */
  readonly scale?: number;
}

type Operands = Inputs<TensorSpec, AttentionWeightsInput, "mask">;
type AttentionWeightsVariant = Variant<AttentionWeightsInput, "mask", AttentionWeightsAttributes>;

const NAIVE_WORKGROUP_SIZE = 64;

/** Fixed, so that a row depends on nothing but the keys that it sees. */
const ROW_WORKGROUP_SIZE = 128;

/**
 * Attention weights of T new tokens on the keys of a cache, which holds theirs too: the first half of
 * attention that is not fused. `flash_attention` gives the same result as `attention_values` of these
 * weights, without storing them.
 *
 *   p_t = softmax_j(scale · q_t · k_j)
 *
 *   causal, T = 3, keyLength = 5:   1 1 1 0 0     each token sees the two before this call,
 *                                   1 1 1 1 0     and those of the call up to itself
 *                                   1 1 1 1 1
 *
 * Shapes:  q [B, T, H, D]; k [B, G, C, D], a cache with room for C keys; mask [B, keyLength]
 *          → weights [B, H, T, keyLength]. Query head h reads key head ⌊h / (H / G)⌋
 * Numbers: q and weights are f32 or f16, one dtype for both; k f32 or f16; scores and softmax in f32.
 *          mask is u32: a key whose word is 0 is padding, and no token sees it. What is not seen has a
 *          weight of exactly 0, and a row that sees no key is all 0
 * Limits:  D at most 256; G divides H; 1 ≤ keyLength ≤ C, and T ≤ keyLength where causal; finite q and
 *          k, and scores below 1e38 in magnitude. Keys that the mask hides may hold anything, NaN
 *          included, and slots from keyLength on are not read
 * Source:  Vaswani et al. 2017, arXiv:1706.03762, equation 1; Ainslie et al. 2023, arXiv:2305.13245,
 *          for the grouped heads; Milakov and Gimelshein 2018, arXiv:1805.02867, section 3, for the
 *          single first pass
 *
 * @throws {KernelArgumentError} If a shape, a dtype or an attribute does not fit
 */
export const attentionWeights: Op<
  AttentionWeightsInput,
  "weights",
  AttentionWeightsAttributes,
  "mask"
> = {
  name: "attention_weights",
  summary: "weights = softmax(scale · q · kᵀ) over the keys of a cache",
  inputs: ["q", "k", "mask"],
  optional: ["mask"],
  outputs: ["weights"],
  attributes: ["keyLength", "causal", "scale"],
  infer(inputs, attributes) {
    requireScores("attention_weights", inputs, attributes);
    const { batch, tokens, heads } = geometry(inputs);
    const shape = [batch, heads, tokens, attributes.keyLength];
    return { weights: { shape, dtype: inputs.q.dtype } };
  },
  reference,
  variants: [
    rowVariant({
      name: "subgroup_row",
      summary: "one subgroup per row, for software adapters",
      reduction: { file: "reduce_subgroup.wgsl", text: reduceSubgroup },
      needs: supportsSubgroupRows,
      workgroupSize: (device) => device.subgroupMinSize,
      preferred: (_inputs, _attributes, device) => device.isSoftware,
    }),
    rowVariant({
      name: "row_workgroup",
      summary: "one workgroup per row, reduced in a tree over workgroup memory",
      reduction: { file: "reduce_tree.wgsl", text: reduceTree },
      needs: () => true,
      workgroupSize: () => ROW_WORKGROUP_SIZE,
    }),
    {
      name: "naive",
      summary: "one query row and head per invocation",
      supports(inputs, { keyLength }, device) {
        // Three passes over the keys with a dot product each, and leaving each loop.
        const iterations = 3 * (keyLength * (geometry(inputs).size + 2) + 1);
        const allowed = supportsLoops(iterations, device);
        return allowed === true ? supportsStoring(inputs.q.dtype, device) : allowed;
      },
      plan(inputs, attributes, device) {
        const workgroups = linearGrid(Math.ceil(rowsOf(inputs) / NAIVE_WORKGROUP_SIZE), device);
        const kernel = { file: "attention_weights/naive.wgsl", text: naive };
        const d = geometry(inputs).size;
        return plan(kernel, NAIVE_WORKGROUP_SIZE, workgroups, inputs, attributes, { d });
      },
    },
  ],
  work({ q, k, mask }, attributes) {
    const { batch, tokens, heads, keyHeads, size } = geometry({ q, k });
    const { keyLength } = attributes;
    const keyBytes = batch * keyHeads * keyLength * size * bytesPerElement(k.dtype);
    const output = { shape: [batch, heads, tokens, keyLength], dtype: q.dtype };
    return {
      // A product and a sum for each element; then scale, maximum, difference, exp, sum, quotient.
      flop: (2 * size + 6) * visiblePairs(tokens, attributes) * heads * batch,
      bytes: byteLength(q) + keyBytes + (mask ? byteLength(mask) : 0) + byteLength(output),
    };
  },
  tolerance() {
    // In parts of a weight and units of 2⁻²⁴, which the reference adds up in its scale; d is how far a
    // score lies below the row's largest, and means are weighted by the weights:
    //   11 + 5d            the exponential: WGSL allows 3 + 2|a| ULP at a, a unit of |a| is for the
    //                      rounding of a, and a row's maximum is taken to within 1
    //   30 + 17 · mean d   the same in the sum, which reaches the maximum in steps of 1 or more
    //   1.5 √keys          the sum of terms of one sign
    //   5                  the quotient, 2.5 ULP
    //   (4 + 1.5 √D) · (Σ|q · k| + its mean)   the scores: their terms, and their sum of D terms
    // What is below f32's normal range may be flushed.
    return { units: 1, absolute: 2 ** -125, nmse: 1e-10 };
  },
  cases,
  benchCases,
  relations,
};

function rowsOf({ q }: Operands): number {
  return elementCount(q.shape.slice(0, 3));
}

interface RowVariant {
  readonly name: string;
  readonly summary: string;
  /** The functions `reduce_max` and `reduce_sum`. */
  readonly reduction: WgslFile;
  readonly needs: (device: DeviceProfile) => true | string;
  readonly workgroupSize: (device: DeviceProfile) => number;
  readonly preferred?: NonNullable<AttentionWeightsVariant["preferred"]>;
}

/** The variants with one workgroup per row differ in how they reduce over it, and in nothing else. */
function rowVariant(
  { reduction, needs, workgroupSize, ...description }: RowVariant,
): AttentionWeightsVariant {
  return {
    ...description,
    supports(inputs, { keyLength }, device) {
      const { size } = geometry(inputs);
      if (size % 4 !== 0) return "the head size must be a multiple of 4";
      const available = needs(device);
      if (available !== true) return available;
      const invocations = workgroupSize(device), groups = size / 4;
      // The row of q; two passes over the keys with a dot product each; two reductions; leaving loops.
      const load = Math.ceil(groups / invocations) + 1;
      const pass = Math.ceil(keyLength / invocations) * (groups + 2) + 1;
      const reduction = Math.log2(invocations) + 1;
      const allowed = supportsLoops(load + 2 * pass + 2 * reduction, device);
      return allowed === true ? supportsStoring(inputs.q.dtype, device) : allowed;
    },
    plan(inputs, attributes, device) {
      const kernel = {
        file: `attention_weights/row.wgsl + ${reduction.file}`,
        text: rowWgsl + reduction.text,
      };
      const groups = geometry(inputs).size / 4;
      const workgroups = linearGrid(rowsOf(inputs), device);
      return plan(kernel, workgroupSize(device), workgroups, inputs, attributes, { groups });
    },
  };
}

function plan(
  kernel: WgslFile,
  workgroupSize: number,
  workgroups: [number, number, number],
  inputs: Operands,
  attributes: AttentionWeightsAttributes,
  headSize: { readonly d: number } | { readonly groups: number },
): Plan {
  const { tokens, heads, keyHeads, capacity } = geometry(inputs);
  const { keyLength, causal } = attributes;
  return {
    dispatches: [{
      kernel,
      constants: { WORKGROUP_SIZE: workgroupSize, HAS_MASK: inputs.mask ? 1 : 0 },
      params: {
        rows: rowsOf(inputs),
        t: tokens,
        h: heads,
        g: keyHeads,
        ...headSize,
        capacity,
        keyLength,
        causal: causal ? 1 : 0,
        scale: scaleOf(inputs, attributes),
      },
      workgroups,
    }],
  };
}
