import type { BenchDtypes, Case, Family, ModelShape, Relation } from "../../runtime/op.ts";
import { type Dtype, HostTensor, type Shape } from "../../runtime/tensor.ts";
import type { AttentionWeightsAttributes, AttentionWeightsInput } from "./attention_weights.ts";

type Attributes = AttentionWeightsAttributes;
type AttentionWeightsCase = Case<AttentionWeightsInput, "mask", Attributes>;

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
  readonly family?: Family;
  readonly keyFamily?: Family;
  readonly dtype?: Dtype;
  readonly cacheDtype?: Dtype;
  /** Whether key j of sequence b is real; every key is unless given. */
  readonly isReal?: (batch: number, j: number) => boolean;
}

function make(name: string, sizes: Sizes, options: Options = {}): AttentionWeightsCase {
  const { batch = 1, tokens, past = 0, spare = 0, heads = 2, keyHeads = heads, size } = sizes;
  const { causal = true, family = "normal", dtype = "f32", cacheDtype = dtype } = options;
  const { keyFamily = "normal", isReal, scale } = options;
  const keyLength = past + tokens;
  const words = Array.from(
    { length: batch * keyLength },
    (_, i) => isReal?.(Math.floor(i / keyLength), i % keyLength) ? 1 : 0,
  );
  return {
    name,
    family,
    inputs: {
      q: { shape: [batch, tokens, heads, size], dtype },
      k: {
        shape: [batch, keyHeads, keyLength + spare, size],
        dtype: cacheDtype,
        family: keyFamily,
      },
      ...(isReal ? { mask: { shape: [batch, keyLength], dtype: "u32", values: words } } : {}),
    },
    attributes: { keyLength, causal, ...(scale === undefined ? {} : { scale }) },
  };
}

/** Keys that are hidden, and slots beyond the last key, hold what would show in any weight. */
function withJunk(testCase: AttentionWeightsCase): AttentionWeightsCase {
  const { inputs, attributes: { keyLength } } = testCase;
  const { k, mask } = inputs;
  const [batch, keyHeads, capacity, size] = k.shape as [number, number, number, number];
  const values = Array.from({ length: batch * keyHeads * capacity * size }, (_, i) => {
    const j = Math.floor(i / size) % capacity;
    const sequence = Math.floor(i / size / capacity / keyHeads);
    if (j >= keyLength) return Infinity;
    return mask && mask.values![sequence * keyLength + j] === 0 ? NaN : Math.sin(12.9898 * (i + 1));
  });
  return { ...testCase, inputs: { ...inputs, k: { ...k, values } } };
}

export const cases: readonly AttentionWeightsCase[] = [
  make("one token, one key", { tokens: 1, heads: 1, size: 4 }),
  make("heads of 6", { tokens: 5, past: 3, spare: 2, size: 6 }),
  make("heads of 33", { batch: 2, tokens: 9, size: 33, heads: 3 }),
  make("heads of 24, 8 on 2", { batch: 2, tokens: 7, past: 13, heads: 8, keyHeads: 2, size: 24 }),
  make("heads of 64", { tokens: 33, size: 64, heads: 3, spare: 1 }),
  make("heads of 80", { tokens: 31, past: 1, size: 80, spare: 5 }),
  make("heads of 160, 4 on 1", { tokens: 7, past: 25, size: 160, heads: 4, keyHeads: 1 }),
  make("heads of 256", { tokens: 9, size: 256, heads: 1 }),
  make("7 tokens after 124: up to three keys more than a workgroup has invocations", {
    tokens: 7,
    past: 124,
    size: 16,
  }),
  make("decode, 300 keys, 8 on 2", {
    batch: 2,
    tokens: 1,
    past: 299,
    spare: 20,
    heads: 8,
    keyHeads: 2,
    size: 80,
  }),
  make("decode, one key", { batch: 3, tokens: 1, heads: 4, keyHeads: 2, size: 80, spare: 9 }),
  make("decode, 4096 keys of 160", { tokens: 1, past: 4095, heads: 2, keyHeads: 1, size: 160 }),
  make("not causal", { batch: 2, tokens: 5, past: 23, spare: 2, size: 64 }, { causal: false }),
  make("more queries than keys", { tokens: 37, past: -20, size: 64 }, { causal: false }),
  make("a scale of its own", { tokens: 20, size: 64 }, { scale: -0.3 }),
  withJunk(make("junk behind the last key", { batch: 2, tokens: 9, past: 6, spare: 9, size: 24 })),
  withJunk(
    make("left padding that is NaN", { batch: 3, tokens: 20, heads: 4, keyHeads: 2, size: 24 }, {
      isReal: (b, j) => j >= 7 * b,
    }),
  ),
  withJunk(
    make("right padding that is NaN", { batch: 3, tokens: 20, spare: 3, size: 24 }, {
      isReal: (b, j) => j < 20 - 7 * b,
    }),
  ),
  withJunk(
    make("heads of 6, left padding that is NaN", { batch: 3, tokens: 11, size: 6, spare: 2 }, {
      isReal: (b, j) => j >= 4 * b,
    }),
  ),
  make("decode, left padding", { batch: 3, tokens: 1, past: 300, size: 64 }, {
    isReal: (b, j) => j >= 130 * b,
  }),
  make("one sequence all padding", { batch: 3, tokens: 6, past: 3, size: 64 }, {
    isReal: (b) => b !== 1,
  }),
  make("large scores", { tokens: 20, past: 40, size: 80 }, { family: "large" }),
  make("everything positive", { tokens: 20, size: 80 }, {
    family: "positive",
    keyFamily: "positive",
  }),
  make("equal scores", { tokens: 40, size: 64 }, { keyFamily: "constant" }),
  make("zeros and negative zeros", { tokens: 20, size: 16 }, {
    family: "zeros",
    keyFamily: "zeros",
  }),
  make("f16", { batch: 2, tokens: 9, past: 5, heads: 4, keyHeads: 2, size: 80 }, { dtype: "f16" }),
  make("f16, decode", { batch: 2, tokens: 1, past: 70, size: 80 }, { dtype: "f16" }),
  make("f32 on an f16 cache", { tokens: 9, past: 9, spare: 3, size: 80 }, { cacheDtype: "f16" }),
  make("f16, heads of 33", { tokens: 9, size: 33 }, { dtype: "f16" }),
  make("no tokens", { tokens: 0, past: 9, size: 80 }),
];

