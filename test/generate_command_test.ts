/** `deno task generate`: where prompts come from, what is printed, settings, reports, and what it refuses. */

import { assert, assertAlmostEquals, assertEquals, assertStringIncludes } from "@std/assert";
import type { GenerationReport } from "../apps/generate.ts";
import { openTextModel } from "../apps/text_model.ts";
import { scratchFolder } from "./checkpoint_folder.ts";
import "./device.ts";
import { callGenerate } from "./generate_call.ts";
import { byteTokenizer, byteTokens, END, writeTextModel } from "./text_model_folder.ts";

/** One folder for all: models are only read. */
const folder = await scratchFolder();
addEventListener("unload", () => Deno.removeSync(folder.path, { recursive: true }));
const MODEL = folder.path;
await writeTextModel(MODEL);

/** The references are quicker for a model of this size than a device that compiles its kernels anew each time. */
const CPU = ["--model", MODEL, "--backend", "cpu"];
const GPU = ["--model", MODEL];

const run = (...args: string[]) => callGenerate([...CPU, ...args]);

/** What the model's own method gives, as text. */
async function expected(prompt: string, options: object): Promise<string> {
  using opened = await openTextModel({ model: MODEL, backend: "cpu" });
  const { model, tokenizer } = opened;
  const inputIds = prompt === "" ? undefined : [tokenizer.encode(prompt)];
  const { newTokens: [ids] } = await model.generate({ ...(inputIds && { inputIds }), ...options });
  return tokenizer.decode(ids!, { skipSpecialTokens: true });
}

const exists = (path: string) => Deno.stat(path).then(() => true, () => false);

async function report(...args: string[]): Promise<GenerationReport> {
  const file = `${MODEL}/report.json`;
  const { status, err } = await run(...args, "--json", file);
  assertEquals([status, err], [0, ""]);
  return JSON.parse(await Deno.readTextFile(file));
}

Deno.test("prints the prompt, then what the model makes of it, then a newline", async () => {
  const text = await expected("Hello", { maxNewTokens: 12, doSample: false });
  assert(text.length > 0);
  const args = ["Hello", "--max-new-tokens", "12"];
  for (const model of [CPU, GPU]) {
    const result = await callGenerate([...model, ...args]);
    assertEquals(result, { status: 0, out: `Hello${text}\n`, err: "" });
  }
  assertEquals((await run(...args, "--no-echo")).out, `${text}\n`);
});

Deno.test("a prompt comes from the command line, a file or standard input, less a newline at its end", async () => {
  const length = ["--max-new-tokens", "3", ...CPU];
  const { out } = await callGenerate(["naïve 😀", ...length]);
  const file = `${MODEL}/prompt.txt`;
  await Deno.writeTextFile(file, "naïve 😀\n");
  assertEquals((await callGenerate(["--file", file, ...length])).out, out);
  for (const stdin of ["naïve 😀", "naïve 😀\n", "naïve 😀\r\n"]) {
    assertEquals((await callGenerate(length, { stdin })).out, out);
    assertEquals((await callGenerate(["-", ...length], { stdin })).out, out);
  }
  const two = await callGenerate(length, { stdin: "naïve 😀\n\n" });
  assertStringIncludes(two.out, "naïve 😀\n");
  assert(two.out !== out);
});

Deno.test("an empty prompt begins a text", async () => {
  const { prompt, sequences: [text] } = await report("", "--max-new-tokens", "5");
  assertEquals(prompt, { text: "", ids: [0] });
  assertEquals(text!.text, await expected("", { maxNewTokens: 5, doSample: false }));
});

Deno.test("special tokens in a prompt are letters, unless they are asked for", async () => {
  const args = [`a${END}`, "--max-new-tokens", "1"];
  assertEquals((await report(...args)).prompt.ids, byteTokens(`a${END}`));
  assertEquals((await report(...args, "--parse-special-tokens")).prompt.ids, [
    ...byteTokens("a"),
    0,
  ]);
});

