/** What is refused: repositories that cannot be loaded, answers that cannot be trusted, wrong arguments. */

import { assert, assertEquals, assertRejects } from "@std/assert";
import { fetchCheckpoint, fetchCheckpointOn } from "../model/hub/fetch_checkpoint.ts";
import {
  ModelDownloadError,
  ModelFormatError,
  ModelInputError,
  ModelUnsupportedError,
} from "../runtime/errors.ts";
import { MEMBER } from "./hub_server.ts";
import { hubTest, modelFiles, namesIn, REPO, requireContents, shardedFiles } from "./hub_setup.ts";

hubTest("a repository without safetensors is refused with what it has", async ({ hub, fetch }) => {
  const { "config.json": config, "model.safetensors": weights, ...rest } = modelFiles();
  for (
    const [files, words] of [
      [{ "config.json": config, "pytorch_model.bin": "x" }, "it has pytorch_model.bin"],
      [{ "config.json": config, "q4.gguf": "x", "a.md": "" }, "it has q4.gguf"],
      [{ "config.json": config }, "it has no weights"],
      [{ ...rest, "model.safetensors": weights }, "must have a config.json"],
      [{}, "no file at all"],
    ] as [ReturnType<typeof modelFiles>, string][]
  ) {
    hub.commit(REPO, files);
    const error = await assertRejects(() => fetch(), ModelUnsupportedError, words);
    assert(error.message.includes(`${REPO}@main`));
  }
  assertEquals(hub.takeDownloads(), []);
});

hubTest("an index that names anything but shards beside it is refused", async (scene) => {
  const { hub, cacheDir, fetch } = scene;
  const names = ["../../../x.safetensors", "/x.safetensors", "a\\b.safetensors", "config.json"];
  for (const name of [...names, "%2e%2e%2fx.safetensors", "nowhere.safetensors"]) {
    hub.commit(REPO, shardedFiles([name]));
    await assertRejects(() => fetch(), ModelFormatError, "model.safetensors.index.json");
  }
  assertEquals(await namesIn(cacheDir), [".locks", "models--lab--tiny-stablelm"]);
  assertEquals(hub.takeDownloads().filter((name) => name.startsWith("model-")), []);
});

hubTest(
  "what the hub lists is checked before it names a file",
  async ({ hub, cacheDir, fetch }) => {
    const oid = "a".repeat(40);
    const config = { type: "file", path: "config.json", size: 2, oid };
    const lfs = { oid: "../../../../escape", size: 5 };
    const lists: Record<string, unknown> = {
      "must give model.safetensors a hash": [config, { ...config, path: "model.safetensors", lfs }],
      'a hash: "../x"': [{ ...config, oid: "../x" }],
      'a hash: "A': [{ ...config, oid: "A".repeat(40) }],
      "a path and a size": [{ ...config, size: -1 }],
      "must be the list of a model's files": { error: "none" },
      "must end: it lists over": Array(10_001).fill({ ...config, type: "directory" }),
    };
    for (const [words, list] of Object.entries(lists)) {
      const commit = hub.commit(REPO, modelFiles());
      hub.misbehave({ path: commit, errand: "api", answer: () => Response.json(list) });
      await assertRejects(() => fetch(), ModelDownloadError, words);
    }
    const answers = { "must be the list": "<html>", "must name a commit": '{"sha":"../x"}' };
    for (const [words, answer] of Object.entries(answers)) {
      hub.misbehave({ path: "/revision/main", errand: "api", answer: () => new Response(answer) });
      await assertRejects(() => fetch(), ModelDownloadError, words);
    }
    const other = Response.json({ sha: "b".repeat(40) });
    hub.misbehave({ path: `/revision/${oid}`, errand: "api", answer: () => other });
    await assertRejects(() => fetch({ revision: oid }), ModelDownloadError, `must be for ${oid}`);
    assertEquals(await namesIn(cacheDir), []);
  },
);

