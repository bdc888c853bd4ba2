/** `deno task classify`: labels as transformers' pipelines have them, alone and in batches, and what it refuses. */

import { assert, assertAlmostEquals, assertEquals, assertStringIncludes } from "@std/assert";
import { type Classification, classify, CLASSIFY_COMMAND } from "../apps/classify.ts";
import type { LabelScore } from "../apps/label_scores.ts";
import type { TextReport } from "../apps/text_results.ts";
import { type Head, StableLmConfig } from "../mod.ts";
import { scratchFolder, writeCheckpoint } from "./checkpoint_folder.ts";
import { callCommand, type CallOptions } from "./command_call.ts";
import "./device.ts";

interface GoldenModel {
  readonly name: string;
  readonly config: Readonly<Record<string, unknown>>;
  readonly results: readonly (readonly LabelScore[])[];
}

const golden = JSON.parse(await Deno.readTextFile("test/testdata/golden/texts.json"));
const sequenceModels: readonly GoldenModel[] = golden.sequence;
const [tokenModel] = golden.token as [GoldenModel];
const texts: readonly string[] = golden.texts.map(({ text }: { text: string }) => text);
const counts: readonly number[] = golden.texts.map(({ ids }: { ids: number[] }) => ids.length);

/** One folder for all: models are only read. */
const folder = await scratchFolder();
addEventListener("unload", () => Deno.removeSync(folder.path, { recursive: true }));

async function write(name: string, head: Head, config: Readonly<Record<string, unknown>>) {
  const path = `${folder.path}/${name}`;
  await Deno.mkdir(path);
  await writeCheckpoint(path, StableLmConfig.fromJson(config), { head });
}

for (const { name, config } of sequenceModels) await write(name, "sequence-classification", config);
await write("token", "token-classification", tokenModel.config);
const single = sequenceModels[0]!.config;
await write("no_pad", "sequence-classification", { ...single, pad_token_id: null });
await write("bare", "none", single);

const modelOf = (name: string, backend = "cpu") => {
  return ["--model", `${folder.path}/${name}`, "--tokenizer", "model/demo", "--backend", backend];
};

const run = (args: readonly string[], options: CallOptions = {}) =>
  callCommand(CLASSIFY_COMMAND, classify, args, options);

async function results(args: readonly string[]): Promise<TextReport<Classification>["results"]> {
  const json = `${folder.path}/report.json`;
  const { status, err } = await run([...args, "--json", json]);
  assertEquals([status, err], [0, ""]);
  return JSON.parse(await Deno.readTextFile(json)).results;
}

/** Asserts that labels are those expected, but for the order of values of regression. */
function assertLabels(actual: readonly LabelScore[], expected: readonly LabelScore[]): void {
  assertEquals(actual.length, expected.length);
  for (const { label, score } of expected) {
    assertAlmostEquals(actual.find((one) => one.label === label)!.score, score, 5e-6);
  }
}

for (const backend of ["gpu", "cpu"]) {
  for (const { name, results: expected } of sequenceModels) {
    Deno.test(`labels of texts are transformers': ${name} on the ${backend}`, async () => {
      const top = name === "single" ? ["--top", "3"] : [];
      const made = await results([...texts, ...top, ...modelOf(name, backend)]);
      made.forEach((result, i) => {
        assert("labels" in result);
        assertLabels(result.labels, expected[i]!);
        const order = result.labels.map(({ label }) => label);
        const inOrder = name === "regression"
          ? ["comedy", "history", "tragedy"]
          : expected[i]!.map(({ label }) => label);
        assertEquals(order, inOrder);
      });
    });
  }

  Deno.test(`labels of tokens are transformers' on the ${backend}`, async () => {
    const made = await results([...texts, ...modelOf("token", backend)]);
    made.forEach((result, i) => {
      assert("tokens" in result);
      assertEquals(result.tokens.map(({ id }) => id), golden.texts[i].ids);
      result.tokens.forEach(({ labels }, at) =>
        assertLabels(labels, [tokenModel.results[i]![at]!])
      );
    });
  });
}

Deno.test("a line for each text, with the likeliest labels", async () => {
  const { out } = await run([texts[0]!, texts[1]!, ...modelOf("single")]);
  const [[first], [second]] = sequenceModels[0]!.results as [[LabelScore], [LabelScore]];
  assertEquals(
    out,
    [first, second].map(({ label, score }) => `${label}\t${score.toFixed(4)}\n`).join(""),
  );
  const { out: two } = await run([texts[0]!, "--top", "2", ...modelOf("single")]);
  assertEquals(two.split("\t").length, 4);
  const { out: all } = await run([texts[0]!, ...modelOf("multi")]);
  assertEquals(all.split("\t").length, 6);
});

