import type { BenchDtypes, Case, Family, ModelShape, Relation } from "../../runtime/op.ts";
import { type Dtype, HostTensor, type Shape } from "../../runtime/tensor.ts";
import type { SwigluAttributes } from "./swiglu.ts";

type SwigluCase = Case<"gate" | "up", never, SwigluAttributes>;

function make(
  name: string,
  shape: Shape,
  activation: SwigluAttributes["activation"] = "silu",
  dtype: Dtype = "f32",
  family: Family = "normal",
): SwigluCase {
  const spec = { shape, dtype };
  return { name, family, inputs: { gate: spec, up: spec }, attributes: { activation } };
}

export const cases: readonly SwigluCase[] = [
  make("one element", [1]),
  make("a tail of 3", [5, 67]),
  make("one row of 3B", [1, 6912]),
  make("17 rows of a multiple of 4", [17, 64]),
  make("f16", [9, 100], "silu", "f16"),
  make("f16, odd count", [3, 33], "silu", "f16"),
  make("gelu", [7, 65], "gelu"),
  make("gelu by tanh", [7, 65], "gelu_tanh"),
  make("relu", [7, 65], "relu"),
  make("large values saturate", [8, 128], "silu", "f32", "large"),
  make("large values, gelu", [8, 128], "gelu", "f32", "large"),
  make("large values, gelu by tanh", [8, 128], "gelu_tanh", "f32", "large"),
  make("zeros and negative zeros", [4, 32], "silu", "f32", "zeros"),
  make("no rows", [0, 16]),
];

export function benchCases(model: ModelShape, { activation }: BenchDtypes): readonly SwigluCase[] {
  return [model.prefillTokens, 1].map((tokens) =>
    make(
      `${model.name} ${tokens === 1 ? "decode" : `prefill ${tokens}`}`,
      [tokens, model.intermediateSize],
      "silu",
      activation,
    )
  );
}

export const relations: readonly Relation<"gate" | "up", never, SwigluAttributes>[] = [
  {
    name: "doubling up doubles y",
    base: make("doubling up", [4, 64]),
    transform: ({ gate, up }, attributes) => ({
      inputs: { gate, up: HostTensor.from(up.shape, Array.from(up.numbers, (x) => 2 * x)) },
      attributes,
    }),
    expected: (first) => Array.from(first, (y) => 2 * y),
    within: 0,
  },
];
