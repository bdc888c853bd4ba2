/** Drafts change how fast tokens come, and never which. */

import { assert, assertEquals, assertRejects } from "@std/assert";
import fc from "fast-check";
import {
  type Backend,
  CpuBackend,
  type GenerateOptions,
  type GenerateOutput,
  type GenerativeModel,
  type LogitsProcessor,
  PromptCache,
  StableLmConfig,
  type StableLmConfigOptions,
  StableLmForCausalLM,
  type Tensor,
  Tokenizer,
} from "../mod.ts";
import { generate, stream } from "../model/generation/generate.ts";
import { rotaryFrequencies, steadyTokens } from "../model/rotary.ts";
import { counting } from "./counting_model.ts";
import { SEED, sharedBackend } from "./device.ts";
import { CAUSAL_FILES, goldenModel, readGolden } from "./golden_files.ts";
import { recipeSource } from "./recipe.ts";
import { tinyCpuModel, tinyModel } from "./tiny_model.ts";

const PROMPT = [5, 17, 3, 96, 42, 17, 3, 8];

/** A model of the same parameters with a layer less, which often says what the other would. */
const LESS: StableLmConfigOptions = { num_hidden_layers: 1 };

const model = await tinyCpuModel();
const assistantModel = await tinyCpuModel(LESS);

/** Everything that can be kept of a call. */
const ALL = { outputScores: true, outputLogits: true, outputLogprobs: 2 } as const;

/** Generates without drafts and with each kind of them, and demands that all of it is the same. */
async function requireSame<T extends Tensor>(
  model: GenerativeModel<T>,
  options: GenerateOptions<T>,
  drafts: readonly GenerateOptions<T>[],
  message = JSON.stringify(options),
): Promise<GenerateOutput> {
  const plain = await generate(model, { seed: 7, ...options });
  for (const [i, draft] of drafts.entries()) {
    const drafted = await generate(model, { seed: 7, ...options, ...draft });
    assertEquals(drafted, plain, `${message}, draft ${i}`);
  }
  return plain;
}

for (const path of ["CPU", "GPU"] as const) {
  const files = path === "CPU" ? CAUSAL_FILES : ["base", "grouped_8_2", "odd_sizes"];
  Deno.test(`greedy decoding with drafts is greedy decoding to the bit: ${files.length} models, ${path}`, async () => {
    const backend: Backend = path === "CPU" ? new CpuBackend() : await sharedBackend();
    for (const file of files) {
      const config = StableLmConfig.fromJson(goldenModel(readGolden(file)).config);
      const source = recipeSource(config);
      using model = await StableLmForCausalLM.load({ backend, config, source });
      const inputIds = [PROMPT.map((id) => id % config.vocab_size)];
      const maxNewTokens = path === "CPU" ? 64 : 40;
      const options = { inputIds, maxNewTokens, eosTokenId: null, ...ALL };
      const own = { assistantModel: model, numAssistantTokens: 4, assistantConfidenceThreshold: 0 };
      await requireSame(model, options, [{ promptLookupNumTokens: 10 }, own], file);
    }
  });
}

Deno.test("tokens that the device chooses are those of scores read to the host", async () => {
  const backend = await sharedBackend();
  using model = await tinyModel(backend);
  using assistantModel = await tinyModel(backend, LESS);
  const options = { inputIds: [PROMPT], maxNewTokens: 32 };
  const sure = { assistantModel, assistantConfidenceThreshold: 0 };
  await requireSame(model, options, [{ promptLookupNumTokens: 5 }, { assistantModel }, sure]);
});

Deno.test("repetition takes fewer calls than tokens, and an assistant that is right still fewer", async () => {
  const options = { inputIds: [PROMPT], maxNewTokens: 60 };
  const alone = counting(model);
  const plain = await generate(alone, options);
  assertEquals(alone.calls, [PROMPT.length, ...Array(59).fill(1)]);

  const looking = counting(model);
  const looked = await generate(looking, { ...options, promptLookupNumTokens: 8 });
  assertEquals(looked.newTokens, plain.newTokens);
  assert(looking.calls.length < 40, `${looking.calls}`);
  assertEquals(looking.calls[0], PROMPT.length);
  assert(looking.calls.every((tokens, i) => i === 0 || tokens <= 9), `${looking.calls}`);

  const checking = counting(model), writing = counting(model);
  const own = { assistantModel: writing, numAssistantTokens: 5, assistantConfidenceThreshold: 0 };
  const drafted = await generate(checking, { ...options, ...own });
  assertEquals(drafted.newTokens, plain.newTokens);
  // The prompt and its token; six tokens a call, five of them drafted; five that are left.
  assertEquals(checking.calls, [PROMPT.length, ...Array(9).fill(6), 5]);
  // The prompt and its token; then the last draft's last token and the model's own.
  assertEquals(writing.calls[0], PROMPT.length + 1);
  assertEquals(writing.calls.slice(1, 11), [1, 1, 1, 1, 2, 1, 1, 1, 1, 2]);
});