export function benchCases(
  model: ModelShape,
  { activation }: BenchDtypes,
): readonly AttentionWeightsCase[] {
  const { prefillTokens, contextTokens, numHeads: heads, numKvHeads: keyHeads } = model;
  const sizes = { heads, keyHeads, size: model.headDim };
  const dtype = activation;
  return [
    make(`${model.name} prefill ${prefillTokens}`, { ...sizes, tokens: prefillTokens }, { dtype }),
    make(`${model.name} decode`, { ...sizes, tokens: 1, past: contextTokens - 1 }, { dtype }),
  ];
}

const TOKENS = 12, KEYS = 150, SPARE = 2, SIZE = 80;
const grouped = make("8 heads on 2", {
  batch: 3,
  tokens: TOKENS,
  past: KEYS - TOKENS,
  spare: SPARE,
  heads: 8,
  keyHeads: 2,
  size: SIZE,
});

export const relations: readonly Relation<AttentionWeightsInput, "mask", Attributes>[] = [
  {
    name: "a later token never changes an earlier row",
    base: grouped,
    transform: (inputs, attributes) => {
      const isLast = (i: number) => Math.floor(i / SIZE) % (KEYS + SPARE) === KEYS - 1;
      const k = mapElements(inputs.k, (x, i) => isLast(i) ? 5 * x : x);
      return { inputs: { ...inputs, k }, attributes };
    },
    expected: (first) => Array.from(first, (p, i) => tokenOf(i) === TOKENS - 1 ? NaN : p),
    within: 0,
  },
  {
    name: "a token alone, before later keys exist, gives the row that it gives in a longer call",
    base: grouped,
    transform: (inputs, attributes) => {
      const isWanted = (i: number) => Math.floor(i / SIZE / 8) % TOKENS === 4;
      const q = Array.from(inputs.q.numbers).filter((_, i) => isWanted(i));
      return {
        inputs: { ...inputs, q: HostTensor.from([3, 1, 8, SIZE], q) },
        attributes: { ...attributes, keyLength: KEYS - TOKENS + 5 },
      };
    },
    expected: (first) =>
      Array.from(first).filter((_, i) => tokenOf(i) === 4 && i % KEYS < KEYS - TOKENS + 5),
    within: 0,
  },
  {
    name: "heads that share keys give what heads with copies of them give",
    base: grouped,
    transform: (inputs, attributes) => ({
      inputs: { ...inputs, k: repeatHeads(inputs.k, 4) },
      attributes,
    }),
    expected: (first) => first,
    within: 0,
  },
  {
    name: "a sequence does not depend on its neighbours",
    base: grouped,
    transform: ({ q, k }, attributes) => ({
      inputs: { q: lastSequence(q), k: lastSequence(k) },
      attributes,
    }),
    expected: (first) => Array.from(first).slice(-first.length / 3),
    within: 0,
  },
];

/** The token of an element of the weights of `grouped`. */
function tokenOf(i: number): number {
  return Math.floor(i / KEYS) % TOKENS;
}

function mapElements({ shape, numbers }: HostTensor, map: (x: number, i: number) => number) {
  return HostTensor.from(shape, Array.from(numbers, map));
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

function lastSequence({ shape, numbers }: HostTensor): HostTensor {
  const rest: Shape = shape.slice(1);
  return HostTensor.from([1, ...rest], Array.from(numbers).slice(-numbers.length / shape[0]!));
}
