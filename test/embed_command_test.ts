/** `deno task embed`: vectors as transformers has them, alone and in batches, and what the command refuses. */

import { assert, assertAlmostEquals, assertEquals, assertStringIncludes } from "@std/assert";
import { embed, EMBED_COMMAND, type Embedding } from "../apps/embed.ts";
import type { TextReport } from "../apps/text_results.ts";
import { shortestF32 } from "../apps/text_rows.ts";
import { CpuBackend, StableLmConfig, StableLmModel } from "../mod.ts";
import { scratchFolder, writeCheckpoint } from "./checkpoint_folder.ts";
import { callCommand, type CallOptions } from "./command_call.ts";
import "./device.ts";
import { byteTokens, END, writeTextModel } from "./text_model_folder.ts";

const golden = JSON.parse(await Deno.readTextFile("test/testdata/golden/texts.json"));
const texts: readonly string[] = golden.texts.map(({ text }: { text: string }) => text);

/** One folder for all: models are only read. */
const folder = await scratchFolder();
addEventListener("unload", () => Deno.removeSync(folder.path, { recursive: true }));
const [GOLDEN, BYTES] = [`${folder.path}/golden`, `${folder.path}/bytes`];
for (const path of [GOLDEN, BYTES]) await Deno.mkdir(path);
const [{ config }] = golden.sequence;
await writeCheckpoint(GOLDEN, StableLmConfig.fromJson(config));
await writeTextModel(BYTES);

const DEMO_TOKENIZER = ["--tokenizer", "model/demo"];
/** Quicker than a device for models of this size. */
const CPU = ["--backend", "cpu", "--model", BYTES];

const run = (args: readonly string[], options: CallOptions = {}) =>
  callCommand(EMBED_COMMAND, embed, args, options);

type Line = Embedding & { readonly text: string };

async function lines(args: readonly string[], options: CallOptions = {}): Promise<Line[]> {
  const { status, out, err } = await run(args, options);
  assertEquals([status, err], [0, ""]);
  return out.trimEnd().split("\n").map((line) => JSON.parse(line));
}

function assertNear(actual: readonly number[], expected: readonly number[], most: number): void {
  assertEquals(actual.length, expected.length);
  actual.forEach((value, i) => assertAlmostEquals(value, expected[i]!, most));
}

for (const backend of ["gpu", "cpu"]) {
  for (const pooling of ["mean", "last"]) {
    Deno.test(`vectors are transformers': ${pooling} on the ${backend}`, async () => {
      const model = ["--model", GOLDEN, ...DEMO_TOKENIZER, "--backend", backend];
      const made = await lines([...texts, ...model, "--pooling", pooling]);
      made.forEach(({ text, embedding }, i) => {
        assertEquals(text, texts[i]);
        assertNear(embedding, golden.embed[i][pooling], 5e-6);
      });
      if (pooling === "mean") assertEquals(await lines([...texts, ...model]), made);
    });
  }
}

Deno.test("a vector is the mean of the text's own states, or the last of them, and no padding", async () => {
  const text = "Hark!";
  const backend = new CpuBackend();
  using model = await StableLmModel.fromPretrained(BYTES, { backend });
  using output = await model.forward({ inputIds: [byteTokens(text)], useCache: false });
  const { numbers } = await backend.read(output.lastHiddenState);
  const width = model.config.hidden_size;
  const states = byteTokens(text).map((_, t) => numbers.subarray(t * width, (t + 1) * width));
  const mean = Array.from({ length: width }, (_, i) => {
    return states.reduce((sum, state) => sum + state[i]!, 0) / states.length;
  });
  const [made] = await lines([text, ...CPU]);
  assertNear(made!.embedding, mean, 1e-6);
  const [last] = await lines([text, ...CPU, "--pooling", "last"]);
  assertNear(last!.embedding, Array.from(states.at(-1)!), 1e-6);
});

