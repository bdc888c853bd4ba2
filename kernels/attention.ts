/**
 * What the attention ops agree on: the sizes of a call, and which arguments are legal.
 *
 * @module
 */

import { requireArgument } from "../runtime/errors.ts";
import { describe, sameShape, type TensorSpec } from "../runtime/tensor.ts";

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

/** What the scores of a call are computed from. */
export interface ScoreOperands {
  /** Queries, [B, T, H, D]. */
  readonly q: TensorSpec;
  /** Keys, [B, G, C, D]. */
  readonly k: TensorSpec;
  /** Words that are 0 for padding, [B, keyLength]; every key is real where it is absent. */
  readonly mask?: TensorSpec | undefined;
}

/** How the scores of a call are computed. */
export interface ScoreAttributes {
  /** Keys that are in the cache, those of this call's tokens among them. */
  readonly keyLength: number;
  /** Token t, at position keyLength − T + t, sees no key after its own. */
  readonly causal: boolean;
  /** What the scores are multiplied by; 1 / √D unless given. */
  readonly scale?: number;
}

const LARGEST_HEAD = 256;

/** Reads the sizes off the shapes. */
export function geometry({ q, k }: Pick<ScoreOperands, "q" | "k">): Geometry {
  const [batch, tokens, heads, size] = q.shape as [number, number, number, number];
  const [, keyHeads, capacity] = k.shape as [number, number, number];
  const rows = tokens * heads / keyHeads;
  return { batch, tokens, heads, keyHeads, capacity, size, rows };
}

/** What the scores of a call are multiplied by. */
export function scaleOf({ q }: Pick<ScoreOperands, "q">, { scale }: ScoreAttributes): number {
  return scale ?? 1 / Math.sqrt(q.shape[3]!);
}

/** Pairs of a query token and a key that it may see, in one head of one sequence. */
export function visiblePairs(tokens: number, { keyLength, causal }: ScoreAttributes): number {
  return tokens * keyLength - (causal ? tokens * (tokens - 1) / 2 : 0);
}

/**
 * The rules for scores.
 *
 * @throws {KernelArgumentError} naming `op`, argument, rule and value
 */
export function requireScores(
  op: string,
  { q, k, mask }: ScoreOperands,
  { keyLength, causal, scale = 1 }: ScoreAttributes,
): void {
  const demand = (condition: boolean, argument: string, rule: string, value: string): void =>
    requireArgument(condition, op, argument, rule, value);
  requireHeads(op, "q", q, "[B, T, H, D]");
  requireHeads(op, "k", k, "[B, G, C, D]");
  const [batch, tokens, heads, size] = q.shape as [number, number, number, number];
  const [keyBatch, keyHeads, capacity, keySize] = k.shape as [number, number, number, number];
  demand(
    size >= 1 && size <= LARGEST_HEAD,
    "q",
    `must have heads of 1 to ${LARGEST_HEAD} elements`,
    describe(q),
  );
  demand(
    keyBatch === batch && keySize === size,
    "k",
    `must have the batch ${batch} and the head size ${size}, as q is ${describe(q)}`,
    describe(k),
  );
  demand(
    keyHeads >= 1 && heads % keyHeads === 0,
    "k",
    `must have a number of heads that divides ${heads}, as q is ${describe(q)}`,
    describe(k),
  );
  demand(typeof causal === "boolean", "causal", "must be true or false", String(causal));
  demand(
    Number.isInteger(keyLength) && keyLength >= 1 && keyLength <= capacity,
    "keyLength",
    `must be a whole number from 1 to ${capacity}, as k is ${describe(k)}`,
    String(keyLength),
  );
  demand(
    !causal || keyLength >= tokens,
    "keyLength",
    `must be at least ${tokens}, as causal is true and q is ${describe(q)}`,
    String(keyLength),
  );
  demand(
    Number.isFinite(scale) && Number.isFinite(Math.fround(scale)),
    "scale",
    "must be a finite number",
    String(scale),
  );
  if (mask) {
    demand(
      mask.dtype === "u32" && sameShape(mask.shape, [batch, keyLength]),
      "mask",
      `must be u32[${batch}, ${keyLength}], as q is ${describe(q)} and keyLength ${keyLength}`,
      describe(mask),
    );
  }
}

/** Refuses what is not a tensor of four axes and of a dtype that the attention ops take. */
export function requireHeads(op: string, argument: string, spec: TensorSpec, shape: string): void {
  requireArgument(
    spec.shape.length === 4 && (spec.dtype === "f32" || spec.dtype === "f16"),
    op,
    argument,
    `must be f32 or f16 ${shape}`,
    describe(spec),
  );
}
