/**
 * Reads the fields of a JSON object that somebody else wrote: each with its type and range, and an
 * error that names file, key, rule and value.
 *
 * @module
 */

import { ModelConfigError, ModelUnsupportedError, printable } from "../runtime/errors.ts";

/** A parsed JSON object, of which nothing is known yet. */
export type JsonObject = Readonly<Record<string, unknown>>;

/** What a number must be, beside finite: within bounds, of which the lower one is `above` or `least`. */
export type NumberRule =
  & {
    /** It must be whole. */
    readonly whole?: boolean;
    /** It must not be greater than this. */
    readonly most?: number;
  }
  & ({
    /** It must be greater than this. */
    readonly above: number;
  } | {
    /** It must not be less than this. */
    readonly least: number;
  });

/** Token ids fit the i32 and u32 tensors that carry them. Whether the model has the row is for later. */
export const TOKEN_ID: NumberRule = { whole: true, least: 0, most: 2 ** 31 - 1 };

/** How many entries a list may have. */
export interface LengthRule {
  /** Not fewer than this. */
  readonly least: number;
  /** Not more than this. */
  readonly most: number;
}

/** Any length up to one that is far above any real config's, and small enough to hold. */
export const ANY_LENGTH: LengthRule = { least: 0, most: 2 ** 16 };

/** The same, but not empty. */
export const NOT_EMPTY: LengthRule = { ...ANY_LENGTH, least: 1 };

/**
 * The fields of one JSON object. A field that is absent has the default that the caller names; one that
 * is present is never replaced, so a wrong value is an error and not a default. `undefined`, which JSON
 * does not have, counts as absent.
 */
export class JsonFields {
  /** The file, as messages call it. */
  readonly file: string;
  readonly #fields: JsonObject;
  readonly #path: string;
  readonly #olderKeys: Readonly<Record<string, string>>;
  #isList = false;

  /**
   * Takes an object's fields.
   *
   * @param value the object
   * @param file its file, for messages
   * @param path the keys that lead to it, for messages: empty for the file's own object
   * @param olderKeys by key, the one to look under where the key itself is absent
   * @throws {ModelConfigError} If `value` is no object
   */
  constructor(
    value: unknown,
    file: string,
    path = "",
    olderKeys: Readonly<Record<string, string>> = {},
  ) {
    if (!isJsonObject(value)) {
      throw new ModelConfigError({
        file,
        ...(path !== "" && { place: placeOf(path) }),
        reason: "not-an-object",
        rule: "must be a JSON object",
        value: shown(value),
      });
    }
    this.file = file;
    this.#fields = value;
    this.#path = path;
    this.#olderKeys = olderKeys;
  }

