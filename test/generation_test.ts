/** Greedy decoding and sampling, step by step, as a stream, and with what was computed before. */

import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { ModelInputError, PromptCache, type StableLmForCausalLM, Tokenizer } from "../mod.ts";
import { Decoding } from "../model/generation/decoding.ts";
import { generate } from "../model/generation/generate.ts";
import { Stopping } from "../model/generation/stopping.ts";
import type { Tensor } from "../runtime/tensor.ts";
import { BigramModel } from "./bigram_model.ts";
import { sharedBackend } from "./device.ts";
import { tinyCpuModel, tinyModel } from "./tiny_model.ts";

const PROMPT = [5, 17, 3, 96, 42];
const OTHER = [8, 60, 23, 71, 9, 30, 11];

const model = await tinyCpuModel();

async function jsonOf(name: string): Promise<unknown> {
  return JSON.parse(await Deno.readTextFile(`test/testdata/tokenizer/${name}`));
}

/** What the model goes on with, by way of `forward` alone. */
async function greedyByHand(prompt: readonly number[], tokens: number): Promise<number[]> {
  const ids = [...prompt];
  for (let i = 0; i < tokens; i++) {
    using output = await model.forward({ inputIds: [ids], logitsToKeep: 1 });
    const { numbers } = await model.backend.read(output.logits);
    ids.push(numbers.indexOf(Math.max(...numbers)));
  }
  return ids;
}

Deno.test("greedy decoding takes the best token each time, with and without a cache, in any chunks", async () => {
  const expected = [await greedyByHand(PROMPT, 24)];
  for (const more of [{}, { useCache: false }, { prefillChunkSize: 2 }, { prefillChunkSize: 1 }]) {
    const { sequences, newTokens, finishReasons } = await model.generate({
      inputIds: [PROMPT],
      maxNewTokens: 24,
      ...more,
    });
    assertEquals(sequences, expected, JSON.stringify(more));
    assertEquals(newTokens, [expected[0]!.slice(PROMPT.length)]);
    assertEquals(finishReasons, ["length"]);
  }
});

Deno.test("scores read to the host choose the tokens that the device chooses", async () => {
  for (const chosen of [model, await tinyModel(await sharedBackend())]) {
    const options = { inputIds: [PROMPT, [...PROMPT].reverse()], maxNewTokens: 16, padTokenId: 0 };
    const device = await chosen.generate(options);
    const host = await chosen.generate({ ...options, outputScores: true, outputLogits: true });
    assertEquals(host.sequences, device.sequences);
    assertEquals(host.scores!.length, 16);
    assertEquals(host.scores, host.logits);
    assertEquals([device.scores, device.logits, device.logprobs], [
      undefined,
      undefined,
      undefined,
    ]);
  }
});

Deno.test("a row of a batch of different lengths is what it is alone, and ends by itself", async () => {
  const alone = [await greedyByHand(PROMPT, 20), await greedyByHand(OTHER, 20)];
  const last = alone[0]![PROMPT.length + 7]!;
  const first = alone[0]!.indexOf(last, PROMPT.length);
  const { sequences, newTokens, finishReasons } = await model.generate({
    inputIds: [PROMPT, OTHER],
    maxNewTokens: 20,
    eosTokenId: last,
    padTokenId: 2,
  });
  const ends = [first + 1, alone[1]!.indexOf(last, OTHER.length) + 1 || alone[1]!.length];
  assertEquals(newTokens[0], alone[0]!.slice(PROMPT.length, ends[0]));
  assertEquals(newTokens[1], alone[1]!.slice(OTHER.length, ends[1]));
  assertEquals(finishReasons[0], "eos");
  assertEquals(sequences[0]!.length, sequences[1]!.length);
  assertEquals(sequences[0]!.slice(0, 2), [2, 2]);
  const filled = sequences[0]!.slice(2 + ends[0]!);
  assert(filled.length > 0 && filled.every((id) => id === 2), String(filled));
});