hubTest("an answer without end is cut off", async ({ hub, fetch }) => {
  let sent = 0;
  const flood = new ReadableStream({
    pull(controller) {
      sent += 1 << 20;
      controller.enqueue(new Uint8Array(1 << 20).fill(32));
    },
  });
  hub.misbehave({ path: "/main", errand: "api", answer: () => new Response(flood) });
  await assertRejects(() => fetch(), ModelDownloadError, "it goes on");
  assert(sent < 64 << 20, `${sent} bytes were sent`);
});

hubTest("a private repository opens for its members", async ({ hub, host, cacheDir, fetch }) => {
  hub.commit("lab/secret", modelFiles(), { isPrivate: true });
  const { endpoint } = hub;
  const ask = (accessToken?: string) =>
    fetchCheckpointOn(host, "lab/secret", { cacheDir, endpoint, accessToken });
  const stranger = await assertRejects(() => ask(), ModelDownloadError, "401 (RepoNotFound)");
  assert(stranger.message.includes('pass { accessToken: "hf_…" }'));
  const other = await assertRejects(() => ask("hf_other"), ModelDownloadError, "403 (GatedRepo)");
  assert(other.message.includes(`${endpoint}/lab/secret`));
  assert(!other.message.includes("hf_other"));
  assertEquals(hub.requests.length, 2);
  hub.requests.length = 0;
  await requireContents(await ask(MEMBER), modelFiles());
  const seen = Map.groupBy(hub.requests, ({ server }) => server);
  const tokens = (server: "hub" | "storage") =>
    new Set(seen.get(server)!.map(({ authorization }) => authorization));
  assertEquals(tokens("hub"), new Set([`Bearer ${MEMBER}`]));
  assertEquals(tokens("storage"), new Set([null]));
  await assertRejects(
    () => fetch({ revision: "v2" }),
    ModelDownloadError,
    "404 (RevisionNotFound)",
  );
});

hubTest(
  "arguments are checked by name before anything is done",
  async ({ hub, cacheDir, fetch }) => {
    const options: Record<string, unknown> = {
      "option revison must be one of revision, accessToken": { revison: "main" },
      'revision must be a branch, a tag or a commit: "../main"': { revision: "../main" },
      'revision must be a branch, a tag or a commit: "a//b"': { revision: "a//b" },
      'revision must be a branch, a tag or a commit: "a..b"': { revision: "a..b" },
      "revision must": { revision: "" },
      "accessToken must be a token": { accessToken: "hf_a\nb" },
      "cacheDir must be a folder": { cacheDir: "" },
      "endpoint must be an http address: ftp://hub": { endpoint: "ftp://hub" },
      "endpoint must": { endpoint: "https://user@hub" },
      "signal must be an AbortSignal": { signal: {} },
      "localFilesOnly must be true or false: yes": { localFilesOnly: "yes" },
      "onProgress must be a function": { onProgress: 1 },
    };
    for (const [words, option] of Object.entries(options)) {
      await assertRejects(() => fetch(option as object), ModelInputError, words);
    }
    const names = ["name", "a/b/c", "../x", "a/..", "a/.", "a/b..c", "a--b/c", "/a", "a/", "a b/c"];
    for (const name of [...names, "a/b.git", "a/b?", "a/b#c", "a\\b/c", "", "datasets/a/b"]) {
      await assertRejects(
        () => fetchCheckpoint(name, { cacheDir, endpoint: hub.endpoint }),
        ModelInputError,
        'repo must be "owner/name"',
      );
    }
    assertEquals([hub.requests, await namesIn(cacheDir)], [[], []]);
  },
);

Deno.test({
  name: "without leave to read the environment, the cache must be given",
  permissions: { read: "inherit", env: false, sys: false },
  fn: async () => {
    const error = await assertRejects(
      () => fetchCheckpoint(REPO),
      ModelInputError,
      "cacheDir must be given",
    );
    assert(error.fault.value.includes("HF_HUB_CACHE"));
  },
});
