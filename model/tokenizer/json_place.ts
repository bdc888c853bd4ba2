/**
 * A place in a tokenizer's JSON, for checks that say where they failed.
 *
 * @module
 */

import { printable, TokenizerError } from "../../runtime/errors.ts";
import { describeJson, isRecord } from "../../runtime/json_text.ts";

/** A place in a file: its root, or what lies under a path of keys. */
export class JsonPlace {
  /** The file, for messages. */
  readonly file: string;
  readonly #path: string;

  /** Takes the file and the path; the root unless given. */
  constructor(file: string, path = "") {
    this.file = file;
    this.#path = path;
  }

  /** The place of a key of the object that is here. */
  key(name: string): JsonPlace {
    return new JsonPlace(this.file, this.#path === "" ? name : `${this.#path}.${name}`);
  }

  /** Throws a {@linkcode TokenizerError} about this place. */
  fail(reason: string, rule: string, value: string): never {
    const { file } = this;
    const place = this.#path === "" ? {} : { place: `key "${printable(this.#path)}"` };
    throw new TokenizerError({ file, ...place, reason, rule, value });
  }

  /** The object that is here. */
  record(value: unknown): Readonly<Record<string, unknown>> {
    return isRecord(value)
      ? value
      : this.fail("not-an-object", "must be a JSON object", describeJson(value));
  }

  /** The list that is here, of at most so many entries. */
  list(value: unknown, most: number): readonly unknown[] {
    if (Array.isArray(value) && value.length <= most) return value;
    return this.fail("not-a-list", `must be a list of at most ${most}`, describeJson(value));
  }

  /** A whole number from 0 on that may be a token's id. */
  id(value: unknown): number {
    if (Number.isInteger(value) && (value as number) >= 0 && (value as number) < ID_BOUND) {
      return value as number;
    }
    const rule = `must be a whole number from 0 to ${ID_BOUND - 1}`;
    return this.fail("bad-id", rule, describeJson(value));
  }

  /** True or false under a key. */
  boolean(fields: Readonly<Record<string, unknown>>, name: string, byDefault: boolean): boolean {
    const value = Object.hasOwn(fields, name) ? fields[name] : byDefault;
    if (typeof value === "boolean") return value;
    return this.key(name).fail("not-a-boolean", "must be true or false", describeJson(value));
  }

  /** Throws unless a boolean, where it is given, is the one value that is supported. */
  flag(fields: Readonly<Record<string, unknown>>, name: string, only: boolean): void {
    if (this.boolean(fields, name, only) === only) return;
    this.key(name).fail("unsupported", `must be ${only}`, String(!only));
  }
}

/** Ids are below this. */
const ID_BOUND = 2 ** 24;
