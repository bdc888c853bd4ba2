/**
 * The key-value pairs of a GGUF header.
 *
 * @module
 */

import { quoteName } from "../../../runtime/json_text.ts";
import type { HeaderCursor } from "./header_cursor.ts";

/** An array of numbers, in the type that the file stores them in; booleans are the bytes 0 and 1. */
export type GgufNumbers =
  | Uint8Array
  | Int8Array
  | Uint16Array
  | Int16Array
  | Uint32Array
  | Int32Array
  | Float32Array
  | Float64Array
  | BigUint64Array
  | BigInt64Array;

/** A value of a key. Integers of 64 bits are bigints, whatever their size. */
export type GgufValue =
  | number
  | bigint
  | boolean
  | string
  | GgufNumbers
  | readonly string[]
  | readonly GgufValue[];

/** Keys above this are refused. */
const MOST_KEYS = 65_536;

/** Key: u64 length and a letter; u32 type; u8 value. */
const LEAST_KEY_BYTES = 8 + 1 + 4 + 1;

/** The format's limit for a key. */
const MOST_KEY_LENGTH = 65_535;

/** Elements above this are refused, for an array. */
const MOST_ELEMENTS = 2 ** 24;

/** Arrays within arrays above this depth are refused. */
const MOST_DEPTH = 4;

/** Arrays above this are refused, for a file: an empty one takes 12 bytes there and 200 here. */
const MOST_ARRAYS = 1024;

const BOOL = 7;
const STRING = 8;
const ARRAY = 9;

interface NumberType {
  readonly bytes: number;
  read(view: DataView, at: number): number | bigint;
  array(buffer: ArrayBuffer): GgufNumbers;
}

const NUMBERS: ReadonlyMap<number, NumberType> = new Map<number, NumberType>([
  [0, { bytes: 1, read: (v, at) => v.getUint8(at), array: (b) => new Uint8Array(b) }],
  [1, { bytes: 1, read: (v, at) => v.getInt8(at), array: (b) => new Int8Array(b) }],
  [2, { bytes: 2, read: (v, at) => v.getUint16(at, true), array: (b) => new Uint16Array(b) }],
  [3, { bytes: 2, read: (v, at) => v.getInt16(at, true), array: (b) => new Int16Array(b) }],
  [4, { bytes: 4, read: (v, at) => v.getUint32(at, true), array: (b) => new Uint32Array(b) }],
  [5, { bytes: 4, read: (v, at) => v.getInt32(at, true), array: (b) => new Int32Array(b) }],
  [6, { bytes: 4, read: (v, at) => v.getFloat32(at, true), array: (b) => new Float32Array(b) }],
  [BOOL, { bytes: 1, read: (v, at) => v.getUint8(at), array: (b) => new Uint8Array(b) }],
  [10, {
    bytes: 8,
    read: (v, at) => v.getBigUint64(at, true),
    array: (b) => new BigUint64Array(b),
  }],
  [11, { bytes: 8, read: (v, at) => v.getBigInt64(at, true), array: (b) => new BigInt64Array(b) }],
  [12, { bytes: 8, read: (v, at) => v.getFloat64(at, true), array: (b) => new Float64Array(b) }],
]);

/** Number of the only type that `general.alignment` may have. */
const UINT32 = 4;

/** Reads how many pairs there are. */
export async function readKeyCount(cursor: HeaderCursor): Promise<number> {
  return await cursor.count("keys", MOST_KEYS, LEAST_KEY_BYTES);
}

/**
 * Reads the pairs.
 *
 * @param cursor stands before the first key, and after the last value when done
 * @param count how many there are
 * @throws {ModelFormatError} If a key is empty, too long or given twice, or a value is damaged
 */
export async function readMetadata(
  cursor: HeaderCursor,
  count: number,
): Promise<Map<string, GgufValue>> {
  const metadata = new Map<string, GgufValue>();
  const budget = { arrays: MOST_ARRAYS };
  for (let i = 0; i < count; i++) {
    cursor.place = `key ${i + 1} of ${count}`;
    const key = await cursor.text();
    if (key === "" || key.length > MOST_KEY_LENGTH) {
      cursor.fail("key-length", `must have 1 to ${MOST_KEY_LENGTH} letters`, `${key.length}`);
    }
    cursor.place = `key ${quoteName(key)}`;
    if (metadata.has(key)) cursor.fail("key-twice", "must be given once", "it is given again");
    const type = await cursor.uint32();
    if (key === "general.alignment" && type !== UINT32) {
      cursor.fail("alignment", `must be of type ${UINT32}, u32`, `type ${type}`);
    }
    metadata.set(key, await readValue(cursor, type, 0, budget));
  }
  return metadata;
}

async function readValue(
  cursor: HeaderCursor,
  type: number,
  depth: number,
  budget: { arrays: number },
): Promise<GgufValue> {
  if (type === STRING) return await cursor.text();
  if (type === ARRAY) return await readArray(cursor, depth + 1, budget);
  const number = NUMBERS.get(type);
  if (number === undefined) {
    return cursor.fail("value-type", "must have a type from 0 to 12", `type ${type}`);
  }
  await cursor.fill(number.bytes);
  const { view, at } = cursor.take(number.bytes);
  const value = number.read(view, at);
  return type === BOOL ? requireBool(cursor, value) === 1 : value;
}

async function readArray(
  cursor: HeaderCursor,
  depth: number,
  budget: { arrays: number },
): Promise<GgufValue> {
  if (depth > MOST_DEPTH) {
    cursor.fail("array-depth", `arrays may be nested ${MOST_DEPTH} deep`, "they are deeper");
  }
  if (--budget.arrays < 0) {
    cursor.fail("array-count", `a file may have ${MOST_ARRAYS} arrays`, "it has more");
  }
  const type = await cursor.uint32();
  const number = NUMBERS.get(type);
  if (number !== undefined) {
    const count = await cursor.count("elements", MOST_ELEMENTS, number.bytes);
    await cursor.fill(count * number.bytes);
    const values = number.array(cursor.takeCopy(count * number.bytes).buffer);
    if (type === BOOL) { for (const value of values) requireBool(cursor, value); }
    return values;
  }
  if (type === STRING) {
    const texts: string[] = [];
    const count = await cursor.count("elements", MOST_ELEMENTS, 8);
    for (let i = 0; i < count; i++) texts.push(await cursor.text());
    return texts;
  }
  if (type !== ARRAY) cursor.fail("value-type", "must have a type from 0 to 12", `type ${type}`);
  const arrays: GgufValue[] = [];
  const count = await cursor.count("elements", MOST_ELEMENTS, 12);
  for (let i = 0; i < count; i++) arrays.push(await readArray(cursor, depth + 1, budget));
  return arrays;
}

function requireBool(cursor: HeaderCursor, value: number | bigint): number {
  if (value === 0 || value === 1) return value;
  return cursor.fail("bool", "a boolean must be the byte 0 or 1", `${value}`);
}
