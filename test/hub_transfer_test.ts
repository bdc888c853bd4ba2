/** Downloads over a bad line, or from a bad server. */

import { assert, assertEquals, assertMatch, assertRejects } from "@std/assert";
import { ModelDownloadError } from "../runtime/errors.ts";
import { type Fault, someBytes } from "./hub_server.ts";
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
    hub.misbehave({ path: name, times: 9, bytes: (bytes) => flipped(bytes, 9) });
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
  hub.misbehave({ path: WEIGHTS, cutAfter: 16_384, noLength: true });
  hub.misbehave({ path: WEIGHTS, bytes: (bytes) => flipped(bytes, 20_000) });
  await fetch();
  const asks = hub.takeDownloads().filter((ask) => ask.startsWith(WEIGHTS));
  assertEquals(asks, [WEIGHTS, `${WEIGHTS} bytes=16384-`, WEIGHTS]);
  assertEquals(await requireSound(scene), []);
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
  assertEquals(hub.takeDownloads().filter((ask) => ask.startsWith(WEIGHTS)), [WEIGHTS]);
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
      const error = await assertRejects(
        () => fetch(),
        ModelDownloadError,
        `${who} answers ${status}`,
      );
      assertEquals(
        error.message.includes("private or gated"),
        errand === "resolve" && status < 404,
      );
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
  await fetch({}, { retry: { ...host.retry, stallMs: 250 } });
  assert(hub.takeDownloads().includes(`${WEIGHTS} bytes=32768-`));
  hub.commit(REPO, modelFiles(2));
  hub.misbehave({ path: WEIGHTS, hangAfter: 32_768 });
  const impatient = { retry: { ...host.retry, tries: 1, stallMs: 250 } };
  await assertRejects(() => fetch({}, impatient), ModelDownloadError, "nothing came for 0.25 s");
});
