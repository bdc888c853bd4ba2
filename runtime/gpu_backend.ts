/**
 * Runs ops on a WebGPU device: validates, chooses a variant, records its dispatches, and submits them
 * when a result is read.
 *
 * @module
 */

import {
  type Backend,
  inferOutputs,
  isEmptyCall,
  type Named,
  presentInputs,
  requireBindable,
  requireDistinct,
  requireReshape,
  requireWritable,
} from "./backend.ts";
import { BUFFER_USAGE, BufferPool, type MemoryUse, uploadBytes } from "./buffers.ts";
import { type DeviceOptions, type DeviceProfile, openDevice, type OpenedDevice } from "./device.ts";
import { GpuDeviceLostError, GpuValidationError, requireArgument } from "./errors.ts";
import { GpuStorage, GpuTensor } from "./gpu_tensor.ts";
import type { AnyOp, AnyVariant, Inputs, Op, Plan } from "./op.ts";
import { PipelineCache } from "./pipeline.ts";
import { bindingDtypes } from "./plan.ts";
import { type BufferRange, Recorder } from "./recorder.ts";
import {
  byteLength,
  bytesPerElement,
  describe,
  HostTensor,
  requireShape,
  type Shape,
  type TensorSpec,
} from "./tensor.ts";
import { PassTimer, type Timing, type TimingOptions } from "./timing.ts";
import { chooseVariant } from "./variants.ts";
import { snakeCase } from "./wgsl.ts";

/** How one call is to run. */
export interface RunOptions {
  /** Name of the variant to use, rather than the preferred one. */
  readonly variant?: string;
}

/** Runs ops on a WebGPU device. */
export class GpuBackend implements Backend<GpuTensor> {
  /** What the device can do. */
  readonly profile: DeviceProfile;
  readonly #opened: OpenedDevice;
  readonly #pool: BufferPool;
  readonly #pipelines: PipelineCache;
  readonly #recorder: Recorder;
  readonly #timer: PassTimer;
  readonly #absent: { read?: GPUBuffer; write?: GPUBuffer } = {};
  #fault: Error | undefined;
  #disposed = false;

