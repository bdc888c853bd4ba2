/** `deno task generate --batch`: results that depend on a line alone, bad lines, and going on after an interruption. */

import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { seedOfLine } from "../apps/batch_lines.ts";
import type { GenerationReport } from "../apps/generate.ts";
import type { BatchRecord } from "../apps/generate_batch.ts";
import { scratchFolder } from "./checkpoint_folder.ts";
import "./device.ts";
import { callGenerate, type CallOptions, type CallResult } from "./generate_call.ts";
import { END, writeTextModel } from "./text_model_folder.ts";

const folder = await scratchFolder();
addEventListener("unload", () => Deno.removeSync(folder.path, { recursive: true }));
const MODEL = `${folder.path}/model`;
await Deno.mkdir(MODEL);
await writeTextModel(MODEL, { max_new_tokens: 6 });

/** Prompts of many lengths, one of them none and one longer than a row of padding. */
const PROMPTS = ["ROMEO:", "", "a", "To be, or not", "x".repeat(16), "y".repeat(17), "ROMEO:", "b"];

type Answer = BatchRecord & {
  readonly text?: string;
  readonly texts?: readonly { readonly text: string }[];
  readonly seed?: number;
};

let files = 0;

/** Runs a batch of lines, and gives what was written. */
async function batch(
  lines: readonly unknown[],
  args: readonly string[],
  { out = `${folder.path}/out${files++}.jsonl`, ...options }: CallOptions & { out?: string } = {},
): Promise<CallResult & { text: string; records: Answer[]; file: string }> {
  const input = `${folder.path}/in.jsonl`;
  const text = lines.map((line) => typeof line === "string" ? line : JSON.stringify(line));
  await Deno.writeTextFile(input, text.join("\n"));
  const call = ["--batch", input, "--out", out, ...args];
  const model = args.includes("--model") ? [] : ["--model", MODEL];
  const result = await callGenerate([...call, ...model], options);
  const written = await Deno.readTextFile(out).catch(() => "");
  const records = written.split("\n").slice(0, -1).map((line) => JSON.parse(line));
  return { ...result, text: written, records, file: out };
}

const CPU = ["--backend", "cpu"];

for (const path of [CPU, ["--backend", "gpu"]]) {
  Deno.test(`a line's text does not depend on the lines beside it: ${path[1]}`, async () => {
    const lines = [
      ...PROMPTS.map((prompt, id) => ({ prompt, id })),
      { prompt: "ROMEO:", temperature: 0 },
      { prompt: "ROMEO:", numBeams: 2, doSample: false },
      { prompt: "ROMEO:", numBeams: 2 },
      { prompt: "ROMEO:", numReturnSequences: 2, seed: 7 },
      { prompt: "ROMEO:", numReturnSequences: 2, seed: 7, noRepeatNgramSize: 2 },
      { prompt: "ROMEO:", repetitionPenalty: 1.3, stopStrings: ["O", "a"] },
    ];
    const args = ["--temperature", "0.9", "--seed", "5", ...path];
    const alone = await batch(lines, [...args, "--batch-size", "1"]);
    assertEquals([alone.status, alone.err], [0, ""]);
    for (const size of ["3", "8"]) {
      const together = await batch(lines, [...args, "--batch-size", size]);
      assertEquals(together.text, alone.text, `batches of ${size}`);
    }
    assertEquals(alone.records.map(({ index }) => index), lines.map((_, i) => i));
    const [first, , , , , , second] = alone.records;
    assert(first!.text !== second!.text, "each line draws anew");
    assertEquals(alone.records.at(-3)!.texts!.length, 2);
  });
}

Deno.test("a line has the text that its prompt has alone", async () => {
  const lines = [...PROMPTS.map((prompt) => ({ prompt })), {
    prompt: "Hello",
    repetitionPenalty: 2,
  }];
  const { records } = await batch(lines, ["--top-k", "50", "--seed", "9", ...CPU]);
  const file = `${folder.path}/alone.json`;
  for (const [i, { prompt, ...rest }] of lines.entries()) {
    const { seed, text } = records[i]!;
    assertEquals(seed, seedOfLine(9, i));
    const penalty = "repetitionPenalty" in rest ? ["--repetition-penalty", "2"] : [];
    const args = ["--top-k", "50", "--seed", `${seed}`, ...penalty, "--json", file, ...CPU];
    assertEquals((await callGenerate([prompt, "--model", MODEL, ...args])).status, 0);
    const { sequences } = JSON.parse(await Deno.readTextFile(file)) as GenerationReport;
    assertEquals(sequences[0]!.text, text, `line ${i}`);
  }
});

