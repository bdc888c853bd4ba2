/**
 * Writes safetensors files a piece at a time, whole or in shards, laid out as Hugging Face's own.
 *
 * Bytes go to a `WritableStream`, which Deno (`Deno.FsFile.writable`), Node (`Writable.toWeb`) and the
 * browser (`FileSystemFileHandle.createWritable()`) all have.
 *
 * ```ts ignore
 * const file = await Deno.create("model.safetensors");
 * await writeSafetensorsFile(file.writable, [{ name: "w", dtype: "f32", shape: [2] }], () => [bytes]);
 * ```
 *
 * @module
 */

import { requireArgument } from "../../runtime/errors.ts";
import { quoteName } from "../../runtime/json_text.ts";
import {
  formatSafetensorsHeader,
  MAX_NAME_LENGTH,
  MAX_RANK,
  MAX_TENSORS,
  type SafetensorsDtype,
} from "../../runtime/safetensors_header.ts";
import { bytesPerElement, elementCount, requireShape, type Shape } from "../../runtime/tensor.ts";
import { INDEX_FILE, MAX_SHARDS } from "./sharded_source.ts";
import type { WeightDtype } from "./weight_source.ts";

/** A tensor that is to be written. */
export interface NewTensor {
  /** Its name. */
  readonly name: string;
  /** Its element type in the file. */
  readonly dtype: WeightDtype;
  /** Sizes, outermost first. */
  readonly shape: Shape;
}

/**
 * Gives a tensor's bytes, little-endian, in pieces of any length. A piece is written before the next is
 * asked for, so that all may be the same buffer.
 */
export type TensorBytes = (
  tensor: NewTensor,
) => Iterable<Uint8Array<ArrayBuffer>> | AsyncIterable<Uint8Array<ArrayBuffer>>;

/** How to write. */
export interface WriteOptions {
  /** The header's `__metadata__`; `{ format: "pt" }` unless given, which Hugging Face asks for. */
  readonly metadata?: Readonly<Record<string, string>>;
  /** Aborts between two pieces: the stream is aborted too, and the call throws the signal's reason. */
  readonly signal?: AbortSignal;
  /** Called after each piece with the bytes written so far, of all files. */
  readonly onProgress?: (bytesWritten: number) => void;
}

/** How to write shards. */
export interface ShardOptions extends WriteOptions {
  /**
   * Most bytes of tensors in a file, 5 GB unless given; a tensor that is larger has a file to itself.
   */
  readonly maxShardBytes?: number;
}

/** Opens a file to write to. */
export type CreateFile = (name: string) => Promise<WritableStream<Uint8Array<ArrayBuffer>>>;

/**
 * Writes one file, and closes the stream. Tensors lie in Hugging Face's order: wide elements first,
 * which keeps all aligned, then by name.
 *
 * @param stream the file; aborted if anything fails
 * @param tensors what to write, in any order
 * @param bytesOf gives each tensor's bytes, and is called in the file's order
 * @returns bytes written
 * @throws {KernelArgumentError} If a name, dtype or shape is not one that the format has, or
 * `bytesOf` gives more or fewer bytes than the tensor takes
 */
export async function writeSafetensorsFile(
  stream: WritableStream<Uint8Array<ArrayBuffer>>,
  tensors: readonly NewTensor[],
  bytesOf: TensorBytes,
  options: WriteOptions = {},
): Promise<number> {
  const { metadata = { format: "pt" } } = options;
  return await writePieces(stream, filePieces(tensors, bytesOf, metadata), options);
}

/**
 * Writes a checkpoint's weights: `model.safetensors`, or, if that would be larger than
 * `maxShardBytes`, `model-00001-of-0000N.safetensors` and so on with their index.
 *
 * @param create opens a file by name
 * @param tensors what to write, in the model's order: neighbours come to lie in the same shard
 * @param bytesOf gives each tensor's bytes
 * @returns names of the files, in the order in which they were written
 * @throws {KernelArgumentError} As {@linkcode writeSafetensorsFile}, before any file is opened where
 * it can be known
 */
export async function writeSafetensorsShards(
  create: CreateFile,
  tensors: readonly NewTensor[],
  bytesOf: TensorBytes,
  options: ShardOptions = {},
): Promise<readonly string[]> {
  const { maxShardBytes = 5e9, onProgress, ...rest } = options;
  const isCount = Number.isSafeInteger(maxShardBytes) && maxShardBytes > 0;
  const rule = "must be a whole number from 1";
  requireArgument(isCount, OP, "maxShardBytes", rule, String(maxShardBytes));
  requireTensors(tensors);
  const shards = splitIntoShards(tensors, maxShardBytes);
  const enough = `must be enough for ${MAX_SHARDS} files to do`;
  requireArgument(shards.length <= MAX_SHARDS, OP, "maxShardBytes", enough, `${maxShardBytes}`);
  const names: string[] = [];
  let before = 0;
  for (const [i, shard] of shards.entries()) {
    const name = shardName(i, shards.length);
    const shardOptions = { ...rest, onProgress: (bytes: number) => onProgress?.(before + bytes) };
    names.push(name);
    before += await writeSafetensorsFile(await create(name), shard, bytesOf, shardOptions);
  }
  if (shards.length > 1) {
    names.push(INDEX_FILE);
    await writePieces(await create(INDEX_FILE), [formatIndex(shards)], rest);
  }
  return names;
}

