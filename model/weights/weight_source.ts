/**
 * Where a model's tensors come from. Loading is written against this, so that it does not know whether
 * they lie in one safetensors file, in shards, in a GGUF file or in memory.
 *
 * @module
 */

import type { HostTensor, Shape } from "../../runtime/tensor.ts";

/** Element types that a source hands out. What is quantised is dequantised to f32 on the way. */
export type WeightDtype = "f32" | "f16" | "bf16";

/** A tensor of a source, as its header describes it. */
export interface StoredTensor {
  /** Sizes, outermost first. */
  readonly shape: Shape;
  /** What {@linkcode WeightSource.read} returns it as. */
  readonly dtype: WeightDtype;
  /** The file's own word for how it is stored: `BF16`, `Q4_K`. */
  readonly storedAs: string;
  /** The file that holds it. */
  readonly file: string;
  /** Its first byte in that file. */
  readonly byteOffset: number;
  /** Bytes that it takes in that file. */
  readonly byteLength: number;
}

/** A range of a tensor's first axis. */
export interface RowRange {
  /** First row. */
  readonly begin: number;
  /** One more than the last row. */
  readonly end: number;
}

/** Named tensors, read a range at a time; names are Hugging Face's, whatever the file calls them. */
export interface WeightSource extends Disposable {
  /** What messages call it: a folder or a file. */
  readonly name: string;
  /** Tensors by name. */
  readonly tensors: ReadonlyMap<string, StoredTensor>;
  /**
   * Reads a tensor, or rows of it. Host memory holds no more than what is asked for, twice at most.
   *
   * @throws {ModelFormatError} If the file is shorter than its header says
   * @throws {RangeError} If there is no such tensor or row
   */
  read(name: string, rows?: RowRange, signal?: AbortSignal): Promise<HostTensor>;
}