Deno.test("--normalize scales to length 1, and changes no direction", async () => {
  const [plain] = await lines(["Hark!", ...CPU]);
  const [unit] = await lines(["Hark!", ...CPU, "--normalize"]);
  const length = Math.hypot(...plain!.embedding);
  assert(Math.abs(length - 1) > 0.1);
  assertAlmostEquals(Math.hypot(...unit!.embedding), 1, 1e-6);
  assertNear(unit!.embedding, plain!.embedding.map((value) => value / length), 1e-7);
});

Deno.test("numbers are the shortest that are the same f32", () => {
  for (
    const [value, text] of [[0.1, "0.1"], [1 / 3, "0.33333334"], [-(2 ** -149), "-1e-45"]] as const
  ) {
    assertEquals(String(shortestF32(value)), text);
  }
  for (const value of [16777216, 3.4028234663852886e38, 1.17549435e-38, 0, 8388609.5]) {
    assertEquals(Math.fround(shortestF32(value)), Math.fround(value));
  }
});

Deno.test("an empty text is the bos token, and special tokens are letters unless asked for", async () => {
  const [empty] = await lines(["", ...CPU]);
  const [bos] = await lines([END, ...CPU, "--parse-special-tokens"]);
  const [letters] = await lines([END, ...CPU]);
  assertEquals(empty!.embedding, bos!.embedding);
  assert(letters!.embedding[0] !== bos!.embedding[0]);
});

Deno.test("--similarity prints the cosine with the first text", async () => {
  const { status, out } = await run(["Hark!", "Hark!", "Who goes?", ...CPU, "--similarity"]);
  const vectors = await lines(["Hark!", "Who goes?", ...CPU, "--normalize"]);
  const [a, b] = vectors.map(({ embedding }) => embedding) as [number[], number[]];
  const [same, other] = out.split("\n").map(Number);
  assertEquals([status, same], [0, 1]);
  assertAlmostEquals(other!, a.reduce((sum, value, i) => sum + value * b[i]!, 0), 1e-6);
});

Deno.test("--json has how vectors were made, and the texts' ids", async () => {
  const file = `${folder.path}/report.json`;
  const made = await lines(["Hark!", "", ...CPU, "--json", file, "--pooling", "last"]);
  const report: TextReport<Embedding> = JSON.parse(await Deno.readTextFile(file));
  const { header, model: { loadSeconds, ...model }, ...rest } = report;
  assertEquals(rest as unknown, {
    schemaVersion: 1,
    kind: "embed",
    complete: true,
    pooling: "last",
    normalize: false,
    results: made.map(({ text, embedding }) => ({ text, ids: byteTokens(text), embedding })),
  });
  assertEquals(model, { name: BYTES, dtype: "f32", activationDtype: "f32" });
  assert(loadSeconds > 0 && header.isSoftware);
});

/** Runs lines of a file, and gives those of the output. */
async function batch(
  input: readonly object[],
  args: readonly string[],
  out: string = `${folder.path}/${crypto.randomUUID()}.jsonl`,
): Promise<{ status: number; err: string; text: string }> {
  const file = `${out}.in`;
  await Deno.writeTextFile(file, input.map((line) => `${JSON.stringify(line)}\n`).join(""));
  const { status, err } = await run(["--batch", file, "--out", out, ...args]);
  return { status, err, text: await Deno.readTextFile(out).catch(() => "") };
}

const LINES = ["a", "Hark, who goes there in the night?", "", "No.", "naïve 😀", "x".repeat(17)]
  .map((text, id) => ({ text, id }));

for (const backend of ["cpu", "gpu"]) {
  Deno.test(`a vector has the same bits whatever texts run beside it: ${backend}`, async () => {
    const model = ["--model", BYTES, "--backend", backend];
    const alone = await lines([...LINES.map(({ text }) => text), ...model]);
    for (const size of ["1", "2", "64"]) {
      const { status, text } = await batch(LINES, [...model, "--batch-size", size]);
      const expected = LINES.map(({ text, id }, index) => {
        const tokenCount = byteTokens(text).length;
        return `${JSON.stringify({ index, id, tokenCount, embedding: alone[index]!.embedding })}\n`;
      });
      assertEquals([status, text], [0, expected.join("")]);
    }
  });
}

