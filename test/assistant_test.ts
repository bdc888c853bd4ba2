/** How an assistant drafts: how much, how sure, and for whom. */

import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { type GenerativeModel, type HostTensor, ModelInputError } from "../mod.ts";
import { generate, stream } from "../model/generation/generate.ts";
import { BigramModel } from "./bigram_model.ts";
import { counting } from "./counting_model.ts";
import { tinyCpuModel } from "./tiny_model.ts";

const PROMPT = [5, 17, 3, 96, 42, 17, 3, 8];

const model = await tinyCpuModel();

/** Log-probabilities beside all that generation gives. */
const ALL = { outputScores: true, outputLogits: true, outputLogprobs: 2 } as const;

Deno.test("drafts grow and shrink as the schedule says, and heuristic goes on in the next call", async () => {
  const sizes = async (
    assistantModel: GenerativeModel<HostTensor>,
    numAssistantTokensSchedule: "constant" | "heuristic" | "heuristic_transient",
    numAssistantTokens = 2,
  ) => {
    const counted = counting(model);
    const settings = { numAssistantTokensSchedule, numAssistantTokens };
    await generate(counted, {
      ...{ inputIds: [PROMPT], maxNewTokens: 24, assistantModel, ...settings },
      assistantConfidenceThreshold: 0,
    });
    return counted.calls.slice(1).map((tokens) => tokens - 1);
  };
  const right = counting(model);
  // Each draft and a token of the model's own, after the first token: 3 + 3 + …, or 3 + 5 + 7, and what is left.
  assertEquals(await sizes(right, "constant"), [2, 2, 2, 2, 2, 2, 2, 1]);
  assertEquals(await sizes(right, "heuristic_transient"), [2, 4, 6, 7]);
  assertEquals(await sizes(right, "heuristic_transient"), [2, 4, 6, 7]);
  assertEquals(await sizes(right, "heuristic"), [2, 4, 6, 7]);
  assertEquals(await sizes(right, "heuristic"), [10, 11]);
  assertEquals(await sizes(right, "heuristic", 3), [3, 5, 7, 4]);
  const shrinking = await sizes(wrong(model), "heuristic_transient", 4);
  assertEquals(shrinking.slice(0, 6), [4, 3, 2, 1, 1, 1]);
  assertEquals(shrinking.length, 23);
});

/** A model whose best token is the one after the other's. */
function wrong(model: GenerativeModel<HostTensor>): GenerativeModel<HostTensor> {
  return {
    ...counting(model),
    async forward(inputs) {
      const output = await model.forward(inputs);
      const { values, shape } = output.logits;
      const width = shape[2]!;
      values.set(values.map((_, i) => values[i - i % width + (i + width - 1) % width]!));
      return output;
    },
  };
}

Deno.test("a draft ends with the first token that the assistant is not sure of", async () => {
  const drafted = async (assistantConfidenceThreshold: number) => {
    const counted = counting(model);
    const options = { assistantModel: model, numAssistantTokens: 6, assistantConfidenceThreshold };
    const output = await generate(counted, {
      ...{ inputIds: [PROMPT], maxNewTokens: 40, ...ALL },
      ...options,
    });
    return { calls: counted.calls.slice(1, -1), probabilities: output.logprobs![0]! };
  };
  const sure = await drafted(0);
  assert(sure.calls.every((tokens) => tokens === 7), `${sure.calls}`);
  const never = await drafted(1);
  assert(never.calls.every((tokens) => tokens === 2), `${never.calls}`);
  // Between the two, as the probabilities of the tokens say: all drafts are right here.
  const threshold = Math.exp(sure.probabilities.map(({ logprob }) => logprob).sort()[20]!);
  const { calls, probabilities } = await drafted(threshold);
  let at = 1;
  for (const tokens of calls) {
    const draft = probabilities.slice(at, at + tokens - 1).map(({ logprob }) => Math.exp(logprob));
    const unsure = draft.findIndex((p) => p < threshold);
    assert(unsure === draft.length - 1 || (unsure === -1 && draft.length === 6), `${draft}`);
    at += tokens;
  }
  assert(new Set(calls).size > 1, `${calls}`);
});

Deno.test("an assistant that was wrong once goes on from what the model has chosen", async () => {
  const writing = counting(model), other = wrong(writing);
  const assistantModel: GenerativeModel<HostTensor> = {
    ...writing,
    forward: (inputs) => (writing.calls.length === 2 ? other : writing).forward(inputs),
  };
  const checking = counting(model);
  await generate(checking, {
    ...{ inputIds: [PROMPT], maxNewTokens: 21, assistantModel, numAssistantTokens: 4 },
    assistantConfidenceThreshold: 0,
  });
  // 1 token, 2 of a draft of 4 and another, 4 + 1 three times, and 1 + 1.
  assertEquals(checking.calls, [PROMPT.length, 5, 5, 5, 5, 2]);
  assertEquals(writing.calls, [PROMPT.length + 1, 1, 1, 1, ...[1, 1, 1, 1], ...[2, 1, 1, 1], ...[
    2,
    1,
    1,
    1,
  ], 2]);
});

Deno.test("an eos token is the last of a draft", async () => {
  const model = counting(new BigramModel(stepping(1)));
  const { newTokens, finishReasons } = await generate(model, {
    ...{ inputIds: [[0]], maxNewTokens: 30, eosTokenId: 4 },
    assistantModel: new BigramModel(stepping(1)),
  });
  assertEquals([newTokens, finishReasons], [[[1, 2, 3, 4]], ["eos"]]);
  // The prompt, and then the last token with a draft of three.
  assertEquals(model.calls, [1, 4]);
});

Deno.test("an assistant that goes where no token may follow leaves the row to the model", async () => {
  // The model stays with even tokens; the assistant goes on by one.
  const model = counting(new BigramModel(stepping(2)));
  const options = {
    inputIds: [[0]],
    maxNewTokens: 6,
    prefixAllowedTokens: (_: number, ids: readonly number[]) =>
      ids.at(-1)! % 2 === 0 ? [0, 1, 2, 3, 4, 5] : [],
  };
  const { newTokens } = await generate(model, {
    ...options,
    assistantModel: new BigramModel(stepping(1)),
  });
  assertEquals(newTokens, [[2, 4, 0, 2, 4, 0]]);
  // Each draft is the one odd token, but for the last token, which needs none.
  assertEquals(model.calls, [1, 2, 2, 2, 2, 1]);
  const alone = { ...options, inputIds: [[1]] };
  await assertRejects(() => generate(model, alone), ModelInputError, "prefixAllowedTokens");
});

/** Scores by which each of six tokens is followed by the one so many behind it. */
function stepping(step: number): number[][] {
  return Array.from(
    { length: 6 },
    (_, row) => Array.from({ length: 6 }, (_, token) => token === (row + step) % 6 ? 9 : 0),
  );
}

Deno.test("an assistant of another vocabulary is refused by name, before anything is computed", async () => {
  const other = await tinyCpuModel({ vocab_size: 96 });
  const counted = counting(model);
  const options = { inputIds: [PROMPT], assistantModel: other };
  const rule = "assistantModel must have the model's vocabulary of 97 tokens: 96";
  await assertRejects(() => generate(counted, options), ModelInputError, rule);
  assertThrows(() => stream(counted, options), ModelInputError, rule);
  assertEquals(counted.calls, []);
});
