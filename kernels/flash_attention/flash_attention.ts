/**
 * Attention over a KV cache, without a score matrix.
 *
 * @module
 */

import { requireArgument } from "../../runtime/errors.ts";
import type { Op } from "../../runtime/op.ts";
import { byteLength, bytesPerElement, describe, sameShape } from "../../runtime/tensor.ts";
import { geometry, requireScores, visiblePairs } from "../attention.ts";
import { benchCases, cases, relations } from "./cases.ts";
import { OUTPUT_UNITS, reference } from "./reference.ts";
import { variants } from "./variants.ts";

/** Inputs of {@linkcode flashAttention}. */
export type FlashAttentionInput = "q" | "k" | "v" | "mask";

/** Attributes of {@linkcode flashAttention}. */
export interface FlashAttentionAttributes {
  /** Keys that are in the cache, those of this call's tokens among them. */
  readonly keyLength: number;
  /** Token t, at position keyLength − T + t, sees no key after its own. */
  readonly causal: boolean;
  /** What the scores are multiplied by; 1 / √D unless given. */
  readonly scale?: number;
  /**
   * Gives each token the bits that it has as the only one of a call, as the kernel is then chosen for one
   * token. For few tokens, since keys and values are read again for each of them. False unless given.
   */
  readonly stepwise?: boolean;
}

/**
 * Attention of T new tokens to the keys of a cache, which holds theirs too: flash attention, with
 * grouped heads. The score matrix is never stored.
 *
 *   y_t = Σ_j p_tj · v_j,   p_t = softmax_j(scale · q_t · k_j)
 *
 *   causal, T = 3, keyLength = 5:   1 1 1 0 0     each token sees the two before this call,
 *                                   1 1 1 1 0     and those of the call up to itself
 *                                   1 1 1 1 1
 *
 * Shapes:  q [B, T, H, D]; k, v [B, G, C, D], a cache with room for C keys; mask [B, keyLength]
 *          → y [B, T, H, D]. Query head h reads key head ⌊h / (H / G)⌋
 * Numbers: q and y are f32 or f16, one dtype for both; k and v f32 or f16, one dtype for both; scores,
 *          softmax and sums in f32. mask is u32: a key whose word is 0 is padding, and no token sees it.
 *          A row that sees no key is 0
 * Limits:  D at most 256; G divides H; 1 ≤ keyLength ≤ C, and T ≤ keyLength where causal; finite q, k
 *          and v, and scores below 1e38 in magnitude. Slots from keyLength on are not read
 * Source:  Dao 2023, arXiv:2307.08691, algorithm 1; Milakov and Gimelshein 2018, arXiv:1805.02867,
 *          for the online softmax; Ainslie et al. 2023, arXiv:2305.13245, for the grouped heads
 *
 * @throws {KernelArgumentError} If a shape, a dtype or an attribute does not fit
 */
export const flashAttention: Op<FlashAttentionInput, "y", FlashAttentionAttributes, "mask"> = {
  name: "flash_attention",
  summary: "y = softmax(scale · q · kᵀ) · v over the keys of a cache",
  inputs: ["q", "k", "v", "mask"],
  optional: ["mask"],
  outputs: ["y"],
  attributes: ["keyLength", "causal", "scale", "stepwise"],
  infer({ q, k, v, mask }, attributes) {
    requireScores("flash_attention", { q, k, mask }, attributes);
    const { stepwise = false } = attributes;
    requireArgument(
      typeof stepwise === "boolean",
      "flash_attention",
      "stepwise",
      "must be true or false",
      String(stepwise),
    );
    requireArgument(
      sameShape(v.shape, k.shape) && v.dtype === k.dtype,
      "flash_attention",
      "v",
      `must be ${describe(k)}, as k is`,
      describe(v),
    );
    return { y: { shape: q.shape, dtype: q.dtype } };
  },
  reference,
  variants,
  work({ q, k, mask }, attributes) {
    const { batch, tokens, heads, keyHeads, size } = geometry({ q, k });
    const pairs = visiblePairs(tokens, attributes);
    const keyBytes = batch * keyHeads * attributes.keyLength * size * bytesPerElement(k.dtype);
    return {
      // A product and a sum for each element of a score, and again for each element of a result.
      flop: 4 * size * pairs * heads * batch,
      bytes: 2 * byteLength(q) + 2 * keyBytes + (mask ? byteLength(mask) : 0),
    };
  },
  tolerance(_inputs, _attributes, family) {
    // Scores in the hundreds are off by a few 1e-5 themselves, and so are the weights: see the reference.
    return { units: OUTPUT_UNITS, nmse: family === "large" ? 1e-9 : 1e-10 };
  },
  cases,
  benchCases,
  relations,
};
