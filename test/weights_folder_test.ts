/** Files and folders: what is read by range, which links are followed, what a model's folder holds. */

import { assertEquals, assertRejects } from "@std/assert";
import { HostTensor, ModelConfigError, ModelFormatError, ModelUnsupportedError } from "../mod.ts";
import {
  blobBytes,
  type ByteSource,
  fileBytes,
  memoryBytes,
  StepwiseBytes,
} from "../model/weights/byte_source.ts";
import { openCheckpoint, openCheckpointFiles } from "../model/weights/checkpoint.ts";
import { isWithinModel } from "../model/weights/model_folder.ts";
import { writeSafetensors } from "../runtime/safetensors.ts";

const LICENSE = new URL("../LICENSE", import.meta.url).pathname;
const CACHE = new URL("testdata/hub_cache/models--owner--tiny/snapshots", import.meta.url).pathname;

Deno.test("a file, a blob and memory give the same bytes, several at a time", async () => {
  const bytes = Deno.readFileSync(LICENSE);
  for (
    const source of [
      await fileBytes(LICENSE),
      blobBytes(new Blob([bytes]), "b"),
      memoryBytes(bytes, "m"),
    ]
  ) {
    using open = source;
    assertEquals(open.size, bytes.byteLength);
    const ranges = Array.from({ length: 20 }, (_, i) => [i * 17, i * i] as const);
    const read = await Promise.all(ranges.map(([at, length]) => open.read(at, length)));
    for (const [i, [at, length]] of ranges.entries()) {
      assertEquals(read[i], bytes.slice(at, at + length));
      assertEquals(read[i]!.buffer.byteLength, length);
    }
    assertEquals(await open.read(bytes.byteLength, 0), new Uint8Array(0));
    for (const [at, length] of [[-1, 1], [0, -1], [0, open.size + 1], [0.5, 1], [NaN, 1]]) {
      await assertRejects(() => open.read(at!, length!), RangeError, `its ${open.size} bytes`);
    }
    await assertRejects(() => open.read(0, 1, AbortSignal.abort(new Error("no"))), Error, "no");
  }
});

Deno.test("a range is read in steps of 16 MiB that come as long as they come", async () => {
  const size = 40 * 1024 * 1024 + 1;
  const steps: number[] = [];
  using source = new StepwiseBytes({
    name: "f",
    size,
    readAt(target, position) {
      steps.push(target.byteLength);
      const count = Math.min(target.byteLength, 10 * 1024 * 1024 + 1);
      for (let i = 0; i < count; i += 4096) target[i] = (position + i) % 251;
      return Promise.resolve(count);
    },
    close() {},
  });
  const bytes = await source.read(0, size);
  assertEquals([steps.length, Math.max(...steps)], [4, 16 * 1024 * 1024]);
  assertEquals(bytes[10 * 1024 * 1024 + 1], (10 * 1024 * 1024 + 1) % 251);
});

Deno.test("a read is aborted between two steps", async () => {
  const controller = new AbortController();
  let steps = 0;
  using source = new StepwiseBytes({
    name: "f",
    size: 2 ** 30,
    readAt(target) {
      if (++steps === 2) controller.abort(new Error("enough"));
      return Promise.resolve(target.byteLength);
    },
    close() {},
  });
  await assertRejects(() => source.read(0, 2 ** 26, controller.signal), Error, "enough");
  assertEquals(steps, 2);
});

Deno.test("a file that has become shorter is truncated, at the byte where it ends", async () => {
  using source = new StepwiseBytes({
    name: "f",
    size: 100,
    readAt: (target, position) => Promise.resolve(Math.min(target.byteLength, 60 - position)),
    close() {},
  });
  assertEquals((await source.read(10, 50)).byteLength, 50);
  const error = await assertRejects(() => source.read(10, 51), ModelFormatError, "100 bytes");
  assertEquals([error.fault.reason, error.fault.place], ["truncated", "byte 60"]);
});