/** Settings that change what comes out, each in its own way. */
const SETTINGS: Readonly<Record<string, GenerateOptions>> = {
  "a repetition penalty": { repetitionPenalty: 1.3 },
  "no repeated n-grams": { noRepeatNgramSize: 3 },
  "tokens and a pair that are banned": { badWordsIds: [[43], [3, 70], [8, 9, 10]] },
  "sequences made likelier": { sequenceBias: [[[3, 8], 4], [[17], -3]] },
  "tokens that are suppressed, some of them at first": {
    suppressTokens: [1, 2, 3],
    beginSuppressTokens: [17, 42],
  },
  "an eos token that comes at last": { forcedEosTokenId: 9 },
  "an eos token that grows likelier": {
    eosTokenId: 11,
    exponentialDecayLengthPenalty: [4, 1.2],
  },
  "a renormalised score": { renormalizeLogits: true, removeInvalidValues: true },
  "a shortest length": { eosTokenId: [...Array(90).keys()], minNewTokens: 13 },
  "the prompt's own n-grams banned": {
    encoderNoRepeatNgramSize: 2,
    encoderRepetitionPenalty: 1.5,
  },
  "one token": { maxNewTokens: 1 },
  "two tokens": { maxNewTokens: 2 },
  "three tokens": { maxNewTokens: 3 },
  "a prompt of one token": { inputIds: [[5]] },
  "a prompt in chunks": { prefillChunkSize: 3 },
  "a prompt token by token": { prefillChunkSize: 1 },
  "padding": {
    inputIds: [[0, 0, 0, ...PROMPT]],
    attentionMask: [[0, 0, 0, ...PROMPT.map(() => 1)]],
  },
  "a function that allows tokens": {
    prefixAllowedTokens: (_, ids) =>
      Array.from({ length: 20 }, (_, i) => (ids.length * 7 + i) % 97),
  },
  "a criterion": { stoppingCriteria: [(ids) => ids.length >= 21 && ids.at(-1)! % 2 === 0] },
};

for (const [name, settings] of Object.entries(SETTINGS)) {
  Deno.test(`drafts change nothing: ${name}`, async () => {
    const options = { inputIds: [PROMPT], maxNewTokens: 40, ...ALL, ...settings };
    await requireSame(model, options, [
      { promptLookupNumTokens: 6 },
      { promptLookupNumTokens: 1, maxMatchingNgramSize: 1 },
      { assistantModel },
      { assistantModel: model, assistantConfidenceThreshold: 0 },
    ]);
  });
}

Deno.test("whatever the settings, a row with looked-up drafts is the row without, drawn or not", async () => {
  const token = fc.nat({ max: 96 });
  const settings = fc.record({
    inputIds: fc.array(fc.nat({ max: 5 }), { minLength: 1, maxLength: 12 }).map((row) => [row]),
    maxNewTokens: fc.integer({ min: 1, max: 24 }),
    eosTokenId: fc.array(token, { maxLength: 3 }).map((ids) => ids.length > 0 ? ids : null),
    repetitionPenalty: fc.constantFrom(0.8, 1, 1.4),
    noRepeatNgramSize: fc.nat({ max: 4 }),
    suppressTokens: fc.array(token, { minLength: 1, maxLength: 40 }),
    prefillChunkSize: fc.integer({ min: 1, max: 5 }),
    draws: fc.option(fc.record({
      temperature: fc.constantFrom(0.2, 1),
      topK: fc.constantFrom(0, 2, 9),
      topP: fc.constantFrom(0.6, 1),
    })),
    seed: fc.maxSafeNat(),
  });
  const drafts = fc.record({
    promptLookupNumTokens: fc.integer({ min: 1, max: 12 }),
    maxMatchingNgramSize: fc.integer({ min: 1, max: 4 }),
  });
  await fc.assert(
    fc.asyncProperty(settings, drafts, async ({ draws, ...options }, drafts) => {
      const drawn = draws ? { doSample: true, ...draws } : {};
      const kinds = draws ? [drafts] : [drafts, { assistantModel }];
      await requireSame(model, { ...options, ...drawn, outputScores: true }, kinds);
    }),
    { seed: SEED, numRuns: 40 },
  );
});

