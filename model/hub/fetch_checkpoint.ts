/**
 * Fetches a model from a Hugging Face hub.
 *
 * @module
 */

import { ModelDownloadError, ModelFormatError, ModelInputError } from "../../runtime/errors.ts";
import { requireOptions } from "../inputs.ts";
import type { LoadProgress } from "../weights/parameter_store.ts";
import { INDEX_FILE, MAX_INDEX_BYTES } from "../weights/sharded_source.ts";
import { CacheFolder } from "./cache_folder.ts";
import { checkpointFiles, shardNames } from "./checkpoint_files.ts";
import { HubConnection } from "./connection.ts";
import { type DownloadContext, downloadFile } from "./file_download.ts";
import { currentHost, defaultCacheDir, type Host } from "./host.ts";
import { DownloadMeter } from "./progress.ts";
import { listRepo, type RepoFile, type RepoListing } from "./repo_listing.ts";
import { TransientFault } from "./retry.ts";

/** How to fetch a model. */
export interface FetchCheckpointOptions {
  /** A branch, a tag or a commit; "main" unless given. */
  readonly revision?: string | undefined;
  /** Token of an account that may read the repository. It is sent to the endpoint only. */
  readonly accessToken?: string | undefined;
  /**
   * The folder to keep files in; unless given, the one that Hugging Face's own programs use: HF_HUB_CACHE,
   * else `hub` in HF_HOME, else `~/.cache/huggingface/hub`.
   */
  readonly cacheDir?: string | undefined;
  /** Address of the hub; "https://huggingface.co" unless given. */
  readonly endpoint?: string | undefined;
  /** Stops the download; what has come is kept, and the next call goes on from it. */
  readonly signal?: AbortSignal | undefined;
  /** Told how far the download has come, all files together. */
  readonly onProgress?: ((progress: LoadProgress) => void) | undefined;
  /** Told, as a sentence, what is odd but does no harm: the hub cannot be reached, and the files are here. */
  readonly onWarning?: ((warning: string) => void) | undefined;
  /** Use what is here, and no network; false unless given. */
  readonly localFilesOnly?: boolean | undefined;
  /** Sends requests in place of the runtime's own `fetch`. */
  readonly fetch?: typeof fetch | undefined;
}

/** Options with their defaults. */
interface Settings extends FetchCheckpointOptions {
  readonly repo: string;
  readonly revision: string;
  readonly endpoint: string;
  readonly cacheDir: string;
  /** The repository and revision, for messages. */
  readonly where: string;
}

const HUB = "https://huggingface.co";

/** Names of the options. */
const OPTIONS = [
  "revision",
  "accessToken",
  "cacheDir",
  "endpoint",
  "signal",
  "onProgress",
  "onWarning",
  "localFilesOnly",
  "fetch",
] as const satisfies (keyof FetchCheckpointOptions)[];

/**
 * Makes sure that the files of a StableLM are in the cache that Hugging Face's own programs share, and
 * says where: the config, the tokenizer's files and the chat template as far as there are any, and the
 * weights as safetensors.
 *
 * What is there already is not fetched again, what was cut off is gone on with, and every file is checked
 * against the hub's hash before it gets its name. If the hub cannot be reached and the files of
 * the revision are here as it was last seen, they are used, with a warning.
 *
 * Permissions: `--allow-net` of the hub and its storage, `--allow-read` and `--allow-write` of the cache;
 * without `cacheDir` also `--allow-env=HF_HUB_CACHE,HUGGINGFACE_HUB_CACHE,HF_HOME,XDG_CACHE_HOME` and
 * `--allow-sys=homedir`. When all is there, neither network nor writing is needed.
 *
 * @param repo `owner/name`
 * @returns the folder of the files
 * @throws {ModelInputError} If an option is unknown or breaks a rule
 * @throws {ModelUnsupportedError} If the repository has no config, or no weights as safetensors
 * @throws {ModelFormatError} If the index of its shards is damaged
 * @throws {ModelDownloadError} If the hub refuses, the connection does not hold, the disk fails, or a file
 * is not what the hub lists
 */
