/** Downloads that are watched, stopped, crowded, or run out of disk. */

import { assert, assertEquals, assertMatch, assertRejects, assertStrictEquals } from "@std/assert";
import type { FileHandle } from "node:fs/promises";
import fc from "fast-check";
import type { Host } from "../model/hub/host.ts";
import type { LoadProgress } from "../model/weights/parameter_store.ts";
import { ModelDownloadError } from "../runtime/errors.ts";
import type { Fault } from "./hub_server.ts";
import {
  flipped,
  hubTest,
  modelFiles,
  namesIn,
  once,
  partialOf,
  REPO,
  requireContents,
  requireSound,
  TOKENIZER,
  WEIGHT_BYTES,
  WEIGHTS,
} from "./hub_setup.ts";

hubTest("progress adds up, never goes back, and ends at the total", async (scene) => {
  const { hub, fetch } = scene;
  const reports: LoadProgress[] = [];
  const onProgress = (progress: LoadProgress) => void reports.push(progress);
  hub.misbehave({ path: WEIGHTS, cutAfter: 262_144, noLength: true });
  await assertRejects(() => fetch({ onProgress }, once(scene)), ModelDownloadError);
  const sizes = Object.values(modelFiles()).map(({ length }) => length);
  const total = sizes.reduce((sum, size) => sum + size) - "# Tiny".length - "pickle".length;
  assertEquals(new Set(reports.map(({ totalBytes }) => totalBytes)), new Set([total]));
  const here = reports.at(-1)!.loadedBytes;

  reports.length = 0;
  hub.misbehave({ path: WEIGHTS, ignoreRange: true, chunkMs: 15 });
  await fetch({ onProgress });
  const loaded = reports.map(({ loadedBytes }) => loadedBytes);
  assertEquals(loaded, loaded.toSorted((a, b) => a - b));
  assert(loaded.includes(total - WEIGHT_BYTES + 262_144), `${loaded} begin with what is here`);
  assert(here >= total - WEIGHT_BYTES, `${here}`);
  const { phase, item, loadedBytes, totalBytes, bytesPerSecond } = reports.at(-1)!;
  assertEquals([phase, item, loadedBytes, totalBytes], ["download", WEIGHTS, total, total]);
  // 19 chunks with a wait of 15 ms before each, and 300,000 bytes.
  assert(bytesPerSecond > 10_000 && bytesPerSecond < 1_200_000, `${bytesPerSecond} bytes/s`);

  reports.length = 0;
  await fetch({ onProgress });
  assertEquals([reports.at(-1)!.loadedBytes, reports.at(-1)!.bytesPerSecond], [total, 0]);
});

hubTest("what a listener throws ends the call, and is no broken line", async (scene) => {
  const { hub, fetch } = scene;
  const fault = new TypeError("my own");
  const onProgress = ({ item }: LoadProgress) => {
    if (item === WEIGHTS) throw fault;
  };
  const error = await assertRejects(() => fetch({ onProgress }));
  assertStrictEquals(error, fault);
  assert(hub.requests.filter(({ path }) => path.endsWith(WEIGHTS)).length <= 2);
  await requireSound(scene);
});

hubTest("an abort stops within a chunk, and what has come is gone on with", async (scene) => {
  const { hub, fetch } = scene;
  hub.misbehave({ path: WEIGHTS, chunkMs: 20 });
  const controller = new AbortController();
  const reason = new Error("enough");
  let lacking = 0;
  const onProgress = ({ item, loadedBytes, totalBytes }: LoadProgress) => {
    lacking = totalBytes - loadedBytes;
    if (item === WEIGHTS && lacking < WEIGHT_BYTES) controller.abort(reason);
  };
  const error = await assertRejects(() => fetch({ onProgress, signal: controller.signal }));
  assertStrictEquals(error, reason);
  const { size } = await Deno.stat(partialOf(scene, WEIGHTS));
  assert(lacking > 0 && lacking < WEIGHT_BYTES, `${lacking} bytes were lacking`);
  assertEquals(size, WEIGHT_BYTES - lacking);
  assertEquals(await requireSound(scene), [`${WEIGHTS} bytes=${size}-`]);
});