  private constructor(opened: OpenedDevice) {
    this.#opened = opened;
    this.profile = opened.profile;
    this.#recorder = new Recorder(opened);
    this.#pool = new BufferPool(opened, (buffer) => this.#forget(buffer));
    this.#pipelines = new PipelineCache(opened);
    this.#timer = new PassTimer(opened);
    opened.device.addEventListener("uncapturederror", (event) => {
      const { error } = event as GPUUncapturedErrorEvent;
      this.#fault ??= new GpuValidationError(`The device reported: ${error.message.trim()}`);
    });
    opened.device.lost.then(({ reason, message }) => {
      if (this.#disposed) return;
      this.#fault = new GpuDeviceLostError(`The device was lost: ${reason}: ${message}`);
    });
  }

  /**
   * Opens a device and makes a backend for it.
   *
   * @throws {GpuUnavailableError} If there is no WebGPU, no adapter or no device
   */
  static async create(options: DeviceOptions = {}): Promise<GpuBackend> {
    return new GpuBackend(await openDevice(options));
  }

  /** Adapter description. */
  get description(): string {
    return this.profile.description;
  }

  get hasF16(): boolean {
    return this.profile.hasF16;
  }

  get maxTensorBytes(): number {
    const { maxStorageBufferBindingSize, maxBufferSize } = this.profile.limits;
    return Math.min(maxStorageBufferBindingSize, maxBufferSize);
  }

  /** The device itself, for what this class does not do. */
  get device(): GPUDevice {
    return this.#opened.device;
  }

  /** Bytes and tensors held now. */
  get memory(): MemoryUse {
    return this.#pool.use;
  }

  /** Pipelines compiled so far. */
  get pipelineCount(): number {
    return this.#pipelines.size;
  }

  upload(tensor: HostTensor): GpuTensor {
    this.#requireUsable();
    const { bytes } = tensor;
    const gpu = this.#allocate(tensor);
    // A reused buffer may still be read by recorded work, which a queue write would overtake.
    this.#recorder.submit();
    uploadBytes(this.device, gpu.range.buffer, 0, bytes);
    return gpu;
  }

  zeros(spec: TensorSpec): GpuTensor {
    this.#requireUsable();
    const tensor = this.#allocate(spec);
    const { buffer, size } = tensor.range;
    this.#recorder.submit((encoder) => encoder.clearBuffer(buffer, 0, size));
    return tensor;
  }

  write(tensor: GpuTensor, first: number, part: HostTensor): void {
    this.#requireUsable();
    this.#requireOwn("write", "tensor", tensor);
    requireWritable(tensor, first, part);
    const { buffer, offset } = tensor.range;
    this.#recorder.submit();
    uploadBytes(this.device, buffer, offset + first * bytesPerElement(tensor.dtype), part.bytes);
  }

  reshape(tensor: GpuTensor, shape: Shape): GpuTensor {
    this.#requireOwn("reshape", "tensor", tensor);
    requireReshape(tensor, shape);
    return tensor.withShape(shape);
  }

  run<I extends string, O extends string, A extends object, Opt extends I>(
    op: Op<I, O, A, Opt>,
    inputs: Inputs<GpuTensor, I, Opt>,
    attributes: A,
    options: RunOptions = {},
  ): { readonly [name in O]: GpuTensor } {
    this.#requireUsable();
    const untyped = op as unknown as AnyOp;
    const named = inputs as Named<GpuTensor>;
    const specs = this.#check(untyped, named, attributes);
    const variant = isEmptyCall(specs)
      ? undefined
      : chooseVariant(untyped, named, attributes, this.profile, options.variant);
    const outputs: Record<string, GpuTensor> = {};
    const made: GpuTensor[] = [];
    try {
      for (const [name, spec] of Object.entries(specs)) {
        if (spec === undefined) continue;
        const alias = untyped.aliases?.[name];
        if (alias === undefined) made.push(outputs[name] = this.#allocate(spec));
        else outputs[name] = named[alias]!;
      }
      if (variant) this.#launch(untyped, variant, named, attributes, outputs);
    } catch (error) {
      for (const tensor of made) tensor[Symbol.dispose]();
      throw error;
    }
    return outputs as { readonly [name in O]: GpuTensor };
  }

  /**
   * Launches a variant on tensors that the caller provides, the outputs included. No argument is
   * checked: `run` is the way in for users, this one is for harnesses that own their buffers.
   */
  launch(
    op: Pick<AnyOp, "inputs" | "outputs">,
    variant: Pick<AnyVariant, "plan">,
    inputs: Named<GpuTensor>,
    attributes: object,
    outputs: Named<GpuTensor>,
  ): void {
    this.#requireUsable();
    this.#launch(op, variant, inputs, attributes, outputs);
  }

  /**
   * A tensor over a range of a buffer that the caller owns, and may destroy once the tensor is
   * disposed.
   */
  adopt(spec: TensorSpec, range: BufferRange): GpuTensor {
    return new GpuTensor(this, spec, new GpuStorage(range, () => this.#forget(range.buffer)));
  }

  /** Submits what was recorded, without waiting for it. */
  submit(): void {
    this.#requireUsable();
    this.#recorder.submit();
  }

  /**
   * Submits what was recorded and waits until the device has done it.
   *
   * @throws {GpuShaderError | GpuOutOfMemoryError | GpuValidationError | GpuDeviceLostError}
   * If anything since the last wait went wrong
   */
  async finish(): Promise<void> {
    this.#requireUsable();
    this.#recorder.submit();
    await this.device.queue.onSubmittedWorkDone();
    await this.#settle();
  }

  /** Launches with parameters that one timed pass can hold. */
  get maxTimedDispatches(): number {
    return this.#recorder.maxDispatches;
  }

  /**
   * Runs `record` in a pass of its own and measures it.
   *
   * @param record runs ops, and neither uploads nor reads; await one timing before the next
   * @throws {RangeError} If `record` dispatches more than {@linkcode maxTimedDispatches}, or does what
   * ends the pass
   */
  time(record: () => void, options?: TimingOptions): Promise<Timing> {
    return this.#timed(() => this.#timer.measure(this.#recorder, record, options));
  }

  /**
   * Compares the device's timestamps with the wall clock over about 0.3 s of passes made by `record`,
   * and corrects later timings where they are off by more than 2 %.
   *
   * @param record as for {@linkcode time}
   * @returns true nanoseconds per tick; undefined without timestamps
   */
  calibrate(record: () => void): Promise<number | undefined> {
    return this.#timed(() => this.#timer.calibrate(this.#recorder, record));
  }

  async read(tensor: GpuTensor): Promise<HostTensor> {
    this.#requireOwn("read", "tensor", tensor);
    requireArgument(!tensor.disposed, "read", "tensor", "must not be disposed", describe(tensor));
    const bytes = await this.readBytes(tensor.range);
    return HostTensor.fromBytes(tensor, bytes);
  }

  /** Copies a range of a buffer to host memory, after everything recorded before. */
  async readBytes({ buffer, offset, size }: BufferRange): Promise<Uint8Array<ArrayBuffer>> {
    this.#requireUsable();
    if (size === 0) return new Uint8Array(0);
    const { device } = this;
    const staging = device.createBuffer({
      size,
      usage: BUFFER_USAGE.mapRead | BUFFER_USAGE.copyTarget,
    });
    try {
      this.#recorder.submit((encoder) =>
        encoder.copyBufferToBuffer(buffer, offset, staging, 0, size)
      );
      try {
        await staging.mapAsync(1 /* GPUMapMode.READ */);
      } catch (cause) {
        await this.#explain(cause);
      }
      const bytes = new Uint8Array(staging.getMappedRange().slice(0));
      await this.#settle();
      return bytes;
    } finally {
      staging.destroy();
    }
  }

  /** Destroys the device and everything on it. */
  [Symbol.dispose](): void {
    if (this.#disposed) return;
    this.#disposed = true;
    this.#recorder.destroy();
    this.#pool.trim();
    this.#timer.destroy();
    this.#absent.read?.destroy();
    this.#absent.write?.destroy();
    this.device.destroy();
  }

  #check(op: AnyOp, inputs: Named<GpuTensor>, attributes: object): Named<TensorSpec> {
    for (const [name, tensor] of presentInputs(op, inputs)) this.#requireOwn(op.name, name, tensor);
    const specs = inferOutputs(op, inputs, attributes) as Named<TensorSpec>;
    for (const [output, input] of Object.entries(op.aliases ?? {})) {
      if (input && specs[output]) requireDistinct(op, input, inputs, ({ range }) => range.buffer);
    }
    for (const [name, spec] of Object.entries(specs)) {
      if (spec) requireBindable(op.name, `output ${name}`, spec, this.maxTensorBytes);
    }
    for (const [name, tensor] of presentInputs(op, inputs)) {
      requireBindable(op.name, name, tensor, this.maxTensorBytes);
    }
    return specs;
  }

  #requireOwn(op: string, argument: string, tensor: GpuTensor): void {
    requireArgument(
      tensor instanceof GpuTensor && tensor.backend === this,
      op,
      argument,
      "must be a tensor of this backend",
      tensor instanceof GpuTensor ? "a tensor of another backend" : describeValue(tensor),
    );
  }

  #allocate(spec: TensorSpec): GpuTensor {
    requireShape(spec.shape);
    bytesPerElement(spec.dtype);
    const size = byteLength(spec);
    const buffer = this.#pool.take(size);
    const storage = new GpuStorage({ buffer, offset: 0, size }, () => this.#pool.give(buffer));
    return new GpuTensor(this, spec, storage);
  }

  #launch(
    op: Pick<AnyOp, "inputs" | "outputs">,
    variant: Pick<AnyVariant, "plan">,
    inputs: Named<GpuTensor>,
    attributes: object,
    outputs: Named<GpuTensor>,
  ): void {
    const plan = variant.plan(inputs, attributes, this.profile);
    const tensors = new Map<string, GpuTensor>();
    for (const [name, tensor] of presentInputs(op, inputs)) tensors.set(snakeCase(name), tensor);
    for (const [name, tensor] of Object.entries(outputs)) {
      if (tensor) tensors.set(snakeCase(name), tensor);
    }
    const scratch: GpuTensor[] = [];
    try {
      for (const [name, spec] of Object.entries(plan.scratch ?? {})) {
        const tensor = this.#allocate(spec);
        scratch.push(tensor);
        tensors.set(snakeCase(name), tensor);
      }
      this.#record(op, plan, tensors);
    } finally {
      for (const tensor of scratch) tensor[Symbol.dispose]();
    }
  }

  #record(
    op: Pick<AnyOp, "inputs" | "outputs">,
    plan: Plan,
    tensors: ReadonlyMap<string, GpuTensor>,
  ): void {
    // Every pipeline first: a kernel that is refused must not leave half a plan recorded.
    const pipelines = plan.dispatches.map((dispatch) => {
      const { kernel, constants = {} } = dispatch;
      return this.#pipelines.get(kernel, constants, bindingDtypes(op, tensors, dispatch));
    });
    plan.dispatches.forEach(({ params = {}, workgroups, bind = {} }, i) => {
      const pipeline = pipelines[i]!;
      const ranges = pipeline.kernel.bindings.map(({ name, access }) => {
        const range = tensors.get(snakeCase(bind[name] ?? name))?.range;
        return range && range.size > 0 ? range : this.#absentRange(access);
      });
      this.#recorder.dispatch(pipeline, ranges, params, workgroups);
    });
  }

