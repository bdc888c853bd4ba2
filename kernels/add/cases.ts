import type { BenchDtypes, Case, Family, ModelShape, Relation } from "../../runtime/op.ts";
import type { Dtype, Shape } from "../../runtime/tensor.ts";

type AddCase = Case<"a" | "b", never, Record<never, never>>;

function make(
  name: string,
  shape: Shape,
  dtype: Dtype = "f32",
  family: Family = "normal",
): AddCase {
  const spec = { shape, dtype };
  return { name, family, inputs: { a: spec, b: spec }, attributes: {} };
}

export const cases: readonly AddCase[] = [
  make("a scalar", []),
  make("one element", [1]),
  make("a tail of 3", [5, 67]),
  make("one below a workgroup of the naive kernel", [63]),
  make("one above a workgroup of the naive kernel", [65]),
  make("a workgroup of groups of four", [4, 64]),
  make("one group more", [4, 65]),
  make("two rows of 3B", [2, 2560]),
  make("f16", [9, 100], "f16"),
  make("f16, odd count", [3, 33], "f16"),
  make("f16, large values", [9, 100], "f16", "large"),
  make("large values", [8, 128], "f32", "large"),
  make("one outlier", [8, 128], "f32", "outlier"),
  make("cancelling", [8, 128], "f32", "cancelling"),
  make("far from 0", [8, 128], "f32", "offset"),
  make("subnormals", [8, 128], "f32", "subnormal"),
  make("zeros and negative zeros", [4, 32], "f32", "zeros"),
  make("no rows", [0, 16]),
];

export function benchCases(model: ModelShape, { activation }: BenchDtypes): readonly AddCase[] {
  return [model.prefillTokens, 1].map((tokens) =>
    make(
      `${model.name} ${tokens === 1 ? "decode" : `prefill ${tokens}`}`,
      [tokens, model.hiddenSize],
      activation,
    )
  );
}

export const relations: readonly Relation<"a" | "b", never, Record<never, never>>[] = [
  {
    name: "a + b = b + a",
    base: make("swapping", [4, 64]),
    transform: ({ a, b }, attributes) => ({ inputs: { a: b, b: a }, attributes }),
    expected: (first) => first,
    within: 0,
  },
];
