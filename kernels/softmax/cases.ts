import type { BenchDtypes, Case, Family, ModelShape, Relation } from "../../runtime/op.ts";
import { type Dtype, HostTensor, type Shape } from "../../runtime/tensor.ts";
import type { SoftmaxAttributes } from "./softmax.ts";

type SoftmaxCase = Case<"x", never, SoftmaxAttributes>;

function make(
  name: string,
  shape: Shape,
  attributes: SoftmaxAttributes = {},
  family: Family = "normal",
  dtype: Dtype = "f32",
): SoftmaxCase {
  return { name, family, inputs: { x: { shape, dtype } }, attributes };
}

export const cases: readonly SoftmaxCase[] = [
  make("one element", [1]),
  make("a row of 3", [3]),
  make("rows of 31", [5, 31]),
  make("rows of 32", [5, 32]),
  make("rows of 33", [5, 33]),
  make("65 rows, one more than a workgroup of the naive kernel", [65, 20]),
  make("256 groups and one more, 1028", [3, 1028]),
  make("a long row, 4099", [2, 4099], {}, "uniform"),
  make("scaled scores of a head of 80", [2, 3, 17, 40], { scale: 1 / Math.sqrt(80) }),
  make("a negative scale", [4, 37], { scale: -0.5 }),
  make("a scale of 0", [4, 36], { scale: 0 }),
  make("causal, square", [2, 17, 17], { causal: true }),
  make("causal, 64 tokens", [3, 64, 64], { causal: true, scale: 0.125 }),
  make("causal, one token", [2, 1, 41], { causal: true }),
  make("causal, 5 tokens after 31", [2, 5, 36], { causal: true }),
  make("causal, 300 keys", [1, 7, 300], { causal: true }),
  make("not causal, more rows than columns", [40, 7]),
  make("f16", [9, 100], {}, "normal", "f16"),
  make("f16, odd length, causal", [2, 9, 33], { causal: true }, "normal", "f16"),
  make("large values", [8, 260], {}, "large"),
  make("large values, scaled", [8, 260], { scale: 0.3 }, "large"),
  make("far from 0", [4, 129], {}, "offset"),
  make("outliers", [4, 512], {}, "outlier"),
  make("all equal", [4, 300], {}, "constant"),
  make("zeros and negative zeros", [4, 32], {}, "zeros"),
  make("no rows", [0, 16]),
];

export function benchCases(model: ModelShape, { activation }: BenchDtypes): readonly SoftmaxCase[] {
  const { numHeads, prefillTokens, contextTokens, headDim } = model;
  const attributes = { scale: 1 / Math.sqrt(headDim), causal: true };
  return [
    make(
      `${model.name} prefill ${prefillTokens}`,
      [numHeads, prefillTokens, prefillTokens],
      attributes,
      "normal",
      activation,
    ),
    make(
      `${model.name} decode`,
      [numHeads, 1, contextTokens],
      attributes,
      "normal",
      activation,
    ),
  ];
}

export const relations: readonly Relation<"x", never, SoftmaxAttributes>[] = [
  {
    name: "adding a constant to a row changes nothing",
    base: make("shifting", [6, 100], {}, "uniform"),
    transform: ({ x }, attributes) => ({
      inputs: { x: HostTensor.from(x.shape, Array.from(x.numbers, (value) => value + 8)) },
      attributes,
    }),
    expected: (first) => first,
    // Rounding x + 8 to f32 moves the exponent by up to 2⁻²¹, and no quotient is above 1.
    within: 2 ** -20,
  },
  {
    name: "a later column never changes an earlier row",
    base: make("changing the last column", [2, 12, 12], { causal: true }),
    transform: ({ x }, attributes) => ({
      inputs: {
        x: HostTensor.from(
          x.shape,
          Array.from(x.numbers, (value, i) => i % 12 === 11 ? 50 : value),
        ),
      },
      attributes,
    }),
    expected: (first) => Array.from(first, (y, i) => Math.floor(i / 12) % 12 === 11 ? NaN : y),
    within: 0,
  },
];
