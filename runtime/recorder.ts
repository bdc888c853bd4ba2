/**
 * Records dispatches into one open compute pass: bind groups cached, parameters in one arena that a
 * single write uploads at submit.
 *
 * @module
 */

import { BUFFER_USAGE, uploadBytes } from "./buffers.ts";
import type { OpenedDevice } from "./device.ts";
import { GpuLimitError, GpuShaderError } from "./errors.ts";
import type { Pipeline } from "./pipeline.ts";
import type { ParamField } from "./wgsl.ts";
import { snakeCase } from "./wgsl.ts";

/** A range of a buffer, as a kernel binds it. */
export interface BufferRange {
  /** The buffer. */
  readonly buffer: GPUBuffer;
  /** First byte. */
  readonly offset: number;
  /** Bytes. */
  readonly size: number;
}

/** Bytes of parameters that one submission may hold: 1024 dispatches at an alignment of 256. */
const ARENA_BYTES = 256 * 1024;

/** A `Params` struct of 32 fields, more than any kernel has. */
const MOST_PARAM_BYTES = 128;

/** Bind groups are dropped all at once above this number; a model's working set is far below. */
const MAX_BIND_GROUPS = 16_384;

/** Records into one pass until {@linkcode Recorder.submit}. */
export class Recorder {
  readonly #opened: OpenedDevice;
  readonly #arena: GPUBuffer;
  readonly #staging = new ArrayBuffer(ARENA_BYTES);
  readonly #bytes = new DataView(this.#staging);
  readonly #bindGroups = new Map<string, GPUBindGroup>();
  readonly #bufferIds = new WeakMap<GPUBuffer, number>();
  #nextBufferId = 0;
  #used = 0;
  #encoder: GPUCommandEncoder | undefined;
  #pass: GPUComputePassEncoder | undefined;
  #isTimed = false;