export async function fetchCheckpoint(
  repo: string,
  options: FetchCheckpointOptions = {},
): Promise<string> {
  return await fetchCheckpointOn(await currentHost(), repo, options);
}

/** {@linkcode fetchCheckpoint} on a given runtime. */
export async function fetchCheckpointOn(
  host: Host,
  repo: string,
  options: FetchCheckpointOptions = {},
): Promise<string> {
  checkArguments(repo, options);
  const { revision = "main", endpoint = HUB, signal } = options;
  signal?.throwIfAborted();
  const settings: Settings = {
    ...options,
    repo,
    revision,
    endpoint: endpoint.replace(/\/+$/, ""),
    cacheDir: options.cacheDir ?? await defaultCacheDir(host),
    where: `${repo}@${revision}`,
  };
  const cache = new CacheFolder(host, settings.cacheDir, repo);
  try {
    return await (options.localFilesOnly
      ? useCache(cache, settings)
      : fetchInto(cache, host, settings));
  } catch (error) {
    if (signal?.aborted) throw signal.reason;
    // What Node calls a system error: no room, no right, a file where a folder should be.
    if (typeof (error as { syscall?: unknown })?.syscall !== "string") throw error;
    const { message } = error as Error;
    throw new ModelDownloadError(
      `Cannot keep ${repo} in ${settings.cacheDir}: its folders must be there to write to: ${message}`,
    );
  }
}

/** The files of a revision as they are here. */
async function useCache(cache: CacheFolder, settings: Settings): Promise<string> {
  const { where, revision, cacheDir } = settings;
  const commit = await cache.commitOf(revision);
  const missing = commit === undefined ? [] : await cache.missingIn(commit);
  if (commit !== undefined && missing.length === 0) return cache.snapshot(commit);
  const fault = commit === undefined
    ? `no commit is known for ${revision}`
    : `${missing.join(", ")} is missing`;
  throw new ModelDownloadError(
    `Cannot find ${where} in ${cacheDir}: localFilesOnly needs all files of the model: ${fault}`,
  );
}

async function fetchInto(cache: CacheFolder, host: Host, settings: Settings): Promise<string> {
  const { repo, revision, endpoint, where, signal, accessToken, onProgress, onWarning } = settings;
  const connection = new HubConnection({
    repo,
    endpoint,
    accessToken,
    fetch: settings.fetch ?? fetch,
    retry: host.retry,
    signal,
  });
  const listing = await listUnlessHere(cache, host, connection, settings);
  if (typeof listing === "string") return listing;
  const { commit } = listing;
  const address = `${endpoint}/${repo}/resolve/${commit}`;
  const context = { host, connection, cache, repo, address, commit, signal };
  const files = await wantedFiles(context, listing, where);
  const meter = new DownloadMeter(files, onProgress);
  for (const file of files) await downloadFile(context, file, meter);
  // Last, so that the revision is what it was before until all of it is here.
  await cache.writeRef(revision, commit).catch((error: Error) =>
    onWarning?.(`${where} is here, but not noted as such: ${error.message}`)
  );
  return cache.snapshot(commit);
}

/** What the hub lists, or if it cannot be reached, the folder of the files that are here. */
async function listUnlessHere(
  cache: CacheFolder,
  host: Host,
  connection: HubConnection,
  { repo, revision, endpoint, where, onWarning }: Settings,
): Promise<RepoListing | string> {
  const known = await cache.commitOf(revision);
  const isHere = known !== undefined &&
    await cache.missingIn(known).then(({ length }) => length === 0, () => false);
  try {
    // Who has the files already need not wait for a hub that is away.
    const tries = isHere ? 1 : host.retry.tries;
    return await listRepo(host, connection, { repo, revision, endpoint }, tries);
  } catch (error) {
    const { name, message } = error as Error;
    const away = error instanceof TransientFault;
    if (isHere && (away || name === "NotCapable")) {
      onWarning?.(
        `${endpoint} cannot be reached (${message}): ${where} is used as it was last seen`,
      );
      return cache.snapshot(known);
    }
    if (!away) throw error;
    throw new ModelDownloadError(`Cannot download ${repo}: ${endpoint} must answer: ${message}`);
  }
}

