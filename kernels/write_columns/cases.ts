import type { BenchDtypes, Case, Family, ModelShape, Relation } from "../../runtime/op.ts";
import { HostTensor, type Shape } from "../../runtime/tensor.ts";
import type { WriteColumnsAttributes, WriteColumnsInput } from "./write_columns.ts";

type WriteColumnsCase = Case<WriteColumnsInput, never, WriteColumnsAttributes>;

interface Columns {
  /** Columns of x. */
  readonly n: number;
  /** Where they go. */
  readonly column: number;
  /** Columns of y. */
  readonly of: number;
  readonly dtype?: "f32" | "f16";
  readonly family?: Family;
}

function make(
  name: string,
  leading: Shape,
  { n, column, of, dtype = "f32", family = "normal" }: Columns,
): WriteColumnsCase {
  return {
    name,
    family,
    inputs: {
      // Far from x, so that what is kept is told from what is written.
      y: { shape: [...leading, of], dtype, family: "offset" },
      x: { shape: [...leading, n], dtype },
    },
    attributes: { column },
  };
}

export const cases: readonly WriteColumnsCase[] = [
  make("one element", [1], { n: 1, column: 0, of: 1 }),
  make("a vector", [], { n: 8, column: 4, of: 20 }),
  make("a vector of odd sizes", [], { n: 7, column: 3, of: 11 }),
  make("the first columns", [5], { n: 12, column: 0, of: 32 }),
  make("the last columns", [5], { n: 12, column: 20, of: 32 }),
  make("every column", [3], { n: 16, column: 0, of: 16 }),
  make("one column in the middle", [9], { n: 1, column: 8, of: 33 }),
  make("only x a multiple of 4", [6], { n: 12, column: 5, of: 33 }),
  make("only column not a multiple of 4", [6], { n: 12, column: 6, of: 32 }),
  make("only y not a multiple of 4", [6], { n: 12, column: 8, of: 30 }),
  make("two leading axes", [2, 5], { n: 24, column: 8, of: 40 }),
  make("two leading axes, odd", [3, 3], { n: 5, column: 2, of: 13 }),
  make("65 elements: one workgroup and one", [5], { n: 13, column: 6, of: 19 }),
  make("65 groups of four: one workgroup and one", [13], { n: 20, column: 4, of: 24 }),
  make("second half of 3B's logits", [2], { n: 25_152, column: 25_152, of: 50_304 }),
  make("f16", [7], { n: 12, column: 8, of: 28, dtype: "f16" }),
  make("f16, odd", [7], { n: 11, column: 5, of: 23, dtype: "f16" }),
  make("zeros of either sign", [4], { n: 8, column: 4, of: 16, dtype: "f16", family: "zeros" }),
  make("subnormals", [4], { n: 8, column: 4, of: 16, family: "subnormal" }),
  make("no columns", [4], { n: 0, column: 8, of: 8 }),
  make("no rows", [0], { n: 4, column: 4, of: 8 }),
];

/** The second half of a product that is made in two: an LM head's for one token, a gate's for many. */
export function benchCases(
  model: ModelShape,
  { activation: dtype }: BenchDtypes,
): readonly WriteColumnsCase[] {
  const half = (of: number) => ({ n: of / 2, column: of / 2, of, dtype });
  return [
    make(`${model.name} logits, decode, second half`, [1], half(model.vocabSize)),
    make(
      `${model.name} gate, prefill ${model.prefillTokens}, second half`,
      [model.prefillTokens],
      half(model.intermediateSize),
    ),
  ];
}

export const relations: readonly Relation<WriteColumnsInput, never, WriteColumnsAttributes>[] = [
  {
    name: "the columns of y itself, written back, change nothing",
    base: make("any columns", [6], { n: 8, column: 12, of: 24 }),
    transform: ({ y }, attributes) => ({
      inputs: {
        y,
        x: HostTensor.from(
          [6, 8],
          Array.from(y.numbers).filter((_, i) => i % 24 >= 12 && i % 24 < 20),
        ),
      },
      attributes,
    }),
    expected: (_first, { y }) => y.numbers,
    within: 0,
  },
  {
    name: "four columns further on, the written columns are four further on",
    base: make("moving on", [6], { n: 8, column: 8, of: 24 }),
    transform: (inputs, { column }) => ({ inputs, attributes: { column: column + 4 } }),
    expected: (first, { y }) =>
      Array.from(first, (_, i) => {
        const isWritten = i % 24 >= 12 && i % 24 < 20;
        return isWritten ? first[i - 4]! : y.numbers[i]!;
      }),
    within: 0,
  },
];