Deno.test("a row ends within a draft where a text or an eos token ends it", async () => {
  const json = await Deno.readTextFile("test/testdata/tokenizer/neox.json");
  const tokenizer = await Tokenizer.fromJson(JSON.parse(json));
  const options = { inputIds: [PROMPT], maxNewTokens: 60, tokenizer };
  const { newTokens: [free] } = await generate(model, options);
  const own = { assistantModel: model, assistantConfidenceThreshold: 0, numAssistantTokens: 7 };
  for (const at of [2, 5, 9, 10, 11, 30]) {
    const id = free![at]!;
    const first = free!.indexOf(id) + 1;
    const kinds = [own, { promptLookupNumTokens: 9 }];
    const ended = await requireSame(model, { ...options, eosTokenId: id }, kinds);
    assertEquals([ended.newTokens[0]!.length, ended.finishReasons], [first, ["eos"]]);
    const stopStrings = [tokenizer.decode(free!.slice(at, at + 2))];
    if (stopStrings[0]!.includes("\ufffd")) continue;
    const stopped = await requireSame(model, { ...options, stopStrings }, kinds);
    assertEquals(stopped.finishReasons, ["stop"]);
  }
});

Deno.test("the caller's functions see rows that were chosen, one after the other", async () => {
  const seen = async (drafts: GenerateOptions) => {
    const rows: string[] = [];
    const logitsProcessors: LogitsProcessor[] = [(_, ids) => rows.push(`score ${ids}`)];
    const stoppingCriteria = [(ids: readonly number[]) => rows.push(`stop ${ids}`) < 0];
    const functions = { logitsProcessors, stoppingCriteria };
    await generate(model, { inputIds: [PROMPT], maxNewTokens: 30, ...functions, ...drafts });
    return rows;
  };
  assertEquals(await seen({ promptLookupNumTokens: 6 }), await seen({}));
});

Deno.test("a prompt cache serves calls with drafts, and holds what they took", async () => {
  using onDevice = await tinyModel(await sharedBackend());
  for (const chosen of [model, onDevice] as GenerativeModel[]) {
    const outputs: GenerateOutput[][] = [];
    const held: (readonly number[])[][] = [];
    const modes = [{}, { promptLookupNumTokens: 6 }, { assistantModel: chosen }];
    for (const mode of modes) {
      using promptCache = new PromptCache(chosen);
      const options = { maxNewTokens: 20, promptCache, seed: 1, outputLogits: true, ...mode };
      const first = await generate(chosen, { ...options, inputIds: [PROMPT] });
      const after = promptCache.tokens;
      const inputIds = [[...first.sequences[0]!, 33, 12, 33, 12]];
      outputs.push([first, await generate(chosen, { ...options, inputIds })]);
      held.push([after, promptCache.tokens]);
      // All but the last token, which has not run.
      assertEquals(after, first.sequences[0]!.slice(0, -1));
    }
    assertEquals([outputs[1], held[1]], [outputs[0], held[0]]);
    assertEquals([outputs[2], held[2]], [outputs[0], held[0]]);
  }
});

Deno.test("frequencies that depend on the length are those of single steps", async () => {
  const scalings = {
    dynamic: { rope_type: "dynamic", factor: 2 },
    longrope: {
      rope_type: "longrope",
      factor: 4,
      original_max_position_embeddings: 24,
      short_factor: [1, 1.5],
      long_factor: [3, 4],
    },
  } as const;
  for (const [name, rope_parameters] of Object.entries(scalings)) {
    const rotation = { max_position_embeddings: 24, partial_rotary_factor: 0.5 };
    const config = { ...rotation, rope_parameters };
    const chosen = await tinyCpuModel(config as StableLmConfigOptions);
    const limits: boolean[] = [];
    for (const padding of [0, 5]) {
      const options = {
        inputIds: [[...Array(padding).fill(0), ...PROMPT]],
        attentionMask: [[...Array(padding).fill(0), ...PROMPT.map(() => 1)]],
        maxNewTokens: 48,
        ...ALL,
      };
      const own = {
        assistantModel: chosen,
        numAssistantTokens: 7,
        assistantConfidenceThreshold: 0,
      };
      await requireSame(chosen, options, [{ promptLookupNumTokens: 7 }, own], name);
      const counted = counting(chosen);
      await generate(counted, { ...options, ...own });
      // Drafts before the limit; and behind it where the frequencies do not change any more.
      limits.push(counted.calls[1]! > 1, counted.calls.at(-1)! > 1);
    }
    const goesOn = name === "longrope";
    assertEquals(limits, [true, goesOn, true, goesOn], name);
  }
});

