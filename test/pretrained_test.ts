/** From files to logits: a folder, shards, a GGUF file, a hub. */

import { assert, assertEquals, assertRejects } from "@std/assert";
import {
  CpuBackend,
  KernelsError,
  type LoadProgress,
  openCheckpoint,
  openCheckpointFiles,
  StableLmConfig,
  StableLmForCausalLM,
  StableLmModel,
} from "../mod.ts";
import { openGguf } from "../model/weights/gguf/gguf.ts";
import { fileBytes } from "../model/weights/byte_source.ts";
import { scratchFolder, writeCheckpoint, writeWeights } from "./checkpoint_folder.ts";
import { sharedBackend } from "./device.ts";
import { HubServer } from "./hub_server.ts";
import { recipeSource } from "./recipe.ts";

const CONFIG = new StableLmConfig({
  vocab_size: 97,
  hidden_size: 64,
  intermediate_size: 44,
  num_hidden_layers: 2,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  max_position_embeddings: 64,
  use_qkv_bias: true,
});
const IDS = [5, 17, 3, 96, 42, 8, 60, 23];
const GGUF = new URL("testdata/gguf/", import.meta.url).pathname;

const backend = new CpuBackend();

async function logits(model: StableLmForCausalLM): Promise<number[]> {
  using _model = model;
  using output = await model.forward({ inputIds: [IDS] });
  return Array.from((await model.backend.read(output.logits)).numbers);
}

const expected = await logits(
  await StableLmForCausalLM.load({ backend, config: CONFIG, source: recipeSource(CONFIG) }),
);

Deno.test("a folder, whole or in shards, of any dtype, gives the same bits", async () => {
  for (const dtype of ["f32", "f16", "bf16"] as const) {
    for (const maxShardBytes of [5e9, 50_000]) {
      await using folder = await scratchFolder();
      const files = await writeCheckpoint(folder.path, CONFIG, { dtype, maxShardBytes });
      assertEquals(files.length > 1, maxShardBytes < 5e9);
      const seen: LoadProgress[] = [];
      const model = await StableLmForCausalLM.fromPretrained(folder.path, {
        backend,
        activationDtype: "f32",
        onProgress: (progress) => seen.push(progress),
      });
      assertEquals([model.dtype, model.unexpected], [dtype, []]);
      assertEquals(await logits(model), expected);
      const last = seen.at(-1)!;
      assertEquals([last.phase, last.loadedBytes], ["load", last.totalBytes]);
      assert(seen.every(({ loadedBytes }, i) => i === 0 || loadedBytes > seen[i - 1]!.loadedBytes));
    }
  }
});

Deno.test("a folder runs on the GPU as on the CPU", async () => {
  await using folder = await scratchFolder();
  await writeCheckpoint(folder.path, CONFIG, { dtype: "bf16", maxShardBytes: 50_000 });
  const gpu = await sharedBackend();
  const got = await logits(
    await StableLmForCausalLM.fromPretrained(folder.path, { backend: gpu }),
  );
  const most = 1e-4 * Math.max(...expected.map(Math.abs));
  assert(got.every((value, i) => Math.abs(value - expected[i]!) <= most));
});

Deno.test("a checkpoint of the decoder alone loads as one, and not as a language model", async () => {
  await using folder = await scratchFolder();
  await writeCheckpoint(folder.path, CONFIG, { head: "none", prefix: false });
  using model = await StableLmModel.fromPretrained(folder.path, { backend });
  using output = await model.forward({ inputIds: [IDS] });
  assertEquals(output.lastHiddenState.shape, [1, 8, 64]);
  const fault = await assertRejects(
    () => StableLmForCausalLM.fromPretrained(folder.path, { backend }),
    KernelsError,
    "lm_head.weight missing",
  );
  assertEquals((fault as KernelsError).code, "model-format");
});

Deno.test("files that a browser has picked load too", async () => {
  await using folder = await scratchFolder();
  const names = await writeCheckpoint(folder.path, CONFIG, { maxShardBytes: 50_000 });
  const files = new Map<string, Blob>();
  for (const name of ["config.json", ...names]) {
    files.set(name, new Blob([await Deno.readFile(`${folder.path}/${name}`)]));
  }
  using checkpoint = await openCheckpointFiles(files);
  const config = StableLmConfig.fromJson(checkpoint.config);
  const { source } = checkpoint;
  assertEquals(await logits(await StableLmForCausalLM.load({ backend, config, source })), expected);
});

Deno.test("what is loaded and written again is the same to the byte", async () => {
  await using first = await scratchFolder();
  await using second = await scratchFolder();
  await writeCheckpoint(first.path, CONFIG, { dtype: "f16" });
  using checkpoint = await openCheckpoint(first.path);
  await writeWeights(second.path, checkpoint.source, 5e9);
  const [before, after] = await Promise.all(
    [first, second].map(({ path }) => Deno.readFile(`${path}model.safetensors`)),
  );
  assertEquals(after!.byteLength, before!.byteLength);
  assertEquals(after!.findIndex((byte, i) => byte !== before![i]), -1);
});