Deno.test("--json has what is needed to make the text again", async () => {
  const args = ["Once", "--temperature", "0.9", "--top-k", "40", "--max-new-tokens", "9"];
  const first = await report(...args);
  const { schemaVersion, kind, complete, header, model, settings, seed, sequences, timings } =
    first;
  assertEquals([schemaVersion, kind, complete], [1, "generate", true]);
  assert(header.device.length > 0 && header.runtime.startsWith("Deno "));
  assertEquals([model.name, model.dtype, model.activationDtype], [MODEL, "f32", "f32"]);
  assertEquals([settings.do_sample, settings.temperature, settings.top_k], [true, 0.9, 40]);
  assertEquals(first.prompt, { text: "Once", ids: byteTokens("Once") });
  const [text] = sequences;
  assertEquals([text!.ids.length, text!.finishReason], [9, "length"]);
  assertEquals(timings.newTokens, 9);
  assert(timings.firstTokenSeconds! > 0 && timings.seconds > timings.firstTokenSeconds!);
  const later = timings.seconds - timings.firstTokenSeconds!;
  assertAlmostEquals(timings.tokensPerSecond! * later, 8, 0.1);
  const again = await report(...args, "--seed", `${seed}`);
  assertEquals(again.sequences, sequences);
  const other = await report(...args, "--seed", `${(seed! + 1) % 2 ** 32}`);
  assert(other.sequences[0]!.text !== text!.text);
});

Deno.test("a flag about drawing turns it on, --greedy and --temperature 0 turn it off", async () => {
  await using drawing = await scratchFolder();
  await writeTextModel(drawing.path, { do_sample: true, temperature: 0.8, max_new_tokens: 4 });
  const settings = async (...args: string[]) => {
    const { settings } = await report("x", ...args);
    return [settings.do_sample, settings.temperature];
  };
  const short = ["--max-new-tokens", "1"];
  assertEquals(await settings(...short), [false, 1]);
  assertEquals(await settings(...short, "--top-p", "0.5"), [true, 1]);
  assertEquals(await settings(...short, "--temperature", "0"), [false, 1]);
  const file = `${MODEL}/report.json`;
  const call = (...args: string[]) =>
    callGenerate(["x", "--backend", "cpu", "--model", drawing.path, "--json", file, ...args]);
  for (const off of [["--greedy"], ["--temperature", "0"]]) {
    assertEquals((await call(...off)).status, 0);
    const { settings, seed, sequences } = JSON.parse(await Deno.readTextFile(file));
    assertEquals([settings.do_sample, seed, sequences[0].ids.length], [false, null, 4]);
  }
  assertEquals((await call()).status, 0);
  assertEquals(JSON.parse(await Deno.readTextFile(file)).settings.do_sample, true);
});

Deno.test("several texts and beams are printed whole, one after the other", async () => {
  const args = ["Ho", "--max-new-tokens", "4"];
  const { sequences } = await report(
    ...args,
    "--top-k",
    "9",
    "--seed",
    "3",
    "--num-return-sequences",
    "2",
  );
  assertEquals(new Set(sequences.map(({ text }) => text)).size, 2);
  const { out } = await run(...args, "--top-k", "9", "--seed", "3", "--num-return-sequences", "2");
  const [one, two] = sequences.map(({ text }) => `Ho${text}${text.endsWith("\n") ? "" : "\n"}`);
  assertEquals(out, `--- 1 of 2 ---\n${one}--- 2 of 2 ---\n${two}`);
  const beams = await run(...args, "--num-beams", "3");
  const best = await expected("Ho", { maxNewTokens: 4, numBeams: 3 });
  assertEquals(beams.out, `Ho${best}\n`);
});

Deno.test("prompt lookup gives the text of greedy decoding", async () => {
  const args = ["abcabcabcabc", "--max-new-tokens", "16"];
  assertEquals(await run(...args, "--prompt-lookup", "3"), await run(...args));
});

Deno.test("a text ends after one of the --stop texts", async () => {
  const text = await expected("Hello", { maxNewTokens: 30, doSample: false });
  const letters = [...text].filter((letter) => letter > " " && letter < "~");
  const [first, second] = [...new Set(letters)];
  const { out } = await run("Hello", "--no-echo", "--stop", second!, "--stop", first!);
  assertEquals(out, `${text.slice(0, text.indexOf(first!) + 1)}\n`);
});

