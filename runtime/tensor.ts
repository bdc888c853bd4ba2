/**
 * Shapes, dtypes and tensors in host memory.
 *
 * @module
 */

import { KernelArgumentError, requireArgument } from "./errors.ts";

/**
 * Element types. `bf16` is kept as its 16 bits; `q8` (int8) and `q4` (int4, both in blocks of 32 with
 * one f16 scale) are reserved names that no op takes yet.
 */
export type Dtype = "f32" | "f16" | "bf16" | "i32" | "u32" | "q8" | "q4";

/** Sizes, outermost first; elements are contiguous and row-major. A scalar is `[]`. */
export type Shape = readonly number[];

/** What is known of a tensor without looking at its elements. */
export interface TensorSpec {
  /** Sizes, outermost first. */
  readonly shape: Shape;
  /** Element type. */
  readonly dtype: Dtype;
  /**
   * For u32 tensors: every element is less than this. It lets an op refuse an id or a position that is
   * range before any GPU call, where a shader would silently read something else.
   */
  readonly below?: number | undefined;
}

/** A tensor on some backend. */
export interface Tensor extends TensorSpec, Disposable {
  /** True once the storage was given back. */
  readonly disposed: boolean;
}

/** Bytes per element; 0 marks the packed formats whose size is not a whole number of bytes. */
const BYTES_PER_ELEMENT: Readonly<Record<Dtype, number>> = {
  f32: 4,
  f16: 2,
  bf16: 2,
  i32: 4,
  u32: 4,
  q8: 0,
  q4: 0,
};

/** Storage of a {@linkcode HostTensor}, by dtype: f32, f16, bf16 bits, i32, u32. */
export type HostValues =
  | Float32Array<ArrayBuffer>
  | Float16Array<ArrayBuffer>
  | Uint16Array<ArrayBuffer>
  | Int32Array<ArrayBuffer>
  | Uint32Array<ArrayBuffer>;

/** The elements of a {@linkcode HostTensor} as numbers; bf16 is widened to f32. */
export type HostNumbers = Exclude<HostValues, Uint16Array<ArrayBuffer>>;

/** Number of elements of a shape; 1 for a scalar. */
export function elementCount(shape: Shape): number {
  return shape.reduce((count, size) => count * size, 1);
}

/** Bytes that a tensor takes in a GPU buffer: two 16-bit elements a word, rounded up to whole words. */
export function byteLength(spec: TensorSpec): number {
  return Math.ceil(elementCount(spec.shape) * bytesPerElement(spec.dtype) / 4) * 4;
}

/**
 * Bytes per element.
 *
 * @throws {KernelArgumentError} If the dtype is reserved or unknown
 */
export function bytesPerElement(dtype: Dtype): number {
  const bytes = BYTES_PER_ELEMENT[dtype];
  requireArgument(
    bytes > 0,
    "tensor",
    "dtype",
    "must be f32, f16, bf16, i32 or u32 (q8 and q4 are reserved)",
    String(dtype),
  );
  return bytes;
}

/** `f16[2, 3]`, as it appears in messages. */
export function describe(spec: TensorSpec): string {
  return `${spec.dtype}[${spec.shape.join(", ")}]`;
}

/** True if two shapes have the same rank and sizes. */
export function sameShape(a: Shape, b: Shape): boolean {
  return a.length === b.length && a.every((size, axis) => size === b[axis]);
}

