/** What a model holds on a device, and that it gives all of it back. */

import { assert, assertEquals, assertRejects } from "@std/assert";
import { StableLmForCausalLM } from "../model/causal_lm.ts";
import { StableLmConfig } from "../model/config.ts";
import { estimate } from "../model/estimate.ts";
import { StableLmModel } from "../model/base_model.ts";
import {
  CpuBackend,
  GpuBackend,
  HostTensor,
  KernelsError,
  parameterCount,
  PlanningBackend,
  type WeightSource,
} from "../mod.ts";
import { sharedBackend } from "./device.ts";
import { recipeSource } from "./recipe.ts";

const CONFIG = new StableLmConfig({
  vocab_size: 97,
  hidden_size: 96,
  intermediate_size: 44,
  num_hidden_layers: 2,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  max_position_embeddings: 256,
});

/** Stored bytes that loading may ask for at a time. */
const MOST_READ = 32 * 1024 * 1024;

const IDS = [5, 17, 3, 96, 42, 8, 60, 23];

Deno.test("200 forwards leave live bytes flat, and the model gives back all", async () => {
  const backend = await sharedBackend();
  const before = backend.memory;
  {
    using model = await StableLmForCausalLM.load({
      backend,
      config: CONFIG,
      source: recipeSource(CONFIG),
    });
    using cache = model.createCache();
    const run = async () => {
      cache.crop(0);
      using _plain = await model.forward({ inputIds: [IDS], labels: [IDS] });
      using _cached = await model.forward({
        inputIds: [IDS],
        pastKeyValues: cache,
        logitsToKeep: 1,
      });
      using _shown = await model.forward({
        inputIds: [IDS],
        outputHiddenStates: true,
        outputAttentions: true,
      });
    };
    await run();
    const { liveBytes, liveTensors, pooledBytes } = backend.memory;
    for (let i = 0; i < 66; i++) await run();
    assertEquals(backend.memory, { liveBytes, liveTensors, pooledBytes });
  }
  assertEquals(backend.memory.liveBytes, before.liveBytes);
  assertEquals(backend.memory.liveTensors, before.liveTensors);
});

Deno.test("a device holds what the estimate says", async () => {
  for (const [dtype, contextTokens, promptTokens] of [["f32", 64, 24], ["f16", 40, 40]] as const) {
    // A device of its own, as others leave buffers in the pool.
    using backend = await GpuBackend.create();
    const plan = await estimate(backend.profile, CONFIG, { dtype, contextTokens, promptTokens });
    const source = recipeSource(CONFIG);
    using model = await StableLmForCausalLM.load({ backend, config: CONFIG, source, dtype });
    assertEquals(backend.memory.liveBytes, plan.weightBytes);
    using cache = model.createCache({ capacity: contextTokens });
    assertEquals(backend.memory.liveBytes, plan.weightBytes + plan.cacheBytes);
    for (let done = contextTokens % promptTokens; done < contextTokens; done += promptTokens) {
      cache.crop(0);
      cache.advance(done);
      const inputIds = [Array.from({ length: promptTokens }, (_, i) => i)];
      using _output = await model.forward({ inputIds, pastKeyValues: cache, logitsToKeep: 1 });
    }
    const held = backend.memory.liveBytes + backend.memory.pooledBytes;
    assert(
      Math.abs(held - plan.totalBytes) <= 0.05 * plan.totalBytes,
      `${held} ${plan.totalBytes}`,
    );
  }
});

Deno.test("an estimate needs no weights: StableLM 3B in bf16", async () => {
  const { profile } = await sharedBackend();
  const config = new StableLmConfig({});
  const plan = await estimate(profile, config, {
    dtype: "bf16",
    contextTokens: 4096,
    promptTokens: 512,
  });
  const parameters = 2_795_443_200;
  assert(plan.weightBytes >= 2 * parameters && plan.weightBytes <= 2.02 * 2 * parameters);
  assertEquals(plan.cacheBytes, 32 * 2 * 4096 * 2560 * 4);
  assert(plan.bytesPerToken > 2 * parameters);
  assert(plan.flopPerToken > 2 * (parameters - 50_304 * 2560));
});

Deno.test("loading reads a large table in parts, whatever its size", async () => {
  const { profile } = await sharedBackend();
  const config = new StableLmConfig({
    vocab_size: 100_352,
    hidden_size: 1024,
    num_hidden_layers: 1,
  });
  const described = recipeSource(config, { dtype: "bf16" });
  let most = 0, total = 0;
  const source: WeightSource = {
    ...described,
    read: (name, rows) => {
      const { shape, dtype } = described.tensors.get(name)!;
      const part = rows ? [rows.end - rows.begin, ...shape.slice(1)] : shape;
      const tensor = HostTensor.fromBytes({ shape: part, dtype }, new Uint8Array(MOST_READ + 2048));
      most = Math.max(most, tensor.bytes.byteLength);
      total += tensor.bytes.byteLength;
      return Promise.resolve(tensor);
    },
  };
  using backend = new PlanningBackend(profile);
  using _model = await StableLmModel.load({ backend, config, source, dtype: "f32" });
  assertEquals(total, 2 * parameterCount(config, "none"));
  assert(most <= MOST_READ, `${most}`);
});

Deno.test("a load that fails or is stopped leaves nothing behind", async () => {
  const backend = await sharedBackend();
  const before = backend.memory;
  const source = recipeSource(CONFIG);
  const broken = {
    ...source,
    read: (...args: Parameters<typeof source.read>) =>
      args[0] === "lm_head.weight"
        ? Promise.reject(new TypeError("the disk is gone"))
        : source.read(...args),
  };
  const load = (more: object) =>
    StableLmForCausalLM.load({ backend, config: CONFIG, source, ...more });
  await assertRejects(() => load({ source: broken }), TypeError, "the disk is gone");
  const stop = new AbortController();
  const onProgress = () => stop.abort(new RangeError("enough"));
  await assertRejects(() => load({ signal: stop.signal, onProgress }), RangeError, "enough");
  assertEquals(backend.memory.liveBytes, before.liveBytes);
});

Deno.test("a forward that is refused changes nothing", async () => {
  const backend = await sharedBackend();
  using model = await StableLmModel.load({
    backend,
    config: CONFIG,
    source: recipeSource(CONFIG, { prefix: false, head: "none" }),
  });
  using cache = model.createCache({ capacity: 8 });
  using _first = await model.forward({ inputIds: [IDS.slice(0, 4)], pastKeyValues: cache });
  const before = backend.memory;
  for (
    const inputs of [
      { inputIds: [[97]] },
      { inputIds: [[1, 2]], attentionMask: [[1, 1]] },
      { inputIds: [[1], [2]] },
      { inputIds: [[1]], positionIds: [[2 ** 20]] },
      { inputIds: [[1]], useCache: false },
    ]
  ) {
    await assertRejects(
      () => model.forward({ ...inputs, pastKeyValues: cache }),
      KernelsError,
      "Cannot run forward",
    );
  }
  assertEquals(backend.memory, before);
  assertEquals(cache.length, 4);
});

Deno.test("what an output keeps outlives it", async () => {
  const backend = new CpuBackend();
  using model = await StableLmModel.load({
    backend,
    config: CONFIG,
    source: recipeSource(CONFIG, { head: "none" }),
  });
  const output = await model.forward({ inputIds: [IDS] });
  using kept = output.keep(output.lastHiddenState);
  const { pastKeyValues } = output;
  output[Symbol.dispose]();
  assert(kept instanceof HostTensor && !kept.disposed);
  assert(pastKeyValues!.disposed);
});
