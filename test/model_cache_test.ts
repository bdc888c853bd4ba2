/** The cache of keys and values: what is counted, what is copied, and when. */

import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import {
  argmax,
  CpuBackend,
  estimate,
  GpuBackend,
  HostTensor,
  KernelsError,
  KvCache,
  parametersOf,
  ParameterStore,
  PlanningBackend,
  StableLmConfig,
  type StableLmConfigOptions,
  StableLmForCausalLM,
  StableLmForSequenceClassification,
} from "../mod.ts";
import { sharedBackend } from "./device.ts";
import { recipeSource } from "./recipe.ts";

const TINY: StableLmConfigOptions = {
  vocab_size: 97,
  hidden_size: 64,
  intermediate_size: 44,
  num_hidden_layers: 2,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  max_position_embeddings: 64,
};
const CONFIG = new StableLmConfig(TINY);
const source = recipeSource(CONFIG);

/** A CPU backend that can be told to fail at a later call, and that counts what is uploaded. */
class FaultyBackend extends CpuBackend {
  /** Calls of `run` that still succeed. */
  left = Infinity;
  override maxTensorBytes = Infinity;
  readonly uploads: string[] = [];

  override run: CpuBackend["run"] = (op, inputs, attributes) => {
    if (this.left-- <= 0) throw new RangeError("the device is gone");
    return super.run(op, inputs, attributes);
  };

  override upload(tensor: HostTensor): HostTensor {
    this.uploads.push(tensor.shape.join(" "));
    return super.upload(tensor);
  }
}

Deno.test("a call that fails at any op leaves the cache as long as it was", async () => {
  const backend = new FaultyBackend();
  using model = await StableLmForCausalLM.load({ backend, config: CONFIG, source });
  using cache = model.createCache({ capacity: 16 });
  const inputs = { inputIds: [[5, 17, 3]], pastKeyValues: cache, logitsToKeep: 1 };
  const logits = async () => {
    using output = await model.forward(inputs);
    return Array.from((await backend.read(output.logits)).numbers);
  };
  const expected = await logits();
  let failures = 0;
  for (let calls = 0; calls < 1000; calls++) {
    cache.crop(0);
    backend.left = calls;
    const failed = await model.forward(inputs).then(() => false, () => true);
    backend.left = Infinity;
    if (!failed) break;
    failures++;
    assertEquals(cache.length, 0);
    assertEquals(await logits(), expected);
  }
  assert(failures > 20, `${failures}`);
});

Deno.test("logits that fit no tensor are refused before anything is run", async () => {
  const backend = new FaultyBackend();
  using model = await StableLmForCausalLM.load({ backend, config: CONFIG, source });
  backend.maxTensorBytes = 4 * 97 * 2;
  using cache = model.createCache({ capacity: 16 });
  const inputs = { inputIds: [[5, 17, 3]], pastKeyValues: cache };
  const fault = "logitsToKeep must leave at most 2 rows of logits";
  await assertRejects(() => model.forward(inputs), KernelsError, fault);
  assertEquals(cache.length, 0);
  using _output = await model.forward({ ...inputs, logitsToKeep: 2 });
  assertEquals(cache.length, 3);
});

Deno.test("ids on the device are taken as they are, if they are known to be in the vocabulary", async () => {
  const backend = await sharedBackend();
  using model = await StableLmForCausalLM.load({ backend, config: CONFIG, source });
  using cache = model.createCache({ capacity: 16 });
  using first = await model.forward({
    inputIds: [[5, 17, 3]],
    pastKeyValues: cache,
    logitsToKeep: 1,
  });
  using ids = backend.run(argmax, { x: first.logits }, {}).ids;
  const [next] = (await backend.read(ids)).numbers;
  using onDevice = await model.forward({ inputIds: ids, pastKeyValues: cache });
  cache.crop(-1);
  using onHost = await model.forward({ inputIds: [[next!]], pastKeyValues: cache });
  const [one, other] = await Promise.all(
    [onDevice, onHost].map(({ logits }) => backend.read(logits)),
  );
  assertEquals(one!.numbers, other!.numbers);

  using large = backend.upload(new HostTensor([1, 1], Uint32Array.of(97)));
  using flat = backend.upload(new HostTensor([1], Uint32Array.of(5)));
  for (
    const [inputIds, message] of [
      [large, "inputIds must be known to be below 97 (vocab_size): 97"],
      [flat, "inputIds must be u32[batch, tokens]"],
      [onHost.logits, "inputIds must be u32[batch, tokens]"],
    ] as const
  ) await assertRejects(() => model.forward({ inputIds }), KernelsError, message);
});

Deno.test("a cache of another backend is refused", async () => {
  const backend = new CpuBackend();
  using model = await StableLmForCausalLM.load({ backend, config: CONFIG, source });
  using other = await StableLmForCausalLM.load({
    backend: new CpuBackend(),
    config: CONFIG,
    source,
  });
  using pastKeyValues = other.createCache();
  const fault = "pastKeyValues must be of the model's backend";
  await assertRejects(() => model.forward({ inputIds: [[1]], pastKeyValues }), KernelsError, fault);
});

Deno.test("a cache that a call makes has room from the start, and an empty one grows without a copy", async () => {
  const { profile } = await sharedBackend();
  using backend = new PlanningBackend(profile);
  const config = new StableLmConfig({ ...TINY, max_position_embeddings: 4096 });
  using model = planned(backend, config);
  using output = await model.forward({ inputIds: [new Uint32Array(300)] });
  assertEquals(output.pastKeyValues!.capacity, 512);
  using cache = model.createCache({ capacity: 4 });
  backend.reset();
  cache.reserve(600);
  assertEquals([cache.capacity, backend.work.dispatches], [768, 0]);
});

