/**
 * Files of one JSON value per line: read piece by piece, and appended to in whole lines.
 *
 * @module
 */

import { describeJson, isRecord } from "../runtime/json_text.ts";
import { UsageError } from "./command_line.ts";
import { decodeText, InvalidTextError } from "./prompt_text.ts";

/** A line that is no JSON, or is too long; the message says what it must be. */
export class JsonLineError extends Error {
  /** Tells it from other errors. */
  override readonly name = "JsonLineError";
}

/** Bytes of a line, or of a file that is shown in a message. */
export type Bytes = Uint8Array<ArrayBuffer>;

/** A line of a file. */
export interface Line {
  /** Its number, from 0; empty lines count. */
  readonly index: number;
  /** Without its end; undefined if it is longer than was asked for. */
  readonly bytes: Bytes | undefined;
  /** Where the line after it begins; undefined if the file ends without ending this line. */
  readonly next: number | undefined;
}

/** The longest line that is read. */
export const MAX_LINE_BYTES: number = 16 * 1024 * 1024;

const NEWLINE = 0x0a;
const CARRIAGE_RETURN = 0x0d;

/**
 * Splits bytes into lines as they come, and keeps no more than one line of them. Lines end in LF, or CR LF.
 *
 * @param source bytes in pieces of any size
 * @param most bytes of a line; what is longer is passed over, and comes as a line without bytes
 */
export async function* readLines(
  source: AsyncIterable<Bytes>,
  most: number = MAX_LINE_BYTES,
): AsyncGenerator<Line> {
  let parts: Bytes[] = [];
  let held = 0;
  let index = 0;
  let end = 0;
  const hold = (part: Bytes): void => {
    held += part.length;
    if (held > most) parts = [];
    else parts.push(part);
  };
  const line = (next: number | undefined): Line => {
    const bytes = held > most ? undefined : joined(parts, held);
    const isReturned = bytes?.at(-1) === CARRIAGE_RETURN && next !== undefined;
    [parts, held] = [[], 0];
    return { index: index++, bytes: isReturned ? bytes.subarray(0, -1) : bytes, next };
  };
  // Parts are copies: whoever gave a piece may fill it again.
  for await (const piece of source) {
    let from = 0;
    for (let at = piece.indexOf(NEWLINE); at >= 0; at = piece.indexOf(NEWLINE, from)) {
      hold(piece.slice(from, at));
      from = at + 1;
      yield line(end + from);
    }
    if (from < piece.length) hold(piece.slice(from));
    end += piece.length;
  }
  if (held > 0) yield line(undefined);
}

/** True for a line of nothing but white space. */
export function isBlank(bytes: Bytes): boolean {
  return bytes.every((byte) => byte === 0x20 || byte === 0x09 || byte === CARRIAGE_RETURN);
}

/**
 * The value of a line. A whole number that f64 does not hold is a bigint, so that it can be written again as it was.
 *
 * @throws {JsonLineError} If the line is no UTF-8 or no JSON
 */
export function parseJsonLine(bytes: Bytes): unknown {
  try {
    return JSON.parse(decodeText(bytes), exactNumbers);
  } catch (error) {
    if (error instanceof InvalidTextError) throw new JsonLineError(error.message);
    if (error instanceof SyntaxError) {
      throw new JsonLineError(`must be JSON: ${error.message}`);
    }
    // The engine gives up on brackets in brackets by the thousand.
    if (error instanceof RangeError) throw new JsonLineError("must be JSON of fewer levels");
    throw error;
  }
}

/** A value as one line of JSON, with its end; bigints are written as whole numbers. */
export function formatJsonLine(value: unknown): string {
  const text = JSON.stringify(
    value,
    (_, part) => typeof part === "bigint" ? rawJson(part.toString()) : part,
  );
  return `${text}\n`;
}

/** Written by an engine of ECMAScript 2026, of which TypeScript does not know yet. */
const { rawJSON: rawJson } = JSON as unknown as { rawJSON(text: string): unknown };

function exactNumbers(
  this: unknown,
  _key: string,
  value: unknown,
  context?: { readonly source?: string },
): unknown {
  const { source } = context ?? {};
  const isInexact = typeof value === "number" && Number.isInteger(value) &&
    !Number.isSafeInteger(value);
  return isInexact && source !== undefined && /^-?\d+$/.test(source) ? BigInt(source) : value;
}

/** Whole numbers from 0, at a bit each. */
export class IndexSet {
  readonly #pages = new Map<number, Uint8Array>();
  #size = 0;

  /** How many there are. */
  get size(): number {
    return this.#size;
  }

