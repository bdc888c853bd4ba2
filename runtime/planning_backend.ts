/**
 * Runs a model without computing it: shapes are checked, variants chosen and bytes counted, as the GPU
 * backend would. It answers what a model needs before a byte of it is loaded.
 *
 * @module
 */

import {
  type Backend,
  inferOutputs,
  isEmptyCall,
  type Named,
  requireBindable,
  requireReshape,
  requireWritable,
} from "./backend.ts";
import { type MemoryUse, POOL_LIMIT, sizeClass } from "./buffers.ts";
import type { DeviceProfile } from "./device.ts";
import { KernelArgumentError } from "./errors.ts";
import type { AnyOp, Inputs, Op, Work } from "./op.ts";
import {
  byteLength,
  describe,
  type Dtype,
  type HostTensor,
  requireShape,
  type Shape,
  type Tensor,
  type TensorSpec,
} from "./tensor.ts";
import { chooseVariant } from "./variants.ts";

/** Bytes that several tensors may stand for; counted until the last of them is disposed. */
interface PlannedStorage {
  readonly free: () => void;
  owners: number;
}

/** A tensor that has a shape, and bytes that are counted, but no elements. */
export class PlannedTensor implements Tensor {
  readonly shape: Shape;
  readonly dtype: Dtype;
  readonly below?: number;
  readonly #storage: PlannedStorage;
  #disposed = false;

  /** Made by a backend; the storage is told when its last owner is gone. */
  constructor(spec: TensorSpec, storage: PlannedStorage) {
    this.shape = [...spec.shape];
    this.dtype = spec.dtype;
    if (spec.below !== undefined) this.below = spec.below;
    this.#storage = storage;
    storage.owners++;
  }

  get disposed(): boolean {
    return this.#disposed;
  }

  /** The same bytes under another shape. */
  withShape(shape: Shape): PlannedTensor {
    return new PlannedTensor({ ...this, shape, below: this.below }, this.#storage);
  }

  /** Stops counting the bytes, if no other tensor stands for them. */
  [Symbol.dispose](): void {
    if (this.#disposed) return;
    this.#disposed = true;
    if (--this.#storage.owners === 0) this.#storage.free();
  }
}

/** What was counted since the last {@linkcode PlanningBackend.reset}. */
export interface PlannedWork extends Work {
  /** Launches of kernels. */
  readonly dispatches: number;
  /** The most bytes that the device held at a time: in tensors, and kept for reuse. */
  readonly peakBytes: number;
}

/** Counts what the ops of a model would take on a device. */
export class PlanningBackend implements Backend<PlannedTensor> {
  readonly description: string;
  /** The device that is planned for. */
  readonly profile: DeviceProfile;
  #live = 0;
  #tensors = 0;
  #pooled = 0;
  readonly #free = new Map<number, number>();
  #work = { flop: 0, bytes: 0, dispatches: 0, peakBytes: 0 };

  /** Takes the device that is planned for: its limits and features decide which variants run. */
  constructor(profile: DeviceProfile) {
    this.profile = profile;
    this.description = `plan for ${profile.description}`;
  }

  get hasF16(): boolean {
    return this.profile.hasF16;
  }

  get maxTensorBytes(): number {
    const { maxStorageBufferBindingSize, maxBufferSize } = this.profile.limits;
    return Math.min(maxStorageBufferBindingSize, maxBufferSize);
  }

  /** Bytes and tensors that are live now. */
  get memory(): MemoryUse {
    return { liveBytes: this.#live, liveTensors: this.#tensors, pooledBytes: this.#pooled };
  }

  /** What was counted so far. */
  get work(): PlannedWork {
    return { ...this.#work };
  }

  /** Counts from zero again; live tensors stay live. */
  reset(): void {
    this.#work = { flop: 0, bytes: 0, dispatches: 0, peakBytes: this.#live + this.#pooled };
  }

  upload(tensor: HostTensor): PlannedTensor {
    return this.#allocate(tensor);
  }

  zeros(spec: TensorSpec): PlannedTensor {
    return this.#allocate(spec);
  }

  write(tensor: PlannedTensor, first: number, part: HostTensor): void {
    requireWritable(tensor, first, part);
  }

  reshape(tensor: PlannedTensor, shape: Shape): PlannedTensor {
    requireReshape(tensor, shape);
    return tensor.withShape(shape);
  }

  run<I extends string, O extends string, A extends object, Opt extends I>(
    op: Op<I, O, A, Opt>,
    inputs: Inputs<PlannedTensor, I, Opt>,
    attributes: A,
  ): { readonly [name in O]: PlannedTensor } {
    const untyped = op as unknown as AnyOp;
    const named = inputs as Named<PlannedTensor>;
    const specs = inferOutputs(untyped, named, attributes) as Named<TensorSpec>;
    for (const [name, spec] of [...Object.entries(named), ...Object.entries(specs)]) {
      if (spec) requireBindable(op.name, name, spec, this.maxTensorBytes);
    }
    const outputs: Record<string, PlannedTensor> = {};
    for (const [name, spec] of Object.entries(specs)) {
      if (spec === undefined) continue;
      const alias = untyped.aliases?.[name];
      outputs[name] = alias === undefined ? this.#allocate(spec) : named[alias]!;
    }
    if (!isEmptyCall(specs)) this.#count(untyped, named, attributes);
    return outputs as { readonly [name in O]: PlannedTensor };
  }

  read(tensor: PlannedTensor): Promise<HostTensor> {
    return Promise.reject(
      new KernelArgumentError({
        op: "read",
        argument: "tensor",
        rule: "must have elements, which a plan does not compute",
        value: describe(tensor),
      }),
    );
  }

  finish(): Promise<void> {
    return Promise.resolve();
  }

  /** Does nothing: a plan holds no memory. */
  [Symbol.dispose](): void {}

  #count(op: AnyOp, inputs: Named<PlannedTensor>, attributes: object): void {
    const plan = chooseVariant(op, inputs, attributes, this.profile)
      .plan(inputs, attributes, this.profile);
    const scratch = Object.values(plan.scratch ?? {}).map((spec) => this.#allocate(spec));
    for (const tensor of scratch) tensor[Symbol.dispose]();
    const { flop, bytes } = op.work(inputs, attributes);
    this.#work.flop += flop;
    this.#work.bytes += bytes;
    this.#work.dispatches += plan.dispatches.length;
  }

  #allocate(spec: TensorSpec): PlannedTensor {
    requireShape(spec.shape);
    const bytes = sizeClass(byteLength(spec), this.profile.limits.maxBufferSize);
    const free = this.#free.get(bytes) ?? 0;
    if (free > 0) {
      this.#free.set(bytes, free - 1);
      this.#pooled -= bytes;
    }
    this.#live += bytes;
    this.#tensors++;
    this.#work.peakBytes = Math.max(this.#work.peakBytes, this.#live + this.#pooled);
    return new PlannedTensor(spec, { free: () => this.#give(bytes), owners: 0 });
  }

  /** As the GPU backend's pool does. */
  #give(bytes: number): void {
    this.#live -= bytes;
    this.#tensors--;
    if (this.#pooled + bytes > POOL_LIMIT) return;
    this.#free.set(bytes, (this.#free.get(bytes) ?? 0) + 1);
    this.#pooled += bytes;
  }
}
