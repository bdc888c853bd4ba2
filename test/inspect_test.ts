/** `deno task inspect`: what it finds in a folder and in a GGUF file, and what it says of bad ones. */

import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { runCommand } from "../apps/command_line.ts";
import { INSPECT_COMMAND, type Inspection, printInspection } from "../apps/inspect.ts";
import { GpuBackend, StableLmConfig, StableLmForCausalLM } from "../mod.ts";
import { scratchFolder, writeCheckpoint } from "./checkpoint_folder.ts";
import "./device.ts";

const CONFIG = new StableLmConfig({
  vocab_size: 97,
  hidden_size: 96,
  intermediate_size: 44,
  num_hidden_layers: 2,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  max_position_embeddings: 64,
  qk_layernorm: true,
});

async function call(...args: string[]) {
  const out: string[] = [], err: string[] = [];
  const { log, error } = console;
  console.log = (...words) => out.push(words.join(" "));
  console.error = (...words) => err.push(words.join(" "));
  try {
    const status = await runCommand(INSPECT_COMMAND, printInspection, args);
    return { status, out: out.join("\n"), err: err.join("\n") };
  } finally {
    Object.assign(console, { log, error });
  }
}

Deno.test("a folder: its config, its tensors, and what a device holds of it to the byte", async () => {
  await using folder = await scratchFolder();
  await writeCheckpoint(folder.path, CONFIG, { dtype: "bf16" });
  const json = `${folder.path}/inspection.json`;
  const { status, out } = await call(folder.path, "--prompt", "20", "--json", json);
  assertEquals(status, 0);
  for (
    const words of [
      "vocabulary 97, hidden 96, MLP 44, layers 2",
      "4, keys and values 2, of 24 elements",
      "sequential residual, per-head norms, silu",
      "  layers.*.self_attn.q_layernorm.norms.*.weight  8 × BF16 [24]",
      "weights bf16, activations f32",
      "64 tokens, 1 sequence",
      "20 tokens at a time",
    ]
  ) assertStringIncludes(out, words);
  const found = JSON.parse(await Deno.readTextFile(json)) as Inspection;
  assertEquals(found.schemaVersion, 1);
  assertEquals(StableLmConfig.fromJson(found.config), CONFIG);
  const stored = found.tensors.reduce((sum, { bytes }) => sum + bytes, 0);
  assertEquals(stored, 2 * found.parameters);

  using backend = await GpuBackend.create();
  using model = await StableLmForCausalLM.fromPretrained(folder.path, { backend });
  assertEquals(backend.memory.liveBytes, found.estimate.weightBytes);
  using cache = model.createCache({ capacity: 64 });
  cache.advance(44);
  const inputIds = [new Uint32Array(20)];
  using _output = await model.forward({ inputIds, pastKeyValues: cache, logitsToKeep: 1 });
  const { liveBytes, pooledBytes } = backend.memory;
  assertEquals(liveBytes + pooledBytes, found.estimate.totalBytes);
});

Deno.test("a GGUF file, and every tensor on request", async () => {
  const file = new URL("testdata/gguf/tiny_parallel.gguf", import.meta.url).pathname;
  const { status, out } = await call(file, "--tensors", "--dtype", "f16", "--context", "16");
  assertEquals(status, 0);
  assertStringIncludes(out, "parallel residual, per-head norms");
  assertStringIncludes(out, "weights f16, activations f16");
  assertStringIncludes(out, "16 tokens at a time");
  assertStringIncludes(out, "model.layers.1.self_attn.k_layernorm.norms.0.weight");
});

Deno.test("a classifier, a decoder alone, and a context past the model's own", async () => {
  for (const head of ["sequence-classification", "token-classification", "none"] as const) {
    await using folder = await scratchFolder();
    await writeCheckpoint(folder.path, CONFIG, { head });
    const json = `${folder.path}/inspection.json`;
    const { status, out, err } = await call(folder.path, "--context", "100", "--json", json);
    assertEquals(status, 0, err);
    assertStringIncludes(out, "warning: the model was made for 64 tokens");
    const found = JSON.parse(await Deno.readTextFile(json)) as Inspection;
    assertEquals([found.head, found.unexpected], [head, []]);
  }
});

Deno.test("what is wrong is said in one line, with the exit status of its kind", async () => {
  await using folder = await scratchFolder();
  await Deno.mkdir(`${folder.path}/other`);
  await writeCheckpoint(`${folder.path}/other`, CONFIG);
  await Deno.mkdir(`${folder.path}/llama`);
  await writeCheckpoint(`${folder.path}/llama`, CONFIG);
  await Deno.writeTextFile(`${folder.path}/llama/config.json`, '{"model_type":"llama"}');
  const rows: [args: string[], status: number, words: string][] = [
    [[], 2, "inspect needs a folder or a .gguf file"],
    [["a", "b"], 2, "at most 1 model"],
    [[folder.path, "--dtype", "q4"], 2, "must be one of f32, f16, bf16"],
    [[folder.path, "--context", "0"], 2, "--context must be a whole number from 1"],
    [[folder.path, "--prompts", "4"], 2, "did you mean --prompt"],
    [[folder.path], 3, "config.json"],
    [
      [`${folder.path}/other`, "--batch", "1024", "--context", "1000000"],
      2,
      "is too large for this",
    ],
    [[`${folder.path}/missing`], 3, "missing"],
    [[`${folder.path}/llama`], 3, "llama"],
  ];
  for (const [args, status, words] of rows) {
    const got = await call(...args);
    assertEquals(got.status, status, got.err);
    assertStringIncludes(got.err, words);
    assert(!got.err.includes("\n") && got.out === "", got.err);
  }
});
