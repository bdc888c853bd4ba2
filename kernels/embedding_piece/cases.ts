import type { BenchDtypes, Case, Family, ModelShape, Relation } from "../../runtime/op.ts";
import { HostTensor, type Shape } from "../../runtime/tensor.ts";
import type { EmbeddingPieceAttributes, EmbeddingPieceInput } from "./embedding_piece.ts";

type EmbeddingPieceCase = Case<EmbeddingPieceInput, never, EmbeddingPieceAttributes>;

interface Options {
  readonly firstRow?: number;
  /** Ids are below this: the rows of the whole table. */
  readonly below?: number;
  readonly table?: "f32" | "f16" | "bf16";
  readonly y?: "f32" | "f16";
  readonly family?: Family;
}

function make(
  name: string,
  [rows, columns]: readonly [rows: number, columns: number],
  ids: Shape,
  { firstRow = 0, below = rows, table = "f32", y = "f32", family = "normal" }: Options = {},
): EmbeddingPieceCase {
  return {
    name,
    family,
    inputs: {
      table: { shape: [rows, columns], dtype: table },
      ids: { shape: ids, dtype: "u32", below },
      // Never 0, so that what should have been kept is told from what was cleared.
      y: { shape: [...ids, columns], dtype: y, family: "offset" },
    },
    attributes: { firstRow },
  };
}

/** One id on either side of each end of a piece of 5 rows that begins at 7, and the ends of u32. */
const AROUND = [6, 7, 11, 12, 0, 2 ** 32 - 1, 2 ** 31, 9];

export const cases: readonly EmbeddingPieceCase[] = [
  make("one element", [1, 1], [1]),
  make("a scalar id", [7, 12], [], { below: 12 }),
  make("the whole table", [5, 8], [64]),
  make("the first of three pieces", [5, 8], [64], { below: 15 }),
  make("the second of three pieces", [5, 8], [64], { firstRow: 5, below: 15 }),
  make("the last of three pieces", [5, 8], [64], { firstRow: 10, below: 15 }),
  make("rows of 3, in the middle", [9, 3], [4, 5], { firstRow: 9, below: 27 }),
  make("rows of 67, at the end", [11, 67], [17], { firstRow: 22, below: 33 }),
  make("no id in the piece", [5, 8], [9], { firstRow: 20, below: 15 }),
  make("17 ids of 4: one workgroup and one group", [16, 4], [17], { firstRow: 8, below: 32 }),
  make("rows of 2560, as 3B", [65, 2560], [2, 9], { firstRow: 65, below: 130 }),
  ...[["vec4", 8], ["scalars", 7]].map(([name, columns]): EmbeddingPieceCase => {
    const base = make(`ids around both ends, ${name}`, [5, columns as number], [8], {
      firstRow: 7,
      below: 2 ** 32,
    });
    const ids = { shape: [8], dtype: "u32", below: 2 ** 32, values: AROUND } as const;
    return { ...base, inputs: { ...base.inputs, ids } };
  }),
  {
    ...make("the last ids of u32", [3, 8], [4], { firstRow: 2 ** 32 - 3 }),
    inputs: {
      table: { shape: [3, 8], dtype: "f32" },
      ids: {
        shape: [4],
        dtype: "u32",
        below: 2 ** 32,
        values: [2 ** 32 - 1, 2 ** 32 - 4, 2 ** 32 - 3, 0],
      },
      y: { shape: [4, 8], dtype: "f32" },
    },
  },
  make("f16 table", [20, 64], [9], { firstRow: 20, below: 40, table: "f16" }),
  make("f16 table, f16 y", [20, 64], [9], { firstRow: 20, below: 40, table: "f16", y: "f16" }),
  make("f16 table, f16 y, odd", [20, 33], [9], { firstRow: 20, below: 40, table: "f16", y: "f16" }),
  make("bf16 table", [20, 64], [9], { firstRow: 20, below: 40, table: "bf16" }),
  make("bf16 table, odd", [20, 33], [9], { firstRow: 20, below: 40, table: "bf16" }),
  make("bf16 table, f16 y", [20, 64], [9], { firstRow: 20, below: 40, table: "bf16", y: "f16" }),
  make("f32 table, f16 y", [20, 64], [9], { firstRow: 20, below: 40, y: "f16" }),
  make("f32 table, f16 y, odd", [20, 33], [9], { firstRow: 20, below: 40, y: "f16" }),
  make("zeros of either sign", [4, 16], [9], {
    below: 8,
    table: "f16",
    y: "f16",
    family: "zeros",
  }),
  make("subnormals", [4, 16], [9], { below: 8, family: "subnormal" }),
  make("no ids", [4, 16], [0]),
  make("no rows", [0, 16], [3], { firstRow: 4, below: 8 }),
  make("no columns", [4, 0], [3], { below: 8 }),
];

/** The first half of the table, with every id in it. */
export function benchCases(
  model: ModelShape,
  { activation, weight }: BenchDtypes,
): readonly EmbeddingPieceCase[] {
  return [model.prefillTokens, 1].map((tokens) =>
    make(
      `${model.name} ${tokens === 1 ? "decode" : `prefill ${tokens}`}, half of the table`,
      [model.vocabSize / 2, model.hiddenSize],
      [tokens],
      { table: weight, y: activation },
    )
  );
}

export const relations: readonly Relation<EmbeddingPieceInput, never, EmbeddingPieceAttributes>[] =
  [
    {
      name: "ids and firstRow that grow by the same number give the same rows",
      base: make("moving on", [6, 20], [24], { firstRow: 6, below: 18 }),
      transform: (inputs, { firstRow }) => ({
        inputs: {
          ...inputs,
          ids: HostTensor.from([24], Array.from(inputs.ids.numbers, (id) => id + 1000), "u32"),
        },
        attributes: { firstRow: firstRow + 1000 },
      }),
      expected: (first) => first,
      within: 0,
    },
    {
      name: "a piece that begins where the ids end changes nothing",
      base: make("all ids inside", [18, 20], [24]),
      transform: (inputs) => ({ inputs, attributes: { firstRow: 18 } }),
      expected: (_first, { y }) => y.numbers,
      within: 0,
    },
  ];