Deno.test("a steady call is as long as its frequencies are those of each of its tokens", () => {
  const base = { rotary_dim: 8, max_position_embeddings: 16 };
  const factors = { short_factor: [1, 1, 1, 1], long_factor: [2, 2, 2, 2] };
  const kinds = [
    { rope_type: "default", rope_theta: 1e4 },
    { rope_type: "dynamic", rope_theta: 1e4, factor: 2 },
    {
      ...factors,
      ...{ rope_type: "longrope", rope_theta: 1e4, factor: 2, original_max_position_embeddings: 9 },
    },
  ] as unknown as StableLmConfig["rope_parameters"][];
  for (const rope_parameters of kinds) {
    const config = { ...base, rope_parameters };
    const key = (length: number) => rotaryFrequencies(config, length).key;
    for (let length = 1; length < 40; length++) {
      const steady = steadyTokens(config, length);
      for (let more = 1; more <= Math.min(steady, 20); more++) {
        assertEquals(key(length + more), key(length));
      }
      if (steady === Infinity) continue;
      // No call is shorter than it must be, but for a dynamic one of just the model's own length.
      const isOwnLength = rope_parameters.rope_type === "dynamic" && length + steady === 15;
      const changes = key(length + steady + 1) !== key(length);
      assert(isOwnLength || changes, `${rope_parameters.rope_type} ${length}`);
    }
  }
});

Deno.test("a stream hands out a draft's tokens in one piece, and the whole at the end", async () => {
  const options = { inputIds: [PROMPT], maxNewTokens: 40, promptLookupNumTokens: 8, ...ALL };
  const expected = await generate(model, { ...options, seed: 3 });
  const pieces = stream(model, { ...options, seed: 3 });
  const sizes: number[] = [], ids: number[] = [], logprobs = [];
  for await (const piece of pieces) {
    sizes.push(piece.ids.length);
    ids.push(...piece.ids);
    logprobs.push(...piece.logprobs!);
  }
  assert(Math.max(...sizes) > 4 && sizes[0] === 1, `${sizes}`);
  assertEquals(ids, expected.newTokens[0]);
  assertEquals(logprobs, [...expected.logprobs![0]!]);
  assertEquals(await pieces.output, expected);
});

Deno.test("however a call ends, the device holds what it held before", async () => {
  const backend = await sharedBackend();
  using model = await tinyModel(backend);
  using less = await tinyModel(backend, LESS);
  const options = { inputIds: [PROMPT], maxNewTokens: 24 };
  const failing = (after: number): typeof options & GenerateOptions => ({
    ...options,
    logitsProcessors: [(_, ids) => {
      if (ids.length > PROMPT.length + after) throw new RangeError("enough");
    }],
  });
  const dying = counting(less);
  const failingAssistant = {
    ...dying,
    forward: (inputs: Parameters<typeof dying.forward>[0]) =>
      dying.calls.length < 9 ? dying.forward(inputs) : Promise.reject(new RangeError("gone")),
  };
  // RoPE's tables are made by the first call, and stay.
  await generate(model, options);
  await generate(less, options);
  const { liveBytes, liveTensors } = backend.memory;
  const held = () => {
    const { memory } = backend;
    assertEquals([memory.liveBytes, memory.liveTensors], [liveBytes, liveTensors]);
  };
  for (const mode of [{ promptLookupNumTokens: 6 }, { assistantModel: less }]) {
    await generate(model, { ...options, ...mode });
    held();
    await assertRejects(() => generate(model, { ...failing(9), ...mode }), RangeError, "enough");
    held();
    const control = new AbortController();
    const aborting = stream(model, { ...options, ...mode, signal: control.signal });
    await assertRejects(
      async () => {
        let pieces = 0;
        for await (const _ of aborting) if (++pieces === 3) control.abort(new RangeError("stop"));
      },
      RangeError,
      "stop",
    );
    held();
    for await (const _ of stream(model, { ...options, ...mode })) break;
    held();
    // Not one piece is asked for.
    await stream(model, { ...options, ...mode }).cancel();
    held();
  }
  const died = { ...options, assistantModel: failingAssistant };
  await assertRejects(() => generate(model, died), RangeError, "gone");
  held();
});
