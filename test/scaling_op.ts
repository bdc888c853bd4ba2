/** Ops with their WGSL left open, so that tests can break it. */

import { HostTensor, type Op, type Plan } from "../mod.ts";

export interface ScalingAttributes {
  readonly factor: number;
}

/** y = factor · x, with the WGSL left open so that tests can break it. */
export function scaling(
  text = GOOD,
  constants: Record<string, number> = { WIDTH: 64 },
): Op<"x", "y", ScalingAttributes> {
  return {
    name: "scaling",
    summary: "y = factor · x",
    inputs: ["x"],
    outputs: ["y"],
    attributes: ["factor"],
    infer: ({ x }) => ({ y: { shape: x.shape, dtype: x.dtype } }),
    reference({ x }, { factor }, { y }) {
      for (let i = 0; i < y.values.length; i++) y.values[i] = factor * x.values[i]!;
    },
    variants: [{
      name: "naive",
      summary: "one element per invocation",
      supports: () => true,
      plan: ({ x }, { factor }) => ({
        dispatches: [{
          kernel: { file: `scaling/${text.length}.wgsl`, text },
          constants,
          params: { factor, count: x.shape[0]! },
          workgroups: [Math.ceil(x.shape[0]! / 64), 1, 1],
        }],
      }),
    }],
    work: () => ({ flop: 0, bytes: 0 }),
    tolerance: () => ({ units: 1 }),
    cases: [],
    benchCases: () => [],
  };
}

export const GOOD = `// y = factor · x
override WIDTH: u32; // invocations
struct Params { factor: f32, count: u32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;
@compute @workgroup_size(WIDTH)
fn scaling(@builtin(global_invocation_id) id: vec3<u32>) {
  if (id.x < params.count) { y[id.x] = params.factor * x[id.x]; }
}`;

/** An op of two outputs whose shapes and plan a test makes up. */
export function pair(
  shapes: { readonly y: readonly number[]; readonly z: readonly number[] },
  plan: Plan,
): Op<"x", "y" | "z", object> {
  return {
    name: "pair",
    summary: "y and z from x",
    inputs: ["x"],
    outputs: ["y", "z"],
    attributes: [],
    infer: () => ({
      y: { shape: shapes.y, dtype: "f32" },
      z: { shape: shapes.z, dtype: "f32" },
    }),
    reference() {},
    variants: [{ name: "naive", summary: "one", supports: () => true, plan: () => plan }],
    work: () => ({ flop: 0, bytes: 0 }),
    tolerance: () => "exact",
    cases: [],
    benchCases: () => [],
  };
}

/** Copies `source` to `output`, whatever they store. */
export const COPY = {
  file: "pair/copy.wgsl",
  text: `// output = source
@group(0) @binding(1) var<storage, read> source: array<source_scalar>;
@group(0) @binding(2) var<storage, read_write> output: array<output_scalar>;
@compute @workgroup_size(1)
fn copy(@builtin(workgroup_id) id: vec3<u32>) { store_output(id.x, load_source(id.x)); }`,
};

export const numbers = (count: number) =>
  HostTensor.from([count], Array.from({ length: count }, (_, i) => Math.sqrt(i)));
