/**
 * Matrix product: every projection of StableLM, and the two products of attention done without fusion.
 *
 * @module
 */

import { requireArgument } from "../../runtime/errors.ts";
import type { Op } from "../../runtime/op.ts";
import { byteLength, describe, elementCount } from "../../runtime/tensor.ts";
import { benchCases, cases, relations } from "./cases.ts";
import { geometry } from "./geometry.ts";
import { reference } from "./reference.ts";
import { variants } from "./variants.ts";

/** Names that {@linkcode MatmulLayout} may take. */
export const MATMUL_LAYOUTS = ["linear", "plain"] as const;

/** How weight is stored: `linear` is [N, K], as in PyTorch's Linear; `plain` is [K, N]. */
export type MatmulLayout = typeof MATMUL_LAYOUTS[number];

/** Names that {@linkcode MatmulOrder} may take. */
export const MATMUL_ORDERS = ["vector", "tile"] as const;

/**
 * In which order the terms of a sum are added: `vector` deals them out to neighbouring invocations, whose
 * sums are then added, which suits few rows; `tile` adds them from the first to the last, which suits many.
 */
export type MatmulOrder = typeof MATMUL_ORDERS[number];

/** Attributes of {@linkcode matmul}. */
export interface MatmulAttributes {
  /** How weight is stored. */
  readonly layout: MatmulLayout;
  /** Dtype of y; by default x's. */
  readonly dtype?: "f32" | "f16";
  /**
   * Fixes the order of summation, so that a row of y has the same bits whatever the other rows are and
   * however many. By default the faster order for the number of rows is taken. `vector` is for the linear
   * layout and a K of whole words of 16 bytes of weight; of any other product it makes a `tile`.
   */
  readonly order?: MatmulOrder;
}

/**
 * Matrix product.
 *
 *   y = x · Wᵀ + bias   (linear, W [N, K])
 *   y = x · W + bias    (plain, W [K, N])
 *
 * Shapes:  x [..., K], weight [N, K] or [K, N], bias [N] or none → y [..., N]; or a batch of products,
 *          x [B, M, K], weight [B, N, K] or [B, K, N], bias [N] or none → y [B, M, N]
 * Numbers: x f32 or f16, weight and bias f32, f16 or bf16, y f32 or f16; products and sums in f32.
 *          Their order depends on K, the dtype of weight and the variant alone; `order` keeps the choice
 *          of the variant from changing it with the number of rows
 * Limits:  K at least 1; each tensor at most maxStorageBufferBindingSize bytes
 * Source:  Goto and van de Geijn 2008, ACM TOMS 34(3), for the tiling; PyTorch's Linear for the layout
 *
 * @throws {KernelArgumentError} If the shapes do not fit each other, K is 0, or a dtype, the layout or the
 * order is not one of those above
 */
export const matmul: Op<"x" | "weight" | "bias", "y", MatmulAttributes, "bias"> = {
  name: "matmul",
  summary: "y = x · Wᵀ + bias, or x · W",
  inputs: ["x", "weight", "bias"],
  optional: ["bias"],
  outputs: ["y"],
  attributes: ["layout", "dtype", "order"],
  infer({ x, weight, bias }, { layout, dtype = x.dtype, order }) {
    const check: Check = (condition, argument, rule, value) =>
      requireArgument(condition, "matmul", argument, rule, value);
    check(
      MATMUL_LAYOUTS.includes(layout),
      "layout",
      `must be one of ${MATMUL_LAYOUTS.join(", ")}`,
      String(layout),
    );
    check(
      order === undefined || MATMUL_ORDERS.includes(order),
      "order",
      `must be one of ${MATMUL_ORDERS.join(", ")}`,
      String(order),
    );
    check(x.dtype === "f32" || x.dtype === "f16", "x", "must be f32 or f16", describe(x));
    check(
      weight.dtype === "f32" || weight.dtype === "f16" || weight.dtype === "bf16",
      "weight",
      "must be f32, f16 or bf16",
      describe(weight),
    );
    check(dtype === "f32" || dtype === "f16", "dtype", "must be f32 or f16", String(dtype));
    check(x.shape.length >= 1, "x", "must have at least one axis", describe(x));
    const { length: rank } = weight.shape;
    check(rank === 2 || rank === 3, "weight", "must have two or three axes", describe(weight));
    if (rank === 3) {
      check(
        x.shape.length === 3 && x.shape[0] === weight.shape[0],
        "x",
        `must be [${weight.shape[0]}, M, K], as weight is ${describe(weight)}`,
        describe(x),
      );
    }
    const k = x.shape.at(-1)!;
    const [n, weightK] = layout === "linear"
      ? [weight.shape.at(-2)!, weight.shape.at(-1)!]
      : [weight.shape.at(-1)!, weight.shape.at(-2)!];
    check(k >= 1, "x", "must have at least one column, as a sum needs a term", describe(x));
    check(
      weightK === k,
      "weight",
      `must be ${layout === "linear" ? `[…, N, ${k}]` : `[…, ${k}, N]`}, as x is ${describe(x)}`,
      describe(weight),
    );
    if (bias) {
      check(
        bias.dtype === "f32" || bias.dtype === "f16" || bias.dtype === "bf16",
        "bias",
        "must be f32, f16 or bf16",
        describe(bias),
      );
      check(
        bias.shape.length === 1 && bias.shape[0] === n,
        "bias",
        `must have ${n} elements, as weight is ${describe(weight)}`,
        describe(bias),
      );
    }
    return { y: { shape: [...x.shape.slice(0, -1), n], dtype } };
  },
  reference,
  variants,
  work(inputs, { layout, dtype = inputs.x.dtype }) {
    const { x, weight, bias } = inputs;
    const { batches, m, n, k } = geometry(inputs, layout);
    return {
      flop: 2 * batches * m * n * k,
      bytes: byteLength(x) + byteLength(weight) + (bias ? byteLength(bias) : 0) +
        byteLength({ shape: [batches, m, n], dtype }),
    };
  },
  tolerance({ x }, _attributes, family) {
    // Each addition rounds its partial sum by 0.4 units of it (root mean square), with either sign; six
    // standard deviations are out of reach of millions of results. Partial sums of signed terms are a
    // small part of Σ|terms| throughout: a few units whatever K is. Terms of one sign make them grow
    // evenly: 6 · 0.4 · √(K/3). Terms that stay small beside an early one leave them at full scale:
    // 6 · 0.4 · √K. Both are rounded up.
    const k = x.shape.at(-1)!;
    const sameSign = family === "positive" || family === "offset" || family === "constant";
    const growth = sameSign ? 1.5 : family === "outlier" ? 2.5 : 0;
    return {
      units: Math.max(8, growth * Math.sqrt(k)),
      // A device may flush a subnormal operand; the other operand is at most 1 in these cases.
      absolute: family === "subnormal" ? k * 2 ** -126 : 0,
      nmse: elementCount(x.shape) > 0 && family !== "subnormal" ? 1e-10 : 0,
    };
  },
  cases,
  benchCases,
  relations,
};

/** {@linkcode requireArgument} for this op; TypeScript wants an assertion's type written out. */
type Check = (
  condition: boolean,
  argument: string,
  rule: string,
  value: string,
) => asserts condition;