Deno.test("shards are the whole in parts", async () => {
  const lines = PROMPTS.map((prompt) => ({ prompt }));
  const args = ["--min-p", "0.01", "--seed", "2", ...CPU];
  const { records } = await batch(lines, args);
  const parts = [];
  for (const shard of ["1/3", "2/3", "3/3"]) {
    const part = await batch(lines, [...args, "--shard", shard]);
    assert(part.records.length >= 2);
    parts.push(...part.records);
  }
  assertEquals(parts.sort((a, b) => a.index - b.index), records);
});

Deno.test("a bad line becomes an error with its number, and the others their texts", async () => {
  const rows: readonly (readonly [line: unknown, words: string | undefined])[] = [
    [{ prompt: "a" }, undefined],
    ["{bad", "the line must be JSON"],
    ["", undefined],
    ["[1]", "the line must be an object: [1]"],
    [{}, 'the line must have a "prompt" of text: there is none'],
    [{ prompt: 5 }, 'must have a "prompt" of text: 5'],
    [{ messages: [] }, '"messages" of a chat are not rendered here'],
    [{ prompt: "a", max_new_tokens: 3 }, "did you mean maxNewTokens"],
    [{ prompt: "a", inputIds: [[1]] }, "no other keys"],
    [{ prompt: "a", outputLogits: true }, "no other keys"],
    ['{"prompt":"a","__proto__":1}', "no other keys"],
    [{ prompt: "a", temperature: "hot" }, "temperature must be a finite number"],
    [{ prompt: "a", temperature: 0, topK: 3 }, "topK must not be given with temperature 0"],
    [{ prompt: "a", doSample: "no", topK: 3 }, "doSample must be"],
    [{ prompt: "a", doSample: false, topK: 3 }, "topK needs doSample: true"],
    [{ prompt: "a", seed: -1 }, "seed must be a whole number"],
    [{ prompt: "a", seed: 1.5 }, "seed must be a whole number"],
    [{ prompt: "a", maxNewTokens: 0 }, "maxNewTokens must be"],
    [{ prompt: "x".repeat(256), id: "long" }, "the prompt must have fewer tokens"],
    ['{"prompt":"a","id":12345678901234567890,"seed":18446744073709551615,"topK":9}', undefined],
    [{ prompt: END, maxNewTokens: 1 }, undefined],
  ];
  const { status, records, text } = await batch(rows.map(([line]) => line), CPU);
  assertEquals(status, 1);
  const wanted = rows.entries().filter(([, [line]]) => line !== "").toArray();
  assertEquals(records.map(({ index }) => index), wanted.map(([i]) => i));
  for (const [place, [, [line, words]]] of wanted.entries()) {
    const { error, text } = records[place]!;
    if (words === undefined) assert(typeof text === "string" && error === undefined, error);
    else assertStringIncludes(error ?? "no error", words, JSON.stringify(line));
  }
  assertStringIncludes(text, '"id":12345678901234567890,');
  assertStringIncludes(text, '"seed":18446744073709551615,');
  assertStringIncludes(text, '"id":"long","error"');
  assertEquals((records.at(-1) as { promptTokens?: number }).promptTokens, END.length);
});

Deno.test("a run that was cut short is gone on with, and comes to the same", async () => {
  const lines = [...PROMPTS.map((prompt) => ({ prompt })), "{bad"];
  const args = ["--top-p", "0.9", "--seed", "4", "--batch-size", "2", ...CPU];
  const whole = await batch(lines, args);
  assertEquals([whole.status, whole.records.length], [1, 9]);
  const bytes = new TextEncoder().encode(whole.text);
  for (const cut of [0, 1, Math.floor(bytes.length / 2), bytes.length - 1]) {
    const out = `${folder.path}/cut.jsonl`;
    await Deno.writeFile(out, bytes.subarray(0, cut));
    const { status, text } = await batch(lines, args, { out });
    assertEquals([status, text], [1, whole.text], `cut at ${cut}`);
  }
  // All is there: neither is a model looked for, nor is the error forgotten.
  const again = await batch(lines, [...args, "--model", "no/such/model"], { out: whole.file });
  assertEquals([again.status, again.text], [1, whole.text]);
  assertStringIncludes(again.err, "9 lines done, 9 of them before, 1 with errors");
});

