/**
 * GPU buffers: pooled by size, counted in bytes, and filled by one guarded upload.
 *
 * @module
 */

import type { OpenedDevice } from "./device.ts";
import { GpuLimitError, GpuOutOfMemoryError } from "./errors.ts";

/** `GPUBufferUsage` flags, spelled out because the global is missing where a GPU is injected. */
export const BUFFER_USAGE = {
  mapRead: 0x1,
  copySource: 0x4,
  copyTarget: 0x8,
  uniform: 0x40,
  storage: 0x80,
  queryResolve: 0x200,
} as const;

/** Bytes and buffers that a backend holds. */
export interface MemoryUse {
  /** Bytes in tensors that were not disposed. */
  readonly liveBytes: number;
  /** Tensors that were not disposed. */
  readonly liveTensors: number;
  /** Bytes kept for reuse. */
  readonly pooledBytes: number;
}

/** `queue.writeBuffer` is split into pieces of this size, which keeps Deno's staging memory flat. */
const UPLOAD_CHUNK = 16 * 1024 * 1024;

/** Freed buffers above this many bytes in total are destroyed rather than kept. */
export const POOL_LIMIT = 1024 * 1024 * 1024;

const TENSOR_USAGE = BUFFER_USAGE.storage | BUFFER_USAGE.copySource | BUFFER_USAGE.copyTarget;

/** Storage buffers, reused by size class. */
export class BufferPool {
  readonly #opened: OpenedDevice;
  readonly #free = new Map<number, GPUBuffer[]>();
  readonly #onDestroy: (buffer: GPUBuffer) => void;
  #liveBytes = 0;
  #liveTensors = 0;
  #pooledBytes = 0;
  readonly #unsettled = new Map<GPUBuffer, Promise<GPUError | null>>();
  readonly #refused = new WeakSet<GPUBuffer>();

  /** @param opened the device @param onDestroy told of each buffer before it is destroyed */
  constructor(opened: OpenedDevice, onDestroy: (buffer: GPUBuffer) => void) {
    this.#opened = opened;
    this.#onDestroy = onDestroy;
  }

  /** Bytes and buffers held now. */
  get use(): MemoryUse {
    return {
      liveBytes: this.#liveBytes,
      liveTensors: this.#liveTensors,
      pooledBytes: this.#pooledBytes,
    };
  }

  /**
   * A buffer of at least `bytes`, with whatever its last user left in it.
   *
   * @throws {GpuLimitError} If the device has no buffers of that size
   */
  take(bytes: number): GPUBuffer {
    const { maxBufferSize } = this.#opened.profile.limits;
    const size = sizeClass(bytes, maxBufferSize);
    if (size > maxBufferSize) {
      throw new GpuLimitError(
        `Cannot allocate a tensor: its bytes must be at most ${maxBufferSize} (maxBufferSize): ${bytes}`,
      );
    }
    let buffer = this.#free.get(size)?.pop();
    if (buffer) this.#pooledBytes -= size;
    else buffer = this.#create(size);
    this.#liveBytes += size;
    this.#liveTensors++;
    return buffer;
  }

  /** Gives a buffer back. Work already recorded may still use it: the queue keeps the order. */
  give(buffer: GPUBuffer): void {
    this.#liveBytes -= buffer.size;
    this.#liveTensors--;
    if (this.#refused.has(buffer) || this.#pooledBytes + buffer.size > POOL_LIMIT) {
      this.#destroy(buffer);
      return;
    }
    const free = this.#free.get(buffer.size);
    if (free) free.push(buffer);
    else this.#free.set(buffer.size, [buffer]);
    this.#pooledBytes += buffer.size;
  }

  /** Destroys the buffers that are kept for reuse. */
  trim(): void {
    for (const buffers of this.#free.values()) {
      for (const buffer of buffers) this.#destroy(buffer);
    }
    this.#free.clear();
    this.#pooledBytes = 0;
  }

  /**
   * Waits until the device has accepted every allocation made since the last call. A buffer that it
   * refused is never handed out again. Calls that wait at the same time all learn of it.
   *
   * @throws {GpuOutOfMemoryError} If it refused one
   */
  async settle(): Promise<void> {
    const unsettled = [...this.#unsettled];
    const errors = await Promise.all(unsettled.map(([, scope]) => scope));
    let refusal: GpuOutOfMemoryError | undefined;
    unsettled.forEach(([buffer], i) => {
      this.#unsettled.delete(buffer);
      const error = errors[i];
      if (!error) return;
      this.#refuse(buffer);
      refusal ??= new GpuOutOfMemoryError(`Cannot allocate ${buffer.size} bytes: ${error.message}`);
    });
    if (refusal) throw refusal;
  }

  #create(size: number): GPUBuffer {
    const { device } = this.#opened;
    device.pushErrorScope("out-of-memory");
    const buffer = device.createBuffer({ size, usage: TENSOR_USAGE });
    this.#unsettled.set(buffer, device.popErrorScope());
    return buffer;
  }

  #refuse(buffer: GPUBuffer): void {
    this.#refused.add(buffer);
    const free = this.#free.get(buffer.size) ?? [];
    const place = free.indexOf(buffer);
    if (place < 0) return;
    free.splice(place, 1);
    this.#pooledBytes -= buffer.size;
    this.#destroy(buffer);
  }

  #destroy(buffer: GPUBuffer): void {
    this.#onDestroy(buffer);
    buffer.destroy();
  }
}

/** Tensors from this size on are mostly weights, which no other tensor will take the place of. */
const LARGE = 16 * 1024 * 1024;

/**
 * Rounds up so that sizes which differ a little share buffers: to 256 bytes, and to an eighth of the
 * next lower power of two above that; large ones to a 64th, since what is added is wasted. Never past the largest buffer, unless the bytes are.
 */
export function sizeClass(bytes: number, maxBufferSize: number): number {
  const parts = bytes < LARGE ? 8 : 64;
  const step = Math.max(256, 2 ** Math.floor(Math.log2(Math.max(bytes, 1))) / parts);
  const rounded = Math.max(256, Math.ceil(bytes / step) * step);
  return Math.max(bytes, Math.min(rounded, maxBufferSize - maxBufferSize % 4));
}

/**
 * The only caller of `queue.writeBuffer`. Deno aborts the process on a size or an offset past the
 * source and on a detached source, so the call is made with a checked `Uint8Array` of its own length
 * and nothing else.
 */
export function uploadBytes(
  device: GPUDevice,
  buffer: GPUBuffer,
  byteOffset: number,
  bytes: Uint8Array<ArrayBuffer>,
): void {
  if (bytes.buffer.detached) {
    throw new TypeError("Cannot upload: the source's ArrayBuffer must not be detached: detached");
  }
  if (byteOffset % 4 !== 0 || byteOffset + bytes.byteLength > buffer.size) {
    throw new RangeError(
      `Cannot upload: the target range must lie in the buffer of ${buffer.size} bytes: ` +
        `${byteOffset} + ${bytes.byteLength}`,
    );
  }
  const whole = bytes.byteLength - bytes.byteLength % 4;
  for (let start = 0; start < whole; start += UPLOAD_CHUNK) {
    const piece = bytes.subarray(start, Math.min(start + UPLOAD_CHUNK, whole));
    device.queue.writeBuffer(buffer, byteOffset + start, piece);
    if (whole > UPLOAD_CHUNK) device.queue.submit([]);
  }
  if (whole < bytes.byteLength) {
    const last = new Uint8Array(4);
    last.set(bytes.subarray(whole));
    device.queue.writeBuffer(buffer, byteOffset + whole, last);
  }
}
