/**
 * Which variant of an op runs, and why the others do not.
 *
 * @module
 */

import type { DeviceProfile } from "./device.ts";
import { KernelArgumentError } from "./errors.ts";
import type { Named } from "./backend.ts";
import type { AnyOp, AnyVariant } from "./op.ts";
import type { TensorSpec } from "./tensor.ts";

/** What a device makes of one variant. */
export interface VariantVerdict {
  /** The variant. */
  readonly variant: AnyVariant;
  /** True where it runs, else the reason why it cannot. */
  readonly supported: true | string;
  /** Runs, and is a sensible choice here. */
  readonly preferred: boolean;
}

/** What the device makes of each variant of an op, in the op's order of preference. */
export function judgeVariants(
  op: AnyOp,
  inputs: Named<TensorSpec>,
  attributes: object,
  device: DeviceProfile,
): VariantVerdict[] {
  return op.variants.map((variant) => {
    const supported = variant.supports(inputs, attributes, device);
    const preferred = supported === true &&
      (variant.preferred?.(inputs, attributes, device) ?? true);
    return { variant, supported, preferred };
  });
}

/**
 * The named variant, or the first one that is supported and preferred; failing that the last
 * supported one.
 *
 * @throws {KernelArgumentError} If the name is unknown or its variant cannot run
 */
export function chooseVariant(
  op: AnyOp,
  inputs: Named<TensorSpec>,
  attributes: object,
  device: DeviceProfile,
  name?: string,
): AnyVariant {
  const fault = (rule: string, value: string) =>
    new KernelArgumentError({ op: op.name, argument: "variant", rule, value });
  if (name !== undefined) {
    const variant = op.variants.find((candidate) => candidate.name === name);
    if (!variant) {
      throw fault(`must be one of ${op.variants.map(({ name }) => name).join(", ")}`, name);
    }
    const supported = variant.supports(inputs, attributes, device);
    if (supported !== true) throw fault(`must support this call: ${supported}`, name);
    return variant;
  }
  let fallback: AnyVariant | undefined;
  for (const variant of op.variants) {
    if (variant.supports(inputs, attributes, device) !== true) continue;
    if (variant.preferred?.(inputs, attributes, device) ?? true) return variant;
    fallback = variant;
  }
  if (!fallback) {
    const reasons = judgeVariants(op, inputs, attributes, device).map(({ variant, supported }) =>
      `${variant.name}: ${supported}`
    );
    throw fault("must exist for this call", reasons.join("; "));
  }
  return fallback;
}
