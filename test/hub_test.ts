/** Which files are fetched from a hub, and how they lie in the cache. */

import { assert, assertEquals, assertMatch, assertRejects } from "@std/assert";
import { ModelDownloadError, ModelInputError } from "../runtime/errors.ts";
import { hubTest, modelFiles, namesIn, REPO, requireContents, shardedFiles } from "./hub_setup.ts";

const WANTED = [
  "chat_template.jinja",
  "config.json",
  "generation_config.json",
  "model.safetensors",
  "special_tokens_map.json",
  "tokenizer.json",
  "tokenizer_config.json",
];

hubTest("a model's files are fetched, and no others", async ({ hub, folder, fetch }) => {
  const path = await fetch();
  assertEquals(await namesIn(path), WANTED);
  await requireContents(path, modelFiles());
  // What is compressed on the way can be neither counted nor gone on with.
  assertEquals(new Set(hub.requests.map(({ encoding }) => encoding)), new Set(["identity"]));
  assertEquals(hub.takeDownloads().toSorted(), WANTED);
  assertEquals(await namesIn(folder), ["blobs", "refs", "snapshots"]);
  const hashes = WANTED.map((name) => hub.hashOf(REPO, name)).sort();
  assertEquals(await namesIn(`${folder}/blobs`), hashes);
});

hubTest(
  "the cache of Hugging Face's own programs is used unless another is given",
  async (scene) => {
    const { cacheDir, host, fetch } = scene;
    const sayingThat = (folder: string) => ({
      hub: { ...host.hub, getHFHubCachePath: () => folder },
    });
    const path = await fetch({ cacheDir: undefined }, sayingThat(`${cacheDir}/theirs`));
    assert(path.startsWith(`${cacheDir}/theirs/models--`));
    await requireContents(path, modelFiles());
    const empty = () => fetch({ cacheDir: undefined }, sayingThat(""));
    await assertRejects(empty, ModelInputError, "a variable that names it is empty");
  },
);

hubTest("what is there is not fetched again", async ({ hub, fetch }) => {
  const path = await fetch();
  hub.takeDownloads();
  assertEquals(await fetch(), path);
  const paths = hub.requests.map(({ path }) => path);
  assertEquals(paths.length, 2);
  assertMatch(paths[0]!, /\/revision\/main$/);
  assertMatch(paths[1]!, /\/tree\/[0-9a-f]{40}$/);
});

hubTest("of shards, those are fetched that the index names", async ({ hub, fetch }) => {
  hub.commit(REPO, shardedFiles());
  const path = await fetch();
  assertEquals(await namesIn(path), Object.keys(shardedFiles()).sort().toSpliced(3, 1));
  await requireContents(path, shardedFiles());
});

hubTest("weights in one file go before shards", async ({ hub, fetch }) => {
  hub.commit(REPO, { ...shardedFiles(), ...modelFiles() });
  assertEquals(await namesIn(await fetch()), WANTED);
});

hubTest("a list that comes in pages is read to its end", async ({ hub, fetch }) => {
  hub.pageSize = 2;
  assertEquals(await namesIn(await fetch()), WANTED);
  assertEquals(hub.requests.filter(({ path }) => path.includes("/tree/")).length, 5);
});

hubTest("files of the same content are fetched once", async (scene) => {
  const { hub, fetch } = scene;
  const files = { ...modelFiles(), "generation_config.json": "{}", "tokenizer_config.json": "{}" };
  hub.commit(REPO, files);
  const path = await fetch();
  assertEquals(hub.takeDownloads().length, WANTED.length - 1);
  assertEquals(await namesIn(path), WANTED);
  await requireContents(path, files);
});

hubTest("a file that two commits share is fetched once", async ({ hub, folder, fetch }) => {
  const first = await fetch();
  hub.takeDownloads();
  hub.commit(REPO, { ...modelFiles(), "config.json": "{}" });
  const second = await fetch();
  assert(first !== second);
  assertEquals(hub.takeDownloads(), ["config.json"]);
  assertEquals(await namesIn(second), WANTED);
  assertEquals((await namesIn(`${folder}/snapshots`)).length, 2);
  await requireContents(first, modelFiles());
});

