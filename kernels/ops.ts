/**
 * The ops as a list, for whatever goes through all of them.
 *
 * @module
 */

import type { AnyOp } from "../runtime/op.ts";
import * as kernels from "./mod.ts";

/** Every op that `kernels/mod.ts` exports, in alphabetical order. */
export const ops: readonly AnyOp[] = (Object.values(kernels) as unknown[]).filter(isOp);

function isOp(value: unknown): value is AnyOp {
  return typeof value === "object" && value !== null && "infer" in value && "variants" in value;
}
