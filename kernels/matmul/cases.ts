import type { BenchDtypes, Case, Family, ModelShape, Relation } from "../../runtime/op.ts";
import { HostTensor } from "../../runtime/tensor.ts";
import type { MatmulAttributes, MatmulLayout, MatmulOrder } from "./matmul.ts";

type MatmulCase = Case<"x" | "weight" | "bias", "bias", MatmulAttributes>;

/** What a case may set besides its sizes. */
interface Options {
  /** Products, each with a weight of its own; one shared weight unless given. */
  readonly batches?: number;
  readonly layout?: MatmulLayout;
  readonly order?: MatmulOrder;
  readonly x?: "f32" | "f16";
  readonly weight?: "f32" | "f16" | "bf16";
  /** Dtype of the bias, where there is one. */
  readonly bias?: "f32" | "f16" | "bf16";
  readonly dtype?: "f32" | "f16";
  readonly family?: Family;
  /** Distribution of the weight, where it is another. */
  readonly weightFamily?: Family;
}

/** `sizes` are m, k and n. */
function make(
  name: string,
  [m, k, n]: readonly [m: number, k: number, n: number],
  options: Options = {},
): MatmulCase {
  const {
    batches,
    layout = "linear",
    order,
    x = "f32",
    weight = "f32",
    bias,
    dtype,
    family,
    weightFamily,
  } = options;
  const lead = batches === undefined ? [] : [batches];
  const weightShape = [...lead, ...(layout === "linear" ? [n, k] : [k, n])];
  return {
    name,
    ...(family && { family }),
    inputs: {
      x: { shape: [...lead, m, k], dtype: x },
      weight: { shape: weightShape, dtype: weight, ...(weightFamily && { family: weightFamily }) },
      ...(bias && { bias: { shape: [n], dtype: bias } }),
    },
    attributes: { layout, ...(dtype && { dtype }), ...(order && { order }) },
  };
}