hubTest("a revision is noted when all of it is there", async ({ hub, folder, fetch }) => {
  const old = await fetch();
  hub.commit(REPO, modelFiles(2));
  hub.misbehave({ path: "model.safetensors", answer: () => new Response(null, { status: 404 }) });
  await assertRejects(() => fetch(), ModelDownloadError, "404");
  const ref = () => Deno.readTextFile(`${folder}/refs/main`);
  assertEquals(await ref(), old.split("/").at(-1));
  assertEquals(await fetch({ localFilesOnly: true }), old);
  const path = await fetch();
  assertEquals(await ref(), path.split("/").at(-1));
  assertEquals(await namesIn(`${folder}/refs`), ["main"]);
});

hubTest("branches, tags, pull requests and commits can be asked for", async (scene) => {
  const { hub, folder, fetch } = scene;
  const commit = hub.commit(REPO, modelFiles(3), { revision: "refs/pr/1" });
  for (const revision of ["refs/pr/1", commit]) {
    const path = await fetch({ revision });
    assertEquals(path, `${folder}/snapshots/${commit}`);
    assertEquals(await fetch({ revision, localFilesOnly: true }), path);
  }
  assertEquals(await Deno.readTextFile(`${folder}/refs/refs/pr/1`), commit);
  assertEquals(await namesIn(`${folder}/refs`), ["refs"]);
});

hubTest("files have a second name where links may not be made", async ({ hub, folder, fetch }) => {
  const path = await fetch({}, { mayLinkByName: () => Promise.resolve(false) });
  for (const name of WANTED) {
    const file = await Deno.lstat(`${path}/${name}`);
    const blob = await Deno.stat(`${folder}/blobs/${hub.hashOf(REPO, name)}`);
    assertEquals([file.isSymlink, file.ino], [false, blob.ino]);
  }
});

hubTest("files are links to their contents where links may be made", async (scene) => {
  const { hub, host, fetch } = scene;
  const targets = new Map<string, string>();
  // Stands in for the system's call, which tests may not use: where the link leads is what counts.
  const symlink = async (target: string, file: string) => {
    targets.set(file.split("/").at(-1)!, target);
    await host.fs.link(host.path.resolve(host.path.dirname(file), target), file);
  };
  const fs = { ...host.fs, symlink } as typeof host.fs;
  const path = await fetch({}, { fs, mayLinkByName: () => Promise.resolve(true) });
  await requireContents(path, modelFiles());
  assertEquals([...targets.keys()].sort(), WANTED);
  for (const [name, target] of targets) {
    assertEquals(target, `../../blobs/${hub.hashOf(REPO, name)}`);
  }
});

hubTest(
  "files are moved or copied where there are no links",
  async ({ hub, folder, host, fetch }) => {
    const link = () => Promise.reject(Object.assign(new Error("no"), { code: "EPERM" }));
    const changes = { fs: { ...host.fs, link, symlink: link } as typeof host.fs };
    const path = await fetch({}, changes);
    await requireContents(path, modelFiles());
    assertEquals([await namesIn(path), await namesIn(`${folder}/blobs`)], [WANTED, []]);
    // A content that was there before may be another commit's, and stays.
    const config = hub.hashOf(REPO, "config.json");
    await Deno.copyFile(`${path}/config.json`, `${folder}/blobs/${config}`);
    await Deno.remove(`${path}/config.json`);
    assertEquals(await fetch({}, changes), path);
    assertEquals([await namesIn(path), await namesIn(`${folder}/blobs`)], [WANTED, [config]]);
  },
);

hubTest("damage to the cache that shows in a size is mended", async ({ hub, folder, fetch }) => {
  const path = await fetch();
  const weights = `${folder}/blobs/${hub.hashOf(REPO, "model.safetensors")}`;
  await Deno.remove(`${path}/config.json`);
  await Deno.truncate(weights, 1000);
  hub.takeDownloads();
  assertEquals(await fetch(), path);
  assertEquals(hub.takeDownloads(), ["model.safetensors"]);
  await requireContents(path, modelFiles());
  assertEquals(await namesIn(path), WANTED);
});

hubTest("a cache that may only be read is used", async ({ host, fetch }) => {
  const path = await fetch();
  const refuse = () => Promise.reject(Object.assign(new Error("read-only"), { code: "EROFS" }));
  const writes = ["open", "mkdir", "writeFile", "rename", "rm", "link", "symlink", "copyFile"];
  const refusals = Object.fromEntries(writes.map((name) => [name, refuse]));
  const fs = { ...host.fs, ...refusals } as unknown as typeof host.fs;
  assertEquals(await fetch({}, { fs }), path);
  assertEquals(await fetch({ localFilesOnly: true }, { fs }), path);
});