/** The files that are needed, in the order to fetch them. Of a sharded model, the index is fetched first. */
async function wantedFiles(
  context: DownloadContext,
  { files, commit }: RepoListing,
  where: string,
): Promise<RepoFile[]> {
  const names = checkpointFiles(files.keys(), where);
  const wanted = names.map((name) => files.get(name)!);
  const index = wanted.at(-1)!;
  if (index.name !== INDEX_FILE) return wanted;
  const file = `${where}: ${INDEX_FILE}`;
  if (index.size > MAX_INDEX_BYTES) {
    const rule = `must have at most ${MAX_INDEX_BYTES} bytes`;
    throw new ModelFormatError({ file, reason: "index-length", rule, value: `${index.size}` });
  }
  await downloadFile(context, index);
  for (const shard of shardNames(await context.cache.read(commit, INDEX_FILE), file)) {
    const listed = files.get(shard);
    if (listed === undefined) {
      const rule = `the repository must have ${shard}, as the index names it`;
      throw new ModelFormatError({ file, reason: "missing-shard", rule, value: "it has not" });
    }
    wanted.push(listed);
  }
  return wanted;
}

function checkArguments(repo: string, options: FetchCheckpointOptions): void {
  requireOptions("fetchCheckpoint", options, OPTIONS);
  const demand = (condition: boolean, argument: string, rule: string, value: unknown) => {
    if (condition) return;
    throw new ModelInputError({ op: "fetchCheckpoint", argument, rule, value: String(value) });
  };
  const { revision, accessToken, cacheDir, endpoint, signal, localFilesOnly } = options;
  demand(isRepo(repo), "repo", 'must be "owner/name"', JSON.stringify(repo));
  demand(
    revision === undefined || isRevision(revision),
    "revision",
    "must be a branch, a tag or a commit",
    JSON.stringify(revision),
  );
  demand(
    accessToken === undefined || isText(accessToken) && /^[\x21-\x7e]+$/.test(accessToken),
    "accessToken",
    "must be a token of the hub",
    "something else",
  );
  demand(cacheDir === undefined || isText(cacheDir), "cacheDir", "must be a folder", cacheDir);
  demand(
    endpoint === undefined || isEndpoint(endpoint),
    "endpoint",
    "must be an http address",
    endpoint,
  );
  demand(
    signal === undefined || signal instanceof AbortSignal,
    "signal",
    "must be an AbortSignal",
    signal,
  );
  demand(
    localFilesOnly === undefined || typeof localFilesOnly === "boolean",
    "localFilesOnly",
    "must be true or false",
    localFilesOnly,
  );
  for (const name of ["onProgress", "onWarning", "fetch"] as const) {
    const value: unknown = options[name];
    demand(value === undefined || typeof value === "function", name, "must be a function", value);
  }
}

function isText(value: unknown): value is string {
  return typeof value === "string" && value !== "";
}

/**
 * The hub's own rule. It becomes part of a path and of an address, and `--` would make two repositories one in
 * the cache.
 */
function isRepo(repo: unknown): boolean {
  return isText(repo) && repo.length <= 192 &&
    /^[A-Za-z0-9]([\w.-]*\w)?\/\w([\w.-]*\w)?$/.test(repo) && !/\.\.|--|\.git$/.test(repo);
}

/** What Git allows, less what would lead a path or an address astray. */
function isRevision(revision: unknown): boolean {
  return isText(revision) && revision.length <= 200 &&
    revision.split("/").every((part) => /^\w[\w.+@-]*$/.test(part) && !part.includes(".."));
}

function isEndpoint(endpoint: unknown): boolean {
  if (!isText(endpoint) || !URL.canParse(endpoint)) return false;
  const { protocol, search, hash, username, password } = new URL(endpoint);
  return /^https?:$/.test(protocol) && search + hash + username + password === "";
}
