import type { Inputs, Variant } from "../../runtime/op.ts";
import { bytesPerElement, elementCount, type TensorSpec } from "../../runtime/tensor.ts";
import type { MatmulAttributes, MatmulLayout, MatmulOrder } from "./matmul.ts";

/** The operands of a call. */
export type Operands = Inputs<TensorSpec, "x" | "weight" | "bias", "bias">;

/** A way to compute a call. */
export type MatmulVariant = Variant<"x" | "weight" | "bias", "bias", MatmulAttributes>;

/** Sizes of a call: `batches` products of [m, k] by [k, n]. */
export interface Geometry {
  /** Products; 1 where weight is shared by all rows. */
  readonly batches: number;
  /** Rows of x per product. */
  readonly m: number;
  /** Columns of y. */
  readonly n: number;
  /** Terms of a sum. */
  readonly k: number;
}

/** Reads the sizes off the shapes. A shared weight makes every leading axis of x a part of m. */
export function geometry({ x, weight }: Operands, layout: MatmulLayout): Geometry {
  const k = x.shape.at(-1)!;
  const n = weight.shape.at(layout === "linear" ? -2 : -1)!;
  if (weight.shape.length === 3) return { batches: x.shape[0]!, m: x.shape[1]!, n, k };
  return { batches: 1, m: elementCount(x.shape.slice(0, -1)), n, k };
}

/** True where a column of weight is a whole number of 16-byte words, which `vector` is made for. */
export function hasWholeWords({ x, weight }: Operands, layout: MatmulLayout): boolean {
  return layout === "linear" && x.shape.at(-1)! * bytesPerElement(weight.dtype) % 16 === 0;
}

/** The order that a call gets: never by its number of rows, unless it asks for none. */
export function orderOf(
  inputs: Operands,
  { layout, order }: MatmulAttributes,
): MatmulOrder | undefined {
  return order === "vector" && !hasWholeWords(inputs, layout) ? "tile" : order;
}
