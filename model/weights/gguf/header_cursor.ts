/**
 * Reads a GGUF header front to back, a chunk of the file at a time.
 *
 * A header is a run of lengths and what they announce, all chosen by whoever made the file. So a length
 * is compared with the bytes that are left before anything is allocated for it.
 *
 * @module
 */

import { ModelFormatError, ModelUnsupportedError } from "../../../runtime/errors.ts";
import type { ByteSource } from "../byte_source.ts";

/** Bytes that are read ahead. */
const CHUNK_BYTES = 1024 * 1024;

/** A header may not be longer; that of a model of 100,000 tokens has about 6 MB. */
const MOST_HEADER_BYTES = 256 * 1024 * 1024;

/** A string may not be longer. */
const MOST_STRING_BYTES = 64 * 1024 * 1024;

/** A place in the header; everything before it has been read. */
export class HeaderCursor {
  /** What is being read, for messages. */
  place = "header";
  readonly #source: ByteSource;
  readonly #signal: AbortSignal | undefined;
  readonly #end: number;
  readonly #decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
  #bytes = new Uint8Array(0);
  #view = new DataView(this.#bytes.buffer);
  #start = 0;
  #at = 0;

  /** Starts at the first byte of the source. */
  constructor(source: ByteSource, signal?: AbortSignal) {
    this.#source = source;
    this.#signal = signal;
    this.#end = Math.min(source.size, MOST_HEADER_BYTES);
  }

  /** Byte of the file that is read next. */
  get position(): number {
    return this.#start + this.#at;
  }

  /** Bytes from here to the end of what can be header. */
  get left(): number {
    return this.#end - this.position;
  }

  /** Bytes of the file. */
  get fileSize(): number {
    return this.#source.size;
  }

  /** Throws that what is being read breaks a rule of the format. */
  fail(reason: string, rule: string, value: string): never {
    throw new ModelFormatError({ file: this.#source.name, place: this.place, reason, rule, value });
  }

  /** Throws that what is being read is fine and yet not for this library. */
  refuse(reason: string, rule: string, value: string): never {
    const { name: file } = this.#source;
    throw new ModelUnsupportedError({ file, place: this.place, reason, rule, value });
  }

  /** Makes bytes ready to be taken. */
  async fill(length: number): Promise<void> {
    if (this.#has(length)) return;
    if (length > this.left) this.#failPastEnd(length);
    const start = this.position;
    const wanted = Math.min(Math.max(length, CHUNK_BYTES), this.left);
    this.#bytes = await this.#source.read(start, wanted, this.#signal);
    this.#view = new DataView(this.#bytes.buffer, this.#bytes.byteOffset, this.#bytes.byteLength);
    this.#start = start;
    this.#at = 0;
  }

  /** Steps over `length` bytes that are ready and returns a view of them and where they start in it. */
  take(length: number): { readonly view: DataView; readonly at: number } {
    const at = this.#at;
    this.#at += length;
    return { view: this.#view, at };
  }

  /** Steps over `length` bytes that are ready and returns a copy. */
  takeCopy(length: number): Uint8Array<ArrayBuffer> {
    const at = this.#at;
    this.#at += length;
    return new Uint8Array(this.#bytes.subarray(at, at + length));
  }

  /** Reads a u32. */
  async uint32(): Promise<number> {
    await this.fill(4);
    const { view, at } = this.take(4);
    return view.getUint32(at, true);
  }

  /** Reads a u64. */
  async uint64(): Promise<bigint> {
    await this.fill(8);
    const { view, at } = this.take(8);
    return view.getBigUint64(at, true);
  }

  /**
   * Reads how many of something follow.
   *
   * @param what the name of those, for messages
   * @param most more are refused
   * @param leastBytes what each takes at least
   */
  async count(what: string, most: number, leastBytes: number): Promise<number> {
    const claimed = await this.uint64();
    const room = Math.floor(this.left / leastBytes);
    if (claimed > BigInt(Math.min(most, room))) {
      const rule = room < most
        ? `there is room for ${room} ${what} in the ${this.left} bytes that are left`
        : `there may be ${most} ${what}`;
      this.fail(`${what}-count`, rule, `${claimed}`);
    }
    return Number(claimed);
  }

  /** Reads a string: a u64 length and so many bytes of UTF-8. */
  async text(): Promise<string> {
    // There are hundreds of thousands of these: no await where there is nothing to wait for.
    if (!this.#has(8)) await this.fill(8);
    const { view, at } = this.take(8);
    const claimed = view.getBigUint64(at, true);
    const most = Math.min(MOST_STRING_BYTES, this.left);
    if (claimed > BigInt(most)) {
      this.fail("string-length", `a string may have ${most} bytes here`, `${claimed}`);
    }
    const length = Number(claimed);
    if (!this.#has(length)) await this.fill(length);
    const bytes = this.#bytes.subarray(this.#at, this.#at + length);
    this.#at += length;
    try {
      return this.#decoder.decode(bytes);
    } catch {
      return this.fail("utf-8", "strings must be UTF-8", `${length} other bytes`);
    }
  }

  #has(length: number): boolean {
    return length <= this.#bytes.byteLength - this.#at;
  }

  #failPastEnd(length: number): never {
    const { size } = this.#source;
    if (this.#end < size) {
      this.fail("header-length", `the header may have ${MOST_HEADER_BYTES} bytes`, "it has more");
    }
    const rule = `${length} bytes are to follow byte ${this.position} of ${size}`;
    this.fail("truncated", rule, `${this.left} do: the file is cut off or damaged`);
  }
}
