/** What callers hand to a model: every rule says by name what was wrong, and nothing else happens. */

import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import {
  CpuBackend,
  HostTensor,
  type IdMatrix,
  KernelsError,
  KvCache,
  StableLmConfig,
  type StableLmConfigOptions,
  StableLmForCausalLM,
  StableLmForSequenceClassification,
  StableLmForTokenClassification,
  StableLmModel,
  type WeightSource,
} from "../mod.ts";
import { recipeSource } from "./recipe.ts";

const TINY: StableLmConfigOptions = {
  vocab_size: 97,
  hidden_size: 64,
  intermediate_size: 44,
  num_hidden_layers: 1,
  num_attention_heads: 4,
  num_key_value_heads: 4,
  max_position_embeddings: 64,
  num_labels: 3,
  pad_token_id: 1,
};
const CONFIG = new StableLmConfig(TINY);

const backend = new CpuBackend();
const source = recipeSource(CONFIG);
const model = await StableLmForCausalLM.load({ backend, config: CONFIG, source });
const classifier = await StableLmForSequenceClassification.load({
  backend,
  config: CONFIG,
  source: recipeSource(CONFIG, { head: "sequence-classification" }),
});
const tagger = await StableLmForTokenClassification.load({
  backend,
  config: CONFIG,
  source: recipeSource(CONFIG, { head: "token-classification" }),
});

const embeddings = (...shape: number[]) =>
  HostTensor.from(shape, new Float32Array(shape.reduce((product, size) => product * size, 1)));

/** Inputs of the causal LM, with what the message has to say. */
const REFUSED: readonly [inputs: Record<string, unknown>, message: string][] = [
  [{}, "inputIds or inputsEmbeds must be given, and not both: neither"],
  [{ inputIds: [[1]], inputsEmbeds: embeddings(1, 1, 64) }, "and not both: both"],
  [{ inputIds: [] }, "inputIds must have at least one row with one token: none"],
  [{ inputIds: [[]] }, "inputIds must have at least one row with one token: none"],
  [{ inputIds: [1, 2] }, "inputIds must be rows of whole numbers: an array of something else"],
  [{ inputIds: null }, "inputIds must be left out rather than null"],
  [{ inputIds: [["5"]] }, '(vocab_size): "5" at row 0'],
  [{ inputIds: "12" }, "inputIds must be rows of whole numbers: string"],
  [{ inputIds: [[1, 2], [3]] }, "inputIds must have rows of one length, here 2: row 1 has 1"],
  [{ inputIds: [[5, 97]] }, "from 0 to 96 (vocab_size): 97 at row 0, token 1"],
  [{ inputIds: [[5], [-1]] }, "from 0 to 96 (vocab_size): -1 at row 1, token 0"],
  [{ inputIds: [[1.5]] }, "from 0 to 96 (vocab_size): 1.5 at row 0, token 0"],
  [{ inputIds: [[NaN]] }, "(vocab_size): NaN"],
  [{ inputIds: [[2 ** 32]] }, "(vocab_size): 4294967296"],
  [{ inputsEmbeds: embeddings(1, 64) }, "inputsEmbeds must be [B, S, 64]: f32[1, 64]"],
  [{ inputsEmbeds: embeddings(1, 2, 63) }, "inputsEmbeds must be [B, S, 64]: f32[1, 2, 63]"],
  [{ inputsEmbeds: embeddings(1, 0, 64) }, "inputsEmbeds must be [B, S, 64]: f32[1, 0, 64]"],
  [{ inputIds: [[1, 2]], attentionMask: [[1]] }, "attentionMask must have shape [1, 2]: [1, 1]"],
  [{ inputIds: [[1]], attentionMask: [[1], [1]] }, "attentionMask must have shape [1, 1]: [2, 1]"],
  [{ inputIds: [[1]], attentionMask: [[2]] }, "from 0 to 1 (1 is a token, 0 is padding): 2"],
  [{ inputIds: [[1]], attentionMask: [[true]] }, "(1 is a token, 0 is padding): true"],
  [{ inputIds: [[1, 2]], positionIds: [[1]] }, "positionIds must have rows of 2 tokens: [1, 1]"],
  [{ inputIds: [[1]], positionIds: [[-1]] }, "positionIds must hold whole numbers from 0"],
  [{ inputIds: [[1]], positionIds: [[2 ** 20]] }, "positionIds must hold whole numbers from 0"],
  [{ inputIds: [[1], [2], [3]], positionIds: [[0], [1]] }, "must have 3 rows, or 1 for all: 2"],
  [
    { inputIds: [[1, 2, 3]], positionIds: [[0, 1, 0]], useCache: false },
    "must rise by 1 where neither attentionMask nor a cache is given (packed sequences): 1 then 0",
  ],
  [{ inputIds: [[1]], pastKeyValues: {} }, "pastKeyValues must be a KvCache"],
  [{ inputsEmbeds: [[[1]]] }, "inputsEmbeds must be a tensor: object"],
  [{ inputIds: [[1]], useCache: 1 }, "useCache must be true or false: 1"],
  [{ inputIds: [[1]], outputAttentions: "yes" }, "outputAttentions must be true or false: yes"],
  [{ inputIds: [[1]], input_ids: [[1]] }, "option input_ids must be one of inputIds, "],
  [{ inputIds: [[1]], labels: [[1, 2]] }, "labels must have shape [1, 1], as the inputs have"],
  [{ inputIds: [[1]], shiftLabels: [[1, 2]] }, "shiftLabels must have shape [1, 1], as the inputs"],
  [{ inputIds: [[1]], labels: [[97]] }, "from 0 to 96 (vocab_size) or -100: 97"],
  [{ inputIds: [[1]], labels: [[-1]] }, "from 0 to 96 (vocab_size) or -100: -1"],
  [{ inputIds: [[1]], labels: [[1]], shiftLabels: [[1]] }, "labels must not be given with"],
  [{ inputIds: [[1]], labels: [[1]], logitsToKeep: 1 }, "logitsToKeep must be 0 where labels"],
  [{ inputIds: [[1]], labels: [[1]], numItemsInBatch: 0 }, "numItemsInBatch must be above 0: 0"],
  [{ inputIds: [[1]], logitsToKeep: -1 }, "logitsToKeep must be a whole number from 0: -1"],
  [{ inputIds: [[1]], logitsToKeep: [1] }, "logitsToKeep must list numbers below 1: 1"],
  [{ inputIds: [[1]], logitsToKeep: [] }, "logitsToKeep must be a number, or list whole numbers"],
];

