/**
 * Where a prompt comes from: the command line, a file, or standard input, as UTF-8 to the letter.
 *
 * @module
 */

import { UsageError } from "./command_line.ts";

/** Bytes that are no UTF-8; the message says where. */
export class InvalidTextError extends Error {
  /** Tells it from other errors. */
  override readonly name = "InvalidTextError";
}

/** The most bytes of a prompt that are read; no model has positions for as many. */
const MAX_PROMPT_BYTES = 16 * 1024 * 1024;

/** Standard input, or what a test puts in its place. */
export interface TextInput {
  /** True if a person types there. */
  isTerminal(): boolean;
  /** Its bytes. */
  readonly readable: ReadableStream<Uint8Array<ArrayBuffer>>;
}

/**
 * The prompt: an operand, where `-` is standard input, or a file; without either, standard input unless that is a
 * terminal. Of a file and of standard input, one newline at the end is left out, as editors and `echo` add one.
 *
 * @param signal ends the wait for standard input
 * @throws {UsageError} If there is none, there are two, or it is no UTF-8
 */
export async function readPrompt(
  operand: string | undefined,
  file: string | undefined,
  stdin: TextInput,
  signal?: AbortSignal,
): Promise<string> {
  if (operand !== undefined && file !== undefined) {
    throw new UsageError("--file must not be given with a prompt");
  }
  if (file !== undefined) {
    using opened = await Deno.open(file);
    return await readText(file, opened.readable, signal);
  }
  if (operand !== undefined && operand !== "-") return operand;
  if (operand === undefined && stdin.isTerminal()) {
    throw new UsageError('a prompt must be given, in quotes; "" begins a text from nothing');
  }
  return await readText("standard input", stdin.readable, signal);
}

/** The pieces of a stream. A signal ends the wait for the next one, which may be a person's. */
export async function* piecesOf(
  stream: ReadableStream<Uint8Array<ArrayBuffer>>,
  signal?: AbortSignal,
): AsyncGenerator<Uint8Array<ArrayBuffer>> {
  const { promise: aborted, reject } = Promise.withResolvers<never>();
  aborted.catch(() => {});
  const abort = () => reject(signal?.reason);
  signal?.throwIfAborted();
  signal?.addEventListener("abort", abort);
  const reader = stream.getReader();
  try {
    for (;;) {
      const { done, value } = await Promise.race([reader.read(), aborted]);
      if (done) return;
      yield value;
    }
  } finally {
    signal?.removeEventListener("abort", abort);
  }
}

async function readText(
  name: string,
  stream: ReadableStream<Uint8Array<ArrayBuffer>>,
  signal: AbortSignal | undefined,
): Promise<string> {
  const parts: Uint8Array<ArrayBuffer>[] = [];
  let length = 0;
  for await (const part of piecesOf(stream, signal)) {
    parts.push(part);
    length += part.length;
    if (length > MAX_PROMPT_BYTES) {
      throw new UsageError(`${name} must have at most ${MAX_PROMPT_BYTES} bytes: it has more`);
    }
  }
  const bytes = new Uint8Array(await new Blob(parts).arrayBuffer());
  try {
    return decodeText(bytes).replace(/\r?\n$/, "");
  } catch (error) {
    if (!(error instanceof InvalidTextError)) throw error;
    throw new UsageError(`${name} ${error.message}`);
  }
}

/**
 * Text from UTF-8. A mark at the start is text as any other.
 *
 * @throws {InvalidTextError} naming the first byte that is not UTF-8
 */
export function decodeText(bytes: Uint8Array<ArrayBuffer>): string {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    const at = firstInvalid(bytes);
    const value = `0x${bytes[at]!.toString(16).padStart(2, "0")} at byte ${at}`;
    throw new InvalidTextError(`must be UTF-8: ${value}`);
  }
}

/** Where the first sequence begins that is no character: the longest prefix that is UTF-8 ends there. */
function firstInvalid(bytes: Uint8Array<ArrayBuffer>): number {
  let [good, bad] = [0, bytes.length];
  // A prefix is sound as long as all shorter ones are, but for a character that it cuts.
  while (bad - good > 1) {
    const middle = (good + bad) >>> 1;
    if (isSound(bytes.subarray(0, middle))) good = middle;
    else bad = middle;
  }
  let start = good;
  while (start > 0 && start > good - 3 && !isWhole(bytes.subarray(0, start))) start--;
  return start;
}

/** Whether bytes are UTF-8 that may go on. */
function isSound(bytes: Uint8Array<ArrayBuffer>): boolean {
  try {
    new TextDecoder("utf-8", { fatal: true }).decode(bytes, { stream: true });
    return true;
  } catch {
    return false;
  }
}

/** Whether bytes are UTF-8 that ends with a character. */
function isWhole(bytes: Uint8Array<ArrayBuffer>): boolean {
  try {
    new TextDecoder("utf-8", { fatal: true }).decode(bytes);
    return true;
  } catch {
    return false;
  }
}
