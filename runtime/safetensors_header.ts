/**
 * The header of a safetensors file: 8 bytes of length, then JSON. One validator serves the reader of
 * whole files and the reader of ranges, and one formatter both writers.
 *
 * Every number is checked before it is used; the rules are those of the reference implementation, and
 * tighter where it leaves room for harm. Source: https://github.com/huggingface/safetensors#format
 *
 * @module
 */

import { ModelFormatError, ModelUnsupportedError } from "./errors.ts";
import { decodeJson, describeJson, isRecord, quoteName, walkJson } from "./json_text.ts";
import type { Shape } from "./tensor.ts";

/** Bytes per element of the dtypes that are known. */
export const SAFETENSORS_DTYPE_BYTES = {
  F64: 8,
  F32: 4,
  F16: 2,
  BF16: 2,
  I64: 8,
  U64: 8,
  I32: 4,
  U32: 4,
  I16: 2,
  U16: 2,
  I8: 1,
  U8: 1,
  BOOL: 1,
} as const;

/** A dtype as the file spells it. */
export type SafetensorsDtype = keyof typeof SAFETENSORS_DTYPE_BYTES;

/** Headers above this are refused unless the caller allows more; the largest StableLM's takes 250 kB. */
export const DEFAULT_MAX_HEADER_BYTES = 16 * 1024 * 1024;

/** The format's own limit of a header. */
export const FORMAT_MAX_HEADER_BYTES = 100_000_000;

/** Tensors that a file may hold; the largest StableLM has 1,964. */
export const MAX_TENSORS = 65_536;

/** UTF-16 code units that a tensor's name may have. */
export const MAX_NAME_LENGTH = 512;

/** Axes that a tensor may have. */
export const MAX_RANK = 8;

/** Bytes before the JSON. */
const LENGTH_BYTES = 8;

/** The one key of a header that is no tensor. */
const METADATA = "__metadata__";

/** A tensor as the header describes it. */
export interface SafetensorsEntry {
  /** Element type, as the file spells it. */
  readonly dtype: SafetensorsDtype;
  /** Sizes, outermost first. */
  readonly shape: Shape;
  /** First byte, counted from the start of the file. */
  readonly begin: number;
  /** One more than the last byte. */
  readonly end: number;
}

/** A header that broke no rule. */
export interface SafetensorsHeader {
  /** Tensors by name. */
  readonly entries: ReadonlyMap<string, SafetensorsEntry>;
  /** The header's `__metadata__`. */
  readonly metadata: ReadonlyMap<string, string>;
}

/**
 * Length of the JSON that follows.
 *
 * @param bytes the first 8 bytes of the file, or all that it has
 * @param file its name, for messages
 * @param size its length
 * @throws {ModelFormatError} reason `header-length`
 */
export function readHeaderLength(
  bytes: Uint8Array,
  file: string,
  size: number,
  maxHeaderBytes: number = DEFAULT_MAX_HEADER_BYTES,
): number {
  const fail = (rule: string, value: string): never => {
    throw new ModelFormatError({ file, place: "byte 0", reason: "header-length", rule, value });
  };
  if (size < LENGTH_BYTES || bytes.byteLength < LENGTH_BYTES) {
    fail("a header length takes 8 bytes", `the file has ${Math.min(size, bytes.byteLength)}`);
  }
  // Compared as a BigInt: 2⁶⁴ − 1 has no Number.
  const claimed = new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(0, true);
  if (claimed > BigInt(size - LENGTH_BYTES)) {
    fail(
      `the header must be at most ${size - LENGTH_BYTES} bytes, the rest of the file`,
      `it claims ${claimed}`,
    );
  }
  if (claimed > BigInt(maxHeaderBytes)) {
    fail(
      `the header must be at most ${maxHeaderBytes} bytes, the limit set`,
      `it claims ${claimed}`,
    );
  }
  return Number(claimed);
}

/**
 * Parses and checks the JSON of a header.
 *
 * @param json its bytes, without the 8 of the length
 * @param file the file's name, for messages
 * @param size the file's length
 * @throws {ModelFormatError} If a rule is broken; `fault.reason` says which
 * @throws {ModelUnsupportedError} reason `entry-dtype`, for a dtype that is not known
 */
