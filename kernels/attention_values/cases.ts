import type { BenchDtypes, Case, Family, ModelShape, Relation } from "../../runtime/op.ts";
import { type Dtype, elementCount, HostTensor } from "../../runtime/tensor.ts";
import type { AttentionValuesAttributes, AttentionValuesInput } from "./attention_values.ts";

type Attributes = AttentionValuesAttributes;
type AttentionValuesCase = Case<AttentionValuesInput, never, Attributes>;

interface Sizes {
  /** Sequences; 1 unless given. */
  readonly batch?: number;
  /** Query tokens, T. */
  readonly tokens: number;
  /** Keys in the cache. */
  readonly keys: number;
  /** Slots behind the last key; 0 unless given. */
  readonly spare?: number;
  /** Query heads, H; 2 unless given. */
  readonly heads?: number;
  /** Key heads, G; H unless given. */
  readonly keyHeads?: number;
  /** Elements of a head, D. */
  readonly size: number;
}

interface Options {
  readonly family?: Family;
  readonly valueFamily?: Family;
  readonly dtype?: Dtype;
  readonly cacheDtype?: Dtype;
}

function make(name: string, sizes: Sizes, options: Options = {}): AttentionValuesCase {
  const { batch = 1, tokens, keys, spare = 0, heads = 2, keyHeads = heads, size } = sizes;
  const { family = "positive", valueFamily = "normal", dtype = "f32", cacheDtype = dtype } =
    options;
  return {
    name,
    family,
    inputs: {
      weights: { shape: [batch, heads, tokens, keys], dtype },
      v: { shape: [batch, keyHeads, keys + spare, size], dtype: cacheDtype, family: valueFamily },
    },
    attributes: { keyLength: keys },
  };
}

/**
 * Weights of 0 for what a causal mask and padding hide, of either sign, and NaN and infinity where v
 * is hidden from every token.
 */
function withJunk(base: AttentionValuesCase, isReal: (b: number, s: number) => boolean) {
  const { weights, v } = base.inputs;
  const [, heads, tokens, keys] = weights.shape as [number, number, number, number];
  const [, keyHeads, capacity, size] = v.shape as [number, number, number, number];
  const weight = (i: number) => {
    const s = i % keys, token = Math.floor(i / keys) % tokens;
    const isSeen = isReal(Math.floor(i / keys / tokens / heads), s) && s <= keys - tokens + token;
    return isSeen ? 0.5 + 0.5 * Math.sin(12.9898 * (i + 1)) : i % 2 === 0 ? 0 : -0;
  };
  const value = (i: number) => {
    const s = Math.floor(i / size) % capacity;
    if (s >= keys) return Infinity;
    const batch = Math.floor(i / size / capacity / keyHeads);
    return isReal(batch, s) ? Math.sin(78.233 * (i + 1)) : NaN;
  };
  const fill = (count: number, element: (i: number) => number) =>
    Array.from({ length: count }, (_, i) => element(i));
  return {
    ...base,
    inputs: {
      weights: { ...weights, values: fill(elementCount(weights.shape), weight) },
      v: { ...v, values: fill(elementCount(v.shape), value) },
    },
  };
}

