/**
 * Tensors in GPU memory.
 *
 * @module
 */

import type { GpuBackend } from "./gpu_backend.ts";
import type { BufferRange } from "./recorder.ts";
import { describe, type Dtype, type Shape, type Tensor, type TensorSpec } from "./tensor.ts";

/** A range of a buffer that several tensors may look at; it is given back with the last of them. */
export class GpuStorage {
  /** Where the elements are. */
  readonly range: BufferRange;
  readonly #free: () => void;
  #owners = 0;

  /** `free` is called once, when the last owner has released the storage. */
  constructor(range: BufferRange, free: () => void) {
    this.range = range;
    this.#free = free;
  }

  /** Adds an owner. */
  retain(): void {
    this.#owners++;
  }

  /** Takes an owner away. */
  release(): void {
    if (--this.#owners === 0) this.#free();
  }
}

/** A tensor in GPU memory. Its bytes go back to the backend when the last view of them is disposed. */
export class GpuTensor implements Tensor {
  readonly shape: Shape;
  readonly dtype: Dtype;
  readonly below?: number;
  /** The backend that it belongs to. */
  readonly backend: GpuBackend;
  readonly #storage: GpuStorage;
  #disposed = false;

  /** Made by a backend, of whose storage it becomes an owner. */
  constructor(backend: GpuBackend, spec: TensorSpec, storage: GpuStorage) {
    this.backend = backend;
    this.shape = [...spec.shape];
    this.dtype = spec.dtype;
    const { below } = spec;
    if (below !== undefined) this.below = below;
    this.#storage = storage;
    storage.retain();
  }

  /** Where its elements are. */
  get range(): BufferRange {
    return this.#storage.range;
  }

  /** True once it was disposed. */
  get disposed(): boolean {
    return this.#disposed;
  }

  /** The same elements under another shape; `GpuBackend.reshape` checks that it fits. */
  withShape(shape: Shape): GpuTensor {
    return new GpuTensor(this.backend, { ...this, shape, below: this.below }, this.#storage);
  }

  /** What `console.log` shows: dtype and shape; the elements have to be read. */
  [Symbol.for("Deno.customInspect")](): string {
    return `GpuTensor ${describe(this)}${this.#disposed ? ", disposed" : ""}`;
  }

  /** Lets go of the bytes; work that was recorded before may still use them. */
  [Symbol.dispose](): void {
    if (this.#disposed) return;
    this.#disposed = true;
    this.#storage.release();
  }
}
