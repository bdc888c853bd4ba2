/**
 * The gate of StableLM's MLP.
 *
 * @module
 */

import { requireArgument } from "../../runtime/errors.ts";
import type { Inputs, Op, Plan } from "../../runtime/op.ts";
import {
  byteLength,
  describe,
  elementCount,
  sameShape,
  type TensorSpec,
} from "../../runtime/tensor.ts";
import type { WgslFile } from "../../runtime/wgsl.ts";
import { linearGrid } from "../grid.ts";
import { supportsStoring } from "../support.ts";
import activationWgsl from "./activation.wgsl" with { type: "text" };
import { benchCases, cases, relations } from "./cases.ts";
import naive from "./naive.wgsl" with { type: "text" };
import { reference } from "./reference.ts";
import vec4 from "./vec4.wgsl" with { type: "text" };

/** Names that a config's `hidden_act` may take. */
export const ACTIVATIONS = ["silu", "gelu", "gelu_tanh", "relu"] as const;

/** Activation of the gate: x·σ(x), GELU by erf, GELU by tanh, or max(x, 0). */
export type Activation = typeof ACTIVATIONS[number];

/** Attributes of {@linkcode swiglu}. */
export interface SwigluAttributes {
  /** Activation of the gate; silu makes it SwiGLU proper. */
  readonly activation: Activation;
}

const WORKGROUP_SIZE = 64;

const VEC4_KERNEL: WgslFile = { file: "swiglu/vec4.wgsl", text: vec4 + activationWgsl };
const NAIVE_KERNEL: WgslFile = { file: "swiglu/naive.wgsl", text: naive + activationWgsl };

/**
 * Gated activation.
 *
 *   y = act(gate) · up,   silu(x) = x / (1 + e⁻ˣ)
 *
 * Shapes:  gate, up [..., F] → y [..., F], all of one shape
 * Numbers: gate, up and y are f32 or f16, one dtype for all; computed in f32
 * Limits:  y at most maxStorageBufferBindingSize bytes
 * Source:  Shazeer 2020, arXiv:2002.05202, section 2; Hendrycks and Gimpel 2016, arXiv:1606.08415
 *
 * @throws {KernelArgumentError} If the shapes or dtypes differ, or the activation is unknown
 */
export const swiglu: Op<"gate" | "up", "y", SwigluAttributes> = {
  name: "swiglu",
  summary: "y = act(gate) · up",
  inputs: ["gate", "up"],
  outputs: ["y"],
  attributes: ["activation"],
  infer({ gate, up }, { activation }) {
    requireArgument(
      ACTIVATIONS.includes(activation),
      "swiglu",
      "activation",
      `must be one of ${ACTIVATIONS.join(", ")}`,
      String(activation),
    );
    requireArgument(
      gate.dtype === "f32" || gate.dtype === "f16",
      "swiglu",
      "gate",
      "must be f32 or f16",
      describe(gate),
    );
    requireArgument(
      sameShape(gate.shape, up.shape) && gate.dtype === up.dtype,
      "swiglu",
      "up",
      `must be ${describe(gate)}, as gate is`,
      describe(up),
    );
    return { y: { shape: gate.shape, dtype: gate.dtype } };
  },
  reference,
  variants: [
    {
      name: "vec4",
      summary: "four elements per invocation in one load each",
      supports: ({ gate }, _attributes, device) =>
        // The row's length and not the number of elements, which depends on the batch.
        gate.shape.at(-1)! % 4 !== 0
          ? "the row length must be a multiple of 4"
          : supportsStoring(gate.dtype, device),
      plan: (inputs, attributes, device) =>
        planElementwise(VEC4_KERNEL, 4, inputs, attributes, device),
    },
    {
      name: "naive",
      summary: "one element per invocation",
      supports: ({ gate }, _attributes, device) => supportsStoring(gate.dtype, device),
      plan: (inputs, attributes, device) =>
        planElementwise(NAIVE_KERNEL, 1, inputs, attributes, device),
    },
  ],
  work({ gate }) {
    // exp, add, divide, multiply: four operations an element, as silu is counted in the literature.
    return { flop: 4 * elementCount(gate.shape), bytes: 3 * byteLength(gate) };
  },
  tolerance() {
    // (8 + 2|z|) ULP, the second factor being in the reference's scale: WGSL allows exp 3 + 2|z| ULP at
    // z, and five are for what is around it. A ULP is two units at most. Far out the exponential is
    // clamped, and the result is below the absolute part.
    return { units: 2, absolute: 1e-7 };
  },
  cases,
  benchCases,
  relations,
};

type Plannable = Inputs<TensorSpec, "gate" | "up", never>;

function planElementwise(
  kernel: WgslFile,
  lanes: number,
  { gate }: Plannable,
  { activation }: SwigluAttributes,
  device: Parameters<typeof linearGrid>[1],
): Plan {
  const count = Math.ceil(elementCount(gate.shape) / lanes);
  return {
    dispatches: [{
      kernel,
      constants: { WORKGROUP_SIZE, ACTIVATION: ACTIVATIONS.indexOf(activation) },
      params: { count },
      workgroups: linearGrid(Math.ceil(count / WORKGROUP_SIZE), device),
    }],
  };
}