hubTest("what is here is used without a network if that is asked for", async ({ hub, fetch }) => {
  const local = { localFilesOnly: true };
  await assertRejects(() => fetch(local), ModelDownloadError, "no commit is known for main");
  assertEquals(hub.requests.length, 0);
  const path = await fetch();
  hub.requests.length = 0;
  assertEquals(await fetch(local), path);
  await Deno.remove(`${path}/model.safetensors`);
  await assertRejects(() => fetch(local), ModelDownloadError, "model.safetensors is missing");
  assertEquals(hub.requests.length, 0);
});

hubTest("a missing shard is missed", async ({ hub, fetch }) => {
  hub.commit(REPO, shardedFiles());
  const path = await fetch();
  const local = { localFilesOnly: true };
  assertEquals(await fetch(local), path);
  await Deno.remove(`${path}/model-00002-of-00002.safetensors`);
  await assertRejects(() => fetch(local), ModelDownloadError, "model-00002-of-00002.safetensors");
});

hubTest("a hub that is away is done without, and that is said", async ({ hub, fetch }) => {
  const warnings: string[] = [];
  const onWarning = (warning: string) => void warnings.push(warning);
  const path = await fetch({ onWarning });
  assertEquals(warnings, []);
  hub.takeDownloads();
  hub.misbehave({
    path: "/main",
    errand: "api",
    answer: () => new Response(null, { status: 503 }),
  });
  assertEquals(await fetch({ onWarning }), path);
  assertEquals(hub.requests.length, 1);
  assertMatch(warnings.join(), /cannot be reached.*503.*used as it was last seen/);
  const away = () => Promise.reject(new TypeError("fetch failed"));
  const noPermission = () =>
    Promise.reject(Object.assign(new Error("Requires net access"), { name: "NotCapable" }));
  for (const fetchAway of [away, noPermission]) {
    assertEquals(await fetch({ onWarning, fetch: fetchAway }), path);
  }
  assertEquals(warnings.length, 3);
});

hubTest("a hub that is away is an error where files are missing", async ({ fetch }) => {
  let tries = 0;
  const away = () => Promise.reject(new TypeError(`fetch failed ${++tries}`));
  await assertRejects(
    () => fetch({ fetch: away }),
    ModelDownloadError,
    "must answer: fetch failed 3",
  );
});

hubTest("a refusal is not taken for a hub that is away", async ({ hub, fetch }) => {
  await fetch();
  hub.misbehave({
    path: "/main",
    errand: "api",
    answer: () => new Response(null, { status: 403 }),
  });
  await assertRejects(() => fetch(), ModelDownloadError, "403");
});

hubTest("the hub's own client agrees with the server, and shares the cache", async (scene) => {
  const { hub, host, cacheDir, fetch } = scene;
  const request = { repo: REPO, hubUrl: hub.endpoint };
  const [listed] = await host.hub.pathsInfo({ ...request, paths: ["model.safetensors"] });
  assertEquals(listed?.lfs?.oid, hub.hashOf(REPO, "model.safetensors"));
  const info = await host.hub.fileDownloadInfo({ ...request, path: "config.json" });
  assertEquals(info?.etag, `"${hub.hashOf(REPO, "config.json")}"`);
  const blob = await host.hub.downloadFile({ ...request, path: "config.json", xet: false });
  assertEquals(await blob?.text(), modelFiles()["config.json"]);

  const path = await fetch();
  hub.takeDownloads();
  const revision = path.split("/").at(-1)!;
  for (const name of WANTED) {
    const found = await host.hub.downloadFileToCacheDir({
      ...request,
      cacheDir,
      revision,
      path: name,
    });
    assertEquals(found, `${path}/${name}`);
  }
  const [cached] = (await host.hub.scanCacheDir(cacheDir)).repos;
  assertEquals(cached?.revisions.map(({ commitOid, refs }) => [commitOid, refs]), [
    [revision, ["main"]],
  ]);
  assertEquals(hub.requests, []);
});

Deno.test("a browser can import the client: it needs neither Node's modules nor packages", async () => {
  const folder = new URL("../model/hub/", import.meta.url);
  const files = await Array.fromAsync(Deno.readDir(folder));
  assert(files.length > 8);
  for (const { name } of files) {
    const text = await Deno.readTextFile(new URL(name, folder));
    const imports = [...text.matchAll(/^(?:import|export) (?!type )[^"]*? from "([^"]+)"/gm)];
    assertEquals(
      imports.map(([, from]) => from!).filter((from) => !from.startsWith(".")),
      [],
      name,
    );
  }
});