for (const [inputs, message] of REFUSED) {
  Deno.test(`refused: ${message}`, async () => {
    using cache = model.createCache({ capacity: 4 });
    using _first = await model.forward({ inputIds: [[1]], pastKeyValues: cache });
    await refuses(() => model.forward(inputs), message);
    assertEquals(cache.length, 1);
  });
}

Deno.test("a cache must be of the model, for as many sequences, and not disposed", async () => {
  using cache = model.createCache({ batch: 2 });
  const run = (pastKeyValues: KvCache<HostTensor>) =>
    model.forward({ inputIds: [[1]], pastKeyValues });
  await refuses(() => run(cache), "pastKeyValues must hold 1 sequences: 2");
  const sizes = { layers: 1, batch: 1, heads: 4, headDim: 16, dtype: "f32" } as const;
  for (const other of [{ layers: 2 }, { heads: 2 }, { headDim: 8 }, { dtype: "f16" as const }]) {
    using wrong = new KvCache(backend, { ...sizes, ...other });
    await refuses(() => run(wrong), "pastKeyValues must hold 1 layers of f32[1, 4, 256, 16]");
  }
  using right = new KvCache(backend, sizes);
  using output = await run(right);
  assertEquals(output.pastKeyValues, right);
  right[Symbol.dispose]();
  await refuses(() => run(right), "pastKeyValues must not be disposed");
});

Deno.test("a cache refuses what it cannot do", () => {
  using cache = model.createCache({ batch: 2, capacity: 4 });
  assertThrows(() => cache.crop(1), KernelsError, "length must be a whole number from 0 to 0: 1");
  assertThrows(() => cache.crop(0.5), KernelsError, "length");
  assertThrows(() => cache.reorder([]), KernelsError, "must name at least one sequence");
  assertThrows(() => cache.reorder([2]), KernelsError, "rows must be whole numbers below 2: 2");
  for (const options of [{ batch: 0 }, { capacity: -1 }, { capacity: 1.5 }, { size: 1 }]) {
    assertThrows(() => model.createCache(options as object), KernelsError, "Cannot run");
  }
});