Deno.test("reordering copies what the cache holds, and nothing where all stays in place", async () => {
  const { profile } = await sharedBackend();
  using backend = new PlanningBackend(profile);
  using model = planned(backend, CONFIG);
  using cache = model.createCache({ batch: 4, capacity: 4096 });
  cache.advance(100);
  backend.reset();
  cache.reorder([0, 1, 2, 3]);
  assertEquals(backend.work.dispatches, 0);
  const held = backend.memory.liveBytes;
  cache.reorder([1, 1, 0, 2]);
  // Read and written twice: to where they wait, and back.
  const filled = 2 * 2 * 4 * 100 * 2 * 16 * 4;
  assert(backend.work.bytes < 5 * filled, `${backend.work.bytes}`);
  assertEquals(backend.memory.liveBytes, held);
  // Tokens that sequences share stay where they are.
  const { bytes } = backend.work;
  cache.reorder([1, 1, 0, 2], 90);
  assert(backend.work.bytes - bytes < 0.11 * bytes, `${backend.work.bytes - bytes} of ${bytes}`);
  for (const shared of [-1, 101, 0.5]) {
    assertThrows(() => cache.reorder([0, 1, 2, 3], shared), KernelsError, "from 0 to 100");
  }
});

Deno.test("a cache whose growth fails is disposed", async () => {
  const backend = new FaultyBackend();
  using model = await StableLmForCausalLM.load({ backend, config: CONFIG, source });
  using cache = model.createCache({ capacity: 4 });
  using _output = await model.forward({ inputIds: [[1, 2]], pastKeyValues: cache });
  backend.left = 3;
  assertThrows(() => cache.reserve(8), RangeError, "the device is gone");
  assert(cache.disposed);
});

Deno.test("what is counted must have room", () => {
  const backend = new CpuBackend();
  const sizes = { layers: 1, batch: 1, heads: 1, headDim: 4, capacity: 4 };
  using cache = new KvCache(backend, { ...sizes, dtype: "f32" });
  for (const tokens of [5, -1, 0.5]) {
    assertThrows(() => cache.advance(tokens), KernelsError, "a whole number from 0 to 4");
  }
});

Deno.test("a classifier makes no cache unless it is asked to", async () => {
  const config = new StableLmConfig({ ...TINY, pad_token_id: 1 });
  using model = await StableLmForSequenceClassification.load({
    backend: new CpuBackend(),
    config,
    source: recipeSource(config, { head: "sequence-classification" }),
  });
  using plain = await model.forward({ inputIds: [[5, 17]] });
  using cached = await model.forward({ inputIds: [[5, 17]], useCache: true });
  assertEquals([plain.pastKeyValues, cached.pastKeyValues?.length], [undefined, 2]);
});

Deno.test("RoPE's tables are made once, also past the context that the model was made for", async () => {
  const backend = new FaultyBackend();
  using model = await StableLmForCausalLM.load({ backend, config: CONFIG, source });
  using cache = model.createCache({ capacity: 256 });
  for (let t = 0; t < 40; t++) {
    using _output = await model.forward({
      inputIds: [[5]],
      positionIds: [[50 + t]],
      pastKeyValues: cache,
    });
  }
  const tables = backend.uploads.filter((shape) => shape.endsWith(" 2"));
  assertEquals(tables, ["64 2", "64 2", "128 2", "128 2"]);
});

Deno.test("positions whose table the device could not hold are refused, and the model goes on", async () => {
  const backend = new FaultyBackend();
  using model = await StableLmForCausalLM.load({ backend, config: CONFIG, source });
  backend.maxTensorBytes = 64 * 1024;
  const run = async (position: number) => {
    using output = await model.forward({ inputIds: [[5]], positionIds: [[position]] });
    return Array.from((await backend.read(output.logits)).numbers);
  };
  const before = await run(5);
  const fault = "positionIds must be below 8192, as a table for more does not fit";
  await assertRejects(() => run(8192), KernelsError, fault);
  assertEquals((await run(8191)).length, 97);
  assertEquals(await run(5), before);
});

Deno.test("f16 is kept to devices that can store it", async () => {
  using backend = await GpuBackend.create({ without: ["shader-f16"] });
  const load = (options: object) =>
    StableLmForCausalLM.load({ backend, config: CONFIG, source: recipeSource(CONFIG), ...options });
  const fault = "activationDtype must be f32, as the device cannot store f16";
  await assertRejects(() => load({ dtype: "f16", activationDtype: "f16" }), KernelsError, fault);
  using model = await load({ dtype: "f16" });
  assertEquals([model.dtype, model.activationDtype], ["f16", "f32"]);
  using output = await model.forward({ inputIds: [[5, 17]] });
  assert((await backend.read(output.logits)).numbers.every(Number.isFinite));
});

Deno.test("an estimate checks what it is asked", async () => {
  const { profile } = await sharedBackend();
  const refused: [options: object, message: string][] = [
    [{ contextTokens: 0 }, "contextTokens must be a whole number from 1: 0"],
    [{ contextTokens: 4, promptTokens: 5 }, "promptTokens must be at most contextTokens, 4: 5"],
    [{ contextTokens: 4, prompt: 4 }, "option prompt must be one of dtype"],
  ];
  for (const [options, message] of refused) {
    const call = () => estimate(profile, CONFIG, { dtype: "f32", ...options } as never);
    await assertRejects(call, KernelsError, message);
  }
});

/** A model without weights, for counting. */
function planned(backend: PlanningBackend, config: StableLmConfig) {
  const parameters = new ParameterStore(backend, parametersOf(config, "causal-lm"), "f32");
  const rest = { activationDtype: "f32", unexpected: [] } as const;
  return new StableLmForCausalLM({ backend, config, parameters, ...rest });
}