// A kernel is compiled anew for each combination of dtypes, bias and divisibility, slowly on a software
// adapter. The sizes below are chosen so that cases share combinations where nothing is lost by it.
export const cases: readonly MatmulCase[] = [
  make("one element", [1, 1, 1], { bias: "f32" }),
  make("one element, plain", [1, 1, 1], { layout: "plain", bias: "f32" }),
  {
    name: "x is a vector",
    inputs: {
      x: { shape: [68], dtype: "f32" },
      weight: { shape: [33, 68], dtype: "f32" },
      bias: { shape: [33], dtype: "f32" },
    },
    attributes: { layout: "linear" },
  },
  {
    name: "x has two leading axes",
    inputs: {
      x: { shape: [3, 5, 20], dtype: "f32" },
      weight: { shape: [13, 20], dtype: "f32" },
      bias: { shape: [13], dtype: "f32" },
    },
    attributes: { layout: "linear" },
  },
  make("2×3×5, smaller than any vector", [2, 3, 5], { bias: "f32" }),
  make("17×33×65, nothing divides", [17, 33, 65], { bias: "f32" }),
  make("17×33×65, nothing divides, plain", [17, 33, 65], { layout: "plain", bias: "f32" }),
  make("one less than a tile of 32", [31, 68, 31], { bias: "f32" }),
  make("a tile of 32", [32, 64, 32]),
  make("one more than a tile of 32", [33, 68, 33], { bias: "f32" }),
  make("one row less than a tile of 64, plain", [63, 36, 64], { layout: "plain", bias: "f32" }),
  make("a tile of 64", [64, 48, 64]),
  make("one more than a tile of 64", [65, 68, 65], { bias: "f32" }),
  make("one less than a tile of 128", [127, 36, 127], { bias: "f32" }),
  make("a tile of 128", [128, 32, 128]),
  make("one row more than a tile of 128, plain", [129, 20, 132], { layout: "plain", bias: "f32" }),
  make("several tiles each way", [150, 52, 270], { bias: "f32" }),
  make("more rows of tiles than a strip has", [1100, 4, 70], { bias: "f32" }),
  make("k one below a slice of 16", [40, 15, 41], { bias: "f32" }),
  make("k of a slice and four", [40, 20, 41], { bias: "f32" }),
  make("8 rows", [8, 260, 70], { bias: "f32" }),
  make("9 rows", [9, 260, 70], { bias: "f32" }),
  make("one row, plain", [1, 100, 68], { layout: "plain", bias: "f32" }),
  make("one row, odd k, plain", [1, 77, 80], { layout: "plain" }),
  make("3B projection, one row, 264 of its columns", [1, 2560, 264]),
  make("3B down projection, 2 rows, f16, 68 of its columns", [2, 6912, 68], {
    x: "f16",
    weight: "f16",
    bias: "f16",
  }),
  make("1.6B projection, 16 rows, 132 of its columns", [16, 2048, 132]),
  make("12B gate, one row, f16, 132 of its columns", [1, 5120, 132], {
    x: "f16",
    weight: "f16",
    bias: "f16",
  }),
  make("f16", [20, 48, 36], { x: "f16", weight: "f16", bias: "f16" }),
  make("f16, odd sizes", [19, 35, 37], { x: "f16", weight: "f16", bias: "f16" }),
  make("f16, odd sizes, plain", [19, 35, 37], { x: "f16", weight: "f16", layout: "plain" }),
  make("3 rows, f16 weight", [3, 264, 41], { weight: "f16", bias: "f16" }),
  make("7 rows, bf16 weight", [7, 264, 41], { weight: "bf16", bias: "bf16" }),
  make("one row, bf16, half a word of 16 bytes over", [1, 1028, 37], {
    weight: "bf16",
    bias: "bf16",
  }),
  make("bf16 weight, plain", [10, 24, 44], { weight: "bf16", layout: "plain", bias: "bf16" }),
  make("bf16 weight, odd sizes", [10, 23, 45], { weight: "bf16", bias: "bf16" }),
  make("5 rows, f16 x to f32", [5, 68, 30], { x: "f16", bias: "f32", dtype: "f32" }),
  make("f32 x to f16", [12, 64, 24], { weight: "f16", dtype: "f16" }),
  make("batch: queries by keys", [35, 80, 44], { batches: 4 }),
  make("batch: odd sizes and a bias", [35, 36, 41], { batches: 3, bias: "f32" }),
  make("batch: probabilities by values, 41 keys", [35, 41, 80], { batches: 4, layout: "plain" }),
  make("batch: probabilities by values, 44 keys", [35, 44, 80], {
    batches: 4,
    layout: "plain",
    bias: "f32",
  }),
  make("batch: 4 queries by keys, f16", [4, 80, 44], {
    batches: 3,
    x: "f16",
    weight: "f16",
    bias: "f16",
  }),
  make("batch: one query", [1, 68, 50], { batches: 3, bias: "f32" }),
  make("order vector, 9 rows", [9, 260, 70], { order: "vector", bias: "f32" }),
  make("order vector, 2 rows", [2, 68, 33], { order: "vector", bias: "f32" }),
  make("order vector, 25 rows, bf16", [25, 264, 41], {
    order: "vector",
    weight: "bf16",
    bias: "bf16",
  }),
  make("order vector, batch of 19 rows, f16", [19, 80, 44], {
    order: "vector",
    batches: 3,
    x: "f16",
    weight: "f16",
    bias: "f16",
  }),
  make("order vector, one row of no whole words", [1, 33, 65], { order: "vector", bias: "f32" }),
  make("order vector, plain", [9, 36, 64], { order: "vector", layout: "plain", bias: "f32" }),
  make("order tile, one row", [1, 68, 33], { order: "tile", bias: "f32" }),
  make("order tile, 3 rows, bf16", [3, 264, 41], { order: "tile", weight: "bf16", bias: "bf16" }),
  make("large values", [20, 160, 40], { family: "large" }),
  make("an outlier per row", [20, 160, 41], {
    family: "outlier",
    weightFamily: "normal",
    bias: "f32",
  }),
  make("an outlier per row, nothing divides", [7, 515, 37], {
    family: "outlier",
    weightFamily: "normal",
  }),
  make("all positive", [20, 1024, 24], { family: "positive" }),
  make("cancelling terms", [20, 160, 40], { family: "cancelling", weightFamily: "positive" }),
  make("offset of 10 000", [20, 160, 24], { family: "offset" }),
  // The roundings of equal terms have one sign within an octave: the gate holds for a small k only.
  make("constant", [20, 64, 40], { family: "constant" }),
  make("subnormal", [20, 64, 40], { family: "subnormal", weightFamily: "uniform" }),
  make("zeros and negative zeros", [20, 68, 41], { family: "zeros", bias: "f32" }),
  make("no rows", [0, 16, 8]),
  make("order vector, no rows", [0, 16, 8], { order: "vector" }),
  make("no columns", [5, 16, 0]),
  make("no batches", [5, 16, 8], { batches: 0 }),
];