Deno.test("a text ends where the model's positions do, and a longer prompt is refused", async () => {
  const prompt = "x".repeat(250);
  const { settings, sequences } = await report(prompt);
  assertEquals([settings.max_new_tokens, sequences[0]!.ids.length], [6, 6]);
  const { status, err } = await run(prompt, "--max-new-tokens", "7");
  assertEquals([status, err], [
    0,
    "warning: the model has positions for 6 more tokens: the text ends there\n",
  ]);
  const tooLong = await run("x".repeat(256));
  assertEquals(tooLong.status, 2);
  assertStringIncludes(
    tooLong.err,
    "the prompt must have fewer tokens than the model has positions, 256: 256",
  );
});

Deno.test("a terminal sees how it went, and no control characters", async () => {
  const options = { terminal: true };
  const { out, err } = await callGenerate(
    ["Hello", ...CPU, "--max-new-tokens", "30"],
    options,
  );
  const text = await expected("Hello", { maxNewTokens: 30, doSample: false });
  // deno-lint-ignore no-control-regex
  const controls = /[\x00-\x08\x0b-\x1f\x7f]/;
  assert(controls.test(text), "the model's text has some");
  assert(!controls.test(out.slice(5)));
  assertEquals(out.length, 5 + text.length + 1);
  assert(
    /^first token after \d+\.\d\d s, 30 tokens, [\d.]+ tokens\/s, ended by its length\n$/.test(err),
    err,
  );
});

Deno.test("a reader that is gone ends it without a word", async () => {
  let pieces = 0;
  const onWrite = () => {
    if (++pieces > 8) throw new Deno.errors.BrokenPipe();
  };
  const result = await callGenerate(["Hello", ...GPU], { onWrite });
  assertEquals([result.status, result.err], [0, ""]);
  assert(pieces === 9);
});

Deno.test("Ctrl-C ends the line, and --json has the text as far as it came", async () => {
  const controller = new AbortController();
  let written = "";
  const onWrite = (text: string) => {
    written += text;
    if (written.length > 20) controller.abort();
  };
  const file = `${MODEL}/cut.json`;
  const args = ["Hello", ...GPU, "--json", file];
  const { status, out } = await callGenerate(args, { onWrite, signal: controller.signal });
  assertEquals(status, 130);
  const { complete, prompt, sequences: [text] } = JSON.parse(await Deno.readTextFile(file));
  assertEquals([complete, text.finishReason], [false, null]);
  assertEquals(out, `${prompt.text}${text.text}\n`);
  assert(text.ids.length < 200);
});

Deno.test("Ctrl-C ends the wait for a prompt", async () => {
  const controller = new AbortController();
  const silent = new ReadableStream<Uint8Array<ArrayBuffer>>();
  const { readPrompt } = await import("../apps/prompt_text.ts");
  const stdin = { isTerminal: () => false, readable: silent };
  const reading = readPrompt(undefined, undefined, stdin, controller.signal);
  controller.abort(new Error("enough"));
  assertEquals(await reading.catch(({ message }) => message), "enough");
});

const usage: readonly (readonly [args: readonly string[], words: string])[] = [
  [[], "a prompt must be given, in quotes"],
  [["a", "b"], "at most 1 prompt: a b"],
  [["a", "--file", "deno.json"], "--file must not be given with a prompt"],
  [["--file", "no/such/file"], "No such file"],
  [["a", "--temperature", "hot"], "--temperature must be a number from 0"],
  [["a", "--temperature=-1"], "--temperature must be a number from 0"],
  [["a", "--temperature", "0x10"], "--temperature must be a number from 0"],
  [["a", "--top-p", "1.01"], "--top-p must be a number from 0 to 1"],
  [["a", "--top-p", "NaN"], "--top-p must be a number from 0 to 1"],
  [["a", "--seed", "9007199254740992"], "--seed must be a whole number from 0 to 9007199254740991"],
  [["a", "--max-new-tokens", "0"], "--max-new-tokens must be a whole number from 1"],
  [["a", "--greedy", "--top-k", "4"], "--top-k must not be given with --greedy"],
  [["a", "--greedy", "--temperature", "0.5"], "--temperature must not be given with --greedy"],
  [["a", "--temperature", "0", "--min-p", "0.1"], "--min-p must not be given with --temperature 0"],
  [
    ["a", "--num-return-sequences", "2"],
    "--num-return-sequences must be 1 unless tokens are drawn",
  ],
  [
    ["a", "--num-beams", "2", "--prompt-lookup", "2"],
    "--prompt-lookup must not be given with --num-beams above 1",
  ],
  [["a", "--stop", ""], "--stop needs a value"],
  [["a", "--max-tokens", "1"], "did you mean --max-new-tokens"],
  [["a", "--out", "x.jsonl"], "--out must be given with --batch"],
  [["a", "--json", "no/such/folder/x.json"], "write access"],
  [["a", "--dtype", "q4"], "must be one of f32, f16, bf16"],
];