Deno.test("a line for each token, and an empty one between texts", async () => {
  const { out } = await run([texts[1]!, texts[3]!, "", ...modelOf("token")]);
  const [first, second, third] = out.split("\n\n");
  assert(/^"O"\t(comedy|history|tragedy)\t0\.\d{4}$/.test(first!), first);
  assertEquals(second!.trimEnd().split("\n").length, counts[3]);
  assertStringIncludes(second!, '"\\xf0"\t');
  assertEquals(third, "");
  const { out: two } = await run([texts[1]!, "--top", "2", ...modelOf("token")]);
  assertEquals(two.split("\t").length, 5);
});

const LINES = [...texts, "", "To be, or not"].map((text, id) => ({ text, id }));

for (
  const [name, backend] of [["single", "cpu"], ["single", "gpu"], ["token", "cpu"], [
    "no_pad",
    "cpu",
  ]]
) {
  Deno.test(`labels are the same whatever texts run beside: ${name} on the ${backend}`, async () => {
    const model = [...modelOf(name!, backend), "--top", "3"];
    const input = `${folder.path}/in.jsonl`;
    await Deno.writeTextFile(input, LINES.map((line) => `${JSON.stringify(line)}\n`).join(""));
    const alone = await results([...LINES.map(({ text }) => text), ...model]);
    const expected = alone.map(({ text: _, ids, ...result }, index) => {
      return `${JSON.stringify({ index, id: index, tokenCount: ids.length, ...result })}\n`;
    });
    for (const size of ["1", "3", "64"]) {
      const out = `${folder.path}/${name}_${backend}_${size}.jsonl`;
      const args = ["--batch", input, "--out", out, "--batch-size", size, ...model];
      assertEquals(await run(args), { status: 0, out: "", err: "" });
      assertEquals(await Deno.readTextFile(out), expected.join(""));
    }
  });
}

Deno.test("the end of text at a text's end is padding where it is the padding token, as in transformers", async () => {
  await write("pad_is_end", "sequence-classification", { ...single, pad_token_id: 0 });
  const args = ["--parse-special-tokens", ...modelOf("pad_is_end")];
  const [plain, ended] = await results(["Hark!", "Hark!<|endoftext|>", ...args]);
  assert("labels" in plain! && "labels" in ended!);
  assertEquals(ended.labels, plain.labels);
  assertEquals(ended.ids, [...plain.ids, 0]);
});

const refused: readonly (readonly [args: readonly string[], status: number, words: string])[] = [
  [["a"], 2, "--model must name a model with a classification head"],
  [modelOf("single"), 2, "a text must be given"],
  [
    ["a", "--model", "model/demo"],
    3,
    "model/demo: must have a classification head (score.weight), as a StableLmForSequenceClassification " +
    "or a StableLmForTokenClassification does: a StableLmForCausalLM",
  ],
  [["a", ...modelOf("bare")], 3, "does: a StableLmModel"],
  [["a", "--top", "1", ...modelOf("regression")], 2, "--top must not be given for regression"],
  [["a", "--top", "0", ...modelOf("single")], 2, "--top must be a whole number from 1"],
  [["a b c d ".repeat(40), ...modelOf("single")], 2, "the text must have at most 64 tokens"],
  [
    ["a", "--batch", "b", "--out", "c", ...modelOf("single")],
    2,
    "a text must not be given with --batch",
  ],
];

for (const [args, expected, words] of refused) {
  const line = args.join(" ").replaceAll(folder.path, "").slice(0, 40);
  Deno.test(`refused: classify ${line} exits ${expected} and says why`, async () => {
    const { status, out, err } = await run(args);
    assertEquals([status, out], [expected, ""], err);
    assertStringIncludes(err, words);
    assert(err.startsWith("error: ") && err.indexOf("\n") === err.length - 1, err);
  });
}

Deno.test("classify --help lists every option", async () => {
  const { out } = await run(["--help"]);
  for (const name of Object.keys(CLASSIFY_COMMAND.options)) assertStringIncludes(out, `--${name}`);
  for (const line of out.split("\n")) assert(line.length <= 120, line);
});
