/** A hub, an empty cache, and a client for both, for one test. */

import { assertEquals } from "@std/assert";
import { fetchCheckpointOn, type FetchCheckpointOptions } from "../model/hub/fetch_checkpoint.ts";
import { currentHost, type Host } from "../model/hub/host.ts";
import type { RetryPolicy } from "../model/hub/retry.ts";
import { HubServer, someBytes } from "./hub_server.ts";

/** Where tests write. */
const SCRATCH = new URL("scratch/", import.meta.url);

/** Waits that a test can afford. */
const RETRY: RetryPolicy = {
  tries: 3,
  firstWaitMs: 1,
  longestWaitMs: 4,
  longestAskedWaitMs: 1500,
  stallMs: 5000,
};

/** Name of the repository that most tests use. */
export const REPO = "lab/tiny-stablelm";

/** Bytes of its weights: more than the connection's buffers hold, so that a cut is felt where it is made. */
export const WEIGHT_BYTES = 300_000;

/** What a test has at hand. */
export interface HubScene {
  readonly hub: HubServer;
  /** An empty folder. */
  readonly cacheDir: string;
  /** The repository's folder in it. */
  readonly folder: string;
  /** The runtime, with waits that a test can afford. */
  readonly host: Host;
  /** Fetches {@linkcode REPO} into the cache. */
  fetch(options?: FetchCheckpointOptions, host?: Partial<Host>): Promise<string>;
}

/** A test with a hub of its own, which has a commit of {@linkcode modelFiles} on main. */
export function hubTest(name: string, body: (scene: HubScene) => Promise<void>): void {
  Deno.test(name, async () => {
    await using hub = new HubServer();
    await using scratch = await makeScratch();
    const host: Host = { ...await currentHost(), retry: RETRY };
    const cacheDir = scratch.path;
    const folder = `${cacheDir}/models--${REPO.replace("/", "--")}`;
    hub.commit(REPO, modelFiles());
    await body({
      hub,
      cacheDir,
      folder,
      host,
      fetch: (options = {}, changes = {}) =>
        fetchCheckpointOn({ ...host, ...changes }, REPO, {
          cacheDir,
          endpoint: hub.endpoint,
          ...options,
        }),
    });
  });
}

/** A repository with one file of weights, and with files that no model needs. */
export function modelFiles(seed = 1): Record<string, string | Uint8Array<ArrayBuffer>> {
  return {
    "README.md": "# Tiny",
    "config.json": `{"model_type":"stablelm","seed":${seed}}`,
    "generation_config.json": '{"eos_token_id":0}',
    "tokenizer.json": `{"version":"1.0","pad":"${"x".repeat(70_000)}"}`,
    "tokenizer_config.json": '{"pad_token":"x"}',
    "special_tokens_map.json": '{"pad_token":"y"}',
    "chat_template.jinja": "{{ messages }}",
    "training_args.bin": "pickle",
    "model.safetensors": someBytes(WEIGHT_BYTES, seed),
  };
}

/** A repository with two shards, and a third that its index does not name. */
export function shardedFiles(
  shards: readonly string[] = [
    "model-00001-of-00002.safetensors",
    "model-00002-of-00002.safetensors",
  ],
): Record<string, string | Uint8Array<ArrayBuffer>> {
  const map = Object.fromEntries(shards.map((shard, i) => [`layer.${i}`, shard]));
  return {
    "config.json": "{}",
    "model.safetensors.index.json": JSON.stringify({ metadata: {}, weight_map: map }),
    "model-00001-of-00002.safetensors": someBytes(1000, 1),
    "model-00002-of-00002.safetensors": someBytes(2000, 2),
    "model-00003-of-00002.safetensors": someBytes(3000, 3),
  };
}

/** Names in a folder, in order; none if it is not there. */
export async function namesIn(folder: string): Promise<string[]> {
  try {
    return (await Array.fromAsync(Deno.readDir(folder), ({ name }) => name)).sort();
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return [];
    throw error;
  }
}

/** Checks that every file of a folder that the repository has too is what the repository has. */
export async function requireContents(
  folder: string,
  files: Readonly<Record<string, string | Uint8Array<ArrayBuffer>>>,
): Promise<void> {
  for (const name of await namesIn(folder)) {
    const content = files[name]!;
    const bytes = typeof content === "string" ? new TextEncoder().encode(content) : content;
    assertEquals(await Deno.readFile(`${folder}/${name}`), bytes, name);
  }
}

/** The file of weights. */
export const WEIGHTS = "model.safetensors";

/** The largest of the small files. */
export const TOKENIZER = "tokenizer.json";

/** Ends the call at the first broken connection, as if the program had been stopped. */
export const once = ({ host }: HubScene): Partial<Host> => ({ retry: { ...host.retry, tries: 1 } });

/** What a file is called while it is on its way. */
export const partialOf = ({ folder, hub }: HubScene, name: string): string =>
  `${folder}/blobs/${hub.hashOf(REPO, name)}.incomplete`;

/** Checks that all is well: a further call succeeds, with the right bytes, and leaves nothing half done. */
export async function requireSound({ hub, folder, fetch }: HubScene): Promise<string[]> {
  hub.behave();
  hub.takeDownloads();
  await requireContents(await fetch(), modelFiles());
  const leftOver = (await namesIn(`${folder}/blobs`)).filter((name) => !/^[0-9a-f]+$/.test(name));
  assertEquals(leftOver, []);
  return hub.takeDownloads();
}

/** Bytes of which one is wrong. */
export function flipped(bytes: Uint8Array, at: number): Uint8Array<ArrayBuffer> {
  const copy = new Uint8Array(bytes);
  if (at < copy.length) copy[at] = ~copy[at]!;
  return copy;
}

async function makeScratch(): Promise<AsyncDisposable & { path: string }> {
  await Deno.mkdir(SCRATCH, { recursive: true });
  const path = await Deno.makeTempDir({ dir: SCRATCH.pathname, prefix: "hub-" });
  return {
    path,
    async [Symbol.asyncDispose]() {
      await Deno.remove(path, { recursive: true });
      // The last test that is under way removes the folder.
      await Deno.remove(SCRATCH).catch(() => {});
    },
  };
}