hubTest("an abort ends every kind of wait", async (scene) => {
  const { hub, host, folder, fetch } = scene;
  // An error of a kind that would be made another if it were taken for the hub's fault.
  const reason = new TypeError("enough");
  const stopsAt = async (isReached: () => boolean, patience: Partial<Host> = {}) => {
    const controller = new AbortController();
    const call = fetch({ signal: controller.signal }, patience);
    call.catch(() => {});
    while (!isReached()) await new Promise((resolve) => setTimeout(resolve, 5));
    controller.abort(reason);
    const outcome = await call.then(() => "done", (error) => error);
    assertStrictEquals(outcome, reason);
  };
  const asked = (end: string) => () => hub.requests.some(({ path }) => path.endsWith(end));
  // Before anything.
  await fetch();
  const signal = AbortSignal.abort(reason);
  assertStrictEquals(await assertRejects(() => fetch({ signal, localFilesOnly: true })), reason);
  await Deno.remove(folder, { recursive: true });
  hub.requests.length = 0;
  // For an answer.
  hub.misbehave({
    path: "/revision/main",
    errand: "api",
    answer: () => new Response(new ReadableStream()),
  });
  await stopsAt(asked("/revision/main"));
  // For a second try.
  hub.misbehave({ path: TOKENIZER, answer: () => new Response(null, { status: 503 }) });
  await stopsAt(asked(TOKENIZER), {
    retry: { ...host.retry, firstWaitMs: 1e5, longestWaitMs: 1e5 },
  });
  // For somebody else's lock.
  const locks = folder.replace(/models--/, ".locks/models--");
  const open = await Deno.open(`${locks}/${hub.hashOf(REPO, TOKENIZER)}.lock`, { write: true });
  await open.lock(true);
  let looks = 0;
  const counting: Host["lock"] = async (file) => {
    const lock = (await host.lock(file))!;
    return {
      ...lock,
      tryLock: () => (looks++, lock.tryLock()),
      [Symbol.dispose]: () => lock[Symbol.dispose](),
    };
  };
  await stopsAt(() => looks > 0, { lock: counting });
  open.close();
  await requireSound(scene);
});

hubTest("a full disk is named, and the next call goes on", async (scene) => {
  const { host, hub, fetch } = scene;
  const fs = failingWrites(host, 100_000, "ENOSPC", "no space left on device");
  const error = await assertRejects(
    () => fetch({}, { fs }),
    ModelDownloadError,
    "the disk must have room",
  );
  assertMatch(error.message, /model|blobs.*\.incomplete.*100000 are written.*no space left/);
  assertEquals(hub.takeDownloads().filter((ask) => ask.startsWith(WEIGHTS)), [WEIGHTS]);
  assertEquals(await requireSound(scene), [`${WEIGHTS} bytes=100000-`]);
});

hubTest("a disk that fails is named, and the next call goes on", async (scene) => {
  const { host, fetch } = scene;
  const fs = failingWrites(host, 0, "EIO", "i/o error");
  await assertRejects(
    () => fetch({}, { fs }),
    ModelDownloadError,
    "must take what comes, and give it back: EIO: i/o error",
  );
  await requireSound(scene);
});

hubTest("a cache that cannot be made is named", async ({ cacheDir, fetch }) => {
  await Deno.writeTextFile(`${cacheDir}/file`, "");
  const error = await assertRejects(
    () => fetch({ cacheDir: `${cacheDir}/file` }),
    ModelDownloadError,
    `Cannot keep ${REPO} in ${cacheDir}/file`,
  );
  assert(error.message.includes("ENOTDIR"));
});

