/**
 * Rules that variants of several ops share.
 *
 * @module
 */

import type { DeviceProfile } from "../runtime/device.ts";
import type { Dtype } from "../runtime/tensor.ts";

/** Two invocations may own the halves of one word, so f16 is stored as f16 proper. */
export function supportsStoring(dtype: Dtype, { hasF16 }: DeviceProfile): true | string {
  return dtype !== "f16" || hasF16 || "f16 output needs the feature shader-f16";
}

const ROW_WORKGROUP = { least: 64, most: 256 };

/** Invocations for a row of this many elements: a power of two, about one for each group of four. */
export function rowWorkgroupSize(columns: number): number {
  const wanted = 2 ** Math.ceil(Math.log2(columns / 4));
  return Math.min(Math.max(wanted, ROW_WORKGROUP.least), ROW_WORKGROUP.most);
}

/** True where a workgroup can be one subgroup, whose size must be known for that. */
export function supportsSubgroupRows(device: DeviceProfile): true | string {
  if (!device.hasSubgroups) return "subgroups are not available";
  return device.subgroupMinSize === device.subgroupMaxSize || "the subgroup size must be fixed";
}

/** True where the device lets an invocation run this many iterations, leaving a loop being one. */
export function supportsLoops(
  iterations: number,
  { maxLoopIterations }: DeviceProfile,
): true | string {
  return iterations <= maxLoopIterations ||
    `this device ends loops after ${maxLoopIterations} iterations`;
}