export function benchCases(
  model: ModelShape,
  { activation, weight }: BenchDtypes,
): readonly MatmulCase[] {
  const { hiddenSize: hidden, intermediateSize: intermediate } = model;
  const options: Options = { x: activation, weight };
  // The LM head is timed only where one binding can hold it; a larger one is split by the model.
  const bytesPerWeight = weight === "f32" ? 4 : 2;
  const headFits = model.vocabSize * hidden * bytesPerWeight <= 2 ** 27;
  const cubes = model.name === "tiny" ? [512] : model.name === "3b" ? [512, 1024, 2048, 4096] : [
    512,
    1024,
  ];
  return [
    ...[model.prefillTokens, 1].flatMap((tokens) => {
      const phase = tokens === 1 ? "decode" : `prefill ${tokens}`;
      return [
        make(`${model.name} projection, ${phase}`, [tokens, hidden, hidden], options),
        make(`${model.name} gate, ${phase}`, [tokens, hidden, intermediate], options),
        make(`${model.name} down, ${phase}`, [tokens, intermediate, hidden], options),
      ];
    }),
    ...(headFits
      ? [make(`${model.name} LM head, decode`, [1, hidden, model.vocabSize], options)]
      : []),
    ...cubes.map((size) => make(`cube ${size}`, [size, size, size], options)),
  ];
}

const IDENTITY = Float32Array.from({ length: 48 * 48 }, (_, i) => i % 49 === 0 ? 1 : 0);

type MatmulRelation = Relation<"x" | "weight" | "bias", "bias", MatmulAttributes>;

export const relations: readonly MatmulRelation[] = [
  {
    name: "the identity gives x back",
    base: make("any weight", [37, 48, 48]),
    transform: ({ x, weight }, attributes) => ({
      inputs: { x, weight: HostTensor.from(weight.shape, IDENTITY) },
      attributes,
    }),
    expected: (_first, { x }) => x.numbers,
    within: 0,
  },
  {
    name: "a zero weight gives the bias",
    base: make("any weight and a bias", [37, 48, 44], { bias: "f32" }),
    transform: ({ x, weight, bias }, attributes) => ({
      inputs: {
        x,
        weight: HostTensor.from(weight.shape, new Float32Array(48 * 44)),
        bias: bias!,
      },
      attributes,
    }),
    expected: (first, { bias }) => Array.from(first, (_, i) => bias!.numbers[i % 44]!),
    within: 0,
  },
  {
    name: "a row does not depend on the others, nor on how many there are",
    ...lastRowsOf("50 rows", 20),
  },
  {
    name: "in the order of a vector the last of 50 rows is what it is alone",
    ...lastRowsOf("50 rows, order vector", 1, "vector"),
  },
  {
    name: "in the order of a tile the last of 50 rows is what it is alone",
    ...lastRowsOf("50 rows, order tile", 1, "tile"),
  },
];

/** 50 rows first, then only the last `count` of them. */
function lastRowsOf(
  name: string,
  count: number,
  order?: MatmulOrder,
): Omit<MatmulRelation, "name"> {
  const first = 50 - count;
  return {
    base: make(name, [50, 68, 70], order && { order }),
    transform: ({ x, weight }, attributes) => ({
      inputs: {
        x: HostTensor.from([count, 68], Array.from(x.numbers).slice(first * 68)),
        weight,
      },
      attributes,
    }),
    expected: (all) => Array.from(all).slice(first * 70),
    within: 0,
  };
}
