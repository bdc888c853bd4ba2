/**
 * The header of a GGUF file: version, counts, key-value pairs, and what each tensor is and where.
 *
 * Source: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
 *
 * @module
 */

import { quoteName } from "../../../runtime/json_text.ts";
import type { Shape } from "../../../runtime/tensor.ts";
import type { ByteSource } from "../byte_source.ts";
import { HeaderCursor } from "./header_cursor.ts";
import { type GgufValue, readKeyCount, readMetadata } from "./metadata.ts";
import { otherTypeName, TENSOR_TYPES, type TensorType } from "./tensor_types.ts";

/** A tensor as the header describes it. Its bytes are known to lie in the file. */
export interface GgufTensor {
  /** ggml's name: `blk.0.attn_q.weight`. */
  readonly name: string;
  /** Sizes, outermost first: the reverse of the file's order. */
  readonly shape: Shape;
  /** How the elements are stored. */
  readonly type: TensorType;
  /** Its first byte in the file. */
  readonly byteOffset: number;
  /** Bytes that it takes in the file. */
  readonly byteLength: number;
}

/** A checked header. */
export interface GgufHeader {
  /** The file, as messages call it. */
  readonly file: string;
  /** Values by key, in the file's order. */
  readonly metadata: ReadonlyMap<string, GgufValue>;
  /** Tensors by name, in the file's order. */
  readonly tensors: ReadonlyMap<string, GgufTensor>;
}

/** The letters GGUF. */
const MAGIC = 0x46554747;

/** Tensors above this are refused; the largest StableLM has 443. */
const MOST_TENSORS = 65_536;

/** What an entry takes at least: length and letter of the name, rank, type and offset. */
const LEAST_TENSOR_BYTES = 8 + 1 + 4 + 4 + 8;

/** ggml's own limit for a name is 64; a longer one does no harm. */
const MOST_NAME_LENGTH = 512;

const MOST_RANK = 4;

const TYPE_RULE = `the type must be one of ${
  Array.from(TENSOR_TYPES.values(), ({ name }) => name).join(", ")
}`;

const DEFAULT_ALIGNMENT = 32;

const MOST_ALIGNMENT = 65_536;

/**
 * Reads and checks a header; of the tensors' own bytes nothing is read.
 *
 * @param source the file
 * @param signal stops between two reads
 * @throws {ModelFormatError} If the file is no GGUF, is cut off, or breaks a rule of the format
 * @throws {ModelUnsupportedError} If its version, its byte order or the type of a tensor cannot be read
 */
export async function readGgufHeader(
  source: ByteSource,
  signal?: AbortSignal,
): Promise<GgufHeader> {
  const cursor = new HeaderCursor(source, signal);
  const magic = await cursor.uint32();
  if (magic !== MAGIC) {
    cursor.fail("magic", 'a GGUF file starts with "GGUF"', `0x${magic.toString(16)}`);
  }
  await readVersion(cursor);
  const tensorCount = await cursor.count("tensors", MOST_TENSORS, LEAST_TENSOR_BYTES);
  const keyCount = await readKeyCount(cursor);
  const metadata = await readMetadata(cursor, keyCount);
  const claims = await readClaims(cursor, tensorCount);
  const alignment = alignmentOf(cursor, metadata);
  return { file: source.name, metadata, tensors: placeTensors(cursor, claims, alignment) };
}

/** A tensor's entry. Its bytes would fit the file, but where they lie is not checked yet. */
interface Claim extends Omit<GgufTensor, "byteOffset"> {
  /** Counted from the end of the header, padded. */
  readonly offset: bigint;
}

async function readVersion(cursor: HeaderCursor): Promise<void> {
  const version = await cursor.uint32();
  if (version === 2 || version === 3) return;
  const swapped = version !== 0 && (version & 0xffff) === 0;
  cursor.refuse(
    swapped ? "big-endian" : "version",
    "the version must be 2 or 3, little-endian; convert the model again with a current llama.cpp",
    swapped ? "big-endian" : `${version}`,
  );
}

