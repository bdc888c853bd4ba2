import type { BenchDtypes, Case, Family, ModelShape, Relation } from "../../runtime/op.ts";
import { type Dtype, elementCount, HostTensor, type Shape } from "../../runtime/tensor.ts";

type ArgmaxCase = Case<"x", never, Record<never, never>>;

function make(
  name: string,
  shape: Shape,
  dtype: Dtype = "f32",
  family: Family = "normal",
): ArgmaxCase {
  return { name, family, inputs: { x: { shape, dtype } }, attributes: {} };
}

function given(name: string, rows: readonly (readonly number[])[], dtype: Dtype = "f32") {
  const shape = [rows.length, rows[0]!.length];
  return { name, inputs: { x: { shape, dtype, values: rows.flat() } }, attributes: {} };
}

/** A row of zeros with something else in some places. */
function sparse(length: number, places: Readonly<Record<number, number>>): number[] {
  const row = Array<number>(length).fill(0);
  for (const [place, value] of Object.entries(places)) row[Number(place)] = value;
  return row;
}

const LONG = 10_001;

const awkward: readonly (readonly number[])[] = [
  [NaN, 1, NaN, 3, 2, NaN],
  [NaN, NaN, NaN, NaN, NaN, NaN],
  [NaN, -Infinity, NaN, -Infinity, NaN, NaN],
  [-Infinity, -Infinity, -Infinity, -1e4, -Infinity, NaN],
  [1, Infinity, NaN, Infinity, 2, 3],
  [-0, 0, -0, 0, -0, 0],
  [-1, -0, 0, -0, -2, NaN],
  [-3, -2, -2.5, -2, -4, -5],
  [2 ** -24, 3 * 2 ** -24, -(2 ** -24), 3 * 2 ** -24, 0, 2 ** -23],
  [0, 65_504, -65_504, 65_504, 1, NaN],
];

export const cases: readonly ArgmaxCase[] = [
  make("one element", [1]),
  make("one row, a scalar out", [77]),
  make("no axis of rows but two of batch", [2, 3, 19]),
  make("rows of one element", [5, 1]),
  make("7 rows, not a multiple of 4", [7, 33]),
  make("65 rows, one more than a workgroup of the naive kernel", [65, 12]),
  make("one below a chunk", [1, 2047]),
  make("a chunk", [1, 2048]),
  make("one above a chunk", [1, 2049]),
  make("more rows than workgroups are wanted", [600, 40]),
  make("the vocabulary of 3B", [50_304]),
  make("the vocabulary of 1.6B and 12B, three rows", [3, 100_352]),
  make("an odd vocabulary", [2, 50_279]),
  make("all equal, longer than a chunk", [3, LONG], "f32", "constant"),
  make("zeros of either sign", [3, LONG], "f32", "zeros"),
  make("subnormals", [3, 100], "f32", "subnormal"),
  make("large values", [3, LONG], "f32", "large"),
  make("f16", [3, 1000], "f16"),
  make("f16, odd length", [3, 1001], "f16"),
  make("f16, many ties", [4, 50_304], "f16"),
  given("NaN, infinities, ties and zeros", awkward),
  given("NaN, infinities, ties and zeros in f16", awkward, "f16"),
  given("a tie across chunks, the ends, NaN in the first chunk", [
    sparse(LONG, { 2500: 3, 7000: 3, 9999: 3 }),
    sparse(LONG, { [LONG - 1]: 1 }),
    sparse(LONG, { 0: 1, [LONG - 1]: 1 }),
    [...Array<number>(5000).fill(NaN), ...sparse(LONG - 5000, { 3: -5 }).fill(-7, 0, 3)],
    Array<number>(LONG).fill(NaN),
  ]),
  make("no rows", [0, 16]),
];

export function benchCases(model: ModelShape, { activation }: BenchDtypes): readonly ArgmaxCase[] {
  return [make(`${model.name} vocabulary, one row`, [1, model.vocabSize], activation)];
}

const LENGTH = 5000;

export const relations: readonly Relation<"x", never, Record<never, never>>[] = [
  {
    name: "reversing a row without ties mirrors the index",
    base: {
      ...make("reversing", [LENGTH]),
      inputs: {
        x: {
          shape: [LENGTH],
          dtype: "f32",
          // A multiplier without a common factor with the length: each value occurs once.
          values: Array.from({ length: LENGTH }, (_, i) => i * 1237 % LENGTH),
        },
      },
    },
    transform: ({ x }, attributes) => ({
      inputs: { x: HostTensor.from(x.shape, Array.from(x.numbers).reverse()) },
      attributes,
    }),
    expected: (first) => Array.from(first, (id) => LENGTH - 1 - id),
    within: 0,
  },
  {
    name: "doubling every element changes nothing",
    base: make("doubling", [2, 3, 700]),
    transform: ({ x }, attributes) => ({
      inputs: {
        x: HostTensor.from(
          x.shape,
          Array.from({ length: elementCount(x.shape) }, (_, i) => 2 * x.numbers[i]!),
        ),
      },
      attributes,
    }),
    expected: (first) => first,
    within: 0,
  },
];
