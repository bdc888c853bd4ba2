import type { BenchDtypes, Case, Family, ModelShape, Relation } from "../../runtime/op.ts";
import { type Dtype, HostTensor, type Shape } from "../../runtime/tensor.ts";
import type { FlashAttentionAttributes, FlashAttentionInput } from "./flash_attention.ts";

type Attributes = FlashAttentionAttributes;
type FlashAttentionCase = Case<FlashAttentionInput, "mask", Attributes>;

interface Sizes {
  /** Sequences; 1 unless given. */
  readonly batch?: number;
  /** Query tokens, T. */
  readonly tokens: number;
  /** Tokens in the cache before them; 0 unless given. */
  readonly past?: number;
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
  readonly causal?: boolean;
  readonly scale?: number;
  readonly stepwise?: boolean;
  readonly family?: Family;
  readonly keyFamily?: Family;
  readonly dtype?: Dtype;
  readonly cacheDtype?: Dtype;
  /** Whether key j of sequence b is real; every key is unless given. */
  readonly isReal?: (batch: number, j: number) => boolean;
}

function make(name: string, sizes: Sizes, options: Options = {}): FlashAttentionCase {
  const { batch = 1, tokens, past = 0, spare = 0, heads = 2, keyHeads = heads, size } = sizes;
  const { causal = true, family = "normal", dtype = "f32", cacheDtype = dtype } = options;
  const keyLength = past + tokens;
  const { keyFamily = "normal", isReal, scale, stepwise } = options;
  const cache = [batch, keyHeads, keyLength + spare, size];
  return {
    name,
    family,
    inputs: {
      q: { shape: [batch, tokens, heads, size], dtype },
      k: { shape: cache, dtype: cacheDtype, family: keyFamily },
      v: { shape: cache, dtype: cacheDtype, family: "normal" },
      ...(isReal
        ? {
          mask: {
            shape: [batch, keyLength],
            dtype: "u32",
            values: flags(batch, keyLength, isReal),
          },
        }
        : {}),
    },
    attributes: {
      keyLength,
      causal,
      ...(scale === undefined ? {} : { scale }),
      ...(stepwise === undefined ? {} : { stepwise }),
    },
  };
}

function flags(
  batches: number,
  keyLength: number,
  isReal: (batch: number, j: number) => boolean,
): number[] {
  return Array.from(
    { length: batches * keyLength },
    (_, i) => isReal(Math.floor(i / keyLength), i % keyLength) ? 1 : 0,
  );
}

/** Slots beyond the last key hold what would show in any result, even with a weight of 0. */
function withJunk(testCase: FlashAttentionCase): FlashAttentionCase {
  const { keyLength } = testCase.attributes;
  const fill = (shape: Shape, seed: number) => {
    const [, , capacity, size] = shape as [number, number, number, number];
    return Array.from(
      { length: shape.reduce((product, n) => product * n) },
      (_, i) => Math.floor(i / size) % capacity < keyLength ? Math.sin(seed * i + seed) : Infinity,
    );
  };
  const { k, v } = testCase.inputs;
  return {
    ...testCase,
    inputs: {
      ...testCase.inputs,
      k: { ...k, values: fill(k.shape, 12.9898) },
      v: { ...v, values: fill(v.shape, 78.233) },
    },
  };
}

/**
 * Lengths of the past around tiles of 16, 32 and 40 keys; after 30 and 38 the first row of a tile of
 * rows misses only the last key of a tile of keys.
 */
const PASTS = [1, 15, 16, 17, 30, 31, 32, 38, 39, 40].map((past) =>
  make(`5 tokens after ${past}`, { tokens: 5, past, heads: 3, size: 80 })
);

const HEAD_GROUPS = ([[8, 2], [7, 7], [9, 3], [32, 8]] as const).map(([heads, keyHeads]) =>
  make(`${heads} heads share ${keyHeads}`, {
    batch: 2,
    tokens: 7,
    past: 13,
    spare: 3,
    heads,
    keyHeads,
    size: 80,
  })
);

const DECODES = ([[32, 32, 80], [32, 8, 160], [32, 32, 64]] as const).map(
  ([heads, keyHeads, size]) =>
    make(`decode, ${heads} heads on ${keyHeads} of ${size}, 300 keys`, {
      tokens: 1,
      past: 299,
      spare: 20,
      heads,
      keyHeads,
      size,
    }),
);