  /** The keys that are present, as the object has them and in its order. */
  keys(): string[] {
    return Object.keys(this.#fields).filter((key) => this.#fields[key] !== undefined);
  }

  /** True if the key is present, whatever its value. */
  has(key: string): boolean {
    return this.get(key) !== undefined;
  }

  /** True if the key is present and not null. */
  states(key: string): boolean {
    return (this.get(key) ?? null) !== null;
  }

  /** The value as it stands; `undefined` if absent. Keys of the prototype do not count. */
  get(key: string): unknown {
    const written = this.#written(key);
    return Object.hasOwn(this.#fields, written) ? this.#fields[written] : undefined;
  }

  /** Place of a key, as an error's fault has it. */
  place(key: string): string {
    return placeOf(this.#pathTo(key));
  }

  /** Throws a {@linkcode ModelConfigError} about a key; its value is shown unless told otherwise. */
  refuse(key: string, reason: string, rule: string, value: string = shown(this.get(key))): never {
    throw new ModelConfigError({ file: this.file, place: this.place(key), reason, rule, value });
  }

  /** Throws a {@linkcode ModelUnsupportedError} about a key and its value. */
  unsupported(key: string, reason: string, rule: string): never {
    const value = shown(this.get(key));
    throw new ModelUnsupportedError({
      file: this.file,
      place: this.place(key),
      reason,
      rule,
      value,
    });
  }

  /** The object under a key; an empty one if the key is absent or null. */
  object(key: string): JsonFields {
    return new JsonFields(this.get(key) ?? {}, this.file, this.#pathTo(key));
  }

  /**
   * The entries of the list under a key, which are fields called "0", "1" and so on.
   *
   * @param key the list's key
   * @param what what the entries are, for messages
   * @param lengths how many there may be
   */
  entries(key: string, what: string, lengths: LengthRule = NOT_EMPTY): JsonFields {
    const value = this.get(key);
    const { least, most } = lengths;
    if (!Array.isArray(value) || value.length < least || value.length > most) {
      const count = least === most ? least : `${least} to ${most}`;
      return this.refuse(key, "wrong-list", `must be a list of ${count} ${what}`);
    }
    // A gap is no default here, as an absent field is in an object.
    const present = { ...Array.from(value, (entry) => entry ?? null) };
    const entries = new JsonFields(present, this.file, this.#pathTo(key));
    entries.#isList = true;
    return entries;
  }

  /** These fields without those that are null. */
  withoutNulls(): JsonFields {
    const stated = Object.entries(this.#fields).filter(([, value]) => value !== null);
    return new JsonFields(Object.fromEntries(stated), this.file, this.#path, this.#olderKeys);
  }

  /** A number. `null` as a default also lets the file say null. */
  number<Default extends number | null | undefined>(
    key: string,
    rule: NumberRule,
    byDefault: Default,
  ): number | Default {
    const value = this.get(key);
    if (leavesOpen(value, byDefault)) return byDefault;
    if (!obeys(value, rule)) {
      return this.refuse(key, "number", `must be ${phrase(rule)}${orNull(byDefault)}`);
    }
    // -0 is 0 in every field, and would not survive being written as JSON.
    return value + 0;
  }

  /** True or false; a number or a string is neither. */
  boolean<Default extends boolean | null>(key: string, byDefault: Default): boolean | Default {
    const value = this.get(key);
    if (leavesOpen(value, byDefault)) return byDefault;
    if (typeof value === "boolean") return value;
    return this.refuse(key, "not-a-boolean", `must be true or false${orNull(byDefault)}`);
  }

  /** One of some words. */
  word<Word extends string, Default extends Word | null>(
    key: string,
    words: readonly Word[],
    byDefault: Default,
  ): Word | Default {
    const value = this.get(key);
    if (leavesOpen(value, byDefault)) return byDefault;
    const word = words.find((each) => each === value);
    return word ?? this.refuse(
      key,
      "unknown-word",
      `must be one of ${words.map((each) => JSON.stringify(each)).join(", ")}${orNull(byDefault)}`,
    );
  }

  /** A text. */
  text<Default extends string | null>(key: string, byDefault: Default): string | Default {
    const value = this.get(key);
    if (leavesOpen(value, byDefault)) return byDefault;
    if (typeof value === "string") return value;
    return this.refuse(key, "not-a-string", `must be a string${orNull(byDefault)}`);
  }

  /** A list of numbers, all under one rule. */
  numbers(key: string, rule: NumberRule, lengths?: LengthRule): readonly number[] {
    const entries = this.entries(key, "numbers", lengths);
    return Object.freeze(entries.keys().map((place) => entries.number(place, rule, 0)));
  }

  /** A list of strings, which may be empty. */
  texts<Default extends readonly string[] | null>(
    key: string,
    byDefault: Default,
  ): readonly string[] | Default {
    const value = this.get(key);
    if (leavesOpen(value, byDefault)) return byDefault;
    const entries = this.entries(key, "strings", ANY_LENGTH);
    return Object.freeze(entries.keys().map((place) => entries.text(place, "")));
  }

  /** A token id, or null. */
  tokenId(key: string, byDefault: number | null): number | null {
    return this.has(key) ? this.number(key, TOKEN_ID, null) : byDefault;
  }

  /** A token id, several, or null. */
  tokenIds(key: string, byDefault: number | null): number | readonly number[] | null {
    if (Array.isArray(this.get(key))) return this.numbers(key, TOKEN_ID);
    return this.tokenId(key, byDefault);
  }

  /** The key, or the older one that the object has in its place. */
  #written(key: string): string {
    if (Object.hasOwn(this.#fields, key) || !Object.hasOwn(this.#olderKeys, key)) return key;
    const older = this.#olderKeys[key]!;
    return Object.hasOwn(this.#fields, older) ? older : key;
  }

  #pathTo(key: string): string {
    const written = this.#written(key);
    if (this.#isList) return `${this.#path}[${written}]`;
    return this.#path === "" ? written : `${this.#path}.${written}`;
  }
}

/** True for what `{}` makes in JSON: no array and not null. */
export function isJsonObject(value: unknown): value is JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** A value, in short and safe to print. */
export function shown(value: unknown): string {
  if (typeof value === "string") return JSON.stringify(printable(value));
  if (Array.isArray(value)) return `a list of ${value.length}`;
  if (typeof value === "object" && value !== null) return "an object";
  return typeof value === "function" ? "a function" : String(value);
}

function placeOf(path: string): string {
  return `key ${JSON.stringify(printable(path))}`;
}

/** True if a field is left to its default: absent, or null where the default is null as well. */
function leavesOpen(value: unknown, byDefault: unknown): boolean {
  return value === undefined || (value === null && byDefault === null);
}

function orNull(byDefault: unknown): string {
  return byDefault === null ? " or null" : "";
}

function obeys(value: unknown, rule: NumberRule): value is number {
  const { whole = false, most = Infinity } = rule;
  return typeof value === "number" && Number.isFinite(value) &&
    ("above" in rule ? value > rule.above : value >= rule.least) && value <= most &&
    (!whole || Number.isInteger(value));
}

function phrase(rule: NumberRule): string {
  const { whole, most } = rule;
  const kind = whole ? "a whole number" : "a finite number";
  if ("above" in rule) {
    return `${kind} above ${rule.above}${most === undefined ? "" : ` and at most ${most}`}`;
  }
  return most === undefined
    ? `${kind} of at least ${rule.least}`
    : `${kind} from ${rule.least} to ${most}`;
}
