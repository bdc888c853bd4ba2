/**
 * Bytes that are read by range: a file, a blob of the browser, or memory.
 *
 * @module
 */

import { ModelFormatError } from "../../runtime/errors.ts";

/** Bytes of known length, read a range at a time. */
export interface ByteSource extends Disposable {
  /** What messages call it. */
  readonly name: string;
  /** Bytes in all. */
  readonly size: number;
  /**
   * Copies a range; several reads may be under way at a time.
   *
   * @throws {ModelFormatError} If the source turns out shorter than `size`
   */
  read(offset: number, length: number, signal?: AbortSignal): Promise<Uint8Array<ArrayBuffer>>;
}

/** What {@linkcode StepwiseBytes} needs to know of where the bytes lie. */
export interface BytesAt {
  /** What messages call it. */
  readonly name: string;
  /** Bytes in all. */
  readonly size: number;
  /**
   * Copies bytes from `position` on to the start of `target`, as many as come at once.
   *
   * @returns how many were copied; 0 if there are none at `position`
   */
  readAt(target: Uint8Array<ArrayBuffer>, position: number): Promise<number>;
  /** Lets go of what holds the bytes; called once, with no read under way. */
  close(): void;
}

/** Most bytes that one step reads: between two steps a read can be aborted. */
const STEP_BYTES = 16 * 1024 * 1024;

/** Reads a range in steps, each as long as it comes, until the range is whole. */
export class StepwiseBytes implements ByteSource {
  readonly name: string;
  readonly size: number;
  readonly #at: BytesAt;
  #reads = 0;
  #disposed = false;
  #closed = false;

  /** Takes over what holds the bytes. */
  constructor(at: BytesAt) {
    this.name = at.name;
    this.size = at.size;
    this.#at = at;
  }

  /**
   * Copies a range.
   *
   * @throws {RangeError} If the range is not within the source
   * @throws {TypeError} If the source is disposed
   * @throws {ModelFormatError} reason `truncated`, if there is less than `size` says
   */
  async read(
    offset: number,
    length: number,
    signal?: AbortSignal,
  ): Promise<Uint8Array<ArrayBuffer>> {
    this.#requireRange(offset, length);
    signal?.throwIfAborted();
    const bytes = new Uint8Array(length);
    this.#reads++;
    try {
      for (let done = 0; done < length;) {
        signal?.throwIfAborted();
        const target = bytes.subarray(done, Math.min(done + STEP_BYTES, length));
        const count = await this.#at.readAt(target, offset + done);
        if (count === 0) this.#failTruncated(offset + done);
        done += count;
      }
    } finally {
      this.#reads--;
      this.#closeIfIdle();
    }
    return bytes;
  }

  /** Lets go of the source, as soon as no read is under way. */
  [Symbol.dispose](): void {
    this.#disposed = true;
    this.#closeIfIdle();
  }

  /** A file's number may be given to the next file that is opened: no read may still use it. */
  #closeIfIdle(): void {
    if (!this.#disposed || this.#closed || this.#reads > 0) return;
    this.#closed = true;
    this.#at.close();
  }

  #requireRange(offset: number, length: number): void {
    if (this.#disposed) throw new TypeError(`Cannot read ${this.name}: it must not be disposed`);
    const isRange = Number.isSafeInteger(offset) && Number.isSafeInteger(length) && offset >= 0 &&
      length >= 0;
    if (isRange && offset + length <= this.size) return;
    throw new RangeError(
      `Cannot read ${this.name}: the range must lie within its ${this.size} bytes: ` +
        `${length} bytes from ${offset}`,
    );
  }

  #failTruncated(end: number): never {
    throw new ModelFormatError({
      file: this.name,
      place: `byte ${end}`,
      reason: "truncated",
      rule: `the file must have ${this.size} bytes, as it had when it was opened`,
      value: `it ends at byte ${end}`,
    });
  }
}

/** Bytes in memory; they are not copied, and must not change. */
export function memoryBytes(bytes: Uint8Array, name: string): ByteSource {
  return new StepwiseBytes({
    name,
    size: bytes.byteLength,
    readAt(target, position) {
      target.set(bytes.subarray(position, position + target.byteLength));
      return Promise.resolve(Math.min(target.byteLength, bytes.byteLength - position));
    },
    close() {},
  });
}

/**
 * Bytes of a `File` or `Blob`, as a browser's file picker, drop or storage gives them.
 *
 * A file that changes after it was picked can no longer be read: a read throws a
 * {@linkcode ModelFormatError} with reason `unreadable`.
 */
export function blobBytes(blob: Blob, name: string): ByteSource {
  return new StepwiseBytes({
    name,
    size: blob.size,
    async readAt(target, position) {
      const slice = blob.slice(position, position + target.byteLength);
      const bytes = await slice.arrayBuffer().catch((error) => failUnreadable(name, error));
      target.set(new Uint8Array(bytes));
      return bytes.byteLength;
    },
    close() {},
  });
}

/**
 * Opens a file in Deno, Node or Bun. It stays open until the source is disposed; ranges are read at
 * their place, so that several reads may overlap.
 *
 * Permissions: `--allow-read` of the path.
 *
 * @param path the file; links are followed
 * @param name what messages call it; the path unless given
 * @throws {ModelFormatError} reason `missing-file`, `not-a-file` (a folder, a pipe, a device) or
 * `unreadable`
 */
export async function fileBytes(path: string, name: string = path): Promise<ByteSource> {
  const fs = await import("node:fs");
  // Looked at before it is opened: to open a pipe waits for who writes to it.
  requireFile(await fs.promises.stat(path).catch((error) => failUnreadable(name, error)), name);
  const descriptor = await new Promise<number>((resolve, reject) => {
    fs.open(path, "r", (error, opened) => error ? reject(error) : resolve(opened));
  }).catch((error) => failUnreadable(name, error));
  let size: number;
  try {
    const stat = fs.fstatSync(descriptor);
    requireFile(stat, name);
    size = stat.size;
  } catch (error) {
    fs.closeSync(descriptor);
    throw error;
  }
  return new StepwiseBytes({
    name,
    size,
    readAt: (target, position) =>
      new Promise<number>((resolve, reject) => {
        fs.read(descriptor, target, 0, target.byteLength, position, (error, count) => {
          error ? reject(error) : resolve(count);
        });
      }).catch((error) => failUnreadable(name, error)),
    close: () => fs.closeSync(descriptor),
  });
}

/**
 * Turns an error of the system into one that names the file; what is no error of the system, such as a
 * missing permission of Deno's, which names its flag, passes as it is.
 */
export function failUnreadable(file: string, error: unknown): never {
  if (!(error instanceof Error)) throw error;
  const code = (error as { code?: unknown }).code;
  if (code === "ENOENT" || code === "ENOTDIR") {
    const value = "there is none";
    throw new ModelFormatError({ file, reason: "missing-file", rule: "must be a file", value });
  }
  const isSystem = typeof code === "string" && /^E[A-Z0-9]+$/.test(code);
  if (!isSystem && error.name !== "NotReadableError" && error.name !== "NotFoundError") throw error;
  const value = error.message;
  throw new ModelFormatError({ file, reason: "unreadable", rule: "must be readable", value });
}

function requireFile(stat: { isFile(): boolean; isDirectory(): boolean }, file: string): void {
  if (stat.isFile()) return;
  const value = stat.isDirectory() ? "it is a folder" : "it is a pipe or a device";
  throw new ModelFormatError({ file, reason: "not-a-file", rule: "must be a file", value });
}