Deno.test("classification needs a pad id for several sequences", async () => {
  const config = new StableLmConfig({ ...TINY, pad_token_id: null });
  using model = await StableLmForSequenceClassification.load({
    backend,
    config,
    source: recipeSource(config, { head: "sequence-classification" }),
  });
  await refuses(
    () => model.forward({ inputIds: [[1], [2]] }),
    "inputIds must have one row, as the config has no pad_token_id: 2 rows",
  );
  using _one = await model.forward({ inputIds: [[1, 2]] });
});

/** Labels of two sequences for three classes. */
const REFUSED_LABELS: readonly [labels: unknown, message: string][] = [
  ["ab", "labels must be numbers, or rows of numbers: string"],
  [[1, [0, 1, 0]], "labels must be numbers, or rows of numbers"],
  [[1], "labels must have 2 entries: 1"],
  [[0, 3], "labels must be classes below 3: 3"],
  [[0, -1], "labels must be classes below 3: -1"],
  [[0, NaN], "labels must be finite: NaN"],
  [[[1, 0], [0, 1]], "labels must have 3 numbers per sequence"],
];

for (const [labels, message] of REFUSED_LABELS) {
  Deno.test(`refused: ${message}`, async () => {
    const inputs = { inputIds: [[1, 2], [3, 4]], labels: labels as number[] };
    await refuses(() => classifier.forward(inputs), message);
  });
}

Deno.test("token classification has no cache to give or take", async () => {
  const inputs = { inputIds: [[1, 2]] };
  await refuses(() => tagger.forward({ ...inputs, useCache: true } as object), "option useCache");
  await refuses(() => tagger.forward({ ...inputs, labels: [[3, 0]] }), "(num_labels) or -100: 3");
  await refuses(() => tagger.forward({ ...inputs, labels: [[1]] }), "must have shape [1, 2]");
  using output = await tagger.forward(inputs);
  assertEquals(output.pastKeyValues, undefined);
});

Deno.test("ids may be 64-bit integers, and labels any list of numbers", async () => {
  const bits = async (inputIds: readonly ArrayLike<number | bigint>[]) => {
    using output = await model.forward({ inputIds: inputIds as IdMatrix });
    return Array.from((await backend.read(output.logits)).numbers);
  };
  assertEquals(await bits([BigInt64Array.of(5n, 17n)]), await bits([[5, 17]]));
  await refuses(() => bits([BigInt64Array.of(97n)]), "(vocab_size): 97 at row 0");
  const inputIds = [[1, 2], [3, 4]];
  const loss = async (labels: ArrayLike<number>) => {
    using output = await classifier.forward({ inputIds, labels });
    return output.loss;
  };
  assertEquals(await loss(Int32Array.of(2, 0)), await loss([2, 0]));
});

Deno.test("what is no options object, backend, config or cache is refused by name", async () => {
  // deno-lint-ignore no-explicit-any -- what plain JavaScript may pass
  const anything = (value: unknown) => value as any;
  await refuses(() => model.forward(anything(undefined)), "options must be an object: undefined");
  const load = (options: object) =>
    StableLmModel.load(anything({ config: CONFIG, source, ...options }));
  await refuses(() => load({}), "backend must be a backend: undefined");
  await refuses(() => load({ backend, config: {} }), "config must be a StableLmConfig: object");
  const gone = model.createCache();
  gone[Symbol.dispose]();
  for (const call of [() => gone.crop(0), () => gone.reorder([0]), () => gone.reserve(1)]) {
    assertThrows(call, KernelsError, "cache must not be disposed");
  }
});

Deno.test("a model that was disposed says so", async () => {
  const gone = await StableLmModel.load({ backend, config: CONFIG, source });
  gone[Symbol.dispose]();
  gone[Symbol.dispose]();
  await refuses(() => gone.forward({ inputIds: [[1]] }), "model must not be disposed");
});

Deno.test("positions may jump where transformers would have a cache, returned or not", async () => {
  const inputs = { inputIds: [[5, 17, 3]], positionIds: [[0, 1, 0]] };
  for (const head of [tagger, classifier]) {
    const read = async (more: object) => {
      using output = await head.forward({ ...inputs, ...more });
      assertEquals(output.pastKeyValues, undefined);
      return Array.from((await backend.read(output.logits)).numbers);
    };
    assertEquals(await read({}), await read({ attentionMask: [[1, 1, 1]] }));
  }
  await refuses(() => classifier.forward({ ...inputs, useCache: false }), "packed sequences");
});