export const cases: readonly AttentionValuesCase[] = [
  make("one token, one key, one element", { tokens: 1, keys: 1, heads: 1, size: 1 }),
  make("heads of 6", { tokens: 5, keys: 8, spare: 2, size: 6 }),
  make("heads of 33", { batch: 2, tokens: 9, keys: 19, size: 33, heads: 3 }),
  make("heads of 24, 8 on 2", {
    batch: 2,
    tokens: 7,
    keys: 20,
    spare: 3,
    heads: 8,
    keyHeads: 2,
    size: 24,
  }),
  make("heads of 64", { tokens: 33, keys: 65, size: 64 }),
  make("heads of 80", { tokens: 17, keys: 31, size: 80, spare: 5 }),
  make("heads of 160, 4 on 1", { tokens: 9, keys: 40, size: 160, heads: 4, keyHeads: 1 }),
  make("heads of 260", { tokens: 3, keys: 7, size: 260 }),
  make("decode, 300 keys, 8 on 2", {
    batch: 2,
    tokens: 1,
    keys: 300,
    spare: 20,
    heads: 8,
    keyHeads: 2,
    size: 80,
  }),
  make("decode, one key", { batch: 3, tokens: 1, keys: 1, heads: 4, keyHeads: 2, size: 80 }),
  make("decode, 4096 keys", { tokens: 1, keys: 4096, size: 64 }),
  make("weights of either sign", { tokens: 9, keys: 130, size: 16 }, { family: "normal" }),
  make("everything positive", { tokens: 9, keys: 300, size: 16 }, { valueFamily: "positive" }),
  make("one key with nearly all the weight", { tokens: 9, keys: 300, size: 16 }, {
    family: "outlier",
  }),
  make("large values", { tokens: 9, keys: 33, size: 64 }, { valueFamily: "large" }),
  make("equal terms", { tokens: 5, keys: 64, size: 16 }, {
    family: "constant",
    valueFamily: "constant",
  }),
  make("weights of 0, of either sign", { tokens: 5, keys: 20, size: 16 }, { family: "zeros" }),
  withJunk(
    make("left padding that is NaN", {
      batch: 3,
      tokens: 9,
      keys: 14,
      spare: 3,
      heads: 4,
      keyHeads: 2,
      size: 24,
    }),
    (b, s) => s >= 4 * b,
  ),
  withJunk(
    make("right padding that is NaN", { batch: 3, tokens: 4, keys: 14, spare: 3, size: 64 }),
    (b, s) => s < 14 - 5 * b,
  ),
  withJunk(
    make("heads of 33, one sequence all padding that is NaN", {
      batch: 3,
      tokens: 2,
      keys: 9,
      spare: 1,
      size: 33,
    }),
    (b) => b !== 1,
  ),
  withJunk(
    make("f16, left padding that is NaN", { batch: 2, tokens: 5, keys: 9, size: 80 }, {
      dtype: "f16",
    }),
    (b, s) => s >= 3 * b,
  ),
  make("f16", { batch: 2, tokens: 9, keys: 37, heads: 4, keyHeads: 2, size: 80 }, { dtype: "f16" }),
  make("f16, heads of 33, an odd number of keys", { tokens: 9, keys: 35, size: 33 }, {
    dtype: "f16",
  }),
  make("f32 on an f16 cache", { tokens: 9, keys: 29, spare: 3, size: 80 }, { cacheDtype: "f16" }),
  make("no tokens", { tokens: 0, keys: 9, size: 80 }),
];

export function benchCases(
  model: ModelShape,
  { activation }: BenchDtypes,
): readonly AttentionValuesCase[] {
  const { prefillTokens, contextTokens, numHeads: heads, numKvHeads: keyHeads } = model;
  const sizes = { heads, keyHeads, size: model.headDim };
  const dtype = activation;
  return [
    make(`${model.name} prefill ${prefillTokens}`, {
      ...sizes,
      tokens: prefillTokens,
      keys: prefillTokens,
    }, { dtype }),
    make(`${model.name} decode`, { ...sizes, tokens: 1, keys: contextTokens }, { dtype }),
  ];
}

const KEYS = 47, SPARE = 2, SIZE = 80;
const grouped = make("8 heads on 2", {
  batch: 3,
  tokens: 5,
  keys: KEYS,
  spare: SPARE,
  heads: 8,
  keyHeads: 2,
  size: SIZE,
});

export const relations: readonly Relation<AttentionValuesInput, never, Attributes>[] = [
  {
    name: "one weight of 1 picks a row of v",
    base: grouped,
    transform: ({ weights, v }, attributes) => ({
      inputs: { weights: mapElements(weights, (_, i) => i % KEYS === 11 ? 1 : 0), v },
      attributes,
    }),
    expected: (first, { v }) =>
      Array.from(first, (_, i) => {
        const batch = Math.floor(i / SIZE / 8 / 5), head = Math.floor(i / SIZE) % 8;
        const slot = (2 * batch + Math.floor(head / 4)) * (KEYS + SPARE) + 11;
        return v.numbers[slot * SIZE + i % SIZE]!;
      }),
    within: 0,
  },
  {
    name: "twice the weights give twice the result",
    base: grouped,
    transform: ({ weights, v }, attributes) => ({
      inputs: { weights: mapElements(weights, (x) => 2 * x), v },
      attributes,
    }),
    expected: (first) => Array.from(first, (y) => 2 * y),
    within: 0,
  },
  {
    name: "a sequence does not depend on its neighbours",
    base: grouped,
    transform: ({ weights, v }, attributes) => ({
      inputs: { weights: lastSequence(weights), v: lastSequence(v) },
      attributes,
    }),
    expected: (first) => Array.from(first).slice(-first.length / 3),
    within: 0,
  },
];

function mapElements({ shape, numbers }: HostTensor, map: (x: number, i: number) => number) {
  return HostTensor.from(shape, Array.from(numbers, map));
}

function lastSequence({ shape, numbers }: HostTensor): HostTensor {
  const length = numbers.length / shape[0]!;
  return HostTensor.from([1, ...shape.slice(1)], Array.from(numbers).slice(-length));
}
