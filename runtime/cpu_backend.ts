/**
 * Runs each op by its f64 reference and rounds the result to the dtype. Slow and trusted.
 *
 * @module
 */

import {
  type Backend,
  inferOutputs,
  type Named,
  presentInputs,
  requireDistinct,
  requireReshape,
  requireWritable,
} from "./backend.ts";
import { requireArgument } from "./errors.ts";
import type { AnyOp, Inputs, Op, ReferenceInput, ReferenceOutput } from "./op.ts";
import { elementCount, HostTensor, requireShape, type Shape, type TensorSpec } from "./tensor.ts";

/** The reference path. It needs no GPU. */
export class CpuBackend implements Backend<HostTensor> {
  readonly description = "CPU reference (f64)";
  readonly maxTensorBytes: number = Infinity;
  readonly hasF16: boolean = true;

  upload(tensor: HostTensor): HostTensor {
    return new HostTensor(tensor.shape, tensor.values.slice(), tensor.dtype);
  }

  zeros(spec: TensorSpec): HostTensor {
    requireShape(spec.shape);
    return HostTensor.from(spec.shape, new Float64Array(elementCount(spec.shape)), spec.dtype);
  }

  write(tensor: HostTensor, first: number, part: HostTensor): void {
    requireWritable(tensor, first, part);
    tensor.values.set(part.values, first);
  }

  reshape(tensor: HostTensor, shape: Shape): HostTensor {
    requireReshape(tensor, shape);
    return new HostTensor(shape, tensor.values, tensor.dtype);
  }

  run<I extends string, O extends string, A extends object, Opt extends I>(
    op: Op<I, O, A, Opt>,
    inputs: Inputs<HostTensor, I, Opt>,
    attributes: A,
  ): { readonly [name in O]: HostTensor } {
    for (const [name, tensor] of presentInputs(op, inputs as Named<HostTensor>)) {
      requireArgument(
        tensor instanceof HostTensor,
        op.name,
        name,
        "must be a tensor of this backend",
        "a tensor of another backend",
      );
    }
    const specs = inferOutputs(op, inputs, attributes) as Named<TensorSpec>;
    const { aliases = {} } = op as AnyOp;
    for (const written of Object.values(aliases)) {
      if (written) {
        requireDistinct(op, written, inputs as Named<HostTensor>, ({ values }) => values.buffer);
      }
    }
    const outputs = runReference(op as AnyOp, inputs as Named<HostTensor>, attributes, specs);
    const results: Record<string, HostTensor> = {};
    for (const [name, { values }] of Object.entries(outputs)) {
      const spec = specs[name]!;
      const rounded = HostTensor.from(spec.shape, values, spec.dtype);
      const alias = aliases[name];
      if (alias === undefined) {
        results[name] = rounded;
      } else {
        const target = (inputs as Named<HostTensor>)[alias]!;
        target.values.set(rounded.values);
        results[name] = target;
      }
    }
    return results as { readonly [name in O]: HostTensor };
  }

  read(tensor: HostTensor): Promise<HostTensor> {
    return Promise.resolve(this.upload(tensor));
  }

  finish(): Promise<void> {
    return Promise.resolve();
  }

  /** Does nothing: host memory is collected. */
  [Symbol.dispose](): void {}
}

/**
 * Calls an op's reference.
 *
 * @param rows rows of the outputs to compute; all unless given
 * @returns values and error scales in f64, for each output that these inputs produce
 */
export function runReference(
  op: AnyOp,
  inputs: Named<HostTensor>,
  attributes: object,
  specs: Named<TensorSpec>,
  rows?: Iterable<number>,
): Record<string, ReferenceOutput> {
  const { outputs, compute } = prepareReference(op, inputs, attributes, specs);
  compute(rows);
  return outputs;
}

/** Reserves what a reference writes to; `compute` then calls it, as often as one likes. */
export function prepareReference(
  op: AnyOp,
  inputs: Named<HostTensor>,
  attributes: object,
  specs: Named<TensorSpec>,
): { outputs: Record<string, ReferenceOutput>; compute(rows?: Iterable<number>): void } {
  const operands: Record<string, ReferenceInput> = {};
  for (const [name, tensor] of presentInputs(op, inputs)) {
    operands[name] = { shape: tensor.shape, values: tensor.numbers };
  }
  const outputs: Record<string, ReferenceOutput> = {};
  let rowCount = 0;
  for (const [name, spec] of Object.entries(specs)) {
    if (spec === undefined) continue;
    const count = elementCount(spec.shape);
    const alias = op.aliases?.[name];
    outputs[name] = {
      shape: spec.shape,
      values: alias === undefined
        ? new Float64Array(count)
        : Float64Array.from(operands[alias]!.values),
      scale: new Float64Array(count).fill(NaN),
    };
    // Rows without elements may be billions, and there is nothing to compute in them.
    if (count > 0) rowCount = Math.max(rowCount, rowsOf(spec.shape));
  }
  const compute = (rows: Iterable<number> = Array(rowCount).keys()) =>
    op.reference(operands, attributes, outputs, rows);
  return { outputs, compute };
}

/** Rows of a tensor: all axes but the last, flattened; 1 for a scalar. */
export function rowsOf(shape: Shape): number {
  return elementCount(shape.slice(0, -1));
}
