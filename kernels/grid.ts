/**
 * Workgroup counts.
 *
 * @module
 */

import type { DeviceProfile } from "../runtime/device.ts";

/**
 * A grid of at least `count` workgroups, folded into y where x has no room. A kernel finds its number
 * as `workgroup_id.y * num_workgroups.x + workgroup_id.x` and leaves if it is past the end.
 */
export function linearGrid(count: number, device: DeviceProfile): [number, number, number] {
  const most = device.limits.maxComputeWorkgroupsPerDimension;
  const rows = Math.ceil(count / most);
  return rows <= 1 ? [count, 1, 1] : [Math.ceil(count / rows), rows, 1];
}
