/**
 * A file that is still on its way: what has come of it, with its hash so far.
 *
 * @module
 */

import type { Hash } from "node:crypto";
import type { FileHandle } from "node:fs/promises";
import { ModelDownloadError } from "../../runtime/errors.ts";
import type { Host } from "./host.ts";
import type { RepoFile } from "./repo_listing.ts";

/** Bytes that are read at a time when a file is gone on with. */
const READ_BYTES = 4 * 1024 * 1024;

/**
 * The bytes that have come of one file, in order, and their hash.
 *
 * They lie in `<blob>.incomplete`. Where no lock keeps others out, the file has a name of its own while it is
 * written, and that name only afterwards.
 */
export class PartialFile implements AsyncDisposable {
  /** Bytes that are here. */
  length = 0;
  /** True if the bytes did not come in one go, in this call: they may not fit together. */
  isMixed = false;
  readonly #host: Host;
  readonly #file: RepoFile;
  readonly #blob: string;
  readonly #path: string;
  #handle: FileHandle | undefined;
  #hash: Hash;

  private constructor(host: Host, file: RepoFile, blob: string, path: string) {
    this.#host = host;
    this.#file = file;
    this.#blob = blob;
    this.#path = path;
    this.#hash = this.#newHash();
  }

  /**
   * Opens what an earlier call has left of a blob, or nothing.
   *
   * @param exclusive whether nobody else has it open
   */
  static async open(
    host: Host,
    file: RepoFile,
    blob: string,
    exclusive: boolean,
    signal: AbortSignal | undefined,
  ): Promise<PartialFile> {
    const path = exclusive ? incompleteOf(blob) : incompleteOf(`${blob}.${crypto.randomUUID()}`);
    const partial = new PartialFile(host, file, blob, path);
    try {
      await partial.#open(signal);
    } catch (error) {
      await partial[Symbol.asyncDispose]();
      throw error;
    }
    return partial;
  }

  /**
   * Writes what comes next.
   *
   * @throws {ModelDownloadError} If the disk is full or fails; what was written stays
   */
  async append(bytes: Uint8Array<ArrayBuffer>): Promise<void> {
    for (let at = 0; at < bytes.byteLength;) {
      const { bytesWritten } = await this.#onDisk((handle) =>
        handle.write(bytes, at, bytes.byteLength - at, this.length)
      );
      this.#hash.update(bytes.subarray(at, at + bytesWritten));
      this.length += bytesWritten;
      at += bytesWritten;
    }
  }

  /** Drops what has come. */
  async restart(): Promise<void> {
    await this.#onDisk((handle) => handle.truncate(0));
    this.length = 0;
    this.isMixed = false;
    this.#hash = this.#newHash();
  }

  /** The hash of all bytes, in hex; nothing can be appended afterwards. */
  digest(): string {
    return this.#hash.digest("hex");
  }

  /** Makes the file the blob that it is on its way to, in one step. */
  async publish(): Promise<void> {
    // Else a blob could be there after a power cut, and its bytes not.
    await this.#onDisk((handle) => handle.sync());
    await this.#close();
    await this.#host.fs.rename(this.#path, this.#blob);
  }

  /** Closes the file; what has come of it stays for a later call, unless it is nothing. */
  async [Symbol.asyncDispose](): Promise<void> {
    const { fs } = this.#host;
    try {
      await this.#close();
      const { size } = await fs.stat(this.#path);
      if (size === 0) await fs.rm(this.#path, { force: true });
      else if (this.#path !== incompleteOf(this.#blob)) {
        await fs.rename(this.#path, incompleteOf(this.#blob));
      }
    } catch {
      // It is a blob by now; or the disk is at fault, which the caller has heard by now.
    }
  }

  async #open(signal: AbortSignal | undefined): Promise<void> {
    const { fs } = this.#host;
    const shared = incompleteOf(this.#blob);
    if (this.#path !== shared) await fs.rename(shared, this.#path).catch(ignoreMissing);
    this.#handle = await fs.open(this.#path, "r+").catch((error) => {
      ignoreMissing(error);
      return fs.open(this.#path, "w+");
    });
    const { size } = await this.#handle.stat();
    if (size > this.#file.size) await this.#handle.truncate(0);
    else if (size > 0) await this.#readAgain(size, signal);
  }

  async #readAgain(size: number, signal: AbortSignal | undefined): Promise<void> {
    const buffer = new Uint8Array(Math.min(size, READ_BYTES));
    this.isMixed = true;
    while (this.length < size) {
      signal?.throwIfAborted();
      const most = Math.min(buffer.byteLength, size - this.length);
      const { bytesRead } = await this.#onDisk((handle) =>
        handle.read(buffer, 0, most, this.length)
      );
      if (bytesRead === 0) return;
      this.#hash.update(buffer.subarray(0, bytesRead));
      this.length += bytesRead;
    }
  }

  /** Git hashes a blob with its size in front; the hub takes SHA-256 of what it stores apart from Git. */
  #newHash(): Hash {
    const { createHash } = this.#host;
    const { algorithm, size } = this.#file;
    if (algorithm === "sha256") return createHash("sha256");
    return createHash("sha1").update(`blob ${size}\0`);
  }

  async #onDisk<T>(action: (handle: FileHandle) => Promise<T>): Promise<T> {
    try {
      return await action(this.#handle!);
    } catch (error) {
      const { code, message } = error as { code?: unknown; message: string };
      const rule = code === "ENOSPC" || code === "EDQUOT"
        ? `the disk must have room for ${this.#file.size} bytes, of which ${this.length} are written; make some and call again`
        : "the disk must take what comes, and give it back";
      throw new ModelDownloadError(`Cannot keep ${this.#path}: ${rule}: ${message}`);
    }
  }

  async #close(): Promise<void> {
    const handle = this.#handle;
    this.#handle = undefined;
    await handle?.close();
  }
}

/** Where a blob lies while it is on its way. */
function incompleteOf(blob: string): string {
  return `${blob}.incomplete`;
}

/** Throws an error again, unless it says that there is no such file. */
function ignoreMissing(error: unknown): undefined {
  if ((error as { code?: unknown }).code !== "ENOENT") throw error;
}