for (const { name } of Deno.readDirSync(GGUF)) {
  if (!name.endsWith(".gguf")) continue;
  Deno.test(`${name} gives the same bits as its weights in safetensors`, async () => {
    const gguf = await openGguf(await fileBytes(GGUF + name));
    using source = gguf.source;
    const config = StableLmConfig.fromJson(gguf.config, name);
    await using folder = await scratchFolder();
    await Deno.writeTextFile(`${folder.path}/config.json`, JSON.stringify(config));
    await writeWeights(folder.path, source, 5e9);
    const run = async (where: string) => {
      const model = await StableLmForCausalLM.fromPretrained(where, { backend, dtype: "f32" });
      using _model = model;
      using output = await model.forward({ inputIds: [[1, 2, 3]] });
      return Array.from((await backend.read(output.logits)).numbers);
    };
    assertEquals(await run(GGUF + name), await run(folder.path));
  });
}

Deno.test("a repository of the hub: download, then load, then from the cache", async () => {
  await using hub = new HubServer();
  await using made = await scratchFolder();
  await using cache = await scratchFolder();
  const names = await writeCheckpoint(made.path, CONFIG, { maxShardBytes: 50_000 });
  const files: Record<string, Uint8Array<ArrayBuffer>> = {};
  for (const name of ["config.json", ...names]) {
    files[name] = await Deno.readFile(`${made.path}/${name}`);
  }
  hub.commit("lab/tiny", files);
  const phases: string[] = [];
  const options = {
    backend,
    endpoint: hub.endpoint,
    cacheDir: cache.path,
    onProgress: ({ phase }: LoadProgress) => phases.push(phase),
  };
  assertEquals(
    await logits(await StableLmForCausalLM.fromPretrained("lab/tiny", options)),
    expected,
  );
  assertEquals([...new Set(phases)], ["download", "load"]);
  const offline = { backend, cacheDir: cache.path, localFilesOnly: true };
  assertEquals(
    await logits(await StableLmForCausalLM.fromPretrained("lab/tiny", offline)),
    expected,
  );
});

Deno.test("a folder may be a file URL", async () => {
  await using folder = await scratchFolder();
  await writeCheckpoint(folder.path, CONFIG);
  const url = new URL(`file://${folder.path}`);
  assertEquals(await logits(await StableLmForCausalLM.fromPretrained(url, { backend })), expected);
});

Deno.test("options are checked before any file is looked for", async () => {
  const never = () => Promise.reject(new TypeError("no request should be made"));
  for (const more of [{ dtype: "f8" }, { activationDtype: "f64" }, { backend: undefined }]) {
    const options = { backend, fetch: never, cacheDir: "/nowhere", ...more } as never;
    const call = () => StableLmForCausalLM.fromPretrained("lab/tiny", options);
    await assertRejects(
      call,
      KernelsError,
      `Cannot run fromPretrained: ${Object.keys(more)[0]} must be`,
    );
  }
});

Deno.test("keys of the config can be replaced", async () => {
  await using folder = await scratchFolder();
  await writeCheckpoint(folder.path, CONFIG);
  const other = { ...CONFIG.toJSON(), rope_parameters: { rope_type: "default", rope_theta: 1e6 } };
  using model = await StableLmForCausalLM.fromPretrained(folder.path, { backend, config: other });
  assertEquals(model.config.rope_parameters.rope_theta, 1e6);
  const misspelt = { backend, config: { rope_thetta: 1e6 } };
  await assertRejects(
    () => StableLmForCausalLM.fromPretrained(folder.path, misspelt),
    KernelsError,
    "config rope_thetta must be a key of a StableLM config",
  );
});

Deno.test("what is no model is refused by name", async () => {
  await using folder = await scratchFolder();
  const load = (where: string, more = {}) =>
    StableLmForCausalLM.fromPretrained(where, { backend, ...more });
  const refused: [where: string, message: string, code: string][] = [
    [folder.path, "config.json", "model-format"],
    [`${folder.path}/missing`, "missing", "model-format"],
    [`${folder.path}/missing.gguf`, "missing.gguf", "model-format"],
    [new URL("../LICENSE", import.meta.url).pathname, "a model is a folder", "model-format"],
  ];
  for (const [where, message, code] of refused) {
    const error = await assertRejects(() => load(where), KernelsError, message);
    assertEquals((error as KernelsError).code, code, where);
  }
  await writeCheckpoint(folder.path, CONFIG);
  for (
    const [more, message] of [[{ dtypes: "f32" }, "option dtypes"], [
      { dtype: "f64" },
      "dtype",
    ]] as const
  ) {
    await assertRejects(() => load(folder.path, more), KernelsError, message);
  }
  await Deno.writeTextFile(`${folder.path}/config.json`, '{"model_type":"llama"}');
  const error = await assertRejects(() => load(folder.path), KernelsError, "llama");
  assertEquals((error as KernelsError).code, "model-unsupported");
});
