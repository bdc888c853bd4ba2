/** A byte source that tests can watch. */

import { type ByteSource, memoryBytes } from "../model/weights/byte_source.ts";

/** Bytes in memory that count how often they are read and closed. */
export class CountingBytes implements ByteSource {
  readonly name: string;
  readonly size: number;
  readonly #bytes: ByteSource;
  /** Bytes that were asked for, of all reads. */
  bytesRead = 0;
  /** How often it was closed. */
  closed = 0;

  constructor(bytes: Uint8Array, name = "f") {
    this.name = name;
    this.#bytes = memoryBytes(bytes, name);
    this.size = bytes.byteLength;
  }

  read(offset: number, length: number, signal?: AbortSignal) {
    this.bytesRead += length;
    return this.#bytes.read(offset, length, signal);
  }

  [Symbol.dispose](): void {
    this.closed++;
  }
}