/** A source that has something wrong with it. */
function changed(
  change: (tensors: Map<string, { -readonly [K in "shape"]: readonly number[] } & object>) => void,
  value?: number,
): WeightSource {
  const tensors = new Map(source.tensors);
  change(tensors as never);
  const read: WeightSource["read"] = async (name, rows, signal) => {
    const tensor = await source.read(name, rows, signal);
    if (value !== undefined && name === "model.norm.weight") tensor.values[3] = value;
    return tensor;
  };
  return { ...source, name: "checkpoint", tensors, read };
}

Deno.test("a checkpoint that does not fit the model is refused", async () => {
  const load = (source: WeightSource, more: object = {}) =>
    StableLmForCausalLM.load({ backend, config: CONFIG, source, ...more });
  await refuses(
    () => load(changed((tensors) => tensors.delete("model.layers.0.mlp.up_proj.weight"))),
    "every tensor of the model: model.layers.0.mlp.up_proj.weight missing",
    "model-format",
  );
  await refuses(
    () => load(changed((tensors) => tensors.delete("lm_head.weight"))),
    "lm_head.weight missing",
    "model-format",
  );
  const norm = source.tensors.get("model.norm.weight")!;
  await refuses(
    () => load(changed((tensors) => tensors.set("model.norm.weight", { ...norm, shape: [65] }))),
    'tensor "model.norm.weight" at byte',
    "model-format",
  );
  for (const value of [NaN, Infinity, -Infinity]) {
    const bad = changed(() => {}, value);
    await refuses(() => load(bad), `weights must be finite: element 3 is ${value}`, "model-format");
    using _allowed = await load(bad, { allowNonFinite: true });
  }
  const normed = new StableLmConfig({ ...TINY, qk_layernorm: true });
  const heads = recipeSource(normed);
  const spoilt: WeightSource = {
    ...heads,
    async read(name, rows, signal) {
      const tensor = await heads.read(name, rows, signal);
      if (name.endsWith("q_layernorm.norms.2.weight")) tensor.values[1] = NaN;
      return tensor;
    },
  };
  await refuses(
    () => load(spoilt, { config: normed }),
    "q_layernorm.norms.2.weight",
    "model-format",
  );
  using _allowed = await load(spoilt, { config: normed, allowNonFinite: true });
  await refuses(
    () => load(changed(() => {}, 1e5), { dtype: "f16" }),
    'weights must be at most 65504 for dtype "f16"',
    "model-unsupported",
  );
  await refuses(() => load(source, { dtype: "q8" }), "dtype must be one of f32, f16, bf16, auto");
  await refuses(() => load(source, { activationDtype: "bf16" }), "activationDtype must be one of");
  await refuses(() => load(source, { device: "gpu" }), "option device must be one of backend");
});

Deno.test("tensors that the model has no use for are named", async () => {
  const norm = source.tensors.get("model.norm.weight")!;
  using loaded = await StableLmForCausalLM.load({
    backend,
    config: CONFIG,
    source: changed((tensors) => {
      tensors.set("score.weight", norm);
      tensors.set("model.layers.0.self_attn.rotary_emb.inv_freq", norm);
    }),
  });
  assertEquals(loaded.unexpected, ["score.weight"]);
});

Deno.test("tied tables are found under either name, and kept apart where both are stored", async () => {
  const config = new StableLmConfig({ ...TINY, tie_word_embeddings: true });
  const logits = async (source: WeightSource) => {
    using model = await StableLmForCausalLM.load({ backend, config, source });
    using output = await model.forward({ inputIds: [[5, 17, 3]] });
    return Array.from((await backend.read(output.logits)).numbers);
  };
  const table = "model.embed_tokens.weight", head = "lm_head.weight";
  const tied = await logits(recipeSource(config));
  const renamed = changed((tensors) => tensors.delete(table));
  const swap = (name: string) => name === head ? table : name;
  const underHead = {
    ...renamed,
    read: (...[name, ...rest]: Parameters<WeightSource["read"]>) =>
      source.read(swap(name), ...rest),
  };
  assertEquals(await logits(underHead), tied);
  const apart = await logits(source);
  assert(apart.some((value, i) => value !== tied[i]));
  using untied = await model.forward({ inputIds: [[5, 17, 3]] });
  assertEquals(Array.from((await backend.read(untied.logits)).numbers), apart);
});

async function refuses(
  call: () => Promise<unknown>,
  message: string,
  code = "model-input",
): Promise<void> {
  const error = await assertRejects(call, KernelsError, message);
  assertEquals((error as KernelsError).code, code);
}
