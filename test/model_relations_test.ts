/** Relations that hold for a model without any stored result: what may change an output, and what must not. */

import { assert, assertEquals } from "@std/assert";
import { StableLmForCausalLM } from "../model/causal_lm.ts";
import { StableLmConfig, type StableLmConfigOptions } from "../model/config.ts";
import type { CausalLmInputs } from "../model/causal_lm.ts";
import { type Backend, CpuBackend, type GpuBackend, HostTensor, type Tensor } from "../mod.ts";
import { sharedBackend } from "./device.ts";
import { recipeSource } from "./recipe.ts";

const TINY: StableLmConfigOptions = {
  vocab_size: 97,
  intermediate_size: 44,
  num_hidden_layers: 2,
  max_position_embeddings: 64,
};

/** Sequential with biases and heads as 3B has them; parallel with grouped heads and a norm for each. */
const CONFIGS: Readonly<Record<string, StableLmConfigOptions>> = {
  sequential: {
    ...TINY,
    hidden_size: 160,
    num_attention_heads: 2,
    num_key_value_heads: 2,
    use_qkv_bias: true,
  },
  parallel: {
    ...TINY,
    hidden_size: 96,
    num_attention_heads: 4,
    num_key_value_heads: 2,
    qk_layernorm: true,
    use_parallel_residual: true,
  },
};

const IDS = [5, 17, 3, 96, 42, 8, 60, 23, 0, 71, 12, 33, 9, 88, 54, 2, 19];
const OTHERS = [
  [8, 60, 23, 5, 17, 3, 96, 42, 1, 2, 3, 4, 5, 6, 7, 8, 9],
  [0, 0, 0, 96, 96, 96, 1, 1, 1, 50, 51, 52, 53, 54, 55, 56, 57],
];

/** Largest difference that sums in another order may make, as a part of the largest logit. */
const ORDER = 1e-4;

type Model<T extends Tensor> = StableLmForCausalLM<T>;