export function parseSafetensorsHeader(
  json: Uint8Array,
  file: string,
  size: number,
): SafetensorsHeader {
  const header = parseJson(json, file);
  const count = Object.keys(header).length - (Object.hasOwn(header, METADATA) ? 1 : 0);
  if (count > MAX_TENSORS) {
    throw new ModelFormatError({
      file,
      reason: "too-many-tensors",
      rule: `the header must list at most ${MAX_TENSORS} tensors`,
      value: String(count),
    });
  }
  const dataStart = LENGTH_BYTES + json.byteLength;
  let metadata: ReadonlyMap<string, string> = new Map();
  const entries = new Map<string, SafetensorsEntry>();
  for (const [name, value] of Object.entries(header)) {
    if (name === METADATA) metadata = checkMetadata(value, file);
    else entries.set(name, checkEntry(name, value, { file, dataStart, size }));
  }
  checkCover(entries, { file, dataStart, size });
  return { entries, metadata };
}

/** A tensor's line of a header that is to be written. */
export interface NewEntry {
  /** Its name. */
  readonly name: string;
  /** Element type, as the file spells it. */
  readonly dtype: SafetensorsDtype;
  /** Sizes, outermost first. */
  readonly shape: Shape;
  /** First byte, counted from the end of the header. */
  readonly begin: number;
  /** One more than the last byte. */
  readonly end: number;
}

/**
 * The bytes that a file starts with: the length, and JSON that spaces pad to a multiple of 8.
 *
 * @param entries tensors, in the order of their offsets
 */
export function formatSafetensorsHeader(
  entries: Iterable<NewEntry>,
  metadata: Readonly<Record<string, string>>,
): Uint8Array<ArrayBuffer> {
  // Put together by hand: an object would move names such as "0" to its front.
  const fields: string[] = [];
  if (Object.keys(metadata).length > 0) fields.push(`"${METADATA}":${JSON.stringify(metadata)}`);
  for (const { name, dtype, shape, begin, end } of entries) {
    const value = JSON.stringify({ dtype, shape, data_offsets: [begin, end] });
    fields.push(`${JSON.stringify(name)}:${value}`);
  }
  const json = new TextEncoder().encode(`{${fields.join(",")}}`);
  const length = Math.ceil(json.byteLength / 8) * 8;
  const head = new Uint8Array(LENGTH_BYTES + length).fill(0x20);
  new DataView(head.buffer).setBigUint64(0, BigInt(length), true);
  head.set(json, LENGTH_BYTES);
  return head;
}

/** Where an entry stands. */
interface Placement {
  readonly file: string;
  readonly dataStart: number;
  readonly size: number;
}

function parseJson(json: Uint8Array, file: string): Record<string, unknown> {
  const fail = (reason: string, rule: string, value: string): never => {
    throw new ModelFormatError({ file, place: `byte ${LENGTH_BYTES}`, reason, rule, value });
  };
  const { value, text } = decodeJson(json, (fault) => {
    if (fault.rule === "utf8") return fail("header-utf8", "the header must be UTF-8", fault.value);
    return fail("header-json", "the header must be JSON", fault.value);
  });
  if (!isRecord(value)) {
    return fail("header-json", "the header must be a JSON object", describeJson(value));
  }
  checkSpelling(text, file);
  return value;
}

/** Finds what the parsed header hides: a name or a field given twice, and numbers such as `16.0`. */
function checkSpelling(text: string, file: string): void {
  const names = new Set<string>(), fields = new Set<string>();
  let name = "", field = "";
  walkJson(text, 3, {
    key(depth, key) {
      if (depth === 1) {
        if (names.has(key)) {
          throw entryError(file, key, "duplicate-name", "a name must be given once", "twice");
        }
        names.add(name = key);
        fields.clear();
        field = "";
      } else if (depth === 2) {
        if (fields.has(key)) {
          const rule = `field ${quoteName(key)} must be given once`;
          throw entryError(file, name, "duplicate-field", rule, "twice");
        }
        fields.add(field = key);
      }
    },
    number(depth, spelling) {
      const isStrict = depth === 3 && (field === "shape" || field === "data_offsets");
      if (!isStrict || name === METADATA || /^\d+$/.test(spelling)) return;
      const rule = `${field} must hold whole numbers from 0, spelt in digits`;
      throw entryError(
        file,
        name,
        field === "shape" ? "entry-shape" : "entry-offsets",
        rule,
        spelling,
      );
    },
  });
}

function checkMetadata(value: unknown, file: string): ReadonlyMap<string, string> {
  const fail = (rule: string, text: string): never => {
    throw new ModelFormatError({ file, place: METADATA, reason: "metadata", rule, value: text });
  };
  if (!isRecord(value)) return fail("must be an object", describeJson(value));
  const metadata = new Map<string, string>();
  for (const [key, text] of Object.entries(value)) {
    if (typeof text !== "string") {
      return fail("must hold strings", `${quoteName(key)} is ${describeJson(text)}`);
    }
    metadata.set(key, text);
  }
  return metadata;
}