Deno.test("a model whose scores are NaN is an error, and says of which row", async () => {
  const broken = new BigramModel([[NaN, NaN], [0, 1]]);
  const run = generate(broken, { inputIds: [[1], [0]], maxNewTokens: 3 });
  await assertRejects(() => run, ModelInputError, "scores must not be NaN: token 0 of row 1 is");
  const drafted = generate(broken, { inputIds: [[1, 0]], promptLookupNumTokens: 2 });
  await assertRejects(() => drafted, ModelInputError, "scores must not be NaN");
});

Deno.test("draws depend on seed, row and position: repeatable, and other rows draw otherwise", async () => {
  const options = {
    inputIds: [PROMPT],
    doSample: true,
    topK: 0,
    maxNewTokens: 12,
    numReturnSequences: 3,
  };
  const one = await model.generate({ ...options, seed: 11 });
  const same = await model.generate({ ...options, seed: 11n });
  const other = await model.generate({ ...options, seed: 12 });
  assertEquals(one.sequences, same.sequences);
  assertEquals(one.seed, 11);
  assert(new Set([...one.sequences, ...other.sequences].map(String)).size === 6);
  // The first row is what it is without the others.
  const alone = await model.generate({ ...options, numReturnSequences: 1, seed: 11 });
  assertEquals(alone.sequences[0], one.sequences[0]);
  const unseeded = await model.generate(options);
  const again = await model.generate({ ...options, seed: unseeded.seed });
  assertEquals(again.sequences, unseeded.sequences);
});

Deno.test("log-probabilities are the model's own, whatever the processors do", async () => {
  const { logits, logprobs, newTokens } = await model.generate({
    inputIds: [PROMPT, OTHER.slice(0, 5)],
    maxNewTokens: 4,
    repetitionPenalty: 1.7,
    padTokenId: 0,
    outputLogits: true,
    outputLogprobs: 3,
  });
  for (const row of [0, 1]) {
    for (const [step, { id, logprob, top }] of logprobs![row]!.entries()) {
      const scores = logits![step]![row]!;
      const total = Math.log(scores.reduce((sum, x) => sum + Math.exp(x), 0));
      assertEquals(id, newTokens[row]![step]);
      assert(Math.abs(logprob - (scores[id]! - total)) < 1e-5);
      const best = [...scores.keys()].sort((a, b) => scores[b]! - scores[a]! || a - b).slice(0, 3);
      assertEquals(top.map((token) => token.id), best);
      assert(top.every((token) => Math.abs(token.logprob - (scores[token.id]! - total)) < 1e-5));
    }
  }
});

Deno.test("a stream hands out what generate returns, piece by piece and in whole characters", async () => {
  const tokenizer = await Tokenizer.fromJson(await jsonOf("neox.json"));
  const options = { inputIds: [PROMPT], maxNewTokens: 40, tokenizer, outputLogprobs: 1, seed: 3 };
  const expected = await model.generate(options);
  const stream = model.stream(options);
  const ids: number[] = [], texts: string[] = [];
  for await (const piece of stream) {
    assertEquals(piece.row, 0);
    assertEquals(piece.logprobs?.map(({ id }) => id) ?? [], [...piece.ids]);
    ids.push(...piece.ids);
    texts.push(piece.text);
  }
  assertEquals(ids, expected.newTokens[0]);
  assertEquals(texts.join(""), tokenizer.decode(ids, { skipSpecialTokens: true }));
  assertEquals(await stream.output, expected);
});

Deno.test("a stream is a web stream: it pipes, and computes nothing before it is read", async () => {
  const stream = model.stream({ inputIds: [PROMPT], maxNewTokens: 5 });
  assert(stream instanceof ReadableStream);
  const counts = new TransformStream<{ ids: readonly number[] }, number>({
    transform: ({ ids }, controller) => controller.enqueue(ids.length),
  });
  assertEquals(await Array.fromAsync(stream.pipeThrough(counts)), [1, 1, 1, 1, 1]);
  assertThrows(
    () => model.stream({ inputIds: [PROMPT], numBeams: 2 }),
    ModelInputError,
    "numBeams",
  );
});