for (const [name, options] of Object.entries(CONFIGS)) {
  const config = new StableLmConfig(options);
  const test = (relation: string, check: <T extends Tensor>(model: Model<T>) => Promise<void>) => {
    for (const path of ["CPU", "GPU"] as const) {
      Deno.test(`${relation}: ${name}, ${path}`, async () => {
        const backend: Backend = path === "CPU" ? new CpuBackend() : await sharedBackend();
        const source = recipeSource(config);
        using model = await StableLmForCausalLM.load({ backend, config, source, dtype: "f32" });
        await check(model);
      });
    }
  };

  test("a later token never changes an earlier row", async (model) => {
    const first = await logits(model, { inputIds: [IDS] });
    const changed = await logits(model, {
      inputIds: [[...IDS.slice(0, 9), 1, 1, 1, 1, 1, 1, 1, 1]],
    });
    assertEquals(rows(changed, 0, 9), rows(first, 0, 9));
    assert(rows(changed, 9).some((value, i) => value !== rows(first, 9)[i]));
  });

  test("a sequence has the same bits in every batch", async (model) => {
    const alone = await logits(model, { inputIds: [IDS] });
    for (const inputIds of [[IDS, ...OTHERS], [...OTHERS, IDS], [OTHERS[1]!, IDS]]) {
      const together = await logits(model, { inputIds });
      const place = inputIds.indexOf(IDS) * IDS.length;
      assertEquals(rows(together, place, place + IDS.length), alone);
    }
  });

  test("a decoded token has the same bits in every batch", async (model) => {
    const alone = await decoded(model, [IDS]);
    for (const count of [2, 3, 9]) {
      const inputIds = Array.from(
        { length: count },
        (_, i) => i === count - 1 ? IDS : OTHERS[i % 2]!,
      );
      const together = await decoded(model, inputIds);
      assertEquals(rows(together, count - 1), alone);
    }
  });

  test("step by step is the same as in one go", async (model) => {
    const whole = await logits(model, { inputIds: [IDS] });
    using cache = model.createCache({ capacity: 4 });
    for (const [t, id] of IDS.entries()) {
      const step = await logits(model, { inputIds: [[id]], pastKeyValues: cache });
      assertClose(step, rows(whole, t, t + 1), whole, ORDER);
    }
    assertEquals(cache.length, IDS.length);
  });

  test("a prompt in chunks is the same as in one go", async (model) => {
    const whole = await logits(model, { inputIds: [IDS] });
    for (const chunk of [2, 7, 16]) {
      using cache = model.createCache();
      const parts: number[] = [];
      for (let t = 0; t < IDS.length; t += chunk) {
        const inputIds = [IDS.slice(t, t + chunk)];
        parts.push(...await logits(model, { inputIds, pastKeyValues: cache }));
      }
      assertClose(parts, whole, whole, ORDER);
    }
  });

  test("padding changes no token", async (model) => {
    const short = IDS.slice(0, 6);
    const alone = await logits(model, { inputIds: [short] });
    const pads = [96, 1, 0];
    const left = await logits(model, {
      inputIds: [[...pads, ...short]],
      attentionMask: [[0, 0, 0, 1, 1, 1, 1, 1, 1]],
    });
    assertClose(rows(left, 3), alone, alone, 1e-5);
    const right = await logits(model, {
      inputIds: [[...short, ...pads]],
      attentionMask: [[1, 1, 1, 1, 1, 1, 0, 0, 0]],
    });
    assertClose(rows(right, 0, 6), alone, alone, 1e-5);
  });

  test("what is not a number in padding stays there", async (model) => {
    const embeddings = (await embedded(model, IDS.slice(0, 6))).numbers;
    const size = config.hidden_size;
    const padded = new Float32Array(9 * size).fill(NaN);
    padded.set(Float32Array.from(embeddings), 3 * size);
    const alone = await logits(model, {
      inputsEmbeds: HostTensor.from([1, 6, size], embeddings),
    });
    const left = await logits(model, {
      inputsEmbeds: new HostTensor([1, 9, size], padded),
      attentionMask: [[0, 0, 0, 1, 1, 1, 1, 1, 1]],
    });
    assertClose(rows(left, 3), alone, alone, 1e-5);
  });

  test("sequences in another order give outputs in that order", async (model) => {
    const forth = await logits(model, { inputIds: [IDS, ...OTHERS] });
    const back = await logits(model, { inputIds: [...OTHERS, IDS] });
    const n = IDS.length;
    assertEquals(back, [...rows(forth, n), ...rows(forth, 0, n)]);
  });

  test("the logits that are kept are those of all", async (model) => {
    const all = await logits(model, { inputIds: [IDS, OTHERS[0]!] });
    const n = IDS.length;
    const last = await logits(model, { inputIds: [IDS, OTHERS[0]!], logitsToKeep: 2 });
    assertEquals(last, [...rows(all, n - 2, n), ...rows(all, 2 * n - 2)]);
    const listed = await logits(model, { inputIds: [IDS, OTHERS[0]!], logitsToKeep: [4, 0] });
    assertEquals(listed, [4, 0, n + 4, n].flatMap((row) => rows(all, row, row + 1)));
  });

  test("a cache that was cropped or reordered goes on as if it had been so", async (model) => {
    using cache = model.createCache({ batch: 2, capacity: 3 });
    await logits(model, {
      inputIds: [IDS.slice(0, 7), OTHERS[0]!.slice(0, 7)],
      pastKeyValues: cache,
    });
    cache.crop(-3);
    assertEquals(cache.length, 4);
    cache.reorder([1, 0, 1]);
    const next = [[11], [12], [13]];
    const got = await logits(model, { inputIds: next, pastKeyValues: cache });
    using fresh = model.createCache({ batch: 3 });
    const again = [OTHERS[0]!, IDS, OTHERS[0]!].map((ids) => ids.slice(0, 4));
    await logits(model, { inputIds: again, pastKeyValues: fresh });
    assertClose(got, await logits(model, { inputIds: next, pastKeyValues: fresh }), got, ORDER);
  });

  test("weights split over several tensors give the same bits", async (model) => {
    const whole = await logits(model, { inputIds: [IDS, OTHERS[0]!] });
    const one = await decoded(model, [IDS]);
    // 64 rows of the widest weight: the vocabulary's tables and most projections are in pieces.
    const backend = new SplittingBackend(model.backend, 64 * 4 * config.hidden_size);
    const source = recipeSource(config);
    using split = await StableLmForCausalLM.load({ backend, config, source, dtype: "f32" });
    assertEquals(await logits(split, { inputIds: [IDS, OTHERS[0]!] }), whole);
    assertEquals(await decoded(split, [IDS]), one);
  });

  test("unfused attention gives the same logits", async (model) => {
    const fused = await logits(model, { inputIds: [IDS, OTHERS[0]!] });
    const unfused = await logits(model, {
      inputIds: [IDS, OTHERS[0]!],
      outputAttentions: true,
    });
    assertClose(unfused, fused, fused, 1e-5);
  });
}

