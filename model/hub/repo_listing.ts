/**
 * What a repository holds at a revision, as the hub lists it.
 *
 * @module
 */

import { KernelsError, ModelDownloadError } from "../../runtime/errors.ts";
import type { HubConnection } from "./connection.ts";
import type { Host } from "./host.ts";
import { TransientFault } from "./retry.ts";

/** A file of a repository. */
export interface RepoFile {
  /** Its name in the repository's outermost folder. */
  readonly name: string;
  /** Its bytes. */
  readonly size: number;
  /** What its content is checked with: Git's own hash, or SHA-256 where it is stored apart from Git. */
  readonly algorithm: "git-sha1" | "sha256";
  /** That hash in hex, by which the cache calls it. */
  readonly hash: string;
}

/** A revision of a repository. */
export interface RepoListing {
  /** The commit, 40 hex digits. */
  readonly commit: string;
  /** Files of the outermost folder by name. */
  readonly files: ReadonlyMap<string, RepoFile>;
}

/** Which revision of which repository. */
export interface RepoRevision {
  /** `owner/name`. */
  readonly repo: string;
  /** A branch, a tag or a commit. */
  readonly revision: string;
  /** The hub's address. */
  readonly endpoint: string;
}

/** A repository with more entries than this is not one of a model. */
const MOST_ENTRIES = 10_000;

/** A commit's full name. */
export const COMMIT: RegExp = /^[0-9a-f]{40}$/;

const SHA256 = /^[0-9a-f]{64}$/;

/**
 * Asks the hub which commit a revision is, and what it holds.
 *
 * @param tries how often a request is tried
 * @throws {TransientFault} If the hub cannot be reached
 * @throws {ModelDownloadError} If it refuses, or its answer makes no sense
 */
export async function listRepo(
  { hub }: Host,
  connection: HubConnection,
  { repo, revision, endpoint }: RepoRevision,
  tries: number,
): Promise<RepoListing> {
  const request = { hubUrl: endpoint, fetch: connection.fetchWhole(tries) };
  const fail = (rule: string, value: string): never => {
    throw new ModelDownloadError(`Cannot download ${repo}: the hub's answer ${rule}: ${value}`);
  };
  try {
    const { sha: commit } = await hub.modelInfo({
      ...request,
      name: repo,
      revision,
      additionalFields: ["sha"],
    });
    if (!COMMIT.test(commit)) return fail("must name a commit", JSON.stringify(commit));
    if (COMMIT.test(revision) && commit !== revision) {
      return fail(`must be for ${revision}`, commit);
    }
    const files = new Map<string, RepoFile>();
    let entries = 0;
    for await (
      const entry of hub.listFiles({
        ...request,
        repo: { type: "model", name: repo },
        revision: commit,
      })
    ) {
      if (++entries > MOST_ENTRIES) return fail("must end", `it lists over ${MOST_ENTRIES} files`);
      if (entry.type === "file") files.set(entry.path, fileOf(entry, fail));
    }
    return { commit, files };
  } catch (error) {
    if (error instanceof KernelsError || error instanceof TransientFault) throw error;
    const { name, message } = error as Error;
    if (name !== "SyntaxError" && name !== "TypeError") throw error;
    return fail("must be the list of a model's files", message);
  }
}

/** An entry of the list. Its hash becomes a file's name, so that it may be nothing but one. */
function fileOf(
  entry: { path: string; size: number; oid?: string; lfs?: { oid: string; size: number } },
  fail: (rule: string, value: string) => never,
): RepoFile {
  const { path: name, lfs } = entry;
  const size = lfs?.size ?? entry.size;
  const hash = lfs?.oid ?? entry.oid;
  if (typeof name !== "string" || !Number.isSafeInteger(size) || size < 0) {
    return fail("must give every file a path and a size", JSON.stringify(entry));
  }
  if (typeof hash !== "string" || !(lfs === undefined ? COMMIT : SHA256).test(hash)) {
    return fail(`must give ${name} a hash`, JSON.stringify(hash));
  }
  return { name, size, algorithm: lfs === undefined ? "git-sha1" : "sha256", hash };
}