Deno.test("leaving a stream, cancelling it and aborting it give everything back", async () => {
  const backend = await sharedBackend();
  using gpu = await tinyModel(backend);
  const options = { inputIds: [PROMPT], maxNewTokens: 30 };
  // Tables are made once, and stay.
  await gpu.generate(options);
  const before = backend.memory;
  const left = gpu.stream(options);
  for await (const _ of left) break;
  await assertRejects(() => left.output, DOMException, "cancelled");
  const cancelled = gpu.stream(options);
  const reader = cancelled.getReader();
  await reader.read();
  await reader.cancel(new Error("enough"));
  await assertRejects(() => cancelled.output, Error, "enough");
  const controller = new AbortController();
  const aborted = gpu.stream({ ...options, signal: controller.signal });
  await assertRejects(
    async () => {
      for await (const _ of aborted) controller.abort(new Error("stop now"));
    },
    Error,
    "stop now",
  );
  await assertRejects(
    () => gpu.generate({ ...options, signal: AbortSignal.abort(new Error("at once")) }),
    Error,
    "at once",
  );
  await backend.finish();
  const { liveBytes, liveTensors } = backend.memory;
  assertEquals([liveBytes, liveTensors], [before.liveBytes, before.liveTensors]);
});

Deno.test("a timer fires while a long text is generated on the CPU", async () => {
  const controller = new AbortController();
  setTimeout(() => controller.abort(new Error("time is up")), 40);
  const endless = model.generate({
    inputIds: [PROMPT],
    maxNewTokens: 100_000,
    useCache: false,
    signal: controller.signal,
  });
  await assertRejects(() => endless, Error, "time is up");
});

Deno.test("200 generations leave live bytes flat", async () => {
  const backend = await sharedBackend();
  using gpu = await tinyModel(backend);
  const run = () => gpu.generate({ inputIds: [PROMPT], maxNewTokens: 2, doSample: true, seed: 1 });
  await run();
  const { liveBytes, liveTensors, pooledBytes } = backend.memory;
  for (let i = 0; i < 200; i++) await run();
  await backend.finish();
  const after = backend.memory;
  assertEquals([after.liveBytes, after.liveTensors], [liveBytes, liveTensors]);
  assertEquals(after.pooledBytes, pooledBytes);
});

Deno.test("a prompt cache reuses exactly the tokens that a prompt begins with", async () => {
  const check = async <T extends Tensor>(chosen: StableLmForCausalLM<T>): Promise<void> => {
    using promptCache = new PromptCache(chosen);
    const run = async (prompt: number[]) => {
      const options = { inputIds: [prompt], maxNewTokens: 6 };
      const expected = await chosen.generate(options);
      const { sequences } = await chosen.generate({ ...options, promptCache });
      assertEquals(sequences, expected.sequences);
      return sequences[0]!;
    };
    const first = await run(PROMPT);
    // The last token has not run: nothing was asked to follow it.
    assertEquals(promptCache.tokens, first.slice(0, -1));
    const second = await run([...first, 7, 8]);
    assertEquals(promptCache.tokens, second.slice(0, -1));
    const third = await run([...second.slice(0, 6), 50, 51]);
    assertEquals(promptCache.tokens, third.slice(0, -1));
    await run(third.slice(0, 4));
    await run(OTHER);
  };
  await check(model);
  using gpu = await tinyModel(await sharedBackend());
  await check(gpu);
});