Deno.test("a source is closed once, after its last read", async () => {
  let closed = 0;
  const step = Promise.withResolvers<number>();
  const readAt = () => step.promise;
  const source = new StepwiseBytes({ name: "f", size: 4, readAt, close: () => closed++ });
  const read = source.read(0, 4);
  source[Symbol.dispose]();
  source[Symbol.dispose]();
  assertEquals(closed, 0);
  step.resolve(4);
  await read;
  source[Symbol.dispose]();
  assertEquals(closed, 1);
  await assertRejects(() => source.read(0, 1), TypeError, "must not be disposed");
});

Deno.test("what is no file is refused before it is opened", async () => {
  const folder = new URL(".", import.meta.url).pathname;
  const cases = [
    [folder, "not-a-file", "it is a folder"],
    [`${folder}none`, "missing-file", "there is none"],
    [`${LICENSE}/none`, "missing-file", "there is none"],
  ] as const;
  for (const [path, reason, words] of cases) {
    const error = await assertRejects(() => fileBytes(path), ModelFormatError, words);
    assertEquals([error.fault.file, error.fault.reason], [path, reason]);
  }
});

Deno.test("a permission that is missing is named by Deno's own error", async () => {
  await assertRejects(() => fileBytes("/etc/hostname"), Deno.errors.NotCapable, "--allow-read");
});

Deno.test("a blob whose file has changed is unreadable", async () => {
  const gone = () => Promise.reject(new DOMException("The file has changed", "NotReadableError"));
  const blob = { size: 4, slice: () => ({ arrayBuffer: gone }) } as unknown as Blob;
  using source: ByteSource = blobBytes(blob, "b");
  const error = await assertRejects(() => source.read(0, 4), ModelFormatError, "has changed");
  assertEquals(error.fault.reason, "unreadable");
});

Deno.test("links within a model are followed, as the hub's cache has them", async () => {
  using checkpoint = await openCheckpoint(`${CACHE}/good/`);
  assertEquals(checkpoint.config, { model_type: "stablelm" });
  assertEquals(checkpoint.configFile, `${CACHE}/good/config.json`);
  assertEquals(checkpoint.generationConfig, undefined);
  assertEquals(checkpoint.warnings, []);
  assertEquals(checkpoint.files, [
    "config.json",
    "model.safetensors.index.json",
    "model-00001-of-00002.safetensors",
    "model-00002-of-00002.safetensors",
  ]);
  assertEquals(Array.from((await checkpoint.source.read("a")).numbers), [1, 2]);
  assertEquals(Array.from((await checkpoint.source.read("b")).numbers), [3]);
});

Deno.test("a link out of a model is not followed where a file chose its name", async () => {
  const open = () => openCheckpoint(`${CACHE}/escaping`);
  const error = await assertRejects(open, ModelFormatError, "elsewhere.safetensors");
  assertEquals(error.fault.reason, "link-outside");
});

Deno.test("a link leads into the same model only if its real path does", () => {
  const cache = "/home/u/hub/models--o--n/snapshots/0123";
  const rows: readonly (readonly [folder: string, target: string, within: boolean])[] = [
    ["/m", "/m/a.safetensors", true],
    ["/m", "/m/deep/a.safetensors", true],
    ["/m", "/m", false],
    ["/m", "/mm/a.safetensors", false],
    ["/m", "/a.safetensors", false],
    ["/m", "/m\\a.safetensors", false],
    [cache, "/home/u/hub/models--o--n/blobs/ff", true],
    [cache, "/home/u/hub/models--o--n/snapshots/4567/a.safetensors", true],
    [cache, "/home/u/hub/models--o--other/blobs/ff", false],
    [cache, "/home/u/hub/models--o--n", false],
    ["/home/u/hub/other/snapshots/0123", "/home/u/hub/other/blobs/ff", false],
    ["/home/u/models--/snapshots/0123", "/home/u/models--/blobs/ff", false],
    ["C:\\m", "C:\\m\\a.safetensors", true],
    ["C:\\m", "D:\\m\\a.safetensors", false],
  ];
  for (const [folder, target, within] of rows) {
    assertEquals(isWithinModel(folder, target), within, `${folder} ${target}`);
  }
});