  /** Adds one. */
  add(index: number): void {
    if (this.has(index)) return;
    const number = Math.floor(index / PAGE_BITS);
    const page = this.#pages.get(number) ?? new Uint8Array(PAGE_BITS / 8);
    this.#pages.set(number, page);
    page[(index % PAGE_BITS) >> 3]! |= 1 << (index & 7);
    this.#size++;
  }

  /** Whether it is there. */
  has(index: number): boolean {
    const page = this.#pages.get(Math.floor(index / PAGE_BITS));
    return page !== undefined && (page[(index % PAGE_BITS) >> 3]! & (1 << (index & 7))) !== 0;
  }
}

const PAGE_BITS = 32_768;

/** What a line of results says of itself. */
export interface JsonRecord {
  /** Number of the line that it answers, from 0. */
  readonly index: number;
  /** Why there is no result. */
  readonly error?: string;
}

/**
 * A file of results, a line for each line of another file. It is gone on with: what it holds is kept, but for a last
 * line without an end, which is taken away. No other process can append to it meanwhile.
 */
export class JsonLinesOutput implements Disposable {
  /** Numbers of the lines that it answers. */
  readonly done: IndexSet = new IndexSet();
  /** How many of its lines are errors. */
  errors = 0;
  readonly #path: string;
  readonly #file: Deno.FsFile;

  private constructor(path: string, file: Deno.FsFile) {
    this.#path = path;
    this.#file = file;
  }

  /**
   * Opens a file, or makes it.
   *
   * @throws {UsageError} If another process has it, or it holds something else
   */
  static async open(path: string): Promise<JsonLinesOutput> {
    using made = new DisposableStack();
    const file = made.use(await Deno.open(path, { read: true, write: true, create: true }));
    const output = new JsonLinesOutput(path, file);
    if (!await file.tryLock(true)) {
      throw new UsageError(`${path} must be no other process's output: one is writing to it`);
    }
    await output.#resume();
    made.move();
    return output;
  }

  /** Writes records, a line each, all of them or, if the process dies meanwhile, the first of them. */
  async append(records: readonly JsonRecord[]): Promise<void> {
    const bytes = new TextEncoder().encode(records.map(formatJsonLine).join(""));
    for (let at = 0; at < bytes.length;) at += await this.#file.write(bytes.subarray(at));
    for (const record of records) this.#count(record);
  }

  /** Takes the file away again, if nothing is in it. */
  async removeEmpty(): Promise<void> {
    const { isFile, size } = await this.#file.stat();
    if (isFile && size === 0) await Deno.remove(this.#path);
  }

  /** Closes the file. */
  [Symbol.dispose](): void {
    this.#file[Symbol.dispose]();
  }

  async #resume(): Promise<void> {
    let end = 0;
    for await (const { index, bytes, next } of readLines(chunksOf(this.#file))) {
      if (next === undefined) break;
      if (bytes === undefined || !isBlank(bytes)) this.#count(readRecord(this.#path, index, bytes));
      end = next;
    }
    await this.#file.truncate(end);
    await this.#file.seek(end, Deno.SeekMode.Start);
  }

  #count({ index, error }: JsonRecord): void {
    this.done.add(index);
    if (error !== undefined) this.errors++;
  }
}

/** The bytes of an open file, from where it stands; it stays open. */
async function* chunksOf(file: Deno.FsFile): AsyncGenerator<Bytes> {
  const buffer = new Uint8Array(64 * 1024);
  for (;;) {
    const count = await file.read(buffer);
    if (count === null) return;
    yield buffer.subarray(0, count);
  }
}

function readRecord(path: string, number: number, bytes: Bytes | undefined): JsonRecord {
  const fail = (rule: string): never => {
    throw new UsageError(`${path}: line ${number + 1} ${rule}; it is no output to go on with`);
  };
  if (bytes === undefined) return fail(`must have at most ${MAX_LINE_BYTES} bytes`);
  let value: unknown;
  try {
    value = parseJsonLine(bytes);
  } catch (error) {
    if (error instanceof JsonLineError) return fail(error.message);
    throw error;
  }
  const { index, error } = isRecord(value) ? value : {};
  const isIndex = Number.isSafeInteger(index) && (index as number) >= 0;
  if (!isIndex) return fail(`must have an "index" from 0: ${describeJson(index)}`);
  return { index: index as number, ...(typeof error === "string" ? { error } : {}) };
}

function joined(parts: readonly Bytes[], length: number): Bytes {
  if (parts.length === 1) return parts[0]!;
  const bytes = new Uint8Array(length);
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}
