/**
 * Rotary position embedding of a part of each head.
 *
 * @module
 */

import { requireArgument } from "../../runtime/errors.ts";
import type { Op } from "../../runtime/op.ts";
import {
  byteLength,
  describe,
  elementCount,
  sameShape,
  type TensorSpec,
} from "../../runtime/tensor.ts";
import { linearGrid } from "../grid.ts";
import { supportsStoring } from "../support.ts";
import { benchCases, cases, relations } from "./cases.ts";
import naive from "./naive.wgsl" with { type: "text" };
import { reference } from "./reference.ts";
import vec4 from "./vec4.wgsl" with { type: "text" };

export { type RopeTableOptions, type RopeTables, ropeTables } from "./tables.ts";

/** How the rotated elements of a head are paired. */
export const ROPE_PAIRINGS = ["halves", "interleaved"] as const;

/** Pairs (i, i + R/2), as in GPT-NeoX and StableLM, or pairs (2i, 2i + 1), as in the paper. */
export type RopePairing = typeof ROPE_PAIRINGS[number];

/** Attributes of {@linkcode rope}. */
export interface RopeAttributes {
  /** R, the elements of a head that are rotated; even. */
  readonly rotaryDim: number;
  /** How they are paired. */
  readonly pairing: RopePairing;
}

/** Inputs of {@linkcode rope}. */
export type RopeInput = "x" | "cos" | "sin" | "positions";

const WORKGROUP_SIZE = 64;

/**
 * Rotary position embedding: each pair of elements is turned by an angle that grows with the position.
 *
 *   y₁ = x₁ cos(p f) − x₂ sin(p f),   y₂ = x₂ cos(p f) + x₁ sin(p f)
 *
 *   halves:        0 … R/2−1 | R/2 … R−1 | R … D−1     interleaved:  0 1 | 2 3 | … | R … D−1
 *                  x₁ of each  x₂ of each  copied                    pair  pair      copied
 *
 * Shapes:  x [..., H, D]; cos, sin [P, R/2]; positions: one for each of x's leading axes' elements, in
 *          their shape or flat → y [..., H, D]
 * Numbers: x and y are f32 or f16, one dtype for both; tables f32, computed in f32; positions u32. The
 *          elements from R on keep their bits
 * Limits:  every position below P; y at most maxStorageBufferBindingSize bytes
 * Source:  Su et al. 2021, arXiv:2104.09864, section 3.4
 *
 * @throws {KernelArgumentError} If a shape or dtype does not fit, rotaryDim is odd or not what the
 * tables were made for, or a position may be outside the tables
 */