Deno.test("Ctrl-C leaves whole lines, which the next run goes on from", async () => {
  const lines = Array.from({ length: 40 }, (_, i) => ({ prompt: `${i % 7}`, maxNewTokens: 30 }));
  const args = ["--top-k", "30", "--seed", "6", "--batch-size", "4", ...CPU];
  const whole = await batch(lines, args);
  assertEquals([whole.status, whole.records.length], [0, 40]);
  const controller = new AbortController();
  const out = `${folder.path}/interrupted.jsonl`;
  const timer = setInterval(() => {
    try {
      if (Deno.statSync(out).size > 0) controller.abort();
    } catch {
      // It is not there yet.
    }
  }, 1);
  const cut = await batch(lines, args, { out, signal: controller.signal });
  clearInterval(timer);
  assertEquals(cut.status, 130);
  assert(cut.records.length >= 4 && cut.records.length < 40, `${cut.records.length} lines`);
  assertEquals(cut.records, whole.records.slice(0, cut.records.length));
  assertEquals((await batch(lines, args, { out })).text, whole.text);
});

Deno.test("prompts come from standard input, too", async () => {
  const { text } = await batch([{ prompt: "a" }, { prompt: "b" }], CPU);
  const out = `${folder.path}/from_stdin.jsonl`;
  const args = ["--batch", "-", "--out", out, "--model", MODEL, ...CPU];
  const stdin = '{"prompt":"a"}\r\n{"prompt":"b"}';
  assertEquals((await callGenerate(args, { stdin })).status, 0);
  assertEquals(await Deno.readTextFile(out), text);
});

Deno.test("a terminal is told how far it is, and a pipe of errors only", async () => {
  assertEquals((await batch([{ prompt: "a" }], CPU)).err, "");
  const { err } = await batch([{ prompt: "a" }, {}], CPU, { terminal: true });
  assert(/^2 lines done, 1 with errors, \d+ tokens\/s\n$/.test(err), err);
});

const usage: readonly (readonly [args: readonly string[], words: string])[] = [
  [["--shard", "0/2"], "--shard must be I/N"],
  [["--shard", "3/2"], "--shard must be I/N"],
  [["--shard", "1"], "--shard must be I/N"],
  [["--batch-size", "0"], "--batch-size must be a whole number from 1 to 1024"],
  [["--json", "x"], "--json must not be given with --batch"],
  [["--no-echo"], "--no-echo must not be given with --batch"],
  [["a prompt"], "a prompt must not be given with --batch"],
];

for (const [args, words] of usage) {
  Deno.test(`usage: generate --batch ${args.join(" ")} exits 2 and says why`, async () => {
    const { status, err, records } = await batch([{ prompt: "a" }], args);
    assertEquals([status, records.length], [2, 0]);
    assertStringIncludes(err, words);
  });
}

Deno.test("the two files must be two, and be there", async () => {
  const input = `${folder.path}/in.jsonl`;
  const text = '{"prompt":"a"}\n{"pro';
  await Deno.writeTextFile(input, text);
  const rows: [args: string[], words: string][] = [
    [["--batch", input], "--out must name the file"],
    [
      ["--batch", input, "--out", `${folder.path}/./in.jsonl`],
      "another file than --batch",
    ],
    [["--batch", `${folder.path}/none.jsonl`, "--out", `${folder.path}/new.jsonl`], "No such file"],
  ];
  for (const [args, words] of rows) {
    const { status, err } = await callGenerate([...args, "--model", MODEL]);
    assertEquals(status, 2);
    assertStringIncludes(err, words);
    assertEquals(await Deno.readTextFile(input), text);
  }
  const names = (await Array.fromAsync(Deno.readDir(folder.path))).map(({ name }) => name);
  assert(!names.includes("new.jsonl"), "no output is made for an input that is not there");
});