const OP = "write safetensors";

/** As PyTorch's writer sorts: the last of this list comes first. */
const ORDER: readonly WeightDtype[] = ["f16", "bf16", "f32"];

function fileOrder(tensors: readonly NewTensor[]): NewTensor[] {
  return tensors.toSorted((a, b) =>
    ORDER.indexOf(b.dtype) - ORDER.indexOf(a.dtype) || (a.name < b.name ? -1 : 1)
  );
}

async function* filePieces(
  tensors: readonly NewTensor[],
  bytesOf: TensorBytes,
  metadata: Readonly<Record<string, string>>,
): AsyncGenerator<Uint8Array<ArrayBuffer>> {
  requireTensors(tensors);
  const inOrder = fileOrder(tensors);
  yield formatHeader(inOrder, metadata);
  for (const tensor of inOrder) {
    const size = sizeOf(tensor);
    let given = 0;
    for await (const piece of bytesOf(tensor)) {
      given += piece.byteLength;
      // Checked before the piece is written: what has no end must not fill a disk.
      if (given > size) break;
      yield piece;
    }
    requireBytes(tensor, given, size);
  }
}

/** Writes to a stream and closes it; aborts it if anything fails. Returns the bytes written. */
async function writePieces(
  stream: WritableStream<Uint8Array<ArrayBuffer>>,
  pieces: Iterable<Uint8Array<ArrayBuffer>> | AsyncIterable<Uint8Array<ArrayBuffer>>,
  { signal, onProgress }: WriteOptions,
): Promise<number> {
  const writer = stream.getWriter();
  let written = 0;
  try {
    for await (const piece of pieces) {
      signal?.throwIfAborted();
      await writer.write(piece);
      written += piece.byteLength;
      onProgress?.(written);
    }
    await writer.close();
  } catch (error) {
    await writer.abort(error).catch(() => {});
    throw error;
  }
  return written;
}

function formatHeader(
  tensors: readonly NewTensor[],
  metadata: Readonly<Record<string, string>>,
): Uint8Array<ArrayBuffer> {
  let end = 0;
  const entries = tensors.map((tensor) => {
    const begin = end;
    end += sizeOf(tensor);
    const dtype = tensor.dtype.toUpperCase() as SafetensorsDtype;
    return { name: tensor.name, dtype, shape: tensor.shape, begin, end };
  });
  return formatSafetensorsHeader(entries, metadata);
}

function splitIntoShards(tensors: readonly NewTensor[], most: number): NewTensor[][] {
  const shards: NewTensor[][] = [];
  let current: NewTensor[] = [], bytes = 0;
  for (const tensor of tensors) {
    const size = sizeOf(tensor);
    if (current.length > 0 && bytes + size > most) {
      shards.push(current);
      current = [];
      bytes = 0;
    }
    current.push(tensor);
    bytes += size;
  }
  return [...shards, current];
}

function shardName(index: number, count: number): string {
  if (count === 1) return "model.safetensors";
  const [number, of] = [index + 1, count].map((n) => String(n).padStart(5, "0"));
  return `model-${number}-of-${of}.safetensors`;
}

function formatIndex(shards: readonly (readonly NewTensor[])[]): Uint8Array<ArrayBuffer> {
  const totalSize = shards.flat().reduce((bytes, tensor) => bytes + sizeOf(tensor), 0);
  const rows = shards.flatMap((shard, i) =>
    shard.map(({ name }) => [name, shardName(i, shards.length)] as const)
  );
  const map = Object.fromEntries(rows.sort(([a], [b]) => a < b ? -1 : 1));
  const index = { metadata: { total_size: totalSize }, weight_map: map };
  return new TextEncoder().encode(JSON.stringify(index, null, 2) + "\n");
}

function sizeOf({ shape, dtype }: NewTensor): number {
  return elementCount(shape) * bytesPerElement(dtype);
}

function requireTensors(tensors: readonly NewTensor[]): void {
  const count = `must be at most ${MAX_TENSORS}`;
  requireArgument(tensors.length <= MAX_TENSORS, OP, "tensors", count, `${tensors.length}`);
  const names = new Set<string>();
  for (const { name, dtype, shape } of tensors) {
    const place = `tensor ${quoteName(name)}`;
    const isName = name.length <= MAX_NAME_LENGTH && name !== "__metadata__";
    const rule = `must have a name of at most ${MAX_NAME_LENGTH} characters, not "__metadata__"`;
    requireArgument(isName, OP, place, rule, `${name.length} characters`);
    requireArgument(!names.has(name), OP, place, "must be given once", "twice");
    requireArgument(ORDER.includes(dtype), OP, place, "must be f32, f16 or bf16", String(dtype));
    requireShape(shape);
    const axes = `must have at most ${MAX_RANK} axes`;
    requireArgument(shape.length <= MAX_RANK, OP, place, axes, `${shape.length}`);
    names.add(name);
  }
}

function requireBytes(tensor: NewTensor, given: number, size: number): void {
  const { name, dtype, shape } = tensor;
  const value = given > size ? `at least ${given}` : `${given}`;
  const rule = `must be given ${size} bytes, as it is ${dtype}[${shape.join(", ")}]`;
  requireArgument(given === size, OP, `tensor ${quoteName(name)}`, rule, value);
}
