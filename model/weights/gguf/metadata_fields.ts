/**
 * Reads the keys of a GGUF header's metadata, each with its type and range.
 *
 * @module
 */

import { ModelFormatError, ModelUnsupportedError } from "../../../runtime/errors.ts";
import { quoteName } from "../../../runtime/json_text.ts";
import type { GgufValue } from "./metadata.ts";

/** The metadata of one file. */
export class MetadataFields {
  readonly #file: string;
  readonly #values: ReadonlyMap<string, GgufValue>;

  /** Takes the values by key, and what messages call the file. */
  constructor(values: ReadonlyMap<string, GgufValue>, file: string) {
    this.#values = values;
    this.#file = file;
  }

  /** The keys that start so, in the file's order. */
  keysUnder(prefix: string): string[] {
    return [...this.#values.keys()].filter((key) => key.startsWith(prefix));
  }

  /** A whole number of any integer type, or `undefined` if the key is absent. */
  optionalWhole(key: string, least: number, most: number): number | undefined {
    const value = this.#values.get(key);
    if (value === undefined) return undefined;
    const number = typeof value === "bigint" ? Number(value) : value;
    if (typeof number === "number" && Number.isInteger(number)) {
      if (number >= least && number <= most) return number;
    }
    return this.fail(key, "key-value", `must be a whole number from ${least} to ${most}`);
  }

  /** A whole number that must be given. */
  whole(key: string, least: number, most: number): number {
    return this.optionalWhole(key, least, most) ?? this.fail(key, "key-missing", "must be given");
  }

  /**
   * A finite number, or `undefined` if the key is absent. One stored as f32 is the shortest decimal that
   * rounds to it: 1e-5, and not 0.000009999999747378752.
   */
  optionalNumber(key: string): number | undefined {
    const value = this.#values.get(key);
    if (value === undefined) return undefined;
    if (typeof value === "number" && Number.isFinite(value)) return shortestDecimal(value);
    return this.fail(key, "key-value", "must be a finite number");
  }

  /** A text, or `undefined` if the key is absent. */
  optionalText(key: string): string | undefined {
    const value = this.#values.get(key);
    if (value === undefined || typeof value === "string") return value;
    return this.fail(key, "key-value", "must be a text");
  }

  /** Elements of an array of texts, or `undefined` if the key is absent. */
  optionalTextCount(key: string): number | undefined {
    const value = this.#values.get(key);
    if (value === undefined) return undefined;
    // The reader makes arrays of one type only.
    if (Array.isArray(value) && (value.length === 0 || typeof value[0] === "string")) {
      return value.length;
    }
    return this.fail(key, "key-value", "must be an array of texts");
  }

  /** Elements of an array of f32 or i32, or `undefined` if the key is absent. */
  optionalNumberCount(key: string, type: "f32" | "i32"): number | undefined {
    const value = this.#values.get(key);
    if (value === undefined) return undefined;
    const array = type === "f32" ? Float32Array : Int32Array;
    return value instanceof array
      ? value.length
      : this.fail(key, "key-value", `must be an array of ${type}`);
  }

  /** Throws that a key's value breaks a rule. */
  fail(key: string, reason: string, rule: string): never {
    throw new ModelFormatError({ ...this.#place(key), reason, rule, value: this.#shown(key) });
  }

  /** Throws that a key asks for something that this library does not do. */
  refuse(key: string, reason: string, rule: string): never {
    throw new ModelUnsupportedError({ ...this.#place(key), reason, rule, value: this.#shown(key) });
  }

  #place(key: string): { file: string; place: string } {
    return { file: this.#file, place: `key ${quoteName(key)}` };
  }

  #shown(key: string): string {
    const value = this.#values.get(key);
    if (value === undefined) return "it is missing";
    if (typeof value === "string") return quoteName(value);
    return typeof value === "object" ? `${value.length} elements` : String(value);
  }
}

function shortestDecimal(value: number): number {
  if (Math.fround(value) !== value) return value;
  for (let digits = 1; digits < 9; digits++) {
    const rounded = Number(value.toPrecision(digits));
    if (Math.fround(rounded) === value) return rounded;
  }
  return value;
}