for (const hasLinks of [true, false]) {
  const links = hasLinks ? "with" : "without";
  hubTest(`calls side by side fetch each file once, ${links} links`, async (scene) => {
    const { hub, host, fetch } = scene;
    const link = () => Promise.reject(Object.assign(new Error("no"), { code: "EPERM" }));
    const fs = hasLinks ? host.fs : { ...host.fs, link, symlink: link } as Host["fs"];
    hub.misbehave({ path: WEIGHTS, chunkMs: 5 });
    const paths = await Promise.all([1, 2, 3].map(() => fetch({}, { fs })));
    assertEquals(new Set(paths).size, 1);
    const downloads = hub.takeDownloads();
    assertEquals(downloads.length, new Set(downloads).size);
    assertEquals(await requireSound(scene), []);
  });
}

for (
  const [where, lock] of [
    ["a runtime", () => Promise.resolve(undefined)],
    ["a disk", () =>
      Promise.resolve({
        tryLock: () => Promise.reject(new Error("not supported")),
        [Symbol.dispose]() {},
      })],
  ] as [string, Host["lock"]][]
) {
  hubTest(`calls side by side keep apart on ${where} without locks`, async (scene) => {
    const { hub, host, fetch } = scene;
    hub.misbehave({ path: WEIGHTS, cutAfter: 65_536, noLength: true });
    await assertRejects(() => fetch({}, { ...once(scene), lock }), ModelDownloadError);
    hub.takeDownloads();
    hub.misbehave({ path: WEIGHTS, chunkMs: 5, times: 3 });
    const paths = await Promise.all([1, 2, 3].map(() => fetch({}, { lock, retry: host.retry })));
    assertEquals(new Set(paths).size, 1);
    const asks = hub.takeDownloads().filter((ask) => ask.startsWith(WEIGHTS));
    assertEquals(asks.filter((ask) => ask.includes("bytes=")), [`${WEIGHTS} bytes=65536-`]);
    assertEquals(await requireSound(scene), []);
  });
}

hubTest("whatever goes wrong, the cache holds right bytes or none", async (scene) => {
  const { hub, fetch, folder } = scene;
  const names = [WEIGHTS, TOKENIZER, "config.json"];
  const fault = fc.record({
    path: fc.constantFrom(...names),
    times: fc.integer({ min: 1, max: 4 }),
    kind: fc.oneof(
      fc.record({
        cutAfter: fc.nat(WEIGHT_BYTES),
        noLength: fc.boolean(),
        ignoreRange: fc.boolean(),
      }),
      fc.record({ bytes: fc.nat(70_000).map((at) => (bytes: Uint8Array) => flipped(bytes, at)) }),
      fc.constantFrom(404, 416, 500).map((status) => ({
        answer: () => new Response(null, { status }),
      })),
      fc.record({ contentRange: fc.constantFrom("", "bytes 0-1/2", `bytes 5-9/${WEIGHT_BYTES}`) }),
    ),
  });
  await fc.assert(
    fc.asyncProperty(fc.array(fault, { minLength: 1, maxLength: 5 }), async (faults) => {
      for (const { path, times, kind } of faults) hub.misbehave({ path, times, ...kind } as Fault);
      await fetch({}, once(scene)).catch((error) => {
        if (!(error instanceof ModelDownloadError)) throw error;
      });
      await fetch().catch((error) => {
        if (!(error instanceof ModelDownloadError)) throw error;
      });
      for (const commit of await namesIn(`${folder}/snapshots`)) {
        await requireContents(`${folder}/snapshots/${commit}`, modelFiles());
      }
      await requireSound(scene);
      await Deno.remove(folder, { recursive: true });
    }),
    { numRuns: 15 },
  );
});

/** Files that take so many bytes of a large one, and then fail. */
function failingWrites({ fs }: Host, room: number, code: string, message: string): Host["fs"] {
  const open = async (path: string, flags: string): Promise<FileHandle> => {
    const handle = await fs.open(path, flags);
    const write = handle.write.bind(handle) as FileHandle["write"];
    handle.write = (async (bytes: Uint8Array, at: number, length: number, position: number) => {
      const most = Math.min(length, room - position);
      if (most > 0) return await write(bytes, at, most, position);
      throw Object.assign(new Error(`${code}: ${message}`), { code });
    }) as FileHandle["write"];
    return handle;
  };
  return { ...fs, open } as Host["fs"];
}