Deno.test("a prompt cache is one text's at a time, its model's, and given back when disposed", async () => {
  const other = await tinyCpuModel();
  const promptCache = new PromptCache(model);
  const options = { inputIds: [PROMPT], maxNewTokens: 6, promptCache };
  await assertRejects(() => other.generate(options), ModelInputError, "must be of this model");
  const stream = model.stream(options);
  const reader = stream.getReader();
  await reader.read();
  await assertRejects(() => model.generate(options), ModelInputError, "must be free: in use");
  promptCache[Symbol.dispose]();
  await reader.cancel();
  assertEquals(promptCache.tokens, []);
  await assertRejects(() => model.generate(options), ModelInputError, "must be free: disposed");
  const batch = { ...options, inputIds: [PROMPT, PROMPT] };
  await assertRejects(() => model.generate(batch), ModelInputError, "one prompt only");
});

Deno.test("a prompt cache takes back only what it has lent", async () => {
  using promptCache = new PromptCache(model);
  promptCache.giveBack([1]);
  assertEquals(promptCache.tokens, []);
  await model.generate({ inputIds: [PROMPT], maxNewTokens: 1, promptCache });
  promptCache.giveBack([9, 9, 9]);
  assertEquals(promptCache.tokens, PROMPT);
});

Deno.test("chunks and prompt caches change nothing where RoPE depends on the length", async () => {
  const prompt = Array.from({ length: 24 }, (_, i) => 7 * i % 97);
  const factors = new Array(4).fill(1);
  for (
    const rope_scaling of [
      { rope_type: "dynamic", factor: 4 },
      {
        rope_type: "longrope",
        original_max_position_embeddings: 16,
        short_factor: factors,
        long_factor: factors.map((_, i) => 4 + i),
        factor: 2,
      },
    ] as const
  ) {
    const max_position_embeddings = rope_scaling.rope_type === "dynamic" ? 16 : 32;
    const logitsOf = async (more: object, from?: typeof model) => {
      using fresh = await tinyCpuModel({
        max_position_embeddings,
        partial_rotary_factor: 1,
        rope_scaling,
      });
      const options = { inputIds: [prompt], maxNewTokens: 1, outputLogits: true };
      return (await (from ?? fresh).generate({ ...options, ...more })).logits![0]![0]!;
    };
    const expected = await logitsOf({});
    assertEquals(await logitsOf({ prefillChunkSize: 6 }), expected, rope_scaling.rope_type);

    using chosen = await tinyCpuModel({
      max_position_embeddings,
      partial_rotary_factor: 1,
      rope_scaling,
    });
    using promptCache = new PromptCache(chosen);
    const short = { inputIds: [prompt.slice(0, 5)] };
    await logitsOf({ promptCache }, chosen);
    assertEquals(promptCache.tokens.length, prompt.length);
    assertEquals(await logitsOf({ ...short, promptCache }, chosen), await logitsOf(short));
    assertEquals(await logitsOf({ promptCache }, chosen), expected);
  }
});

Deno.test("guidance makes no room for a length that is never reached", async () => {
  const capacities: unknown[] = [];
  const createCache: typeof model.createCache = (options) => {
    capacities.push(options?.capacity);
    return model.createCache(options);
  };
  const watched: typeof model = Object.create(model, {
    createCache: { value: createCache },
    forward: { value: model.forward.bind(model) },
    backend: { value: model.backend },
    config: { value: model.config },
    generationConfig: { value: model.generationConfig },
  });
  const stoppingCriteria = [() => true];
  await generate(watched, {
    inputIds: [PROMPT],
    maxNewTokens: 2 ** 20,
    guidanceScale: 2,
    stoppingCriteria,
  });
  assertEquals(capacities, [PROMPT.length + 256, 1 + 256]);
});

Deno.test("a stream refuses at once what its processors cannot do", () => {
  const call = (options: object) => () => model.stream({ inputIds: [PROMPT], ...options });
  assertThrows(call({ doSample: true, temperature: 0 }), ModelInputError, "temperature");
  assertThrows(call({ suppressTokens: [97] }), ModelInputError, "suppressTokens");
});

