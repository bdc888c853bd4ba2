/**
 * What a download needs of the runtime: files, locks, hashes, and the hub's own package. Nothing of it is
 * imported before a download begins, so that a browser can import the library.
 *
 * @module
 */

import { ModelDownloadError, ModelInputError } from "../../runtime/errors.ts";
import { RETRY_POLICY, type RetryPolicy } from "./retry.ts";

/** A lock that other processes honour. */
export interface HostLock extends Disposable {
  /** Takes it, unless somebody has it; rejects where the disk has no locks. */
  tryLock(): Promise<boolean>;
}

/** The runtime, or what a test puts in its place. */
export interface Host {
  /** Files. */
  readonly fs: typeof import("node:fs/promises");
  /** Their names. */
  readonly path: typeof import("node:path");
  /** Hashes. */
  readonly createHash: typeof import("node:crypto").createHash;
  /** The hub's own package. */
  readonly hub: typeof import("@huggingface/hub");
  /** True if a file may link to another by name. */
  mayLinkByName(): Promise<boolean>;
  /** The lock of a lock file, which is made; undefined where the runtime has none. */
  lock(file: string): Promise<HostLock | undefined>;
  /** How often a request is tried. */
  readonly retry: RetryPolicy;
}

/** Deno, where it is the runtime. */
const deno = (globalThis as { Deno?: typeof Deno }).Deno;

/**
 * The runtime that this is.
 *
 * @throws {ModelDownloadError} If it keeps no files, as a browser
 */
export async function currentHost(): Promise<Host> {
  if (deno === undefined && !("process" in globalThis)) {
    throw new ModelDownloadError(
      "Cannot download a checkpoint: the runtime must keep files, as Deno does: load from a folder of files instead",
    );
  }
  const [fs, path, { createHash }, hub] = await Promise.all([
    import("node:fs/promises"),
    import("node:path"),
    import("node:crypto"),
    import("@huggingface/hub"),
  ]);
  return { fs, path, createHash, hub, mayLinkByName, lock, retry: RETRY_POLICY };
}

/**
 * The folder that Hugging Face's own programs keep downloads in.
 *
 * @throws {ModelInputError} If nothing says which it is, or it may not be asked for
 */
export async function defaultCacheDir({ hub, path }: Host): Promise<string> {
  let folder: string;
  try {
    folder = hub.getHFHubCachePath();
    if (/^~(?=[/\\]|$)/.test(folder)) {
      folder = path.join((await import("node:os")).homedir(), folder.slice(1));
    }
  } catch (error) {
    return failNoCacheDir((error as Error).message);
  }
  return folder === "" ? failNoCacheDir("a variable that names it is empty") : folder;
}

function failNoCacheDir(value: string): never {
  throw new ModelInputError({
    op: "fetchCheckpoint",
    argument: "cacheDir",
    rule: "must be given where HF_HUB_CACHE, HF_HOME and the home folder do not say it",
    value,
  });
}

/**
 * Deno makes links by name only for programs that may read and write everything, and would ask for that where
 * somebody can answer.
 */
async function mayLinkByName(): Promise<boolean> {
  if (deno === undefined) return true;
  const { permissions } = deno;
  const states = await Promise.all([
    permissions.query({ name: "read" }),
    permissions.query({ name: "write" }),
  ]);
  return states.every(({ state }) => state === "granted");
}

/** The kind of lock that Python's client takes, on the same file. */
async function lock(file: string): Promise<HostLock | undefined> {
  if (deno === undefined) return undefined;
  const open = await deno.open(file, { create: true, write: true });
  return { tryLock: () => open.tryLock(true), [Symbol.dispose]: () => open.close() };
}
