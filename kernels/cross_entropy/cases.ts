import type { BenchDtypes, Case, Family, ModelShape, Relation } from "../../runtime/op.ts";
import { type Dtype, HostTensor, type Shape } from "../../runtime/tensor.ts";
import type { CrossEntropyInput } from "./cross_entropy.ts";

type CrossEntropyCase = Case<CrossEntropyInput, "ignored", Record<never, never>>;

function make(
  name: string,
  shape: Shape,
  family: Family = "normal",
  dtype: Dtype = "f32",
): CrossEntropyCase {
  const labels = { shape: shape.slice(0, -1), dtype: "u32", below: shape.at(-1)! } as const;
  return { name, family, inputs: { logits: { shape, dtype }, labels }, attributes: {} };
}

/** One row of logits for each function of the column. */
function given(
  name: string,
  classes: number,
  labels: readonly number[],
  logits: readonly ((j: number) => number)[],
  ignored?: readonly number[],
): CrossEntropyCase {
  const shape = [labels.length];
  const values = logits.flatMap((row) => Array.from({ length: classes }, (_, j) => row(j)));
  return {
    name,
    inputs: {
      logits: { shape: [...shape, classes], dtype: "f32", values },
      labels: { shape, dtype: "u32", below: classes, values: labels },
      ...(ignored ? { ignored: { shape, dtype: "u32", values: ignored } } : {}),
    },
    attributes: {},
  };
}

function withIgnored(base: CrossEntropyCase, values: readonly number[]): CrossEntropyCase {
  const { shape } = base.inputs.labels;
  return { ...base, inputs: { ...base.inputs, ignored: { shape, dtype: "u32", values } } };
}

export const cases: readonly CrossEntropyCase[] = [
  make("one class", [3, 1]),
  make("one row, a scalar out", [77]),
  make("two axes of rows", [2, 3, 19]),
  make("rows of 31", [5, 31]),
  make("rows of 32", [5, 32]),
  make("rows of 33", [5, 33]),
  make("65 rows, one more than a workgroup of the naive kernel", [65, 20]),
  make("256 groups and one more, 1028", [3, 1028]),
  make("4099 classes", [2, 4099], "uniform"),
  make("the vocabulary of 3B, two rows", [2, 50_304]),
  make("the vocabulary of 1.6B and 12B", [1, 100_352]),
  make("an odd vocabulary", [2, 50_279]),
  make("f16", [9, 100], "normal", "f16"),
  make("f16, odd", [9, 33], "normal", "f16"),
  make("f16, large values", [9, 64], "large", "f16"),
  make("large values", [8, 260], "large"),
  make("far from 0", [4, 129], "offset"),
  make("large values of either sign", [4, 129], "cancelling"),
  make("outliers", [6, 512], "outlier"),
  make("all positive", [4, 512], "positive"),
  make("all equal: ln V", [4, 3000], "constant"),
  make("zeros and negative zeros", [4, 33], "zeros"),
  make("subnormals", [4, 100], "subnormal"),
  given("rising and falling, slowly and steeply", 6001, [6000, 0, 17, 6000], [
    (j) => 0.001 * j,
    (j) => -0.001 * j,
    (j) => 3 * j,
    (j) => -3 * j,
  ]),
  given("the surest and the least likely class", 300, [41, 7, 299, 0], [
    (j) => j === 41 ? 90 : Math.sin(j),
    (j) => j === 7 ? -2000 : Math.sin(j),
    (j) => j === 299 ? 9e37 : 0,
    (j) => j === 0 ? -9e37 : -1,
  ]),
  withIgnored(make("some rows ignored", [2, 4, 50]), [0, 1, 0, 0, 7, 2 ** 32 - 1, 0, 0]),
  withIgnored(make("some rows ignored, f16", [3, 9], "normal", "f16"), [1, 0, 1]),
  withIgnored(make("every row ignored", [3, 36]), [1, 1, 1]),
  given("what is ignored may be NaN or infinite", 9, [0, 4, 8], [
    () => NaN,
    Math.cos,
    () => Infinity,
  ], [1, 0, 1]),
  make("no rows", [0, 16]),
];

export function benchCases(
  model: ModelShape,
  { activation }: BenchDtypes,
): readonly CrossEntropyCase[] {
  const { name, prefillTokens, vocabSize } = model;
  return [
    make(`${name} ${prefillTokens} tokens`, [prefillTokens, vocabSize], "normal", activation),
  ];
}

const ROWS = 7, CLASSES = 500;
const base = make("7 rows of 500", [ROWS, CLASSES]);

export const relations: readonly Relation<CrossEntropyInput, "ignored", Record<never, never>>[] = [
  {
    name: "adding a constant to a row changes nothing",
    base,
    transform: ({ logits, labels }, attributes) => ({
      inputs: { logits: map(logits, (x) => x + 8), labels },
      attributes,
    }),
    expected: (first) => first,
    // Rounding x + 8 moves a logit by up to 2⁻²¹, and the loss by twice that; the rest is for the loss.
    within: 2 ** -19,
  },
  {
    name: "the order of the classes does not matter",
    base,
    transform: ({ logits, labels }, attributes) => ({
      inputs: {
        logits: HostTensor.from(
          logits.shape,
          Array.from(
            logits.numbers,
            (_, i) => logits.numbers[i + CLASSES - 1 - 2 * (i % CLASSES)]!,
          ),
        ),
        labels: map(labels, (label) => CLASSES - 1 - label),
      },
      attributes,
    }),
    expected: (first) => first,
    within: 2 ** -19,
  },
  {
    name: "a row does not depend on its neighbours",
    base,
    transform: ({ logits, labels }, attributes) => ({
      inputs: { logits: lastRows(logits, 3), labels: lastRows(labels, 3) },
      attributes,
    }),
    expected: (first) => Array.from(first).slice(-3),
    within: 0,
  },
  {
    name: "ignoring a row makes its loss 0 and leaves the others",
    base,
    transform: (inputs, attributes) => ({
      inputs: { ...inputs, ignored: HostTensor.from([ROWS], [0, 0, 1, 0, 1, 0, 0], "u32") },
      attributes,
    }),
    expected: (first) => Array.from(first, (loss, row) => row === 2 || row === 4 ? 0 : loss),
    within: 0,
  },
];

function map({ shape, dtype, numbers }: HostTensor, change: (x: number) => number): HostTensor {
  return HostTensor.from(shape, Array.from(numbers, change), dtype);
}

function lastRows({ shape, dtype, numbers }: HostTensor, count: number): HostTensor {
  const length = numbers.length / shape[0]!;
  return HostTensor.from(
    [count, ...shape.slice(1)],
    Array.from(numbers).slice(-count * length),
    dtype,
  );
}