Deno.test("a batch is gone on with, in shards and after errors", async () => {
  const whole = await batch(LINES, CPU);
  const out = `${folder.path}/parts.jsonl`;
  await batch(LINES, [...CPU, "--shard", "2/2"], out);
  const { text } = await batch(LINES, CPU, out);
  assertEquals(text.split("\n").toSorted(), whole.text.split("\n").toSorted());
  const bad = [{ text: "x".repeat(257) }, { txt: "a" }, { text: 7, id: null }, { text: "a" }];
  const { status, text: records } = await batch(bad, CPU);
  const [long, key, kind, good] = records.split("\n");
  assertEquals(status, 1);
  assertStringIncludes(long!, "the text must have at most 256 tokens");
  assertStringIncludes(key!, "did you mean text?");
  assertEquals(JSON.parse(kind!), {
    index: 2,
    id: null,
    error: 'the line must have a "text" of text: 7',
  });
  assertEquals(JSON.parse(good!).tokenCount, 1);
});

Deno.test("a batch without a model leaves no empty output", async () => {
  const out = `${folder.path}/none.jsonl`;
  const { status } = await batch(LINES, ["--model", "no/such/folder"], out);
  assertEquals([status, await Deno.stat(out).catch(() => null)], [3, null]);
});

Deno.test("Ctrl-C ends it with 130 and leaves whole lines", async () => {
  const controller = new AbortController();
  const onWrite = () => controller.abort();
  const { signal } = controller;
  const { status, out } = await run(["a", "b", "c", ...CPU], { signal, onWrite });
  assertEquals([status, out.split("\n").length], [130, 2]);
});

Deno.test("a terminal is told how far it is, a pipe is not", async () => {
  const { status, err } = await run(["Hark!", ...CPU], { terminal: true });
  assertEquals(status, 0);
  assert(/^texts: 1, tokens: 5, seconds: \d+\.\d\d\n$/.test(err), err);
});

const refused: readonly (readonly [args: readonly string[], status: number, words: string])[] = [
  [[], 2, "a text must be given"],
  [["a", "--file", "b"], 2, "--file must not be given with a text"],
  [["a", "--pooling", "max"], 2, 'unknown --pooling "max"'],
  [["a", "--similarity"], 2, "--similarity must have two texts or more: 1"],
  [
    ["--similarity", "--batch", "a", "--out", "b"],
    2,
    "--similarity must not be given with --batch",
  ],
  [["a", "--batch", "a", "--out", "b"], 2, "a text must not be given with --batch"],
  [["--batch", "a"], 2, "--out must name the file"],
  [["--batch", "a", "--out", "b", "--json", "c"], 2, "--json must not be given with --batch"],
  [["a", "--shard", "1/2"], 2, "--shard must be given with --batch"],
  [["x".repeat(257), ...CPU], 2, "the text must have at most 256 tokens, as the model has no more"],
  [["a", "--model", "no/such/folder"], 3, "must be a folder of a model's files"],
  [
    ["a", ...CPU, ...DEMO_TOKENIZER],
    3,
    "must have at most 257 tokens, as the model's vocab_size is",
  ],
];

for (const [args, expected, words] of refused) {
  Deno.test(`refused: embed ${args.join(" ").slice(0, 40)} exits ${expected} and says why`, async () => {
    const { status, out, err } = await run(args);
    assertEquals([status, out], [expected, ""], err);
    assertStringIncludes(err, words);
    assert(err.startsWith("error: ") && err.indexOf("\n") === err.length - 1, err);
  });
}

Deno.test("an empty text is refused where no token stands for it", async () => {
  const path = `${folder.path}/no_bos`;
  await Deno.mkdir(path);
  await writeTextModel(path, { bos_token_id: null }, { bos_token_id: null });
  const { status, err } = await run(["", "--model", path, "--backend", "cpu"]);
  assertEquals(status, 2);
  assertStringIncludes(err, "the text must not be empty, as the model has no bos token");
});

Deno.test("embed --help lists every option", async () => {
  const { out } = await run(["--help"]);
  for (const name of Object.keys(EMBED_COMMAND.options)) assertStringIncludes(out, `--${name}`);
  for (const line of out.split("\n")) assert(line.length <= 120, line);
});