function checkEntry(
  name: string,
  value: unknown,
  { file, dataStart, size }: Placement,
): SafetensorsEntry {
  const fail = (reason: string, rule: string, found: string, byte?: number): never => {
    throw entryError(file, name, reason, rule, found, byte);
  };
  if (name.length > MAX_NAME_LENGTH) {
    fail("name-length", `a name must have at most ${MAX_NAME_LENGTH} characters`, `${name.length}`);
  }
  if (!isRecord(value)) return fail("entry", "must be an object", describeJson(value));
  const { dtype, shape, data_offsets: offsets } = value;
  if (typeof dtype !== "string") return fail("entry", "dtype must be text", describeJson(dtype));
  if (!isKnownDtype(dtype)) {
    throw new ModelUnsupportedError({
      file,
      place: placeOf(name),
      reason: "entry-dtype",
      rule: `dtype must be one of ${Object.keys(SAFETENSORS_DTYPE_BYTES).join(", ")}`,
      value: quoteName(dtype),
    });
  }
  if (!Array.isArray(shape) || shape.length > MAX_RANK || !shape.every(isCount)) {
    const rule = `shape must be up to ${MAX_RANK} whole numbers from 0`;
    return fail("entry-shape", rule, describeJson(shape));
  }
  if (!Array.isArray(offsets) || offsets.length !== 2 || !offsets.every(isCount)) {
    return fail(
      "entry-offsets",
      "data_offsets must be two whole numbers from 0",
      describeJson(offsets),
    );
  }
  const [begin, end] = offsets as [number, number];
  const written = `${begin} to ${end}`;
  if (begin > end) fail("offsets-order", "data_offsets must begin before they end", written);
  const dataLength = size - dataStart;
  if (end > dataLength) {
    fail("offsets-range", `data_offsets must lie in the data, 0 to ${dataLength}`, written);
  }
  const needed = bytesNeeded(shape, SAFETENSORS_DTYPE_BYTES[dtype]);
  if (BigInt(end - begin) !== needed) {
    const rule = `shape [${shape.join(", ")}] of ${dtype} needs ${needed} bytes`;
    fail("offsets-length", rule, `data_offsets hold ${end - begin}`, dataStart + begin);
  }
  return { dtype, shape, begin: dataStart + begin, end: dataStart + end };
}

/**
 * Every byte of the data must have one owner: tensors that overlap could claim the file many times
 * over, and a hole could carry a file of another kind.
 */
function checkCover(
  entries: ReadonlyMap<string, SafetensorsEntry>,
  { file, dataStart, size }: Placement,
): void {
  const inOrder = [...entries].sort(([, a], [, b]) => a.begin - b.begin || a.end - b.end);
  let covered = dataStart, owner = "the header";
  for (const [name, { begin, end }] of inOrder) {
    if (begin !== covered) {
      const rule = `must start at byte ${covered}, where ${owner} ends`;
      const reason = begin < covered ? "overlap" : "hole";
      throw entryError(file, name, reason, rule, `it starts at byte ${begin}`);
    }
    covered = end;
    owner = placeOf(name);
  }
  if (covered === size) return;
  throw new ModelFormatError({
    file,
    place: `byte ${covered}`,
    reason: "trailing",
    rule: "tensors must cover the file to its end",
    value: `${size - covered} bytes are left over`,
  });
}

function entryError(
  file: string,
  name: string,
  reason: string,
  rule: string,
  value: string,
  byte?: number,
): ModelFormatError {
  const place = byte === undefined ? placeOf(name) : `${placeOf(name)} at byte ${byte}`;
  return new ModelFormatError({ file, place, reason, rule, value });
}

function placeOf(name: string): string {
  return name === METADATA ? name : `tensor ${quoteName(name)}`;
}

/** Exact at any size: eight sizes of 2⁵³ − 1 have no Number for a product. */
function bytesNeeded(shape: Shape, bytesPerElement: number): bigint {
  return shape.reduce((bytes, size) => bytes * BigInt(size), BigInt(bytesPerElement));
}

function isKnownDtype(dtype: string): dtype is SafetensorsDtype {
  return Object.hasOwn(SAFETENSORS_DTYPE_BYTES, dtype);
}

function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}
