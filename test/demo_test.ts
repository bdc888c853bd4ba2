/**
 * The checkpoint that ships: it is what transformers makes of it, whole and in every dtype, and small enough.
 */

import { assert, assertEquals } from "@std/assert";
import {
  ChatTemplate,
  CpuBackend,
  type GpuBackend,
  StableLmForCausalLM,
  Tokenizer,
} from "../mod.ts";
import type { Backend } from "../runtime/backend.ts";
import type { Tensor } from "../runtime/tensor.ts";
import { sharedBackend } from "./device.ts";

const FOLDER = "model/demo";
const golden = JSON.parse(await Deno.readTextFile("test/testdata/golden/demo.json"));
const tokenizer = await Tokenizer.fromPretrained(FOLDER);

/** Logits of every position of the held-out text, [positions, V]. */
async function heldOut(
  backend: GpuBackend,
  dtype: "f32" | "f16" | "bf16",
): Promise<{ logits: Float32Array; loss: number; activations: string }> {
  using model = await StableLmForCausalLM.fromPretrained(FOLDER, { backend, dtype });
  using output = await model.forward({ inputIds: golden.rows, labels: golden.rows });
  const { values } = await backend.read(output.logits);
  return {
    logits: values as Float32Array,
    loss: output.loss!,
    activations: model.activationDtype,
  };
}

const VOCABULARY = 4096;

function rowsOf(logits: Float32Array): Float32Array[] {
  const count = logits.length / VOCABULARY;
  return Array.from(
    { length: count },
    (_, i) => logits.subarray(i * VOCABULARY, (i + 1) * VOCABULARY),
  );
}

function best(row: Float32Array): number {
  let at = 0;
  for (let i = 1; i < row.length; i++) if (row[i]! > row[at]!) at = i;
  return at;
}

/** Σ p ln(p / q) of two rows of logits. */
function divergence(of: Float32Array, from: Float32Array): number {
  const total = (row: Float32Array) => {
    const most = row[best(row)]!;
    return most + Math.log(row.reduce((sum, x) => sum + Math.exp(x - most), 0));
  };
  const [p, q] = [total(of), total(from)];
  return of.reduce((sum, x, i) => sum + Math.exp(x - p) * (x - p - (from[i]! - q)), 0);
}

Deno.test("the demo checkpoint is at most 12 MB and has the files that a checkpoint has", async () => {
  const { size } = await Deno.stat(`${FOLDER}/model.safetensors`);
  assert(size <= 12_000_000, `${size} bytes`);
  const names = (await Array.fromAsync(Deno.readDir(FOLDER))).map(({ name }) => name);
  const needed = [
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
  ];
  assertEquals(
    [...needed, "README.md", "chat_template.jinja"].filter((n) => !names.includes(n)),
    [],
  );
});

Deno.test("the demo's tokenizer and chat format give transformers' ids", async () => {
  const text = await Deno.readTextFile("test/testdata/held_out.txt");
  const ids = tokenizer.encode(text);
  assertEquals(ids.length, golden.tokens);
  assertEquals(ids.slice(0, golden.rows.flat().length), golden.rows.flat());
  assertEquals(tokenizer.decode(ids), text);
  const template = await ChatTemplate.fromFolder(FOLDER);
  const rendered = template!.render({
    messages: golden.turns,
    addGenerationPrompt: true,
    eosToken: "<|endoftext|>",
  });
  assertEquals(tokenizer.encode(rendered, { parseSpecialTokens: true }), golden.chat);
});

Deno.test("the demo goes on as transformers does: 64 tokens on the GPU, 16 on the CPU", async () => {
  const check = async <T extends Tensor>(backend: Backend<T>, prompts: number, count: number) => {
    using model = await StableLmForCausalLM.fromPretrained(FOLDER, { backend, dtype: "f32" });
    for (const { prompt, ids, tokens } of golden.greedy.slice(0, prompts)) {
      assertEquals(tokenizer.encode(prompt), ids);
      const options = { inputIds: [ids], doSample: false, maxNewTokens: count };
      const { newTokens } = await model.generate(options);
      assertEquals(newTokens, [tokens.slice(0, count)], prompt);
    }
  };
  await check(await sharedBackend(), 4, 64);
  await check(new CpuBackend(), 1, 16);
});

Deno.test("on held-out text the demo is transformers' model in f32, and nearly so in f16 and bf16", async () => {
  const backend = await sharedBackend();
  const exact = await heldOut(backend, "f32");
  const rows = rowsOf(exact.logits);
  assert(rows.length >= 2000, `${rows.length} positions`);
  assert(Math.abs(exact.loss - golden.loss) < 1e-5 * golden.loss, `${exact.loss} ${golden.loss}`);
  const agrees = rows.filter((row, i) => best(row) === golden.best[i]).length;
  assert(agrees >= rows.length - 1, `${agrees} of ${rows.length} best tokens are transformers'`);
  for (const dtype of ["f16", "bf16"] as const) {
    const { logits, activations } = await heldOut(backend, dtype);
    const others = rowsOf(logits);
    const same = rows.filter((row, i) => best(row) === best(others[i]!)).length / rows.length;
    const kl = rows.reduce((sum, row, i) => sum + divergence(row, others[i]!), 0) / rows.length;
    const found = `${dtype} weights, ${activations} activations: ${same} agree, KL ${kl}`;
    assert(same >= 0.99 && kl >= -1e-9 && kl <= 1e-3, found);
  }
});