for (const [args, words] of usage) {
  Deno.test(`usage: generate ${args.join(" ")} exits 2 and says why in one line`, async () => {
    const { status, out, err } = await run(...args);
    assertEquals([status, out], [2, ""], err);
    assertStringIncludes(err, words);
    assert(err.startsWith("error: ") && err.indexOf("\n") === err.length - 1, err);
  });
}

Deno.test("bytes that are no UTF-8 are refused with their place", async () => {
  const rows: [bytes: number[], words: string][] = [
    [[0x61, 0x62, 0xff, 0x63], "0xff at byte 2"],
    [[0x61, 0xe2, 0x82], "0xe2 at byte 1"],
    [[0xf0, 0x9f, 0x98, 0x80, 0xed, 0xa0, 0x80], "0xed at byte 4"],
  ];
  for (const [bytes, words] of rows) {
    const stdin = new Uint8Array(bytes);
    const { status, err } = await callGenerate(CPU, { stdin });
    assertEquals(status, 2);
    assertStringIncludes(err, `standard input must be UTF-8: ${words}`);
  }
});

Deno.test("a model that cannot be used exits 3 and says why", async () => {
  await using other = await scratchFolder();
  await Deno.mkdir(`${other.path}/bare`);
  await writeTextModel(`${other.path}/bare`);
  await Deno.remove(`${other.path}/bare/tokenizer.json`);
  await Deno.mkdir(`${other.path}/large`);
  const large = JSON.stringify(byteTokenizer(["<|a|>", "<|b|>"]));
  await Deno.writeTextFile(`${other.path}/large/tokenizer.json`, large);
  const gguf = "test/testdata/gguf/tiny_parallel.gguf";
  const rows: [args: string[], words: string][] = [
    [["--model", `${other.path}/none`], "must be a folder of a model's files: there is none"],
    [["--model", `${other.path}/none.gguf`], "none.gguf: must be a file: there is none"],
    [["--model", `${other.path}/bare`], "bare/tokenizer.json: the folder must hold it"],
    [["--model", gguf], "test/testdata/gguf/tokenizer.json: the folder must hold it"],
    [
      ["--model", MODEL, "--tokenizer", `${other.path}/large`],
      "must have at most 257 tokens, as the model's vocab_size is: 259",
    ],
  ];
  for (const [args, words] of rows) {
    const report = `${other.path}/report.json`;
    const { status, out, err } = await callGenerate(["a", "--json", report, ...args]);
    assertEquals([status, out], [3, ""], err);
    assert(!await exists(report), "no empty report is left");
    assertStringIncludes(err, words);
  }
});

Deno.test("a tokenizer from elsewhere, the CPU, and without an adapter a word about it", async () => {
  await using other = await scratchFolder();
  await writeTextModel(other.path);
  await Deno.rename(`${other.path}/tokenizer.json`, `${MODEL}/moved.json`);
  const args = ["Hello", "--max-new-tokens", "4", "--model", other.path, "--tokenizer", MODEL];
  const { out } = await callGenerate(args);
  Object.defineProperty(navigator, "gpu", { value: undefined, configurable: true });
  try {
    const { status, err } = await callGenerate(args);
    assertEquals(status, 4);
    assertStringIncludes(err, "--backend cpu needs none");
    assertEquals(await callGenerate([...args, "--backend", "cpu"]), { status: 0, out, err: "" });
  } finally {
    delete (navigator as { gpu?: unknown }).gpu;
  }
  assert(navigator.gpu);
});

Deno.test("a model that was opened gives back what it holds", async () => {
  const opened = await openTextModel({ model: MODEL });
  const { backend } = opened;
  opened[Symbol.dispose]();
  let message = "";
  try {
    backend.zeros({ shape: [1], dtype: "f32" });
  } catch (error) {
    ({ message } = error as Error);
  }
  assertStringIncludes(message, "after dispose");
});