const config = new Blob(['{"model_type":"stablelm"}']);
const weights = new Blob([writeSafetensors([["w", HostTensor.from([1], [7])]])]);
const openFiles = (files: Record<string, Blob | string>) =>
  openCheckpointFiles(
    new Map(Object.entries(files).map(([name, file]) => [name, new Blob([file])])),
    "picked",
  );

Deno.test("files picked in a browser are opened as a folder is", async () => {
  using checkpoint = await openFiles({
    "config.json": config,
    "generation_config.json": '{"eos_token_id":0}',
    "model.safetensors": weights,
    "README.md": "",
  });
  assertEquals(checkpoint.generationConfig, { eos_token_id: 0 });
  assertEquals(checkpoint.files, ["config.json", "generation_config.json", "model.safetensors"]);
  assertEquals(checkpoint.configFile, "picked/config.json");
  assertEquals(checkpoint.source.name, "picked/model.safetensors");
  assertEquals(Array.from((await checkpoint.source.read("w")).numbers), [7]);
});

Deno.test("a folder that is no model's says what was looked for and what is there", async () => {
  const rows = [
    [{}, "must hold config.json: it is empty"],
    [{ "a.txt": "", "b.txt": "" }, "must hold config.json: it holds a.txt, b.txt"],
    [
      { "config.json": config },
      "must hold model.safetensors or model.safetensors.index.json: it holds config.json",
    ],
    [
      { "config.json": config, "m-Q8_0.gguf": "" },
      "a GGUF model is opened by its file, m-Q8_0.gguf",
    ],
    [Object.fromEntries(Array.from({ length: 20 }, (_, i) => [`f${i}`, ""])), "and 12 more"],
  ] as const;
  for (const [files, words] of rows) {
    const error = await assertRejects(() => openFiles(files), ModelFormatError, words);
    assertEquals([error.fault.file, error.fault.reason], ["picked", "missing-file"]);
  }
  const disk = await assertRejects(() => openCheckpoint("test/none"), ModelFormatError);
  assertEquals([disk.fault.reason, disk.fault.value], ["missing-folder", "there is none"]);
  const file = await assertRejects(() => openCheckpoint("LICENSE"), ModelFormatError);
  assertEquals([file.fault.reason, file.fault.value], ["missing-folder", "it is a file"]);
});

Deno.test("PyTorch's pickled weights are refused with the way to convert them", async () => {
  for (const name of ["pytorch_model.bin", "pytorch_model-00001-of-00002.bin"]) {
    const open = () => openFiles({ "config.json": config, [name]: "" });
    const error = await assertRejects(open, ModelUnsupportedError, "save_pretrained");
    assertEquals(error.fault.reason, "pickled-weights");
  }
});

Deno.test("a config that is no JSON object is refused by name, and one that is too long unread", async () => {
  const rows = [
    ["", "must be JSON"],
    ["[1]", "must be a JSON object: [1]"],
    ["null", "must be a JSON object: null"],
    ["{'a':1}", "must be JSON"],
    ["\ufeff{}", "must be JSON"],
    [" ".repeat(1024 * 1024 + 1), "must have at most 1048576 bytes: 1048577"],
  ] as const;
  for (const [json, words] of rows) {
    for (const name of ["config.json", "generation_config.json"]) {
      const files = { "config.json": config, "model.safetensors": weights, [name]: json };
      const error = await assertRejects(() => openFiles(files), ModelConfigError, words);
      assertEquals([error.fault.file, error.fault.reason], [`picked/${name}`, "config-json"]);
    }
  }
  const bytes = new Blob([new Uint8Array([0x7b, 0xff, 0x7d])]);
  await assertRejects(() => openFiles({ "config.json": bytes }), ModelConfigError, "UTF-8");
});
