/**
 * Brings one file of a repository into the cache: whole, checked, or not at all.
 *
 * @module
 */

import { ModelDownloadError, printable } from "../../runtime/errors.ts";
import { withBlobLock } from "./blob_lock.ts";
import type { CacheFolder } from "./cache_folder.ts";
import type { HubConnection, HubResponse, RequestHeaders } from "./connection.ts";
import type { Host } from "./host.ts";
import { PartialFile } from "./partial_file.ts";
import type { DownloadMeter } from "./progress.ts";
import type { RepoFile } from "./repo_listing.ts";
import { TransientFault, withRetries } from "./retry.ts";

/** Where files come from and go to. */
export interface DownloadContext {
  /** The runtime. */
  readonly host: Host;
  /** The way to the hub. */
  readonly connection: HubConnection;
  /** The cache. */
  readonly cache: CacheFolder;
  /** The repository, for messages. */
  readonly repo: string;
  /** Address of the commit's files, up to their names. */
  readonly address: string;
  /** The commit. */
  readonly commit: string;
  /** Stops it. */
  readonly signal: AbortSignal | undefined;
}

/** A connection that broke has not failed if it brought so much. */
const ADVANCE_BYTES = 1024 * 1024;

/**
 * Makes sure that a file of the commit is in the cache.
 *
 * @throws {ModelDownloadError} If the server or the disk fails, or the bytes are not what they should be
 */
export async function downloadFile(
  context: DownloadContext,
  file: RepoFile,
  meter?: DownloadMeter,
): Promise<void> {
  const { host, cache, commit, signal } = context;
  const isHere = async () => await cache.sizeIn(commit, file.name) === file.size;
  if (!(await isHere())) {
    await withBlobLock(host, cache.lockOf(file.hash), signal, async (exclusive) => {
      // Whoever had the lock before may have fetched the same file.
      if (await isHere()) return;
      const isNew = await cache.blobSize(file.hash) !== file.size;
      if (isNew) await downloadBlob(context, file, exclusive, meter);
      await cache.link(file.hash, commit, file.name, isNew);
    });
  }
  meter?.finish(file);
}

async function downloadBlob(
  context: DownloadContext,
  file: RepoFile,
  exclusive: boolean,
  meter: DownloadMeter | undefined,
): Promise<void> {
  const { host, cache, signal } = context;
  const blob = cache.blob(file.hash);
  await host.fs.mkdir(host.path.dirname(blob), { recursive: true });
  await using partial = await PartialFile.open(host, file, blob, exclusive, signal);
  await fill(context, file, partial, meter);
  let got = partial.digest();
  if (got !== file.hash && partial.isMixed) {
    // Pieces may each be right and not belong together: an answer that comes in one go settles it.
    await partial.restart();
    await fill(context, file, partial, meter);
    got = partial.digest();
  }
  if (got !== file.hash) {
    await partial.restart();
    const rule = `its ${file.algorithm} must be ${file.hash}`;
    fail(context, file, `${rule}: the bytes that came have ${got}, and were deleted`);
  }
  await partial.publish();
}

/** Fetches what a partial file lacks. */
async function fill(
  context: DownloadContext,
  file: RepoFile,
  partial: PartialFile,
  meter: DownloadMeter | undefined,
): Promise<void> {
  const { host, signal } = context;
  let furthest = partial.length;
  const advanced = () => {
    const far = partial.length >= furthest + ADVANCE_BYTES;
    if (far) furthest = partial.length;
    return far;
  };
  try {
    await withRetries(host.retry, signal, () => fetchRest(context, file, partial, meter), advanced);
  } catch (error) {
    if (!(error instanceof TransientFault)) throw error;
    const here =
      `${partial.length} of ${file.size} bytes are here, and the next call goes on from them`;
    fail(context, file, `the connection must hold: ${error.message}; ${here}`);
  }
}

/** One request for what a partial file lacks. */
async function fetchRest(
  context: DownloadContext,
  file: RepoFile,
  partial: PartialFile,
  meter: DownloadMeter | undefined,
): Promise<void> {
  meter?.begin(file, partial.length);
  if (partial.length === file.size) return;
  const { connection, address } = context;
  await connection.get(`${address}/${file.name}`, rangeHeaders(file, partial), async (response) => {
    await checkAnswer(context, file, partial, response);
    partial.isMixed ||= partial.length > 0;
    for await (const chunk of response.chunks) {
      if (partial.length + chunk.byteLength > file.size) {
        await partial.restart();
        fail(context, file, `it must have ${file.size} bytes: the server sends more`);
      }
      await partial.append(chunk);
      meter?.advance(file, partial.length, chunk.byteLength);
    }
    if (partial.length < file.size) {
      throw new TransientFault(`the server stopped after ${partial.length} bytes`);
    }
  });
}

/**
 * Asks for the rest of a file. A file of Git's is asked for on the condition that it is still the same; storage
 * has its own names for what it holds, so that the condition could never be met there.
 */
function rangeHeaders({ algorithm, hash }: RepoFile, { length }: PartialFile): RequestHeaders {
  if (length === 0) return {};
  return {
    everywhere: { range: `bytes=${length}-` },
    hub: algorithm === "git-sha1" ? { "if-range": `"${hash}"` } : {},
  };
}

/** Sees to it that an answer goes on where the partial file ends, or else that the file starts anew. */
async function checkAnswer(
  context: DownloadContext,
  file: RepoFile,
  partial: PartialFile,
  { status, headers, etag }: HubResponse,
): Promise<void> {
  // Mirrors may have names of their own; one that looks like a hash is the hub's.
  if (etag !== undefined && /^([0-9a-f]{40}|[0-9a-f]{64})$/.test(etag) && etag !== file.hash) {
    fail(context, file, `it must be ${file.hash}, as the hub lists it: the hub sends ${etag}`);
  }
  const asked = partial.length;
  if (status === 206) {
    const range = headers.get("content-range") ?? "";
    const [, first, total] = /^bytes (\d+)-\d+\/(\d+|\*)$/.exec(range) ?? [];
    if (Number(first) === asked && (total === "*" || Number(total) === file.size)) return;
    await partial.restart();
    const told = printable(range);
    throw new TransientFault(
      `asked for bytes ${asked} to ${file.size}, the server sends "${told}"`,
    );
  }
  if (status === 416) {
    await partial.restart();
    throw new TransientFault(`the server has no byte ${asked} of the file`);
  }
  const length = headers.get("content-length");
  if (length !== null && !headers.has("content-encoding") && Number(length) !== file.size) {
    fail(context, file, `it must have ${file.size} bytes: the server has ${printable(length)}`);
  }
  if (asked > 0) await partial.restart();
}

function fail({ repo }: DownloadContext, { name }: RepoFile, rule: string): never {
  throw new ModelDownloadError(`Cannot download ${repo}: ${name}: ${rule}`);
}
