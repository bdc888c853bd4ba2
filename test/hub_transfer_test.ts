/** Downloads that meet a bad line, a bad server or a full disk. */

import { assert, assertEquals, assertMatch, assertRejects, assertStrictEquals } from "@std/assert";
import type { FileHandle } from "node:fs/promises";
import fc from "fast-check";
import type { Host } from "../model/hub/host.ts";
import type { LoadProgress } from "../model/weights/parameter_store.ts";
import { ModelDownloadError } from "../runtime/errors.ts";
import { type Fault, someBytes } from "./hub_server.ts";
import {
  type HubScene,
  hubTest,
  modelFiles,
  namesIn,
  REPO,
  requireContents,
  WEIGHT_BYTES,
} from "./hub_setup.ts";

const WEIGHTS = "model.safetensors";
const TOKENIZER = "tokenizer.json";

/** Ends the call at the first broken connection, as if the program had been stopped. */
const once = ({ host }: HubScene): Partial<Host> => ({ retry: { ...host.retry, tries: 1 } });

/** What a file is called while it is on its way. */
const partialOf = ({ folder, hub }: HubScene, name: string): string =>
  `${folder}/blobs/${hub.hashOf(REPO, name)}.incomplete`;

/** Checks that all is well: a further call succeeds, with the right bytes, and leaves nothing half done. */
async function requireSound({ hub, folder, fetch }: HubScene): Promise<string[]> {
  hub.behave();
  hub.takeDownloads();
  await requireContents(await fetch(), modelFiles());
  const leftOver = (await namesIn(`${folder}/blobs`)).filter((name) => !/^[0-9a-f]+$/.test(name));
  assertEquals(leftOver, []);
  return hub.takeDownloads();
}

for (const name of [WEIGHTS, TOKENIZER]) {
  hubTest(`${name} that was cut off is gone on with by the next call`, async (scene) => {
    const { hub, fetch } = scene;
    hub.misbehave({ path: name, cutAfter: 50_000 });
    const error = await assertRejects(() => fetch({}, once(scene)), ModelDownloadError, name);
    const { size } = await Deno.stat(partialOf(scene, name));
    assert(size > 0 && size <= 50_000, `${size} bytes are kept`);
    assertMatch(error.message, new RegExp(`${size} of \\d+ bytes are here`));
    await fetch();
    const going = hub.requests.filter(({ path, range }) => path.endsWith(name) && range !== null);
    assertEquals(new Set(going.map(({ range }) => range)), new Set([`bytes=${size}-`]));
    // Git's own hash is what the hub calls the file; storage has another name for it.
    const condition = name === WEIGHTS ? null : `"${hub.hashOf(REPO, name)}"`;
    assertEquals(new Set(going.map(({ ifRange }) => ifRange)), new Set([condition]));
    assertEquals(await requireSound(scene), []);
  });
}

hubTest("a line that breaks is taken up again within the call", async (scene) => {
  const { hub, fetch } = scene;
  for (const cutAfter of [40_000, 60_000]) {
    hub.misbehave({ path: WEIGHTS, cutAfter });
  }
  await fetch();
  const [whole, second, third] = hub.takeDownloads().filter((ask) => ask.startsWith(WEIGHTS));
  assertEquals(whole, WEIGHTS);
  const [from, furtherFrom] = [second, third].map((ask) => Number(/bytes=(\d+)-$/.exec(ask!)![1]));
  assert(0 < from! && from! < furtherFrom! && furtherFrom! <= 100_000, `${from}, ${furtherFrom}`);
  assertEquals(await requireSound(scene), []);
});

hubTest("an end that comes too early is a break, whatever the server says", async (scene) => {
  const { hub, fetch } = scene;
  hub.misbehave({ path: WEIGHTS, cutAfter: 32_768, noLength: true });
  await fetch();
  assert(hub.takeDownloads().includes(`${WEIGHTS} bytes=32768-`));
  assertEquals(await requireSound(scene), []);
});

