import type { BenchDtypes, Case, Family, ModelShape, Relation } from "../../runtime/op.ts";
import { type Dtype, elementCount, HostTensor, type Shape } from "../../runtime/tensor.ts";
import type { RopeAttributes, RopeInput, RopePairing } from "./rope.ts";
import { ropeTables } from "./tables.ts";

type RopeCase = Case<RopeInput, never, RopeAttributes>;

interface Options {
  readonly pairing?: RopePairing;
  readonly dtype?: Dtype;
  readonly family?: Family;
  /** Rows of the tables, which are random unless real ones are asked for. */
  readonly positions?: number;
  readonly positionShape?: Shape;
  readonly realTables?: boolean;
}

function make(name: string, shape: Shape, rotaryDim: number, options: Options = {}): RopeCase {
  const {
    pairing = "halves",
    dtype = "f32",
    family = "normal",
    positions = 40,
    positionShape = shape.slice(0, -2),
    realTables = false,
  } = options;
  const table = {
    shape: [positions, rotaryDim / 2],
    dtype: "f32",
    family: "uniform",
  } as const;
  const tables = realTables ? ropeTables({ rotaryDim, positions }) : undefined;
  return {
    name,
    family,
    inputs: {
      x: { shape, dtype },
      cos: tables ? { ...table, values: tables.cos.numbers } : table,
      sin: tables ? { ...table, values: tables.sin.numbers } : table,
      positions: { shape: positionShape, dtype: "u32", below: positions },
    },
    attributes: { rotaryDim, pairing },
  };
}

export const cases: readonly RopeCase[] = [
  make("one pair", [1, 2], 2),
  make("one position of a scalar shape", [3, 8], 4),
  make("one head, nothing copied", [5, 1, 4], 4),
  make("heads of 80, as 3B", [2, 7, 4, 80], 20),
  make("heads of 64, as 1.6B", [9, 32, 64], 16),
  make("heads of 160, as 12B", [3, 32, 160], 40),
  make("interleaved, heads of 80", [2, 7, 4, 80], 20, { pairing: "interleaved" }),
  make("interleaved, nothing copied", [5, 3, 12], 12, { pairing: "interleaved" }),
  make("heads of 96, 24 rotated", [5, 3, 96], 24),
  make("a group half rotated", [5, 3, 12], 6),
  make("a group half rotated, interleaved", [5, 3, 12], 6, { pairing: "interleaved" }),
  make("a group half rotated, the last", [5, 3, 8], 6),
  make("heads of 7", [5, 3, 7], 4),
  make("heads of 7, interleaved", [5, 3, 7], 6, { pairing: "interleaved" }),
  make("flat positions", [2, 7, 3, 16], 8, { positionShape: [14] }),
  make("real tables", [11, 4, 80], 20, { realTables: true, positions: 4096 }),
  make("large values", [6, 4, 80], 20, { family: "large" }),
  make("zeros", [6, 4, 80], 20, { family: "zeros" }),
  make("subnormals", [6, 4, 80], 20, { family: "subnormal" }),
  make("f16", [6, 4, 80], 20, { dtype: "f16" }),
  make("f16, heads of 7", [6, 3, 7], 4, { dtype: "f16" }),
  make("f16, interleaved", [6, 3, 64], 16, { dtype: "f16", pairing: "interleaved" }),
  make("f16, large values", [6, 4, 80], 20, { dtype: "f16", family: "large" }),
  make("no positions", [0, 4, 80], 20),
];

export function benchCases(model: ModelShape, { activation }: BenchDtypes): readonly RopeCase[] {
  return [model.prefillTokens, 1].map((tokens) =>
    make(
      `${model.name} queries, ${tokens === 1 ? "decode" : `prefill ${tokens}`}`,
      [tokens, model.numHeads, model.headDim],
      model.rotaryDim,
      { dtype: activation, positions: model.contextTokens },
    )
  );
}

type RopeRelation = Relation<RopeInput, never, RopeAttributes>;

const SHIFT = 17;
const SHIFTED_POSITIONS = 64;

const identities = (["halves", "interleaved"] as const).flatMap((pairing): RopeRelation[] => {
  const base = make(pairing, [5, 3, 12], 8, { pairing, realTables: true });
  return [
    {
      name: `position 0 changes nothing, ${pairing}`,
      base,
      transform: (inputs, attributes) => ({
        inputs: { ...inputs, positions: filled(inputs.positions, 0) },
        attributes,
      }),
      expected: (_first, { x }) => x.numbers,
      within: 0,
    },
    {
      name: `cos = 1 and sin = 0 change nothing, ${pairing}`,
      base,
      transform: (inputs, attributes) => ({
        inputs: { ...inputs, cos: filled(inputs.cos, 1), sin: filled(inputs.sin, 0) },
        attributes,
      }),
      expected: (_first, { x }) => x.numbers,
      within: 0,
    },
  ];
});

export const relations: readonly RopeRelation[] = [
  ...identities,
  {
    // Two rows that are turned alike keep their dot product: it depends on their distance alone.
    name: "later positions turn every row by the same further angle",
    base: {
      ...make("shifting", [4, 2, 12], 8, { realTables: true, positions: SHIFTED_POSITIONS }),
      inputs: {
        ...make("shifting", [4, 2, 12], 8, { realTables: true, positions: SHIFTED_POSITIONS })
          .inputs,
        positions: { shape: [4], dtype: "u32", below: SHIFTED_POSITIONS - SHIFT },
      },
    },
    transform: (inputs, attributes) => ({
      inputs: {
        ...inputs,
        positions: HostTensor.from(
          inputs.positions.shape,
          Array.from(inputs.positions.numbers, (position) => position + SHIFT),
          "u32",
        ),
      },
      attributes,
    }),
    expected(first, { x, cos, sin }) {
      const columns = x.shape.at(-1)!, half = cos.shape[1]!;
      const turned = Array.from(first);
      for (let row = 0; row < first.length; row += columns) {
        for (let i = 0; i < half; i++) {
          const c = cos.numbers[SHIFT * half + i]!, s = sin.numbers[SHIFT * half + i]!;
          const a = first[row + i]!, b = first[row + i + half]!;
          turned[row + i] = a * c - b * s;
          turned[row + i + half] = b * c + a * s;
        }
      }
      return turned;
    },
    // An angle of up to 64 is rounded to f32: by 2e-6, of values up to 5 or so.
    within: 5e-5,
  },
];

function filled({ shape, dtype }: HostTensor, value: number): HostTensor {
  return HostTensor.from(shape, Array(elementCount(shape)).fill(value), dtype);
}
