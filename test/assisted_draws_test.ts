/** Tokens that are drawn with drafts have the distribution of those drawn without. */

import { assert, assertEquals } from "@std/assert";
import type { GenerateOptions, HostTensor } from "../mod.ts";
import { drawGiven } from "../model/generation/draft.ts";
import { drawToken } from "../model/generation/draw.ts";
import { generate } from "../model/generation/generate.ts";
import { CounterRandom } from "../model/generation/random.ts";
import { BigramModel } from "./bigram_model.ts";
import { counting } from "./counting_model.ts";
import { tinyCpuModel } from "./tiny_model.ts";

/** What may follow each of six tokens: by the model, and by an assistant that often differs. */
const SCORES = table(1), GUESSES = table(2);

function table(seed: number): number[][] {
  const random = new CounterRandom(seed);
  const score = (row: number, token: number) => 4 * random.uniform("beam", row, token);
  return Array.from({ length: 6 }, (_, row) => Array.from({ length: 6 }, (_, i) => score(row, i)));
}

/** Critical values of χ² that one true hypothesis in a thousand goes beyond, by Wilson and Hilferty. */
function critical(freedom: number): number {
  const spread = 2 / (9 * freedom);
  return freedom * (1 - spread + 3.09 * Math.sqrt(spread)) ** 3;
}

/** Σ (found − expected)² / expected of counts, against probabilities. */
function chiSquare(counts: readonly number[], probabilities: readonly number[]): number {
  const total = counts.reduce((sum, count) => sum + count, 0);
  return probabilities.reduce((sum, p, i) => {
    if (p === 0) return counts[i] === 0 ? sum : Infinity;
    return sum + (counts[i]! - total * p) ** 2 / (total * p);
  }, 0);
}

function softmax(scores: readonly number[]): number[] {
  const weights = scores.map(Math.exp);
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  return weights.map((weight) => weight / total);
}

/** The probabilities that are left to the `count` likeliest. */
function likeliest(probabilities: readonly number[], count: number): number[] {
  const least = [...probabilities].sort((a, b) => b - a)[count - 1]!;
  const kept = probabilities.map((p) => p >= least ? p : 0);
  const total = kept.reduce((sum, p) => sum + p, 0);
  return kept.map((p) => p / total);
}

const GUESSING = new BigramModel(GUESSES);
const DRAFTERS: Readonly<Record<string, GenerateOptions<HostTensor>>> = {
  "prompt lookup": { promptLookupNumTokens: 4, maxMatchingNgramSize: 2 },
  "an assistant": {
    assistantModel: GUESSING,
    numAssistantTokens: 3,
    assistantConfidenceThreshold: 0,
  },
  "an assistant that stops where it is not sure": {
    assistantModel: GUESSING,
    numAssistantTokens: 5,
    assistantConfidenceThreshold: 0.35,
    numAssistantTokensSchedule: "heuristic_transient",
  },
};

for (const [name, drafts] of Object.entries(DRAFTERS)) {
  for (const topK of [0, 3]) {
    Deno.test(`12,000 draws with ${name} have the model's distribution, topK ${topK}`, async () => {
      const counted = counting(new BigramModel(SCORES));
      const counts = SCORES.map((row) => row.map(() => 0));
      for (let seed = 0; seed < 60; seed++) {
        const options = { inputIds: [[seed % 6]], maxNewTokens: 200, doSample: true, topK, seed };
        const { sequences: [ids] } = await generate(counted, { ...options, ...drafts });
        for (let i = 1; i < ids!.length; i++) counts[ids![i - 1]!]![ids![i]!]!++;
      }
      assert(counted.calls.length < 0.8 * 12_000, `${counted.calls.length} calls`);
      const expected = SCORES.map((row) => likeliest(softmax(row), topK || 6));
      const statistic = counts.reduce((sum, row, i) => sum + chiSquare(row, expected[i]!), 0);
      const freedom = 6 * ((topK || 6) - 1);
      assert(statistic < critical(freedom), `χ² ${statistic} of ${freedom} degrees of freedom`);
      // The assistant's distribution would be told from the model's.
      const guessed = GUESSES.map((row) => likeliest(softmax(row), topK || 6));
      const other = counts.reduce((sum, row, i) => sum + chiSquare(row, guessed[i]!), 0);
      assert(other > 3 * critical(freedom));
    });
  }
}

Deno.test("a token drawn given a drafted one has the model's distribution, however far q is from p", () => {
  const rows: Readonly<Record<string, [p: number[], q: number[]]>> = {
    "the same": [[1, 2, 0, -1], [1, 2, 0, -1]],
    "another": [[1, 2, 0, -1], [0, -1, 2, 1]],
    "nothing in common": [[1, 2, -Infinity, -Infinity], [-Infinity, -Infinity, 0, 1]],
    "one token alone": [[1, 2, 0, -1], [-Infinity, 0, -Infinity, -Infinity]],
  };
  for (const [name, [p, q]] of Object.entries(rows)) {
    const scores = Float32Array.from(p), guesses = Float32Array.from(q);
    const expected = softmax(p), drawnWith = Float64Array.from(softmax(q));
    const random = new CounterRandom(5);
    const counts = p.map(() => 0);
    let taken = 0;
    for (let step = 0; step < 20_000; step++) {
      const drafted = drawToken(guesses, random, 0, step, "draft");
      const token = drawGiven(scores, drafted, drawnWith, random, step);
      counts[token]!++;
      if (token === drafted) taken++;
    }
    const freedom = expected.filter((x) => x > 0).length - 1;
    const statistic = chiSquare(counts, expected);
    assert(statistic < critical(freedom), `${name}: χ² ${statistic}`);
    // As many are taken as p and q have in common.
    const common = expected.reduce((sum, x, i) => sum + Math.min(x, drawnWith[i]!), 0);
    assert(
      Math.abs(taken / 20_000 - common) < 0.015,
      `${name}: ${taken} taken of ${20_000 * common}`,
    );
  }
});

Deno.test("draws with an assistant depend on the seed, and not on how often they are made", async () => {
  const model = await tinyCpuModel();
  // A layer less: what it says is often what the other does.
  const assistantModel = await tinyCpuModel({ num_hidden_layers: 1 });
  const options = { inputIds: [[5, 17, 3, 96]], maxNewTokens: 30, doSample: true, topK: 0 };
  const drafts = { assistantModel, numAssistantTokens: 4, assistantConfidenceThreshold: 0 };
  const drawn = async (more: GenerateOptions<HostTensor>) => {
    const { newTokens } = await generate(model, { ...options, ...drafts, ...more });
    return newTokens[0]!;
  };
  const first = await drawn({ seed: 4 });
  assertEquals(await drawn({ seed: 4 }), first);
  assert(String(await drawn({ seed: 5 })) !== String(first));
  // Towards the end there is no room for whole drafts.
  const longer = await drawn({ seed: 4, maxNewTokens: 50 });
  assertEquals(longer.slice(0, 25), first.slice(0, 25));
});
