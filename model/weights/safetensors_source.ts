/**
 * Tensors of a safetensors file, read a range at a time.
 *
 * @module
 */

import { ModelUnsupportedError } from "../../runtime/errors.ts";
import { quoteName } from "../../runtime/json_text.ts";
import {
  DEFAULT_MAX_HEADER_BYTES,
  FORMAT_MAX_HEADER_BYTES,
  parseSafetensorsHeader,
  readHeaderLength,
  type SafetensorsHeader,
} from "../../runtime/safetensors_header.ts";
import { HostTensor, type Shape } from "../../runtime/tensor.ts";
import type { ByteSource } from "./byte_source.ts";
import type { RowRange, StoredTensor, WeightDtype, WeightSource } from "./weight_source.ts";

/** How to open a file. */
export interface SafetensorsOptions {
  /** Headers above this are refused: 16 MiB unless given, at most the format's 100,000,000. */
  readonly maxHeaderBytes?: number;
  /** Aborts the opening. */
  readonly signal?: AbortSignal | undefined;
}

/**
 * A safetensors file as a {@linkcode WeightSource}. Its float tensors are read as they are stored, F64 as
 * f32. Integers and booleans, which no weight of StableLM is, are listed as f32, and to read one throws.
 */
export class SafetensorsSource implements WeightSource {
  readonly name: string;
  readonly tensors: ReadonlyMap<string, StoredTensor>;
  /** The header's `__metadata__`: `format` is `pt` where PyTorch wrote it. */
  readonly metadata: ReadonlyMap<string, string>;
  readonly #bytes: ByteSource;

  /** Takes over the bytes, and the header that was read from them. */
  constructor(bytes: ByteSource, { entries, metadata }: SafetensorsHeader) {
    this.name = bytes.name;
    this.metadata = metadata;
    this.#bytes = bytes;
    const tensors = new Map<string, StoredTensor>();
    for (const [name, { dtype: storedAs, shape, begin, end }] of entries) {
      const dtype = READ_AS[storedAs] ?? "f32";
      const place = { file: bytes.name, byteOffset: begin, byteLength: end - begin };
      tensors.set(name, { shape, dtype, storedAs, ...place });
    }
    this.tensors = tensors;
  }

  /**
   * Reads a tensor, or rows of it, into memory of its own.
   *
   * @throws {ModelFormatError} reason `truncated`, if the file has become shorter
   * @throws {ModelUnsupportedError} reason `entry-dtype`, if it is no float tensor
   * @throws {RangeError} If there is no such tensor or row
   */
  async read(name: string, rows?: RowRange, signal?: AbortSignal): Promise<HostTensor> {
    const tensor = requireTensor(this, name);
    const { storedAs, byteOffset, byteLength } = tensor;
    if (READ_AS[storedAs] === undefined) {
      throw new ModelUnsupportedError({
        file: this.name,
        place: `tensor ${quoteName(name)} at byte ${byteOffset}`,
        reason: "entry-dtype",
        rule: `dtype must be one of ${Object.keys(READ_AS).join(", ")} to be read`,
        value: storedAs,
      });
    }
    const { shape, begin, count } = selectRows(this.name, name, tensor.shape, rows);
    const rowBytes = count === 0 ? 0 : byteLength / (tensor.shape[0] ?? 1);
    const bytes = await this.#bytes.read(byteOffset + begin * rowBytes, count * rowBytes, signal);
    // The bytes are a new buffer's, from its start: aligned for every element type.
    switch (storedAs) {
      case "F64":
        return new HostTensor(shape, new Float32Array(new Float64Array(bytes.buffer)), "f32");
      case "F32":
        return new HostTensor(shape, new Float32Array(bytes.buffer), "f32");
      case "F16":
        return new HostTensor(shape, new Float16Array(bytes.buffer), "f16");
      default:
        return new HostTensor(shape, new Uint16Array(bytes.buffer), "bf16");
    }
  }

  /** Closes the file. */
  [Symbol.dispose](): void {
    this.#bytes[Symbol.dispose]();
  }
}

/** What a dtype of the file is read as. */
const READ_AS: Readonly<Record<string, WeightDtype>> = {
  F64: "f32",
  F32: "f32",
  F16: "f16",
  BF16: "bf16",
};

/**
 * Opens a safetensors file. Only its header is read: 8 bytes, then what they say.
 *
 * @param bytes the file; the source closes it, and so does a failure to open
 * @throws {ModelFormatError} If the file breaks a rule of the format; `fault.reason` says which
 * @throws {ModelUnsupportedError} If it holds a tensor of an unknown dtype
 */
export async function openSafetensors(
  bytes: ByteSource,
  { maxHeaderBytes = DEFAULT_MAX_HEADER_BYTES, signal }: SafetensorsOptions = {},
): Promise<SafetensorsSource> {
  try {
    requireHeaderLimit(maxHeaderBytes);
    const { name, size } = bytes;
    const head = await bytes.read(0, Math.min(8, size), signal);
    const length = readHeaderLength(head, name, size, maxHeaderBytes);
    const header = parseSafetensorsHeader(await bytes.read(8, length, signal), name, size);
    return new SafetensorsSource(bytes, header);
  } catch (error) {
    bytes[Symbol.dispose]();
    throw error;
  }
}

/**
 * The tensor of this name.
 *
 * @throws {RangeError} If the source has none
 */
export function requireTensor({ name: file, tensors }: WeightSource, name: string): StoredTensor {
  const tensor = tensors.get(name);
  if (tensor) return tensor;
  throw new RangeError(`Cannot read ${file}: it must have the tensor: ${quoteName(name)}`);
}

/**
 * Which rows of a tensor to read.
 *
 * @returns the shape that comes of it, the first row and how many; a scalar counts as one row
 * @throws {RangeError} If the tensor does not have these rows
 */
export function selectRows(
  file: string,
  name: string,
  shape: Shape,
  rows?: RowRange,
): { shape: Shape; begin: number; count: number } {
  const [most, ...inner] = shape;
  if (rows === undefined) return { shape, begin: 0, count: most ?? 1 };
  const { begin, end } = rows;
  const isWithin = Number.isSafeInteger(begin) && Number.isSafeInteger(end) && begin >= 0 &&
    begin <= end && most !== undefined && end <= most;
  if (isWithin) return { shape: [end - begin, ...inner], begin, count: end - begin };
  const rule = most === undefined ? "a scalar has no rows" : `rows must lie within 0 to ${most}`;
  throw new RangeError(
    `Cannot read ${file}: tensor ${quoteName(name)}: ${rule}: ${begin} to ${end}`,
  );
}

function requireHeaderLimit(bytes: number): void {
  if (Number.isSafeInteger(bytes) && bytes >= 0 && bytes <= FORMAT_MAX_HEADER_BYTES) return;
  throw new RangeError(
    `Cannot open a safetensors file: maxHeaderBytes must be a whole number up to ` +
      `${FORMAT_MAX_HEADER_BYTES}: ${bytes}`,
  );
}
