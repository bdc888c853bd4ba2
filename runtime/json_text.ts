/**
 * JSON from files that nobody vouches for: what `JSON.parse` passes over in silence, and values shown
 * in a few words.
 *
 * @module
 */

import { printable } from "./errors.ts";

/** Which rule of the encoding a text breaks, and how. */
export interface JsonTextFault {
  /** `utf8`: the bytes are no text; `json`: the text is no JSON. */
  readonly rule: "utf8" | "json";
  /** What is there instead, in short. */
  readonly value: string;
}

/**
 * Decodes and parses JSON. Malformed UTF-8 and a byte order mark are faults, as RFC 8259 has it.
 *
 * @param fail throws the caller's own kind of error
 * @returns the value, and its text for a {@linkcode walkJson}
 */
export function decodeJson(
  bytes: Uint8Array,
  fail: (fault: JsonTextFault) => never,
): { value: unknown; text: string } {
  let text: string;
  try {
    text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    return fail({ rule: "utf8", value: "it is not" });
  }
  try {
    return { value: JSON.parse(text), text };
  } catch (error) {
    return fail({ rule: "json", value: (error as Error).message });
  }
}

/** What a walk reports, in the order of the text. */
export interface JsonVisitor {
  /** A key; `depth` is 1 for the keys of the outermost object. */
  key(depth: number, name: string): void;
  /** A number as it is spelt; `depth` is 1 for the members of the outermost object or array. */
  number?(depth: number, spelling: string): void;
}

/**
 * Walks JSON text for what its value no longer shows: of equal keys `JSON.parse` keeps the last, and
 * `16.0`, `1.6e1` and `16` come out the same. Neither recurses nor builds anything.
 *
 * @param text JSON that `JSON.parse` has accepted
 * @param deepest what lies deeper than this is passed over
 */
export function walkJson(text: string, deepest: number, visitor: JsonVisitor): void {
  let depth = 0;
  for (let at = 0; at < text.length; at++) {
    const code = text.charCodeAt(at);
    if (code === QUOTE) {
      const start = at;
      at = endOfString(text, start);
      if (depth > deepest || !isKey(text, at + 1)) continue;
      const raw = text.slice(start, at + 1);
      visitor.key(depth, raw.includes("\\") ? JSON.parse(raw) : raw.slice(1, -1));
    } else if (code === OPEN_BRACE || code === OPEN_BRACKET) {
      depth++;
    } else if (code === CLOSE_BRACE || code === CLOSE_BRACKET) {
      depth--;
    } else if (code === MINUS || isDigit(code)) {
      const start = at;
      while (isInNumber(text.charCodeAt(at + 1))) at++;
      if (depth <= deepest) visitor.number?.(depth, text.slice(start, at + 1));
    }
  }
}

/** A JSON value in short. Never the whole of it: it may be a million brackets deep. */
export function describeJson(value: unknown): string {
  if (value === null) return "null";
  if (value === undefined) return "there is none";
  if (typeof value === "string") return quoteName(value);
  if (!Array.isArray(value)) return typeof value === "object" ? "an object" : String(value);
  const isFlat = value.length <= 10 && value.every((item) => typeof item !== "object");
  return isFlat ? `[${value.map(describeJson).join(", ")}]` : `an array of ${value.length}`;
}

/** A name from a file as messages show it: quoted, cut, without control characters. */
export function quoteName(name: string): string {
  return JSON.stringify(printable(name));
}

/** True for an object of JSON that is no array. */
export function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

const QUOTE = 0x22, COLON = 0x3a, BACKSLASH = 0x5c, MINUS = 0x2d;
const OPEN_BRACE = 0x7b, CLOSE_BRACE = 0x7d, OPEN_BRACKET = 0x5b, CLOSE_BRACKET = 0x5d;

/** Where the quote is that ends the string that starts at `start`. */
function endOfString(text: string, start: number): number {
  let at = start + 1;
  for (; at < text.length; at++) {
    const code = text.charCodeAt(at);
    if (code === QUOTE) break;
    if (code === BACKSLASH) at++;
  }
  return at;
}

/** True if a colon comes next: what stands before it is a key. */
function isKey(text: string, at: number): boolean {
  let code = text.charCodeAt(at);
  while (code === 0x20 || code === 0x0a || code === 0x0d || code === 0x09) {
    code = text.charCodeAt(++at);
  }
  return code === COLON;
}

function isDigit(code: number): boolean {
  return code >= 0x30 && code <= 0x39;
}

/** A digit or one of `. e E + -`. */
function isInNumber(code: number): boolean {
  return isDigit(code) || code === 0x2e || code === 0x65 || code === 0x45 || code === 0x2b ||
    code === MINUS;
}