const startsAnew: Record<string, Omit<Fault, "path">> = {
  "ignores the range": { ignoreRange: true },
  "sends another range": { contentRange: `bytes 7-${WEIGHT_BYTES - 1}/${WEIGHT_BYTES}` },
  "sends a range of another file": {
    contentRange: `bytes 16384-${WEIGHT_BYTES - 1}/${WEIGHT_BYTES + 1}`,
  },
  "sends a range without saying which": { contentRange: "" },
  "has no such range": { answer: () => new Response(null, { status: 416 }) },
};
for (const [what, fault] of Object.entries(startsAnew)) {
  hubTest(`a server that ${what} makes the file start anew`, async (scene) => {
    const { hub, fetch } = scene;
    hub.misbehave({ path: WEIGHTS, cutAfter: 16_384, noLength: true });
    hub.misbehave({ path: WEIGHTS, ...fault });
    await fetch();
    const ranges = hub.takeDownloads().filter((ask) => ask.startsWith(WEIGHTS));
    const again = fault.ignoreRange ? [] : [WEIGHTS];
    assertEquals(ranges, [WEIGHTS, `${WEIGHTS} bytes=16384-`, ...again]);
    assertEquals(await requireSound(scene), []);
  });
}

hubTest("a file that has changed starts anew", async (scene) => {
  const { hub, folder, fetch } = scene;
  hub.misbehave({ path: WEIGHTS, cutAfter: 50_000, noLength: true });
  await assertRejects(() => fetch({}, once(scene)), ModelDownloadError);
  hub.commit(REPO, modelFiles(2));
  hub.takeDownloads();
  const path = await fetch();
  await requireContents(path, modelFiles(2));
  assertEquals(hub.takeDownloads().toSorted(), ["config.json", WEIGHTS]);
  assertEquals((await namesIn(`${folder}/snapshots`)).length, 2);
});

for (const name of [WEIGHTS, TOKENIZER]) {
  hubTest(`wrong bytes for ${name} are named and deleted`, async (scene) => {
    const { hub, folder, fetch } = scene;
    const spoil = (bytes: Uint8Array) =>
      Uint8Array.from(bytes, (byte, i) => i === 9 ? ~byte : byte);
    hub.misbehave({
      path: name,
      times: 9,
      bytes: spoil,
    });
    const hash = hub.hashOf(REPO, name);
    const error = await assertRejects(() => fetch(), ModelDownloadError, `${REPO}: ${name}: its `);
    assertMatch(
      error.message,
      new RegExp(`must be ${hash}: the bytes that came have [0-9a-f]{40}`),
    );
    const blobs = await namesIn(`${folder}/blobs`);
    assertEquals(blobs.filter((blob) => blob.startsWith(hash)), []);
    assertEquals(hub.takeDownloads().filter((ask) => ask.startsWith(name)).length, 1);
    assert((await requireSound(scene)).includes(name));
  });
}

hubTest("pieces that do not fit together are fetched once more in one go", async (scene) => {
  const { hub, fetch, folder } = scene;
  await Deno.mkdir(`${folder}/blobs`, { recursive: true });
  for (const length of [1000, WEIGHT_BYTES]) {
    await Deno.writeFile(partialOf(scene, WEIGHTS), someBytes(length, 5));
    const path = await fetch();
    const asks = hub.takeDownloads().filter((ask) => ask.startsWith(WEIGHTS));
    assertEquals(asks, length === 1000 ? [`${WEIGHTS} bytes=1000-`, WEIGHTS] : [WEIGHTS]);
    await requireContents(path, modelFiles());
    await Deno.remove(`${folder}/blobs/${hub.hashOf(REPO, WEIGHTS)}`);
    await Deno.remove(`${path}/${WEIGHTS}`);
  }
  assertEquals(await requireSound(scene), [WEIGHTS]);
});

hubTest("a file that is complete but for its name is not fetched again", async (scene) => {
  const { hub, fetch, folder } = scene;
  await Deno.mkdir(`${folder}/blobs`, { recursive: true });
  await Deno.writeFile(partialOf(scene, WEIGHTS), someBytes(WEIGHT_BYTES, 1));
  await fetch();
  assert(!hub.takeDownloads().includes(WEIGHTS));
  assertEquals(await requireSound(scene), []);
});

hubTest("a partial file that is too long is dropped", async (scene) => {
  const { hub, fetch, folder } = scene;
  await Deno.mkdir(`${folder}/blobs`, { recursive: true });
  await Deno.writeFile(partialOf(scene, WEIGHTS), someBytes(WEIGHT_BYTES + 1, 1));
  await fetch();
  assert(hub.takeDownloads().includes(WEIGHTS));
  assertEquals(await requireSound(scene), []);
});

