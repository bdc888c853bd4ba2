/** Choosing tokens: the best one, and draws whose frequencies are held to the distribution. */

import { assert, assertAlmostEquals, assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import { bestToken, drawToken, drawTokens, Leaders, logSoftmax } from "../model/generation/draw.ts";
import { logitsProcessors } from "../model/generation/logits_processor.ts";
import { CounterRandom, gumbelOf } from "../model/generation/random.ts";
import { GenerationConfig } from "../model/generation_config.ts";
import { ModelInputError } from "../runtime/errors.ts";

const SEED = 20;
const DRAWS = 10_000;
const NONE = -Infinity;

/** Probabilities of a row of scores. */
function softmax(scores: Float32Array): number[] {
  return Array.from(logSoftmax(scores), Math.exp);
}

/**
 * Throws unless counts fit their expectation: Pearson's χ² must be below the value that it exceeds by
 * chance once in 1000 times, by the approximation of Wilson and Hilferty. Outcomes that are expected less
 * than five times count together.
 */
function assertFits(counts: readonly number[], expected: readonly number[], what: string): void {
  const rare = [0, 0];
  let [statistic, outcomes] = [0, 0];
  const add = (count: number, expectation: number) => {
    if (expectation === 0) return assertEquals(count, 0, what);
    statistic += (count - expectation) ** 2 / expectation;
    outcomes++;
  };
  counts.forEach((count, i) => {
    if (expected[i]! >= 5 || expected[i] === 0) return add(count, expected[i]!);
    rare[0]! += count;
    rare[1]! += expected[i]!;
  });
  add(rare[0]!, rare[1]!);
  const freedom = outcomes - 1;
  const spread = 2 / (9 * freedom);
  const critical = freedom * (1 - spread + 3.0902 * Math.sqrt(spread)) ** 3;
  assert(statistic < critical, `${what}: χ² is ${statistic}, above ${critical} of ${freedom}`);
}

/** How often each outcome comes about. */
function counted(outcomes: Iterable<number>, size: number): number[] {
  const counts = new Array<number>(size).fill(0);
  for (const outcome of outcomes) counts[outcome]!++;
  return counts;
}

Deno.test("the best token is the first of the highest score", () => {
  assertEquals(bestToken(Float32Array.of(1, 3, 3, 2)), 1);
  assertEquals(bestToken(Float32Array.of(NONE, -5, NONE)), 1);
  assertEquals(bestToken(Float32Array.of(1, Infinity, Infinity)), 1);
  assertEquals(bestToken(Float32Array.of(0, -0)), 0);
  assertEquals(bestToken(Float32Array.of(-3.4028235e38)), 0);
});

Deno.test("a row without a token to choose is refused, and so is NaN", () => {
  const random = new CounterRandom(SEED);
  const choose = [
    (scores: Float32Array) => bestToken(scores, 3),
    (scores: Float32Array) => drawToken(scores, random, 3, 0),
    (scores: Float32Array) => drawTokens(scores, 2, random, 3, 0),
  ];
  for (const pick of choose) {
    const banned = new Float32Array(9).fill(NONE);
    const left =
      "Cannot run generate: scores must leave a token to choose: row 3 has −∞ for each of 9";
    assertThrows(() => pick(banned), ModelInputError, left);
    for (const bits of [0x7fc00000, 0xffc00000]) {
      for (const place of [0, 6, 8]) {
        const scores = new Float32Array(9).fill(2);
        new Uint32Array(scores.buffer)[place] = bits;
        const message = `scores must not be NaN: token ${place} of row 3 is`;
        assertThrows(() => pick(scores), ModelInputError, message);
      }
    }
  }
  const infinite = Float32Array.of(1, 2, Infinity);
  for (const pick of choose.slice(1)) {
    assertThrows(() => pick(infinite), ModelInputError, "token 2 of row 3 has +∞");
  }
});

Deno.test("draws have the frequencies of the processed distribution", () => {
  const options = [
    {},
    { temperature: 0.6 },
    { top_k: 5 },
    { top_p: 0.8, repetition_penalty: 1.4 },
    { typical_p: 0.7, temperature: 1.5 },
    { min_p: 0.1, suppress_tokens: [4, 20] },
  ];
  options.forEach((some, n) => {
    const config = new GenerationConfig({ do_sample: true, top_k: 0, ...some });
    const size = 23;
    const ids = [1, 2, 3, 4, 5];
    const scores = Float32Array.from({ length: size }, (_, i) => 2 * Math.sin(i * i + n));
    const context = { vocabSize: size, promptLength: 5, maxLength: 9, eos: [], prompts: [ids] };
    const processors = logitsProcessors(config, { ...context, sampling: true, beams: 1 });
    for (const processor of processors) processor(scores, ids, 0);
    const random = new CounterRandom(SEED + n);
    const tokens = Array.from({ length: DRAWS }, (_, step) => drawToken(scores, random, 0, step));
    const expected = softmax(scores).map((p) => p * DRAWS);
    assertFits(counted(tokens, size), expected, JSON.stringify(some));
  });
});

Deno.test("pairs that are drawn without putting back have the frequencies that they should", () => {
  const scores = Float32Array.of(1, -0.5, NONE, 0.3, 1.7, -2);
  const size = scores.length;
  const random = new CounterRandom(SEED);
  const pairs = Array.from({ length: DRAWS }, (_, step) => {
    const [first, second] = drawTokens(scores, 2, random, 1, step);
    return first! * size + second!;
  });
  const p = softmax(scores);
  const expected = Array.from({ length: size * size }, (_, pair) => {
    const [first, second] = [Math.floor(pair / size), pair % size];
    return first === second ? 0 : DRAWS * p[first]! * p[second]! / (1 - p[first]!);
  });
  assertFits(counted(pairs, size * size), expected, "pairs");
});

Deno.test("draws of other rows, steps, seeds and purposes have nothing to do with each other", () => {
  const scores = Float32Array.of(0.4, 1, 0, 0.7);
  const [random, other] = [new CounterRandom(SEED), new CounterRandom(SEED + 1)];
  const draw = (step: number) => drawToken(scores, random, 0, step);
  const p = softmax(scores);
  const expected = p.flatMap((first) => p.map((second) => DRAWS * first * second));
  const seconds: Readonly<Record<string, (step: number) => number>> = {
    row: (step) => drawToken(scores, random, 1, step),
    step: (step) => draw(step + 1),
    seed: (step) => drawToken(scores, other, 0, step),
    purpose: (step) => drawToken(scores, random, 0, step, "draft"),
  };
  for (const [what, second] of Object.entries(seconds)) {
    // Every other step, so that no draw is in two pairs.
    const pairs = Array.from({ length: DRAWS }, (_, i) => draw(2 * i) * 4 + second(2 * i));
    assertFits(counted(pairs, 16), expected, what);
  }
});

Deno.test("a draw is the same whenever it is asked for, whatever else is drawn", () => {
  const scores = Float32Array.from({ length: 50 }, (_, i) => Math.cos(7 * i));
  const tokens = (rows: readonly number[]) =>
    rows.map((row) => drawToken(scores, new CounterRandom(SEED), row, 4));
  const rows = [0, 1, 2, 3, 4, 5, 6, 7];
  assertEquals(tokens([...rows].reverse()).reverse(), tokens(rows));
  assert(new Set(tokens(rows)).size > 1);
});

Deno.test("a flat distribution favours no place", () => {
  const size = 2048;
  const scores = new Float32Array(size);
  const random = new CounterRandom(SEED);
  const draws = 4000;
  const places = Array.from(
    { length: draws },
    (_, step) => drawToken(scores, random, 0, step) % 16,
  );
  const halves = Array.from(
    { length: draws },
    (_, step) => drawToken(scores, random, 1, step) >> 7,
  );
  const expected = new Array<number>(16).fill(draws / 16);
  assertFits(counted(places, 16), expected, "places within a block");
  assertFits(counted(halves, 16), expected, "places of blocks");
});

/** Scores with ties and bans, and some far below the others. */
const SCORES = fc.array(
  fc.oneof(fc.integer({ min: -8, max: 8 }), fc.constantFrom(NONE, -1e9, -200, 3.25)),
  { minLength: 1, maxLength: 70 },
).map((scores) => Float32Array.from(scores));

Deno.test("tokens are those of the greatest sums of score and Gumbel number", () => {
  fc.assert(
    fc.property(SCORES, fc.integer({ min: 1, max: 12 }), fc.nat(1000), (scores, count, step) => {
      const random = new CounterRandom(SEED);
      const keys = Array.from(
        scores,
        (score, i) => score + gumbelOf(random.uniform("beam", 2, step, i)),
      );
      const left = Array.from(keys.keys()).filter((token) => keys[token] !== NONE);
      if (left.length === 0) return;
      left.sort((a, b) => keys[b]! - keys[a]!);
      assertEquals(drawTokens(scores, count, random, 2, step), left.slice(0, count));
      const [first] = drawTokens(scores, 1, random, 2, step);
      assertEquals(drawToken(scores, random, 2, step, "beam"), first!);
    }),
    { seed: SEED, numRuns: 500 },
  );
});

Deno.test("of tokens with equal keys, the first ones lead", () => {
  const keys = [1, 3, 2, 3, 1, 3, 2];
  for (
    const [count, expected] of [[2, [1, 3]], [4, [1, 3, 5, 2]], [9, [1, 3, 5, 2, 6, 0, 4]]] as const
  ) {
    const leaders = new Leaders(count);
    keys.forEach((key, token) => leaders.offer(token, key));
    assertEquals(leaders.tokens, [...expected]);
    assertEquals(leaders.bar, count === 9 ? NONE : keys[expected.at(-1)!]!);
  }
});

Deno.test("log-probabilities of a row sum to 1, and bans stay", () => {
  const scores = Float32Array.of(2, 1, NONE, -1, 300);
  const logs = logSoftmax(scores);
  assertEquals(Array.from(logs), [-298, -299, NONE, -301, 0]);
  assertEquals(logSoftmax(scores, scores), scores);
  assertEquals(Array.from(scores), Array.from(logs));
  const even = softmax(Float32Array.of(NONE, 5, 5, NONE, 5));
  even.forEach((p, i) => assertAlmostEquals(p, i % 3 === 0 ? 0 : 1 / 3, 1e-7));
  assertEquals(Array.from(logSoftmax(Float32Array.of(NONE, NONE))), [NONE, NONE]);
  assert(logSoftmax(Float32Array.of(1, NaN)).every(Number.isNaN));
});