async function readClaims(cursor: HeaderCursor, count: number): Promise<Map<string, Claim>> {
  const claims = new Map<string, Claim>();
  for (let i = 0; i < count; i++) {
    cursor.place = `tensor ${i + 1} of ${count}`;
    const name = await cursor.text();
    if (name === "" || name.length > MOST_NAME_LENGTH) {
      const rule = `the name must have 1 to ${MOST_NAME_LENGTH} letters`;
      cursor.fail("tensor-name", rule, `${name.length}`);
    }
    cursor.place = placeOf(name);
    if (claims.has(name)) cursor.fail("tensor-twice", "names must be unique", "it is given again");
    claims.set(name, await readClaim(cursor, name));
  }
  return claims;
}

async function readClaim(cursor: HeaderCursor, name: string): Promise<Claim> {
  const rank = await cursor.uint32();
  if (rank > MOST_RANK) cursor.fail("tensor-rank", `there may be ${MOST_RANK} axes`, `${rank}`);
  const sizes: bigint[] = [];
  for (let axis = 0; axis < rank; axis++) sizes.push(await cursor.uint64());
  const type = await readType(cursor);
  const offset = await cursor.uint64();
  const shape = `[${sizes.toReversed().join(", ")}]`;
  if (sizes.includes(0n)) cursor.fail("tensor-shape", "sizes must be at least 1", shape);
  const blockElements = BigInt(type.blockElements);
  const rowElements = sizes[0] ?? 1n;
  if (rowElements % blockElements !== 0n) {
    const rule = `rows of ${type.name} must be a multiple of ${blockElements} elements`;
    cursor.fail("row-length", rule, `${rowElements}`);
  }
  // As bigints: the product of four u64 is far beyond what a number holds to the last digit.
  const elements = sizes.reduce((product, size) => product * size, 1n);
  const bytes = elements / blockElements * BigInt(type.blockBytes);
  if (bytes > BigInt(cursor.fileSize)) {
    const rule = `its bytes must lie in the file, which has ${cursor.fileSize}`;
    cursor.fail("tensor-end", rule, `${type.name} of shape ${shape} takes ${bytes}`);
  }
  return { name, shape: sizes.map(Number).reverse(), type, offset, byteLength: Number(bytes) };
}

async function readType(cursor: HeaderCursor): Promise<TensorType> {
  const id = await cursor.uint32();
  return TENSOR_TYPES.get(id) ?? cursor.refuse("tensor-type", TYPE_RULE, otherTypeName(id));
}

function alignmentOf(cursor: HeaderCursor, metadata: ReadonlyMap<string, GgufValue>): number {
  const key = "general.alignment";
  const alignment = metadata.get(key) ?? DEFAULT_ALIGNMENT;
  cursor.place = `key ${quoteName(key)}`;
  // That it is a u32, and so a number, was checked when it was read.
  if (typeof alignment !== "number" || !isPowerOfTwo(alignment) || alignment > MOST_ALIGNMENT) {
    return cursor.fail(
      "alignment",
      `must be a power of two from 1 to ${MOST_ALIGNMENT}`,
      `${alignment}`,
    );
  }
  return alignment;
}

/** Tensors lie one after the other in the order of their entries, each padded to the alignment. */
function placeTensors(
  cursor: HeaderCursor,
  claims: ReadonlyMap<string, Claim>,
  alignment: number,
): Map<string, GgufTensor> {
  const start = padded(cursor.position, alignment);
  const tensors = new Map<string, GgufTensor>();
  let next = 0;
  for (const [name, { shape, type, offset, byteLength }] of claims) {
    cursor.place = placeOf(name);
    if (offset !== BigInt(next)) {
      const rule = `must start where the tensor before it ends, padded to ${alignment}: at ${next}`;
      cursor.fail("tensor-offset", rule, `at ${offset}`);
    }
    const byteOffset = start + next;
    const end = byteOffset + byteLength;
    if (end > cursor.fileSize) {
      const rule = `its bytes must lie in the file, which has ${cursor.fileSize}`;
      cursor.fail("tensor-end", rule, `they end at ${end}: the file is cut off or damaged`);
    }
    tensors.set(name, { name, shape, type, byteOffset, byteLength });
    next = padded(next + byteLength, alignment);
  }
  return tensors;
}

function placeOf(name: string): string {
  return `tensor ${quoteName(name)}`;
}

function padded(size: number, alignment: number): number {
  return Math.ceil(size / alignment) * alignment;
}

function isPowerOfTwo(value: number): boolean {
  return value > 0 && (value & (value - 1)) === 0;
}