const wrongSizes: Record<string, Omit<Fault, "path">> = {
  [`the server has ${WEIGHT_BYTES + 1}`]: { bytes: () => someBytes(WEIGHT_BYTES + 1, 1) },
  [`the server has ${WEIGHT_BYTES - 1}`]: { bytes: () => someBytes(WEIGHT_BYTES - 1, 1) },
  "the server sends more": { bytes: () => someBytes(WEIGHT_BYTES + 1, 1), noLength: true },
};
for (const [words, fault] of Object.entries(wrongSizes)) {
  hubTest(`a file of another size is refused: ${words}`, async (scene) => {
    const { hub, fetch } = scene;
    hub.misbehave({ path: WEIGHTS, ...fault });
    await assertRejects(() => fetch(), ModelDownloadError, words);
    assertEquals(hub.takeDownloads().filter((ask) => ask.startsWith(WEIGHTS)).length, 1);
    assert((await requireSound(scene)).includes(WEIGHTS));
  });
}

hubTest("a hub that calls a file otherwise than it lists it is not believed", async (scene) => {
  const { hub, fetch } = scene;
  const etag = "f".repeat(64);
  hub.misbehave({ path: WEIGHTS, errand: "resolve", etag });
  const error = await assertRejects(() => fetch(), ModelDownloadError, `the hub sends ${etag}`);
  assert(error.message.includes(hub.hashOf(REPO, WEIGHTS)));
  // A mirror's own name for the file says nothing.
  hub.misbehave({ path: WEIGHTS, errand: "resolve", etag: "W/5f-17" });
  await fetch();
  assertEquals(await requireSound(scene), []);
});

const badRedirects: Record<string, ResponseInit> = {
  "must stay there: it leads to file:": { headers: { location: "file:///etc/passwd" } },
  "must say where it leads": {},
  "more than 8 times": { headers: { location: `/${REPO}/resolve/x/${WEIGHTS}` } },
};
for (const [words, init] of Object.entries(badRedirects)) {
  hubTest(`a redirect is refused: ${words}`, async (scene) => {
    const { hub, fetch } = scene;
    const answer = () => new Response(null, { ...init, status: 302 });
    hub.misbehave({ path: WEIGHTS, errand: "resolve", times: 99, answer });
    await assertRejects(() => fetch(), ModelDownloadError, words);
    await requireSound(scene);
  });
}

hubTest("a redirect does not lead from https to http", async ({ fetch }) => {
  const asked: string[] = [];
  const redirect = (address: string | URL | Request) => {
    asked.push(String(address));
    const headers = { location: "http://hub.example/models" };
    return Promise.resolve(new Response(null, { status: 302, headers }));
  };
  const options = { endpoint: "https://hub.example/", accessToken: "hf_x", fetch: redirect };
  await assertRejects(() => fetch(options), ModelDownloadError, "from https: must stay there");
  assertEquals(asked.length, 1);
});

for (const status of [429, 500, 503]) {
  hubTest(`a server that answers ${status} is asked again`, async (scene) => {
    const { hub, fetch } = scene;
    const answer = () => new Response("busy", { status });
    hub.misbehave({ path: "/revision/main", errand: "api", answer, times: 2 });
    hub.misbehave({ path: WEIGHTS, errand: "resolve", answer, times: 2 });
    await fetch();
    assertEquals(await requireSound(scene), []);
  });
}

hubTest("the wait that a server asks for is kept", async (scene) => {
  const { hub, fetch } = scene;
  const headers = { "retry-after": "1" };
  hub.misbehave({ path: WEIGHTS, answer: () => new Response(null, { status: 429, headers }) });
  const start = performance.now();
  await fetch();
  const wait = performance.now() - start;
  assert(wait >= 999, `it waited ${wait} ms`);
});

hubTest("a wait that is too long is not begun", async (scene) => {
  const { hub, fetch } = scene;
  const date = new Date(Date.now() + 3_600_000).toUTCString();
  for (const after of ["3600", date]) {
    const headers = { "retry-after": after };
    hub.misbehave({ path: WEIGHTS, answer: () => new Response(null, { status: 503, headers }) });
    const error = await assertRejects(
      () => fetch(),
      ModelDownloadError,
      "answers 503 and asks for",
    );
    assertMatch(error.message, /asks for 3(600|59\d) s/);
  }
  await requireSound(scene);
});

hubTest("tries are counted", async (scene) => {
  const { hub, fetch } = scene;
  hub.misbehave({ path: WEIGHTS, cutAfter: 0, times: 99 });
  await assertRejects(() => fetch(), ModelDownloadError, "the connection must hold");
  assertEquals(hub.takeDownloads().filter((ask) => ask.startsWith(WEIGHTS)).length, 3);
  await requireSound(scene);
});