/** The logits of a call, row after row. */
async function logits<T extends Tensor>(
  model: Model<T>,
  inputs: CausalLmInputs<T>,
): Promise<number[]> {
  using output = await model.forward(inputs);
  return Array.from((await model.backend.read(output.logits)).numbers);
}

/** The logits of the last token, decoded after the others. */
async function decoded<T extends Tensor>(
  model: Model<T>,
  ids: readonly (readonly number[])[],
): Promise<number[]> {
  using cache = model.createCache({ batch: ids.length });
  await logits(model, { inputIds: ids.map((row) => row.slice(0, -1)), pastKeyValues: cache });
  return await logits(model, { inputIds: ids.map((row) => row.slice(-1)), pastKeyValues: cache });
}

async function embedded<T extends Tensor>(model: Model<T>, ids: number[]): Promise<HostTensor> {
  using output = await model.forward({ inputIds: [ids], outputHiddenStates: true });
  return await model.backend.read(output.hiddenStates![0]!);
}

/** Rows of logits. */
function rows(values: readonly number[], begin: number, end?: number): number[] {
  const columns = TINY.vocab_size!;
  return values.slice(begin * columns, end && end * columns);
}

/** Compares to a part of the largest of `scale`. */
function assertClose(
  got: readonly number[],
  expected: readonly number[],
  scale: readonly number[],
  within: number,
): void {
  assertEquals(got.length, expected.length);
  const most = within * Math.max(...scale.map(Math.abs));
  const worst = got.reduce((worst, value, i) => {
    const difference = Math.abs(value - expected[i]!);
    return difference <= worst ? worst : difference;
  }, 0);
  assert(worst <= most, `off by ${worst}, allowed ${most}`);
}

/** Another backend with a lower bound on the bytes of a tensor. */
class SplittingBackend<T extends Tensor> implements Backend<T> {
  readonly description: string;
  readonly maxTensorBytes: number;
  readonly hasF16: boolean;
  readonly upload: Backend<T>["upload"];
  readonly zeros: Backend<T>["zeros"];
  readonly write: Backend<T>["write"];
  readonly reshape: Backend<T>["reshape"];
  readonly run: Backend<T>["run"];
  readonly read: Backend<T>["read"];
  readonly finish: Backend<T>["finish"];

  constructor(backend: Backend<T> | GpuBackend, maxTensorBytes: number) {
    const inner = backend as Backend<T>;
    this.description = inner.description;
    this.maxTensorBytes = maxTensorBytes;
    this.hasF16 = inner.hasF16;
    this.upload = inner.upload.bind(inner);
    this.zeros = inner.zeros.bind(inner);
    this.write = inner.write.bind(inner);
    this.reshape = inner.reshape.bind(inner);
    this.run = inner.run.bind(inner);
    this.read = inner.read.bind(inner);
    this.finish = inner.finish.bind(inner);
  }

  [Symbol.dispose](): void {}
}
