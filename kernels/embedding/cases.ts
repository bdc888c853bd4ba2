import type { BenchDtypes, Case, Family, ModelShape, Relation } from "../../runtime/op.ts";
import { type Dtype, HostTensor, type Shape } from "../../runtime/tensor.ts";
import type { EmbeddingAttributes, EmbeddingInput } from "./embedding.ts";

type EmbeddingCase = Case<EmbeddingInput, never, EmbeddingAttributes>;

function make(
  name: string,
  rows: number,
  columns: number,
  ids: Shape,
  tableDtype: Dtype = "f32",
  dtype: EmbeddingAttributes["dtype"] = "f32",
  family: Family = "normal",
): EmbeddingCase {
  return {
    name,
    family,
    inputs: {
      table: { shape: [rows, columns], dtype: tableDtype },
      ids: { shape: ids, dtype: "u32", below: rows },
    },
    attributes: { dtype },
  };
}

/** Ties, their neighbours, the ends of the normal and subnormal range of f16, zeros of either sign. */
const HARD_FOR_F16 = [
  ...[1, 3, 5].flatMap((odd) => [1 + odd * 2 ** -11, 1 + odd * 2 ** -11 + 2 ** -20]),
  ...[65_504, 65_519, 2 ** -14, 2 ** -14 - 2 ** -25, 2 ** -24, 1.5 * 2 ** -24, 2 ** -25],
  ...[0, -0, 1 / 3],
].flatMap((value) => [value, -value]);

export const cases: readonly EmbeddingCase[] = [
  make("one element", 1, 1, [1]),
  make("a scalar id", 7, 12, []),
  make("first and last id", 5, 8, [64]),
  make("rows of 3", 9, 3, [4, 5]),
  make("rows of 67", 33, 67, [17]),
  make("16 ids of 4: one workgroup", 16, 4, [16]),
  make("17 ids of 4: one workgroup and one group", 16, 4, [17]),
  make("rows of 2560, as 3B", 130, 2560, [2, 9]),
  make("50,304 rows", 50_304, 8, [40]),
  make("f16 table", 20, 64, [9], "f16"),
  make("f16 table, f16 out", 20, 64, [9], "f16", "f16"),
  make("f16 table, f16 out, odd", 20, 33, [9], "f16", "f16"),
  make("bf16 table", 20, 64, [9], "bf16"),
  make("bf16 table, odd", 20, 33, [9], "bf16"),
  make("bf16 table, f16 out", 20, 64, [9], "bf16", "f16"),
  make("f32 table, f16 out", 20, 64, [9], "f32", "f16"),
  make("f32 table, f16 out, odd", 20, 33, [9], "f32", "f16"),
  make("zeros of either sign", 4, 16, [9], "f16", "f16", "zeros"),
  make("subnormals", 4, 16, [9], "f32", "f32", "subnormal"),
  {
    name: "what f16 has to round",
    inputs: {
      table: {
        shape: [1, HARD_FOR_F16.length],
        dtype: "f32",
        values: HARD_FOR_F16,
      },
      ids: { shape: [2], dtype: "u32", below: 1 },
    },
    attributes: { dtype: "f16" },
  },
  make("no ids", 4, 16, [0]),
];

export function benchCases(
  model: ModelShape,
  { activation, weight }: BenchDtypes,
): readonly EmbeddingCase[] {
  return [model.prefillTokens, 1].map((tokens) =>
    make(
      `${model.name} ${tokens === 1 ? "decode" : `prefill ${tokens}`}`,
      model.vocabSize,
      model.hiddenSize,
      [tokens],
      weight,
      activation,
    )
  );
}

export const relations: readonly Relation<EmbeddingInput, never, EmbeddingAttributes>[] = [
  {
    name: "counting ids give the table itself",
    base: make("counting", 12, 20, [12]),
    transform: (inputs, attributes) => ({
      inputs: { ...inputs, ids: HostTensor.from([12], [...Array(12).keys()], "u32") },
      attributes,
    }),
    expected: (_first, { table }) => table.numbers,
    within: 0,
  },
];