Deno.test("an aborted generation leaves its prompt cache usable", async () => {
  using promptCache = new PromptCache(model);
  const controller = new AbortController();
  const options = { inputIds: [PROMPT], maxNewTokens: 20, promptCache };
  const stream = model.stream({ ...options, signal: controller.signal });
  await assertRejects(async () => {
    for await (const _ of stream) controller.abort();
  });
  const { sequences } = await model.generate(options);
  assertEquals(
    sequences,
    (await model.generate({ ...options, promptCache: new PromptCache(model) })).sequences,
  );
});

Deno.test("rows that are cropped and put in another order go on as if they had always been so", async () => {
  for (const mask of [undefined, [[1, 1, 1, 1, 1], [0, 0, 1, 1, 1]]]) {
    using decoding = new Decoding(model, [PROMPT, OTHER.slice(0, 5)], { mask });
    (await decoding.logits())[Symbol.dispose]();
    decoding.append([[1, 2, 3], [4, 5, 6]]);
    (await decoding.logits(3))[Symbol.dispose]();
    decoding.crop(6);
    decoding.reorder([1, 1, 0]);
    decoding.append([[7], [8], [9]]);
    using logits = await decoding.logits(1);
    using fresh = new Decoding(model, decoding.rows, {
      mask: mask && [[...mask[1]!, 1, 1], [...mask[1]!, 1, 1], [...mask[0]!, 1, 1]],
      useCache: false,
    });
    using expected = await fresh.logits(1);
    const [ours, theirs] = [await model.backend.read(logits), await model.backend.read(expected)];
    const worst = ours.numbers.findIndex((x, i) => Math.abs(x - theirs.numbers[i]!) > 1e-4);
    assertEquals(worst, -1);
  }
});

Deno.test("stop strings end a row where they end within its last token, across tokens and characters", async () => {
  const tokenizer = await Tokenizer.fromJson(await jsonOf("neox.json"));
  const stops = (text: string, stopStrings: string[]): boolean => {
    const stopping = new Stopping({ maxLength: 1000, eos: [], tokenizer, stopStrings });
    return stopping.reason(tokenizer.encode(text), 0) === "stop";
  };
  for (const text of ["Hello world", "the end.", "a\n\nb", "naïve 🙂", "日本語"]) {
    const characters = [...text];
    for (let from = 0; from < characters.length; from++) {
      assertEquals(stops(text, [characters.slice(from).join("")]), true, `${text} from ${from}`);
    }
    assertEquals(stops(text, ["zzz", "q" + text]), false);
  }
  // Before the last token there is nothing to stop for any more.
  const ids = tokenizer.encode("stop here now please");
  const stopping = new Stopping({ maxLength: 1000, eos: [], tokenizer, stopStrings: ["stop"] });
  assertEquals(stopping.reason(ids, 0), undefined);
});

Deno.test("reasons to stop: length, time, a rule of the caller's, and the eos tokens", () => {
  const reason = (options: Partial<ConstructorParameters<typeof Stopping>[0]>, ids: number[]) =>
    new Stopping({ maxLength: 5, eos: [0, 9], ...options }).reason(ids, 3);
  assertEquals(reason({}, [1, 2]), undefined);
  assertEquals(reason({}, [1, 0]), "eos");
  assertEquals(reason({}, [1, 9]), "eos");
  assertEquals(reason({}, [1, 2, 3, 4, 9]), "length");
  assertEquals(reason({ maxTime: -1 }, [1]), "time");
  // Time that runs out between two rows of a step ends both of them a step later.
  const stopping = new Stopping({ maxLength: 5, eos: [], maxTime: 0.02 });
  assertEquals(stopping.reason([1], 0), undefined);
  const begin = performance.now();
  while (performance.now() < begin + 25);
  assertEquals(stopping.reason([2], 1), undefined);
  assertEquals(stopping.reason([1, 1], 0), "time");
  assertEquals(stopping.reason([2, 2], 1), "time");
  assertEquals(
    reason({ criteria: [(ids, row) => row === 3 && ids.at(-1) === 7] }, [7]),
    "criterion",
  );
});