export const cases: readonly FlashAttentionCase[] = [
  make("one token, one key", { tokens: 1, heads: 1, size: 4 }),
  make("heads of 6", { tokens: 5, past: 3, spare: 2, size: 6 }),
  make("heads of 33", { batch: 2, tokens: 19, size: 33, heads: 3 }),
  make("heads of 12", { tokens: 33, size: 12 }),
  make("heads of 16", { tokens: 18, size: 16 }),
  make("heads of 40", { tokens: 23, past: 4, size: 40 }),
  make("heads of 64", { tokens: 65, size: 64 }),
  make("heads of 80", { tokens: 97, size: 80, spare: 5 }),
  make("heads of 96", { tokens: 33, past: 1, size: 96 }),
  make("heads of 128", { tokens: 31, size: 128 }),
  make("heads of 160", { tokens: 40, past: 11, size: 160, heads: 4, keyHeads: 1 }),
  make("heads of 256", { tokens: 17, size: 256, heads: 1 }),
  ...PASTS,
  ...HEAD_GROUPS,
  ...DECODES,
  make("decode, one key", { batch: 3, tokens: 1, heads: 4, keyHeads: 2, size: 80, spare: 9 }),
  make("decode, 256 keys", { batch: 2, tokens: 1, past: 255, size: 80 }),
  make("decode, 257 keys", { batch: 2, tokens: 1, past: 256, size: 80 }),
  make("4 tokens at the end of 600", { tokens: 4, past: 596, heads: 8, keyHeads: 2, size: 80 }),
  make("16 tokens", { batch: 3, tokens: 16, size: 80 }),
  make("64 tokens", { tokens: 64, size: 80 }),
  make("not causal", { batch: 2, tokens: 20, past: 23, spare: 2, size: 80 }, { causal: false }),
  make("more queries than keys", { tokens: 37, past: -20, size: 80 }, { causal: false }),
  make(
    "stepwise, 21 tokens after 120",
    { batch: 2, tokens: 21, past: 120, heads: 8, keyHeads: 2, size: 80 },
    { stepwise: true },
  ),
  make("stepwise, 5 heads on 1", { tokens: 9, past: 30, heads: 5, keyHeads: 1, size: 40 }, {
    stepwise: true,
  }),
  make("a scale of its own", { tokens: 20, size: 64 }, { scale: 0.3 }),
  withJunk(
    make("junk behind the last key", { batch: 2, tokens: 21, past: 6, spare: 30, size: 80 }),
  ),
  withJunk(
    make("decode, junk behind the last key", { batch: 2, tokens: 1, past: 40, spare: 9, size: 80 }),
  ),
  make("left padding", { batch: 3, tokens: 37, size: 80 }, { isReal: (b, j) => j >= 9 * b }),
  make("right padding", { batch: 3, tokens: 37, size: 80 }, { isReal: (b, j) => j < 37 - 18 * b }),
  make("decode, left padding", { batch: 3, tokens: 1, past: 300, size: 80 }, {
    isReal: (b, j) => j >= 130 * b,
  }),
  make("one sequence all padding", { batch: 3, tokens: 20, past: 3, size: 80 }, {
    isReal: (b) => b !== 1,
  }),
  make("decode, one sequence all padding", { batch: 2, tokens: 1, past: 20, size: 80 }, {
    isReal: (b) => b !== 0,
  }),
  make("a tile all padding", { tokens: 70, past: 90, size: 80 }, {
    isReal: (_, j) => j < 16 || j >= 96,
  }),
  make("large scores", { tokens: 50, past: 40, size: 80 }, { family: "large" }),
  make("large scores, decode", { tokens: 1, past: 299, heads: 8, size: 80 }, { family: "large" }),
  make("keys all positive", { tokens: 40, size: 80 }, { keyFamily: "positive" }),
  make("equal scores", { tokens: 40, size: 80 }, { keyFamily: "constant" }),
  make("zeros and negative zeros", { tokens: 20, size: 80 }, {
    family: "zeros",
    keyFamily: "zeros",
  }),
  make("f16", { batch: 2, tokens: 37, past: 5, heads: 4, keyHeads: 2, size: 80 }, { dtype: "f16" }),
  make("f16, decode", { batch: 2, tokens: 1, past: 70, heads: 4, keyHeads: 2, size: 80 }, {
    dtype: "f16",
  }),
  make("f32 on an f16 cache", { tokens: 20, past: 9, spare: 3, size: 80 }, { cacheDtype: "f16" }),
  make("f16, heads of 33", { tokens: 9, size: 33 }, { dtype: "f16" }),
  make("no tokens", { tokens: 0, past: 9, size: 80 }),
];

