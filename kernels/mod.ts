/**
 * The ops. This list is the only place besides its own folder that an op is added to.
 *
 * @module
 */

import type { AnyOp } from "../runtime/op.ts";
import { swiglu } from "./swiglu/swiglu.ts";

export * from "./swiglu/swiglu.ts";
export * from "./model_shapes.ts";

/** Every op, in the order in which reports list them. */
export const ops: readonly AnyOp[] = [
  swiglu,
].map((op) => op as unknown as AnyOp);
