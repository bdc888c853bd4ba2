import type { BenchDtypes, Case, Family, ModelShape, Relation } from "../../runtime/op.ts";
import type { Dtype, HostTensor } from "../../runtime/tensor.ts";
import type { KvAppendAttributes, KvAppendInput } from "./kv_append.ts";

type KvAppendCase = Case<KvAppendInput, never, KvAppendAttributes>;

interface Sizes {
  readonly batch?: number;
  readonly heads: number;
  readonly capacity: number;
  readonly columns: number;
  readonly tokens: number;
  readonly position: number;
  readonly cacheDtype?: Dtype;
  readonly dtype?: Dtype;
  readonly family?: Family;
}

function make(name: string, sizes: Sizes): KvAppendCase {
  const { batch = 1, heads, capacity, columns, tokens, position } = sizes;
  const { cacheDtype = "f32", dtype = cacheDtype, family = "normal" } = sizes;
  // Caches hold something before the call, so that a slot that should be kept can be seen to be.
  const cache = { shape: [batch, heads, capacity, columns], dtype: cacheDtype };
  const fresh = { shape: [batch, tokens, heads, columns], dtype };
  return {
    name,
    family,
    inputs: { keyCache: cache, valueCache: cache, keys: fresh, values: fresh },
    attributes: { position },
  };
}

const f16 = { cacheDtype: "f16" } as const;

export const cases: readonly KvAppendCase[] = [
  make("one element", { heads: 1, capacity: 1, columns: 1, tokens: 1, position: 0 }),
  make("first slot", { heads: 3, capacity: 7, columns: 8, tokens: 1, position: 0 }),
  make("last slot", { heads: 3, capacity: 7, columns: 8, tokens: 1, position: 6 }),
  make("the whole cache", { heads: 2, capacity: 5, columns: 8, tokens: 5, position: 0 }),
  make("batch of 3", { batch: 3, heads: 2, capacity: 9, columns: 12, tokens: 4, position: 2 }),
  make("heads of 7", { batch: 2, heads: 3, capacity: 6, columns: 7, tokens: 3, position: 1 }),
  make("one token of 3B", { heads: 32, capacity: 33, columns: 80, tokens: 1, position: 31 }),
  make("prefill of 1.6B", { heads: 32, capacity: 20, columns: 64, tokens: 17, position: 0 }),
  make("a chunk of 12B", { heads: 8, capacity: 40, columns: 160, tokens: 13, position: 19 }),
  make("f16", { heads: 4, capacity: 9, columns: 80, tokens: 2, position: 3, ...f16 }),
  make("f16, heads of 7", {
    batch: 2,
    heads: 3,
    capacity: 5,
    columns: 7,
    tokens: 1,
    position: 2,
    ...f16,
  }),
  make("f16 cache of f32", {
    batch: 2,
    heads: 3,
    capacity: 5,
    columns: 12,
    tokens: 2,
    position: 2,
    dtype: "f32",
    ...f16,
  }),
  make("f16 cache of f32, heads of 5", {
    heads: 3,
    capacity: 5,
    columns: 5,
    tokens: 2,
    position: 2,
    dtype: "f32",
    ...f16,
  }),
  make("f32 cache of f16", {
    heads: 3,
    capacity: 5,
    columns: 12,
    tokens: 2,
    position: 2,
    dtype: "f16",
  }),
  make("zeros of either sign", {
    heads: 3,
    capacity: 5,
    columns: 8,
    tokens: 2,
    position: 1,
    family: "zeros",
    ...f16,
  }),
  make("no tokens", { heads: 2, capacity: 3, columns: 4, tokens: 0, position: 3 }),
  make("no capacity", { heads: 2, capacity: 0, columns: 4, tokens: 0, position: 0 }),
];

export function benchCases(
  model: ModelShape,
  { activation }: BenchDtypes,
): readonly KvAppendCase[] {
  const sizes = {
    heads: model.numKvHeads,
    capacity: model.contextTokens,
    columns: model.headDim,
    cacheDtype: activation,
  };
  return [
    make(`${model.name} prefill ${model.prefillTokens}`, {
      ...sizes,
      tokens: model.prefillTokens,
      position: 0,
    }),
    make(`${model.name} decode`, { ...sizes, tokens: 1, position: model.contextTokens - 1 }),
  ];
}

const WRITTEN = { heads: 2, capacity: 10, columns: 8, tokens: 3, position: 4 };

export const relations: readonly Relation<KvAppendInput, never, KvAppendAttributes>[] = [
  {
    name: "appending one slot later moves the written slots by one",
    base: make("moving on", WRITTEN),
    transform: (inputs, { position }) => ({ inputs, attributes: { position: position + 1 } }),
    expected(first, { keyCache }) {
      const { capacity, columns, tokens, position } = WRITTEN;
      return Array.from(first, (_, i) => {
        const slot = Math.floor(i / columns) % capacity;
        const isWritten = slot > position && slot <= position + tokens;
        return isWritten ? first[i - columns]! : keyCache.numbers[i]!;
      });
    },
    within: 0,
  },
  {
    name: "what is in the cache changes nothing that is written",
    base: make("other contents", WRITTEN),
    transform: (inputs, attributes) => ({
      inputs: { ...inputs, keyCache: inputs.valueCache, valueCache: inputs.keyCache },
      attributes,
    }),
    expected: (first, { valueCache }) => written(first, valueCache),
    within: 0,
  },
];

/** The slots that were written in the first run, and around them what the second run's cache held. */
function written(first: ArrayLike<number>, cache: HostTensor): number[] {
  const { capacity, columns, tokens, position } = WRITTEN;
  return Array.from(first, (value, i) => {
    const token = Math.floor(i / columns) % capacity - position;
    return token >= 0 && token < tokens ? value : cache.numbers[i]!;
  });
}
