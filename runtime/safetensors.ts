/**
 * Reads and writes whole safetensors files in memory: an 8-byte header length, a JSON header, then the
 * tensors' bytes. Files of weights are read by range instead.
 *
 * @module
 */

import { FileFaultError, ReferenceFileError } from "./errors.ts";
import { quoteName } from "./json_text.ts";
import {
  formatSafetensorsHeader,
  type NewEntry,
  parseSafetensorsHeader,
  readHeaderLength,
  type SafetensorsDtype,
  type SafetensorsHeader,
} from "./safetensors_header.ts";
import { type Dtype, HostTensor, type Shape } from "./tensor.ts";

/** A parsed file. */
export interface SafetensorsFile {
  /** Tensors by name. Integers and booleans are narrowed to u32, f64 to f32. */
  readonly tensors: ReadonlyMap<string, HostTensor>;
  /** The header's `__metadata__`. */
  readonly metadata: ReadonlyMap<string, string>;
}

/**
 * Parses a whole file.
 *
 * @param bytes the file
 * @param file its name, for messages
 * @throws {ReferenceFileError} If the file breaks a rule of the format, naming the rule and the value
 */
export function parseSafetensors(bytes: Uint8Array, file: string): SafetensorsFile {
  const { entries, metadata } = readHeader(bytes, file);
  const tensors = new Map<string, HostTensor>();
  for (const [name, { dtype, shape, begin, end }] of entries) {
    // A copy: the file's bytes need not be aligned, and Node's Buffer is a view whose `slice` is one.
    const copy = new Uint8Array(bytes.subarray(begin, end));
    const fail = (rule: string): never => {
      throw new ReferenceFileError(`Cannot read ${file}: tensor ${quoteName(name)}: ${rule}`);
    };
    tensors.set(name, readTensor(dtype, shape, copy, fail));
  }
  return { tensors, metadata };
}

/** The bytes of a file with these tensors, in this order. */
export function writeSafetensors(
  tensors: Iterable<readonly [name: string, tensor: HostTensor]>,
  metadata: Readonly<Record<string, string>> = {},
): Uint8Array<ArrayBuffer> {
  const entries: NewEntry[] = [];
  const parts: Uint8Array[] = [];
  let begin = 0;
  for (const [name, { dtype, shape, bytes }] of tensors) {
    const end = begin + bytes.byteLength;
    entries.push({ name, dtype: dtype.toUpperCase() as SafetensorsDtype, shape, begin, end });
    parts.push(bytes);
    begin = end;
  }
  const head = formatSafetensorsHeader(entries, metadata);
  const file = new Uint8Array(head.byteLength + begin);
  let at = 0;
  for (const part of [head, ...parts]) {
    file.set(part, at);
    at += part.byteLength;
  }
  return file;
}

function readHeader(bytes: Uint8Array, file: string): SafetensorsHeader {
  const size = bytes.byteLength;
  try {
    const length = readHeaderLength(bytes, file, size);
    return parseSafetensorsHeader(bytes.subarray(8, 8 + length), file, size);
  } catch (error) {
    if (error instanceof FileFaultError) throw new ReferenceFileError(error.message);
    throw error;
  }
}

type Fail = (rule: string) => never;

function readTensor(
  dtype: SafetensorsDtype,
  shape: Shape,
  bytes: Uint8Array<ArrayBuffer>,
  fail: Fail,
): HostTensor {
  const { buffer } = bytes;
  switch (dtype) {
    case "F64":
      return HostTensor.from(shape, new Float64Array(buffer), "f32");
    case "I64":
      return HostTensor.from(shape, narrow(new BigInt64Array(buffer), fail), "u32");
    case "U64":
      return HostTensor.from(shape, narrow(new BigUint64Array(buffer), fail), "u32");
    case "I32":
      return HostTensor.from(shape, narrow(new Int32Array(buffer), fail), "u32");
    case "I16":
      return HostTensor.from(shape, narrow(new Int16Array(buffer), fail), "u32");
    case "I8":
      return HostTensor.from(shape, narrow(new Int8Array(buffer), fail), "u32");
    case "U16":
      return HostTensor.from(shape, new Uint16Array(buffer), "u32");
    case "U8":
    case "BOOL":
      return HostTensor.from(shape, bytes, "u32");
    case "U32":
    case "F32":
    case "F16":
    case "BF16":
      return HostTensor.fromBytes({ shape, dtype: dtype.toLowerCase() as Dtype }, bytes);
  }
}

function narrow(values: Iterable<bigint | number>, fail: Fail): number[] {
  return Array.from(values, (value) => {
    const number = Number(value);
    if (number < 0 || number > 0xffffffff) {
      fail(`integers must fit in 32 bits without a sign: ${value}`);
    }
    return number;
  });
}
