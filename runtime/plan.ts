/**
 * From a variant's plan to complete WGSL, for those who run it and for those who read it.
 *
 * @module
 */

import { inferOutputs, type Named, presentInputs } from "./backend.ts";
import type { DeviceProfile } from "./device.ts";
import type { AnyOp, AnyVariant, Dispatch } from "./op.ts";
import type { Dtype, TensorSpec } from "./tensor.ts";
import { snakeCase, specialize, type SpecializedKernel, type WgslDialect } from "./wgsl.ts";

/**
 * Dtype per WGSL name of everything that a dispatch may bind. An optional tensor that is absent counts
 * as f32, so that the kernel compiles; a name that no tensor has is left out, so that it does not.
 *
 * @param tensors the tensors that are there, by WGSL name
 */
export function bindingDtypes(
  op: Pick<AnyOp, "inputs" | "outputs">,
  tensors: ReadonlyMap<string, TensorSpec>,
  { bind = {} }: Pick<Dispatch, "bind">,
): Record<string, Dtype> {
  const dtypes: Record<string, Dtype> = {};
  for (const name of [...op.inputs, ...op.outputs]) dtypes[snakeCase(name)] = "f32";
  for (const [name, tensor] of tensors) dtypes[name] = tensor.dtype;
  const bound = { ...dtypes };
  for (const [binding, name] of Object.entries(bind)) {
    const dtype = dtypes[snakeCase(name)];
    if (dtype === undefined) delete bound[binding];
    else bound[binding] = dtype;
  }
  return bound;
}

/** A dispatch and the WGSL that it runs. */
export interface SpecializedDispatch {
  /** As the variant planned it. */
  readonly dispatch: Dispatch;
  /** Its kernel with constants and dtypes filled in. */
  readonly kernel: SpecializedKernel;
}

/**
 * The complete WGSL of a variant for one call, in the order in which it runs.
 *
 * @throws {KernelArgumentError} If an argument breaks a rule of the op
 */
export function specializePlan(
  op: AnyOp,
  variant: AnyVariant,
  inputs: Named<TensorSpec>,
  attributes: object,
  device: DeviceProfile,
  dialect: WgslDialect,
): SpecializedDispatch[] {
  const outputs = inferOutputs(op, inputs, attributes) as Named<TensorSpec>;
  const plan = variant.plan(inputs, attributes, device);
  const tensors = new Map<string, TensorSpec>();
  const specs = [
    ...presentInputs(op, inputs),
    ...Object.entries(outputs),
    ...Object.entries(plan.scratch ?? {}),
  ];
  for (const [name, spec] of specs) if (spec) tensors.set(snakeCase(name), spec);
  return plan.dispatches.map((dispatch) => {
    const dtypes = bindingDtypes(op, tensors, dispatch);
    const kernel = specialize(dispatch.kernel, dispatch.constants ?? {}, dtypes, dialect);
    return { dispatch, kernel };
  });
}
