import type { BenchDtypes, Case, Family, ModelShape, Relation } from "../../runtime/op.ts";
import { type Dtype, HostTensor, type Shape } from "../../runtime/tensor.ts";
import type { LayerNormAttributes, LayerNormInput, LayerNormOptional } from "./layer_norm.ts";

type LayerNormCase = Case<LayerNormInput, LayerNormOptional, LayerNormAttributes>;

interface Options {
  readonly family?: Family;
  readonly dtype?: Dtype;
  readonly weightDtype?: Dtype;
  /** Of weight and bias; the last axis of x unless given. */
  readonly weightShape?: Shape;
  readonly residual?: boolean;
  readonly bias?: boolean;
  readonly epsilon?: number;
}

function make(name: string, shape: Shape, options: Options = {}): LayerNormCase {
  const {
    family = "normal",
    dtype = "f32",
    weightDtype = dtype,
    weightShape = shape.slice(-1),
    residual = false,
    bias = true,
    epsilon = 1e-5,
  } = options;
  const x = { shape, dtype };
  const weight = { shape: weightShape, dtype: weightDtype, family: "uniform" as const };
  return {
    name,
    family,
    inputs: {
      x,
      weight,
      ...(residual ? { residual: { ...x, family: "normal" } } : {}),
      ...(bias ? { bias: weight } : {}),
    },
    attributes: { epsilon },
  };
}

/** The family that shows a careless mean or variance is worth a row of every real length. */
const REAL_LENGTHS = [2048, 2560, 5120].flatMap((columns) => [
  make(`a row of ${columns}, far from 0`, [3, columns], { family: "offset", residual: true }),
  make(`a row of ${columns}, one outlier`, [3, columns], { family: "outlier" }),
]);

const HEAD_LENGTHS = [64, 80, 160].map((columns) =>
  make(`heads of ${columns}, a weight for each`, [3, 5, columns], {
    weightShape: [5, columns],
    bias: false,
  })
);

/** A million and some sixteenths, exact in f32; a plain sum of them would be off by many deviations. */
function veryFarFromZero(columns: number): LayerNormCase {
  const values = Array.from({ length: 3 * columns }, (_, i) => 1e6 + i * 7919 % 67 / 16);
  const testCase = make(`very far from 0, ${columns}`, [3, columns]);
  return { ...testCase, inputs: { ...testCase.inputs, x: { ...testCase.inputs.x, values } } };
}

export const cases: readonly LayerNormCase[] = [
  make("one element", [1]),
  make("four elements", [1, 4], { residual: true }),
  make("a row of 3", [5, 3], { residual: true }),
  make("a row of 31", [9, 31]),
  make("a row of 63, heads", [2, 3, 63], { weightShape: [3, 63] }),
  make("65 rows, one more than a workgroup of the naive kernel", [65, 32]),
  make("less than one group each, 252", [2, 252], { residual: true }),
  make("256 groups and one more, 1028", [2, 1028], { residual: true }),
  make("no bias", [7, 96], { bias: false }),
  ...REAL_LENGTHS,
  ...HEAD_LENGTHS,
  make("f16", [5, 100], { dtype: "f16", residual: true }),
  make("f16, odd length", [5, 33], { dtype: "f16", residual: true }),
  make("f16 with f32 weights", [2, 2560], { dtype: "f16", weightDtype: "f32", residual: true }),
  make("f16, large", [4, 128], { dtype: "f16", family: "large" }),
  make("bf16 weights", [3, 80], { weightDtype: "bf16", residual: true }),
  make("bf16 weights, odd length", [3, 37], { weightDtype: "bf16" }),
  make("f16 weights, heads", [2, 4, 36], { weightDtype: "f16", weightShape: [4, 36] }),
  make("large values", [4, 512], { family: "large", residual: true }),
  make("all positive", [4, 2560], { family: "positive" }),
  make("cancelling", [4, 2560], { family: "cancelling" }),
  make("far from 0, odd length", [3, 2559], { family: "offset" }),
  veryFarFromZero(2560),
  veryFarFromZero(2559),
  make("constant rows", [4, 2560], { family: "constant" }),
  make("zeros", [4, 64], { family: "zeros" }),
  make("subnormals", [4, 64], { family: "subnormal" }),
  make("a small epsilon", [4, 64], { family: "uniform", epsilon: 1e-12 }),
  make("no rows", [0, 16], { residual: true }),
];

export function benchCases(
  model: ModelShape,
  { activation, weight }: BenchDtypes,
): readonly LayerNormCase[] {
  return [model.prefillTokens, 1].map((tokens) =>
    make(
      `${model.name} ${tokens === 1 ? "decode" : `prefill ${tokens}`}`,
      [tokens, model.hiddenSize],
      { dtype: activation, weightDtype: weight, residual: true },
    )
  );
}

const shifted = make("shifting and stretching", [4, 256], { epsilon: 1e-12 });

export const relations: readonly Relation<
  LayerNormInput,
  LayerNormOptional,
  LayerNormAttributes
>[] = [
  {
    name: "a·x + b has the same result as x, for a above 0",
    base: shifted,
    transform: (inputs, attributes) => ({
      inputs: {
        ...inputs,
        x: HostTensor.from(inputs.x.shape, Array.from(inputs.x.numbers, (x) => 4 * x + 3)),
      },
      attributes,
    }),
    expected: (first) => first,
    // Rounding 4x + 3 to f32 is off by up to 2⁻²¹ of a deviation of 4.
    within: 1e-5,
  },
  {
    name: "a row does not depend on the rows around it",
    base: make("reversing the rows", [6, 260], { residual: true }),
    transform: (inputs, attributes) => ({
      inputs: {
        ...inputs,
        x: reverseRows(inputs.x),
        residual: inputs.residual && reverseRows(inputs.residual),
      },
      attributes,
    }),
    expected: (first, { x }) => reverseRows(HostTensor.from(x.shape, first)).numbers,
    within: 0,
  },
];

function reverseRows({ shape, dtype, numbers }: HostTensor): HostTensor {
  const columns = shape.at(-1)!;
  const last = numbers.length / columns - 1;
  const reversed = Array.from(
    numbers,
    (_, i) => numbers[(last - Math.floor(i / columns)) * columns + i % columns]!,
  );
  return HostTensor.from(shape, reversed, dtype);
}