  /** What an absent or empty tensor is bound to: WebGPU has no empty bindings. */
  #absentRange(access: "read" | "read_write"): BufferRange {
    const key = access === "read" ? "read" : "write";
    const size = 256;
    const buffer = this.#absent[key] ??= this.device.createBuffer({
      label: "absent tensor",
      size,
      usage: BUFFER_USAGE.storage,
    });
    return { buffer, offset: 0, size };
  }

  /** Lets go of a buffer that is about to be destroyed; what is recorded may still use it. */
  #forget(buffer: GPUBuffer): void {
    this.#recorder.submit();
    this.#recorder.forget(buffer);
  }

  async #timed<T>(measure: () => Promise<T>): Promise<T> {
    this.#requireUsable();
    let result: T;
    try {
      result = await measure();
    } catch (cause) {
      if (cause instanceof DOMException) await this.#explain(cause);
      throw cause;
    }
    await this.#settle();
    return result;
  }

  /** Throws what made the device refuse a map. */
  async #explain(refusal: unknown): Promise<never> {
    await this.#settle();
    throw new GpuDeviceLostError(`Cannot read from the device: the map was refused: ${refusal}`);
  }

  async #settle(): Promise<void> {
    try {
      await this.#pool.settle();
      await this.#pipelines.settle();
    } catch (error) {
      // The device reports the use of what could not be made as well: the cause says more.
      if (this.#fault instanceof GpuValidationError) this.#fault = undefined;
      throw error;
    }
    const fault = this.#fault;
    if (fault instanceof GpuValidationError) this.#fault = undefined;
    if (fault) throw fault;
  }

  #requireUsable(): void {
    if (this.#disposed) throw new GpuDeviceLostError("Cannot use a backend after dispose");
    if (this.#fault instanceof GpuDeviceLostError) throw this.#fault;
  }
}

/** What a caller gave in place of a tensor. */
function describeValue(value: unknown): string {
  if (value instanceof HostTensor) return "a host tensor, which must be uploaded first";
  return value instanceof Object ? value.constructor.name : String(value);
}