/** The 16 bits of the bfloat16 nearest to `value`, ties to even; a NaN stays a NaN. */
export function toBfloat16(value: number): number {
  FLOAT[0] = value;
  const bits = BITS[0]!;
  if ((bits & 0x7fffffff) > 0x7f800000) return (bits >>> 16) | 0x40;
  return ((bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16) & 0xffff;
}

/** The number that 16 bits of bfloat16 stand for. */
export function fromBfloat16(bits: number): number {
  BITS[0] = bits << 16;
  return FLOAT[0]!;
}

const FLOAT = new Float32Array(1);
const BITS = new Uint32Array(FLOAT.buffer);

/** A tensor in host memory; also the tensor of the CPU backend. */
export class HostTensor implements Tensor {
  readonly shape: Shape;
  readonly dtype: Dtype;
  #values: HostValues | undefined;

  /**
   * Wraps values without copying them.
   *
   * @param shape sizes, outermost first
   * @param values one element each; the array type must be the dtype's (`Uint16Array` holds bf16 bits)
   * @param dtype element type; by default the one that the array type stands for
   * @throws {KernelArgumentError} If a size is not a whole number from 0, or the number of values or
   * their array type does not fit
   */
  constructor(shape: Shape, values: HostValues, dtype: Dtype = defaultDtype(values)) {
    requireShape(shape);
    requireArgument(
      defaultDtype(values) === dtype,
      "tensor",
      "values",
      `must be stored as ${dtype}`,
      values.constructor.name,
    );
    requireArgument(
      values.length === elementCount(shape),
      "tensor",
      "values",
      `must have ${elementCount(shape)} elements, as shape is [${shape.join(", ")}]`,
      `${values.length} elements`,
    );
    this.shape = [...shape];
    this.dtype = dtype;
    this.#values = values;
  }

  /**
   * Rounds numbers to `dtype` and stores them.
   *
   * @throws {KernelArgumentError} If an integer dtype is given a number that it does not hold, or the
   * number of values does not fit the shape
   */
  static from(shape: Shape, numbers: ArrayLike<number>, dtype: Dtype = "f32"): HostTensor {
    return new HostTensor(shape, hostValues(dtype, numbers), dtype);
  }

  /** Copies the bytes of a GPU buffer or a file; little-endian, at least as long as the tensor. */
  static fromBytes(spec: TensorSpec, bytes: Uint8Array): HostTensor {
    const length = elementCount(spec.shape) * bytesPerElement(spec.dtype);
    requireArgument(
      bytes.byteLength >= length,
      "tensor",
      "bytes",
      `must hold ${length} bytes, as the tensor is ${describe(spec)}`,
      `${bytes.byteLength} bytes`,
    );
    // Node's Buffer is a Uint8Array whose `slice` does not copy.
    const copy = new Uint8Array(bytes.subarray(0, length));
    return new HostTensor(spec.shape, viewAs(spec.dtype, copy.buffer), spec.dtype);
  }

  /** The stored elements; for bf16 their bits. */
  get values(): HostValues {
    if (this.#values === undefined) {
      throw new KernelArgumentError({
        op: "tensor",
        argument: "values",
        rule: "must not be disposed",
        value: describe(this),
      });
    }
    return this.#values;
  }

  /** The elements as numbers: the storage itself, or a widened copy for bf16. */
  get numbers(): HostNumbers {
    const { values } = this;
    return values instanceof Uint16Array ? Float32Array.from(values, fromBfloat16) : values;
  }

  /** The elements as little-endian bytes, without a copy. */
  get bytes(): Uint8Array<ArrayBuffer> {
    const { buffer, byteOffset, byteLength } = this.values;
    return new Uint8Array(buffer, byteOffset, byteLength);
  }

  /** For u32 tensors: one more than the largest element as it is now, since elements may be set. */
  get below(): number | undefined {
    return this.#values instanceof Uint32Array ? exclusiveBound(this.#values) : undefined;
  }

  get disposed(): boolean {
    return this.#values === undefined;
  }

  /** What `console.log` shows: dtype, shape and the first elements. */
  [Symbol.for("Deno.customInspect")](): string {
    if (this.disposed) return `HostTensor ${describe(this)}, disposed`;
    const shown = Array.from(this.numbers.subarray(0, 6), (value) => Number(value.toPrecision(6)));
    const more = elementCount(this.shape) > shown.length ? ", …" : "";
    return `HostTensor ${describe(this)} { ${shown.join(", ")}${more} }`;
  }

  /** Lets go of the elements. */
  [Symbol.dispose](): void {
    this.#values = undefined;
  }
}

/** Throws unless every size is a whole number from 0. */
export function requireShape(shape: Shape): void {
  requireArgument(
    shape.every((size) => Number.isSafeInteger(size) && size >= 0),
    "tensor",
    "shape",
    "must hold whole numbers from 0",
    `[${shape.join(", ")}]`,
  );
}

function hostValues(dtype: Dtype, numbers: ArrayLike<number>): HostValues {
  switch (dtype) {
    case "f32":
      return Float32Array.from(numbers);
    case "f16":
      return Float16Array.from(numbers);
    case "bf16":
      return Uint16Array.from(numbers, toBfloat16);
    case "i32":
      requireWhole(numbers, dtype, -(2 ** 31), 2 ** 31 - 1);
      return Int32Array.from(numbers);
    case "u32":
      requireWhole(numbers, dtype, 0, 2 ** 32 - 1);
      return Uint32Array.from(numbers);
    default:
      bytesPerElement(dtype);
      throw new TypeError(`Cannot store numbers as ${dtype}`);
  }
}

/** An id that wrapped around would be a legal one of something else. */
function requireWhole(numbers: ArrayLike<number>, dtype: Dtype, least: number, most: number): void {
  for (let i = 0; i < numbers.length; i++) {
    const value = numbers[i]!;
    const isWhole = Number.isInteger(value) && value >= least && value <= most;
    if (isWhole) continue;
    requireArgument(false, "tensor", `element ${i}`, `must be a whole ${dtype}`, String(value));
  }
}

function viewAs(dtype: Dtype, buffer: ArrayBuffer): HostValues {
  switch (dtype) {
    case "f32":
      return new Float32Array(buffer);
    case "f16":
      return new Float16Array(buffer);
    case "bf16":
      return new Uint16Array(buffer);
    case "i32":
      return new Int32Array(buffer);
    case "u32":
      return new Uint32Array(buffer);
    default:
      bytesPerElement(dtype);
      throw new TypeError(`Cannot view bytes as ${dtype}`);
  }
}

function defaultDtype(values: HostValues): Dtype {
  if (values instanceof Float32Array) return "f32";
  if (values instanceof Float16Array) return "f16";
  if (values instanceof Uint16Array) return "bf16";
  if (values instanceof Int32Array) return "i32";
  requireArgument(
    values instanceof Uint32Array,
    "tensor",
    "values",
    "must be a Float32Array, Float16Array, Uint16Array, Int32Array or Uint32Array",
    (values as object | undefined)?.constructor?.name ?? String(values),
  );
  return "u32";
}

function exclusiveBound(values: Uint32Array): number {
  let bound = 0;
  for (const value of values) if (value >= bound) bound = value + 1;
  return bound;
}
