/**
 * Reads and writes safetensors: an 8-byte header length, a JSON header, then the tensors' bytes.
 *
 * Every number of the header is checked before it is used; the rules are those of the reference
 * implementation. Source: https://github.com/huggingface/safetensors#format
 *
 * @module
 */

import { ReferenceFileError } from "./errors.ts";
import { type Dtype, elementCount, HostTensor, type Shape } from "./tensor.ts";

/** A parsed file. */
export interface SafetensorsFile {
  /** Tensors by name. 64-bit integers and booleans are narrowed to u32, f64 to f32. */
  readonly tensors: ReadonlyMap<string, HostTensor>;
  /** The header's `__metadata__`. */
  readonly metadata: ReadonlyMap<string, string>;
}

/** Bytes per element of the dtypes that can be read. */
const FILE_DTYPE_BYTES: Readonly<Record<string, number>> = {
  F64: 8,
  F32: 4,
  F16: 2,
  BF16: 2,
  I64: 8,
  I32: 4,
  U32: 4,
  U8: 1,
  BOOL: 1,
};

/** Headers above this are refused; the largest StableLM's takes 250 kB. */
const MAX_HEADER_BYTES = 16 * 1024 * 1024;

/**
 * Parses a whole file.
 *
 * @param bytes the file
 * @param file its name, for messages
 * @throws {ReferenceFileError} If the file breaks a rule of the format, naming the rule and the value
 */
export function parseSafetensors(bytes: Uint8Array, file: string): SafetensorsFile {
  const fail = (rule: string): never => {
    throw new ReferenceFileError(`Cannot read ${file}: ${rule}`);
  };
  if (bytes.byteLength < 8) fail(`a header length takes 8 bytes: the file has ${bytes.byteLength}`);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const headerLength = view.getBigUint64(0, true);
  const most = Math.min(bytes.byteLength - 8, MAX_HEADER_BYTES);
  if (headerLength > BigInt(most)) {
    fail(`the header must be at most ${most} bytes: it claims ${headerLength}`);
  }
  const dataStart = 8 + Number(headerLength);
  const entries = parseHeader(bytes.subarray(8, dataStart), fail);
  const data = bytes.subarray(dataStart);
  const metadata = new Map<string, string>();
  const checked: Entry[] = [];
  for (const [name, value] of entries) {
    if (name === "__metadata__") {
      if (!isRecord(value)) fail("__metadata__ must be an object");
      for (const [key, text] of Object.entries(value as object)) {
        if (typeof text !== "string") {
          fail(`__metadata__ must hold strings: ${quote(key)} does not`);
        }
        metadata.set(key, text);
      }
      continue;
    }
    checked.push({ name, ...checkEntry(name, value, data.byteLength, fail) });
  }
  // Before any byte is copied: tensors that overlap could claim the file many times over.
  let covered = 0;
  for (
    const { name, begin, end } of checked.toSorted((a, b) => a.begin - b.begin || a.end - b.end)
  ) {
    if (begin !== covered) {
      fail(`tensors must follow each other: ${quote(name)} starts at ${begin}, not at ${covered}`);
    }
    covered = end;
  }
  if (covered !== data.byteLength) {
    fail(`tensors must cover the file: ${data.byteLength - covered} bytes are left over`);
  }
  const tensors = new Map<string, HostTensor>();
  for (const { name, dtype, shape, begin, end } of checked) {
    const copy = new Uint8Array(data.subarray(begin, end));
    tensors.set(name, readTensor(name, dtype, shape, copy, fail));
  }
  return { tensors, metadata };
}

/** The bytes of a file with these tensors, in this order. */
export function writeSafetensors(
  tensors: Iterable<readonly [name: string, tensor: HostTensor]>,
  metadata: Readonly<Record<string, string>> = {},
): Uint8Array<ArrayBuffer> {
  const header: [string, unknown][] = [];
  if (Object.keys(metadata).length > 0) header.push(["__metadata__", metadata]);
  const parts: Uint8Array[] = [];
  let offset = 0;
  for (const [name, { dtype, shape, bytes }] of tensors) {
    const end = offset + bytes.byteLength;
    header.push([name, { dtype: dtype.toUpperCase(), shape, data_offsets: [offset, end] }]);
    parts.push(bytes);
    offset = end;
  }
  let json = JSON.stringify(Object.fromEntries(header));
  const encoder = new TextEncoder();
  json += " ".repeat((8 - encoder.encode(json).byteLength % 8) % 8);
  const head = encoder.encode(json);
  const file = new Uint8Array(8 + head.byteLength + offset);
  new DataView(file.buffer).setBigUint64(0, BigInt(head.byteLength), true);
  file.set(head, 8);
  let at = 8 + head.byteLength;
  for (const part of parts) {
    file.set(part, at);
    at += part.byteLength;
  }
  return file;
}