hubTest("a line that breaks often is put up with as long as it gets on", async (scene) => {
  const { hub, fetch } = scene;
  const weights = someBytes(6 << 20, 7);
  hub.commit(REPO, { ...modelFiles(), [WEIGHTS]: weights });
  hub.misbehave({
    path: WEIGHTS,

    cutAfter: 1_200_000,
    noLength: true,
    times: 99,
  });
  const path = await fetch();
  assertEquals(hub.takeDownloads().filter((ask) => ask.startsWith(WEIGHTS)).length, 6);
  assertEquals(await Deno.readFile(`${path}/${WEIGHTS}`), weights);
});

for (const status of [401, 403, 404, 410]) {
  hubTest(`${status} for a file is final`, async (scene) => {
    const { hub, fetch } = scene;
    for (const errand of ["resolve", "content"] as const) {
      hub.misbehave({ path: WEIGHTS, errand, answer: () => new Response(null, { status }) });
      const who = errand === "resolve" ? "the hub" : "its storage";
      await assertRejects(() => fetch(), ModelDownloadError, `${who} answers ${status}`);
      const asks = hub.requests.filter(({ path }) => path.endsWith(WEIGHTS));
      assertEquals(asks.length, errand === "resolve" ? 1 : 2);
      hub.requests.length = 0;
    }
    await requireSound(scene);
  });
}

hubTest("a line that goes silent counts as broken", async (scene) => {
  const { hub, host, fetch } = scene;
  hub.misbehave({ path: WEIGHTS, hangAfter: 32_768 });
  hub.misbehave({ path: TOKENIZER, hangAfter: 0 });
  hub.misbehave({ path: TOKENIZER, hangAfter: 0 });
  await fetch({}, { retry: { ...host.retry, stallMs: 60 } });
  assert(hub.takeDownloads().includes(`${WEIGHTS} bytes=32768-`));
  hub.commit(REPO, modelFiles(2));
  hub.misbehave({ path: WEIGHTS, hangAfter: 32_768 });
  const impatient = { retry: { ...host.retry, tries: 1, stallMs: 60 } };
  await assertRejects(() => fetch({}, impatient), ModelDownloadError, "nothing came for 0.06 s");
});

hubTest("progress adds up, never goes back, and ends at the total", async (scene) => {
  const { hub, fetch } = scene;
  const reports: LoadProgress[] = [];
  const onProgress = (progress: LoadProgress) => void reports.push(progress);
  hub.misbehave({ path: WEIGHTS, cutAfter: 65_536, noLength: true });
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
  assert(loaded.includes(total - WEIGHT_BYTES + 65_536), `${loaded} begin with what is here`);
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
  const onProgress = ({ item, bytesPerSecond }: LoadProgress) => {
    if (item === WEIGHTS && bytesPerSecond > 0) setTimeout(() => controller.abort(reason), 150);
  };
  const error = await assertRejects(() => fetch({ onProgress, signal: controller.signal }));
  assertStrictEquals(error, reason);
  const { size } = await Deno.stat(partialOf(scene, WEIGHTS));
  assert(size > 0 && size < WEIGHT_BYTES, `${size} bytes are kept`);
  assertEquals(await requireSound(scene), [`${WEIGHTS} bytes=${size}-`]);
});

hubTest("an abort ends every kind of wait", async (scene) => {
  const { hub, host, folder, fetch } = scene;
  const reason = "enough";
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
  const { length } = hub.requests;
  await assertRejects(
    () => fetch({ signal: AbortSignal.abort(new Error("before")) }),
    Error,
    "before",
  );
  assertEquals(hub.requests.length, length);
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
    "must take what comes: EIO: i/o error",
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

hubTest("calls side by side fetch each file once", async (scene) => {
  const { hub, fetch } = scene;
  hub.misbehave({ path: WEIGHTS, chunkMs: 5 });
  const paths = await Promise.all([fetch(), fetch(), fetch()]);
  assertEquals(new Set(paths).size, 1);
  const downloads = hub.takeDownloads();
  assertEquals(downloads.length, new Set(downloads).size);
  assertEquals(await requireSound(scene), []);
});

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
    { numRuns: 25 },
  );
});

function flipped(bytes: Uint8Array, at: number): Uint8Array<ArrayBuffer> {
  const copy = new Uint8Array(bytes);
  if (at < copy.length) copy[at] = ~copy[at]!;
  return copy;
}

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