export function benchCases(
  model: ModelShape,
  { activation }: BenchDtypes,
): readonly FlashAttentionCase[] {
  const { prefillTokens, contextTokens, numHeads: heads, numKvHeads: keyHeads } = model;
  const sizes = { heads, keyHeads, size: model.headDim };
  const dtype = activation;
  return [
    make(`${model.name} prefill ${prefillTokens}`, { ...sizes, tokens: prefillTokens }, { dtype }),
    make(`${model.name} decode`, { ...sizes, tokens: 1, past: contextTokens - 1 }, { dtype }),
  ];
}

const grouped = make("8 heads on 2", {
  batch: 3,
  tokens: 40,
  past: 7,
  spare: 2,
  heads: 8,
  keyHeads: 2,
  size: 80,
});

export const relations: readonly Relation<FlashAttentionInput, "mask", Attributes>[] = [
  {
    name: "a later token never changes an earlier row",
    base: grouped,
    transform: (inputs, attributes) => {
      const isLast = (i: number) => Math.floor(i / 80) % 49 === attributes.keyLength - 1;
      return {
        inputs: {
          ...inputs,
          k: mapElements(inputs.k, (x, i) => isLast(i) ? 5 * x : x),
          v: mapElements(inputs.v, (x, i) => isLast(i) ? 1000 : x),
        },
        attributes,
      };
    },
    expected: (first) => Array.from(first, (y, i) => Math.floor(i / 640) % 40 === 39 ? NaN : y),
    within: 0,
  },
  {
    name: "the last tokens alone give the rows that they give in a longer call",
    base: grouped,
    transform: (inputs, attributes) => ({
      inputs: { ...inputs, q: HostTensor.from([3, 23, 8, 80], lastTokens(inputs.q.numbers, 23)) },
      attributes,
    }),
    expected: (first) => lastTokens(first, 23),
    within: 0,
  },
  {
    name: "stepwise, a token has the bits that it has alone",
    base: { ...grouped, attributes: { ...grouped.attributes, stepwise: true } },
    transform: ({ q, k, v }, attributes) => ({
      inputs: { q: HostTensor.from([3, 1, 8, 80], oneToken(q.numbers, 20)), k, v },
      attributes: { ...attributes, keyLength: attributes.keyLength - 19, stepwise: false },
    }),
    expected: (first) => oneToken(first, 20),
    within: 0,
  },
  {
    name: "where v is constant so is the result",
    base: grouped,
    transform: (inputs, attributes) => ({
      inputs: { ...inputs, v: mapElements(inputs.v, () => 0.75) },
      attributes,
    }),
    expected: (first) => new Float64Array(first.length).fill(0.75),
    within: 1e-6,
  },
  {
    name: "heads that share keys give what heads with copies of them give",
    base: grouped,
    transform: (inputs, attributes) => ({
      inputs: { ...inputs, k: repeatHeads(inputs.k, 4), v: repeatHeads(inputs.v, 4) },
      attributes,
    }),
    expected: (first) => first,
    within: 0,
  },
  {
    name: "a sequence does not depend on its neighbours",
    base: grouped,
    transform: ({ q, k, v }, attributes) => ({
      inputs: { q: reverseBatch(q), k: reverseBatch(k), v: reverseBatch(v) },
      attributes,
    }),
    expected: (first, { q }) => reverseBatch(HostTensor.from(q.shape, first)).numbers,
    within: 0,
  },
];

function mapElements({ shape, numbers }: HostTensor, map: (x: number, i: number) => number) {
  return HostTensor.from(shape, Array.from(numbers, map));
}

function lastTokens(numbers: ArrayLike<number>, count: number): number[] {
  return Array.from(numbers).filter((_, i) => Math.floor(i / 640) % 40 >= 40 - count);
}

function oneToken(numbers: ArrayLike<number>, token: number): number[] {
  return Array.from(numbers).filter((_, i) => Math.floor(i / 640) % 40 === token);
}

function repeatHeads({ shape, numbers }: HostTensor, times: number): HostTensor {
  const [batch, heads, capacity, size] = shape as [number, number, number, number];
  const length = capacity * size;
  return HostTensor.from(
    [batch, heads * times, capacity, size],
    Array.from(
      { length: numbers.length * times },
      (_, i) => numbers[Math.floor(i / length / times) * length + i % length]!,
    ),
  );
}

function reverseBatch({ shape, numbers }: HostTensor): HostTensor {
  const length = numbers.length / shape[0]!;
  const reversed = Array.from(
    numbers,
    (_, i) => numbers[numbers.length - length - Math.floor(i / length) * length + i % length]!,
  );
  return HostTensor.from(shape, reversed);
}