  /**
   * Makes a recorder with an empty arena.
   *
   * @param opened the device to record for
   */
  constructor(opened: OpenedDevice) {
    this.#opened = opened;
    this.#arena = opened.device.createBuffer({
      label: "parameters",
      size: ARENA_BYTES,
      usage: BUFFER_USAGE.uniform | BUFFER_USAGE.copyTarget,
    });
  }

  /** Dispatches that one submission holds at least; a further one submits those before it. */
  get maxDispatches(): number {
    const { minUniformBufferOffsetAlignment } = this.#opened.profile.limits;
    return Math.floor(ARENA_BYTES / Math.max(minUniformBufferOffsetAlignment, MOST_PARAM_BYTES));
  }

  /** True while a timed pass is open. */
  get isTimed(): boolean {
    return this.#isTimed;
  }

  /**
   * Records one dispatch.
   *
   * @param ranges one per storage binding of the kernel, in its order
   * @param params a value for each field of the kernel's `Params`, in camelCase
   * @throws {GpuLimitError} If there are too many workgroups, or a range is larger than a binding
   */
  dispatch(
    pipeline: Pipeline,
    ranges: readonly BufferRange[],
    params: Readonly<Record<string, number>>,
    workgroups: readonly [number, number, number],
  ): void {
    const { maxComputeWorkgroupsPerDimension: most } = this.#opened.profile.limits;
    for (const count of workgroups) {
      if (!(Number.isInteger(count) && count >= 0 && count <= most)) {
        throw new GpuLimitError(
          `Cannot dispatch ${pipeline.kernel.entryPoint}: workgroups must be whole numbers to ${most}: ` +
            workgroups.join("×"),
        );
      }
    }
    const slot = this.#writeParams(pipeline.kernel, params);
    const pass = this.#openPass();
    pass.setPipeline(pipeline.compute);
    pass.setBindGroup(
      0,
      this.#bindGroup(pipeline, ranges),
      slot === undefined ? [] : [slot],
    );
    pass.dispatchWorkgroups(...workgroups);
  }

  /** Ends the pass and submits what was recorded. Further commands may be added to the encoder. */
  submit(finish?: (encoder: GPUCommandEncoder) => void): void {
    if (!this.#encoder && !finish) return;
    const { device } = this.#opened;
    this.#pass?.end();
    const encoder = this.#encoder ?? device.createCommandEncoder();
    finish?.(encoder);
    if (this.#used > 0) {
      uploadBytes(device, this.#arena, 0, new Uint8Array(this.#staging, 0, this.#used));
    }
    device.queue.submit([encoder.finish()]);
    this.#encoder = this.#pass = undefined;
    this.#isTimed = false;
    this.#used = 0;
  }

  /**
   * Opens a pass whose begin and end are written to a query set; what was recorded before it is
   * submitted first. The next submit closes it.
   */
  openTimedPass(timestampWrites: GPUComputePassTimestampWrites | undefined): void {
    this.submit();
    this.#encoder = this.#opened.device.createCommandEncoder();
    this.#pass = this.#encoder.beginComputePass(timestampWrites ? { timestampWrites } : {});
    this.#isTimed = true;
  }

  /** Forgets the bind groups that hold a buffer which is about to be destroyed. */
  forget(buffer: GPUBuffer): void {
    const id = this.#bufferIds.get(buffer);
    if (id === undefined) return;
    const part = `:${id}@`;
    for (const key of this.#bindGroups.keys()) {
      if (key.includes(part)) this.#bindGroups.delete(key);
    }
  }

  /** Destroys the parameter arena. */
  destroy(): void {
    this.#pass?.end();
    this.#encoder = this.#pass = undefined;
    this.#bindGroups.clear();
    this.#arena.destroy();
  }

  #openPass(): GPUComputePassEncoder {
    this.#encoder ??= this.#opened.device.createCommandEncoder();
    return this.#pass ??= this.#encoder.beginComputePass();
  }

  /** Writes a parameter block and returns its offset in the arena. */
  #writeParams(
    { params: fields, entryPoint }: Pipeline["kernel"],
    params: Readonly<Record<string, number>>,
  ): number | undefined {
    if (fields.length === 0) return undefined;
    const { minUniformBufferOffsetAlignment: alignment } = this.#opened.profile.limits;
    const size = paramBytes(fields);
    let offset = Math.ceil(this.#used / alignment) * alignment;
    if (offset + size > ARENA_BYTES) {
      if (this.#isTimed) {
        throw new RangeError(
          `Cannot time a pass: it must have at most ${this.maxDispatches} dispatches`,
        );
      }
      this.submit();
      offset = 0;
    }
    const values = new Map(Object.entries(params).map(([name, value]) => [snakeCase(name), value]));
    fields.forEach(({ name, type }, index) => {
      const value = values.get(name);
      if (value === undefined || values.size !== fields.length) {
        throw new GpuShaderError(
          `Cannot dispatch ${entryPoint}: parameters must be ` +
            `${fields.map((field) => field.name).join(", ")}: ${[...values.keys()].join(", ")}`,
        );
      }
      if (!isOfType(value, type)) {
        throw new GpuShaderError(
          `Cannot dispatch ${entryPoint}: ${name} must be ${type}: ${value}`,
        );
      }
      const at = offset + 4 * index;
      if (type === "f32") this.#bytes.setFloat32(at, value, true);
      else if (type === "u32") this.#bytes.setUint32(at, value, true);
      else this.#bytes.setInt32(at, value, true);
    });
    this.#used = offset + size;
    return offset;
  }

  #bindGroup(pipeline: Pipeline, ranges: readonly BufferRange[]): GPUBindGroup {
    let key = `${pipeline.layoutId}/${pipeline.kernel.params.length}`;
    const { maxStorageBufferBindingSize: most } = this.#opened.profile.limits;
    for (const { buffer, offset, size } of ranges) {
      if (size > most) {
        throw new GpuLimitError(
          `Cannot dispatch ${pipeline.kernel.entryPoint}: a binding must be at most ${most} bytes ` +
            `(maxStorageBufferBindingSize): ${size}`,
        );
      }
      key += `:${this.#bufferId(buffer)}@${offset}+${size}`;
    }
    let group = this.#bindGroups.get(key);
    if (group === undefined) {
      if (this.#bindGroups.size >= MAX_BIND_GROUPS) this.#bindGroups.clear();
      const entries: GPUBindGroupEntry[] = pipeline.kernel.bindings.map(({ index }, i) => ({
        binding: index,
        resource: ranges[i]!,
      }));
      if (pipeline.kernel.params.length > 0) {
        const size = paramBytes(pipeline.kernel.params);
        entries.unshift({ binding: 0, resource: { buffer: this.#arena, offset: 0, size } });
      }
      group = this.#opened.device.createBindGroup({ layout: pipeline.layout, entries });
      this.#bindGroups.set(key, group);
    }
    return group;
  }

  #bufferId(buffer: GPUBuffer): number {
    let id = this.#bufferIds.get(buffer);
    if (id === undefined) {
      id = this.#nextBufferId++;
      this.#bufferIds.set(buffer, id);
    }
    return id;
  }
}

/** Bytes of a `Params` struct: four a field, rounded up to the 16 that uniforms are sized in. */
function paramBytes(fields: readonly ParamField[]): number {
  return Math.ceil(fields.length / 4) * 16;
}

function isOfType(value: number, type: ParamField["type"]): boolean {
  if (type === "f32") return !Number.isNaN(value);
  const [least, most] = type === "u32" ? [0, 2 ** 32 - 1] : [-(2 ** 31), 2 ** 31 - 1];
  return Number.isInteger(value) && value >= least && value <= most;
}