export const rope: Op<RopeInput, "y", RopeAttributes> = {
  name: "rope",
  summary: "y = x with its pairs turned by position · frequency",
  inputs: ["x", "cos", "sin", "positions"],
  outputs: ["y"],
  attributes: ["rotaryDim", "pairing"],
  infer({ x, cos, sin, positions }, { rotaryDim, pairing }) {
    requireArgument(
      ROPE_PAIRINGS.includes(pairing),
      "rope",
      "pairing",
      `must be one of ${ROPE_PAIRINGS.join(", ")}`,
      String(pairing),
    );
    requireArgument(
      x.dtype === "f32" || x.dtype === "f16",
      "rope",
      "x",
      "must be f32 or f16",
      describe(x),
    );
    requireArgument(
      x.shape.length >= 2,
      "rope",
      "x",
      "must have at least two axes, heads and elements",
      describe(x),
    );
    const { columns } = sizesOf(x);
    requireArgument(
      Number.isSafeInteger(rotaryDim) && rotaryDim >= 2 && rotaryDim % 2 === 0 &&
        rotaryDim <= columns,
      "rope",
      "rotaryDim",
      `must be an even number from 2 to ${columns}, as x is ${describe(x)}`,
      String(rotaryDim),
    );
    requireTable("cos", cos, rotaryDim);
    requireTable("sin", sin, rotaryDim);
    requireArgument(
      sameShape(sin.shape, cos.shape),
      "rope",
      "sin",
      `must have shape [${cos.shape.join(", ")}], as cos has`,
      describe(sin),
    );
    requirePositions(positions, x, cos);
    return { y: { shape: x.shape, dtype: x.dtype } };
  },
  reference,
  variants: [
    {
      name: "vec4",
      summary: "four elements per invocation, copies and rotations apart",
      supports: ({ x }, { rotaryDim }, device) =>
        sizesOf(x).columns % 4 !== 0 || rotaryDim % 4 !== 0
          ? "head size and rotaryDim must be multiples of 4"
          : supportsStoring(x.dtype, device),
      plan({ x }, attributes, device) {
        const { tokens, heads, columns } = sizesOf(x);
        const count = tokens * heads * columns / 4;
        return {
          dispatches: [{
            kernel: { file: "rope/vec4.wgsl", text: vec4 },
            constants: constantsOf(x, attributes),
            params: { copies: count - tokens * heads * attributes.rotaryDim / 4, count, heads },
            workgroups: linearGrid(Math.ceil(count / WORKGROUP_SIZE), device),
          }],
        };
      },
    },
    {
      name: "naive",
      summary: "one element per invocation",
      supports: ({ x }, _attributes, device) => supportsStoring(x.dtype, device),
      plan({ x }, attributes, device) {
        const count = elementCount(x.shape);
        return {
          dispatches: [{
            kernel: { file: "rope/naive.wgsl", text: naive },
            constants: constantsOf(x, attributes),
            params: { count, heads: sizesOf(x).heads },
            workgroups: linearGrid(Math.ceil(count / WORKGROUP_SIZE), device),
          }],
        };
      },
    },
  ],
  work({ x, positions }, { rotaryDim }) {
    const { tokens, heads } = sizesOf(x);
    return {
      // Two products and a sum for each rotated element.
      flop: 3 * tokens * heads * rotaryDim,
      // Of the tables, one row of R/2 cosines and sines in f32 for each token.
      bytes: 2 * byteLength(x) + byteLength(positions) + tokens * 2 * (rotaryDim / 2) * 4,
    };
  },
  tolerance() {
    // Two products and a sum round by three units of |x₁ cos| + |x₂ sin|; 4 leaves a flushed subnormal.
    return { units: 4, absolute: 2 ** -125 };
  },
  cases,
  benchCases,
  relations,
};

function sizesOf({ shape }: TensorSpec): { tokens: number; heads: number; columns: number } {
  return {
    tokens: elementCount(shape.slice(0, -2)),
    heads: shape.at(-2) ?? 1,
    columns: shape.at(-1) ?? 1,
  };
}

function constantsOf(x: TensorSpec, { rotaryDim, pairing }: RopeAttributes) {
  return {
    WORKGROUP_SIZE,
    D: sizesOf(x).columns,
    R: rotaryDim,
    INTERLEAVED: pairing === "interleaved" ? 1 : 0,
  };
}

function requireTable(argument: "cos" | "sin", table: TensorSpec, rotaryDim: number): void {
  requireArgument(
    table.dtype === "f32" && table.shape.length === 2 && table.shape[1] === rotaryDim / 2,
    "rope",
    argument,
    `must be f32[positions, ${rotaryDim / 2}], as rotaryDim is ${rotaryDim}`,
    describe(table),
  );
}

function requirePositions(
  positions: TensorSpec,
  x: TensorSpec,
  cos: TensorSpec,
): void {
  const leading = x.shape.slice(0, -2);
  const flat = [elementCount(leading)];
  requireArgument(
    positions.dtype === "u32" &&
      (sameShape(positions.shape, leading) || sameShape(positions.shape, flat)),
    "rope",
    "positions",
    `must be u32[${leading.join(", ")}]${leading.length === 1 ? "" : ` or u32[${flat}]`}, as x is ${
      describe(x)
    }`,
    describe(positions),
  );
  const rows = cos.shape[0]!;
  requireArgument(
    positions.below !== undefined && positions.below <= rows,
    "rope",
    "positions",
    `must be less than ${rows}, the rows of cos`,
    positions.below === undefined ? "of unknown size" : String(positions.below - 1),
  );
}