type Fail = (rule: string) => never;

/** A tensor as the header describes it. */
interface Entry {
  readonly name: string;
  readonly dtype: string;
  readonly shape: Shape;
  readonly begin: number;
  readonly end: number;
}

function parseHeader(bytes: Uint8Array, fail: Fail): [string, unknown][] {
  let text: string;
  try {
    text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    return fail("the header must be UTF-8");
  }
  let header: unknown;
  try {
    header = JSON.parse(text);
  } catch (error) {
    return fail(`the header must be JSON: ${(error as Error).message}`);
  }
  if (!isRecord(header)) return fail("the header must be a JSON object");
  const entries = Object.entries(header);
  // JSON.parse keeps the last of equal keys without a word. Every entry but the metadata has one
  // "data_offsets" key, so a lost duplicate shows in their number.
  const offsetKeys = text.match(/"data_offsets"\s*:/g)?.length ?? 0;
  const tensorCount = entries.filter(([name]) => name !== "__metadata__").length;
  if (offsetKeys > tensorCount) return fail("tensor names must be unique: one is given twice");
  return entries;
}

function checkEntry(
  name: string,
  value: unknown,
  dataLength: number,
  fail: Fail,
): Omit<Entry, "name"> {
  const { dtype, shape, data_offsets: offsets } = isRecord(value)
    ? value
    : fail(`${quote(name)} must be an object`);
  if (typeof dtype !== "string" || !Object.hasOwn(FILE_DTYPE_BYTES, dtype)) {
    const known = Object.keys(FILE_DTYPE_BYTES).join(", ");
    return fail(`${quote(name)}: dtype must be one of ${known}: ${quote(String(dtype))}`);
  }
  if (!Array.isArray(shape) || shape.length > 8 || !shape.every(isCount)) {
    return fail(`${quote(name)}: shape must be up to 8 whole numbers from 0`);
  }
  if (!Array.isArray(offsets) || offsets.length !== 2 || !offsets.every(isCount)) {
    return fail(`${quote(name)}: data_offsets must be two whole numbers from 0`);
  }
  const [begin, end] = offsets as [number, number];
  if (begin > end || end > dataLength) {
    return fail(`${quote(name)}: data_offsets must lie in 0 to ${dataLength}: ${begin} to ${end}`);
  }
  const needed = elementCount(shape) * FILE_DTYPE_BYTES[dtype]!;
  if (end - begin !== needed) {
    return fail(
      `${quote(name)}: ${dtype} of shape [${shape}] needs ${needed} bytes: it has ${end - begin}`,
    );
  }
  return { dtype, shape, begin, end };
}

function readTensor(
  name: string,
  fileDtype: string,
  shape: Shape,
  bytes: Uint8Array<ArrayBuffer>,
  fail: Fail,
): HostTensor {
  const { buffer } = bytes;
  switch (fileDtype) {
    case "F64":
      return HostTensor.from(shape, new Float64Array(buffer), "f32");
    case "I64":
      return HostTensor.from(shape, narrow(name, new BigInt64Array(buffer), fail), "u32");
    case "I32":
      return HostTensor.from(shape, narrow(name, new Int32Array(buffer), fail), "u32");
    case "U8":
    case "BOOL":
      return HostTensor.from(shape, bytes, "u32");
    default:
      return HostTensor.fromBytes({ shape, dtype: fileDtype.toLowerCase() as Dtype }, bytes);
  }
}

function narrow(name: string, values: BigInt64Array | Int32Array, fail: Fail): number[] {
  return Array.from<bigint | number, number>(values, (value) => {
    const number = Number(value);
    if (number < 0 || number > 0xffffffff) {
      fail(`${quote(name)}: integers must fit in 32 bits without a sign: ${value}`);
    }
    return number;
  });
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}

/** Names come from the file: shown without control characters, and cut. */
function quote(name: string): string {
  return JSON.stringify(name.length > 120 ? `${name.slice(0, 120)}…` : name)
    .replace(/[\u007f-\u009f\u200e\u200f\u202a-\u202e\u2066-\u2069]/g, "?");
}
