/**
 * What a model is written against: run ops, upload, read. The model never asks which backend it is on.
 *
 * @module
 */

import { KernelArgumentError, requireArgument } from "./errors.ts";
import type { Inputs, Op } from "./op.ts";
import {
  byteLength,
  bytesPerElement,
  describe,
  elementCount,
  type HostTensor,
  requireShape,
  type Shape,
  type Tensor,
  type TensorSpec,
} from "./tensor.ts";

/** Runs ops on tensors of type `T`. */
export interface Backend<T extends Tensor = Tensor> extends Disposable {
  /** Device description, for reports. */
  readonly description: string;
  /** The most bytes that one tensor may take; a larger one has to be split. */
  readonly maxTensorBytes: number;
  /** True if ops can store f16; all can read it. */
  readonly hasF16: boolean;
  /** Copies a tensor to the backend. */
  upload(tensor: HostTensor): T;
  /** A tensor of zeros, for a cache that ops write into. */
  zeros(spec: TensorSpec): T;
  /**
   * Copies elements into a tensor, from element `first` of its flattened elements on; so a large tensor
   * can be filled without ever being whole in host memory.
   *
   * @throws {KernelArgumentError} If the dtypes differ, the part does not lie in the tensor, or it begins
   * or ends inside a 4-byte word
   */
  write(tensor: T, first: number, part: HostTensor): void;
  /**
   * The same elements under another shape, without a copy. Each of the two is disposed on its own, and
   * what an op writes into one is seen in the other.
   *
   * @throws {KernelArgumentError} If the shapes differ in their number of elements
   */
  reshape(tensor: T, shape: Shape): T;
  /**
   * Runs an op: the GPU records it, the CPU computes it. Outputs that alias an input are that input;
   * an output that these inputs do not produce is absent, whatever its type says.
   *
   * @throws {KernelArgumentError} If an argument breaks a rule; nothing has happened then
   */
  run<I extends string, O extends string, A extends object, Opt extends I>(
    op: Op<I, O, A, Opt>,
    inputs: Inputs<T, I, Opt>,
    attributes: A,
  ): { readonly [name in O]: T };
  /** Waits for a tensor's value and copies it to host memory. */
  read(tensor: T): Promise<HostTensor>;
  /** Waits until everything so far is done, and throws what went wrong on the way. */
  finish(): Promise<void>;
}

/** Named tensors of one call. */
export type Named<T> = Readonly<Record<string, T | undefined>>;

/**
 * The checks that hold for every op, then the op's own: names known, nothing missing or disposed.
 *
 * @throws {KernelArgumentError} naming op, argument, rule and value
 */
export function inferOutputs<I extends string, O extends string, A extends object, Opt extends I>(
  op: Op<I, O, A, Opt>,
  inputs: Inputs<TensorSpec, I, Opt>,
  attributes: A,
): { readonly [name in O]?: TensorSpec } {
  for (const [argument, value] of [["inputs", inputs], ["attributes", attributes]] as const) {
    const isObject = typeof value === "object" && value !== null;
    requireArgument(isObject, op.name, argument, "must be an object", String(value));
  }
  checkNames(op, Object.keys(inputs), op.inputs, "input");
  checkNames(op, Object.keys(attributes), op.attributes, "attribute");
  const named = inputs as Named<TensorSpec & { disposed?: boolean }>;
  for (const name of op.inputs) {
    const tensor = named[name];
    requireArgument(tensor !== null, op.name, name, "must be a tensor", "null");
    if (tensor === undefined) {
      const optional = op.optional?.some((other) => other === name) ?? false;
      requireArgument(optional, op.name, name, "must be given", "undefined");
    } else {
      requireArgument(
        tensor.disposed !== true,
        op.name,
        name,
        "must not be disposed",
        describe(tensor),
      );
    }
  }
  return op.infer(inputs, attributes);
}

function checkNames(
  op: { readonly name: string },
  given: readonly string[],
  known: readonly string[],
  kind: string,
): void {
  for (const name of given) {
    if (known.includes(name)) continue;
    throw new KernelArgumentError({
      op: op.name,
      argument: `${kind} ${name}`,
      rule: `must be one of ${known.length > 0 ? known.join(", ") : "none"}`,
      value: name,
    });
  }
}

/** The tensors that are present, in the op's order. */
export function presentInputs<T>(
  op: { readonly inputs: readonly string[] },
  inputs: Named<T>,
): [name: string, tensor: T][] {
  const present: [string, T][] = [];
  for (const name of op.inputs) {
    const tensor = inputs?.[name];
    if (tensor !== undefined && tensor !== null) present.push([name, tensor]);
  }
  return present;
}

/** True if a call has no element to compute. */
export function isEmptyCall(outputs: Named<TensorSpec>): boolean {
  return Object.values(outputs).every((spec) => !spec || elementCount(spec.shape) === 0);
}

/** The checks of {@linkcode Backend.reshape}. */
export function requireReshape(tensor: Tensor, shape: Shape): void {
  requireArgument(
    !tensor.disposed,
    "reshape",
    "tensor",
    "must not be disposed",
    describe(tensor),
  );
  requireShape(shape);
  requireArgument(
    elementCount(shape) === elementCount(tensor.shape),
    "reshape",
    "shape",
    `must have ${elementCount(tensor.shape)} elements, as the tensor is ${describe(tensor)}`,
    `[${shape.join(", ")}]`,
  );
}

/** The checks of {@linkcode Backend.write}. */
export function requireWritable(tensor: Tensor, first: number, part: HostTensor): void {
  const demand = (condition: boolean, argument: string, rule: string, value: string) =>
    requireArgument(condition, "write", argument, rule, value);
  demand(!tensor.disposed, "tensor", "must not be disposed", describe(tensor));
  demand(
    part.dtype === tensor.dtype,
    "part",
    `must be ${tensor.dtype}, as the tensor is`,
    describe(part),
  );
  const most = elementCount(tensor.shape) - elementCount(part.shape);
  demand(
    Number.isSafeInteger(first) && first >= 0 && first <= most,
    "first",
    `must be a whole number from 0 to ${most}, as ${describe(part)} goes into ${describe(tensor)}`,
    String(first),
  );
  demand(
    first * bytesPerElement(tensor.dtype) % 4 === 0,
    "first",
    "must be at a multiple of 4 bytes",
    String(first),
  );
  const count = elementCount(part.shape);
  demand(
    first === most || count * bytesPerElement(tensor.dtype) % 4 === 0,
    "part",
    "must end at a multiple of 4 bytes, or where the tensor ends",
    describe(part),
  );
}

/** Refuses a tensor that takes more than a binding can hold. */
export function requireBindable(
  op: string,
  argument: string,
  spec: TensorSpec,
  maxTensorBytes: number,
): void {
  requireArgument(
    byteLength(spec) <= maxTensorBytes,
    op,
    argument,
    `must take at most ${maxTensorBytes} bytes (maxStorageBufferBindingSize)`,
    `${describe(spec)} takes ${byteLength(spec)}`,
  );
}

/** Refuses memory that is bound twice where one of the two is written. */
export function requireDistinct<T>(
  op: { readonly name: string; readonly inputs: readonly string[] },
  written: string,
  inputs: Named<T>,
  memoryOf: (tensor: T) => unknown,
): void {
  const target = inputs[written];
  if (target === undefined) return;
  for (const [name, tensor] of presentInputs(op, inputs)) {
    requireArgument(
      name === written || memoryOf(tensor) !== memoryOf(target),
      op.name,
      written,
      "must not be another input too, as it is written in place",
      name,
    );
  }
}
