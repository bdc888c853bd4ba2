/** Filters of scores: what holds for any row. */

import { assert, assertEquals } from "@std/assert";
import fc from "fast-check";
import { logSoftmax } from "../model/generation/draw.ts";
import { logitsProcessors, processScores } from "../model/generation/logits_processor.ts";
import { applyCut, crossing, cutAfter } from "../model/generation/processors/cut.ts";
import {
  epsilonCutoff,
  etaCutoff,
  minP,
  topH,
  topK,
  topP,
  typicalP,
} from "../model/generation/processors/filters.ts";
import type { LogitsProcessor } from "../model/generation/processors/processor.ts";
import { GenerationConfig } from "../model/generation_config.ts";

const NONE = -Infinity;
const SETTINGS = { seed: 5, numRuns: 400 };

/** Scores of which many are equal, zeros of both signs among them, and some are banned. */
const SCORES: fc.Arbitrary<Float32Array> = fc.array(
  fc.oneof(
    fc.integer({ min: -12, max: 12 }).map((n) => n / 2),
    fc.float({ min: -30, max: 30, noNaN: true }),
    fc.constantFrom(NONE, 0, -0),
  ),
  { minLength: 1, maxLength: 130 },
).map((scores) => Float32Array.from(scores));

/** Scores, of which one is not banned. */
const SOME = SCORES.filter((scores) => scores.some((score) => score !== NONE));

const SHARE = fc.double({ min: 0.001, max: 0.999, noNaN: true });

/** Each filter with a bound between 0 and 1. */
const FILTERS: Readonly<
  Record<string, (bound: number, least: number, size: number) => LogitsProcessor>
> = {
  topK: (bound, least) => topK(Math.ceil(bound * 130), least),
  topP,
  topH: (bound) => topH(bound),
  typicalP,
  minP,
  epsilonCutoff,
  etaCutoff,
};
/** Those that leave less for a greater bound. */
const LESS_FOR_MORE = ["minP", "epsilonCutoff", "etaCutoff"];

/** Tokens that a filter leaves of scores; what it leaves must not be changed. */
function left(filter: LogitsProcessor, scores: Float32Array): number[] {
  const row = scores.slice();
  filter(row, [], 0);
  const tokens = Array.from(row.keys()).filter((token) => row[token] !== NONE);
  for (const token of tokens) assertEquals(row[token], scores[token]);
  return tokens;
}

/** Places of scores from the highest down, on ties from the first on. */
function ranked(scores: Float32Array): number[] {
  return Array.from(scores.keys()).sort((a, b) => scores[b]! - scores[a]! || a - b);
}

Deno.test("a cut leaves as many of the highest scores as it should, the first of equal ones", () => {
  fc.assert(
    fc.property(SOME, fc.integer({ min: 1, max: 140 }), (scores, count) => {
      const row = scores.slice();
      applyCut(cutAfter(row, count), row);
      const finite = ranked(scores).filter((token) => scores[token] !== NONE).slice(0, count);
      const expected = scores.map((score, token) => finite.includes(token) ? score : NONE);
      assertEquals(row, expected);
    }),
    SETTINGS,
  );
});

Deno.test("a crossing is where sorted weights reach the target", () => {
  const weighted = fc.array(fc.tuple(fc.float({ noNaN: true }), fc.nat(5)), { minLength: 1 })
    .filter((pairs) => pairs.some(([, weight]) => weight > 0));
  fc.assert(
    fc.property(weighted, SHARE, (pairs, share) => {
      const values = Float32Array.from(pairs, ([value]) => value);
      const weights = Float64Array.from(pairs, ([, weight]) => weight);
      const total = weights.reduce((sum, weight) => sum + weight, 0);
      const { value, above } = crossing(values, share * total, weights);
      const sum = (isCounted: (other: number) => boolean) =>
        weights.reduce((sum, weight, i) => isCounted(values[i]!) ? sum + weight : sum, 0);
      assertEquals(above, sum((other) => other > value));
      assert(above < share * total && share * total <= sum((other) => other >= value));
    }),
    SETTINGS,
  );
});

for (const [name, make] of Object.entries(FILTERS)) {
  Deno.test(`${name} leaves a token, and at least as many as it must`, () => {
    fc.assert(
      fc.property(SOME, SHARE, fc.integer({ min: 1, max: 4 }), (scores, bound, least) => {
        const there = scores.filter((score) => score !== NONE).length;
        const must = name === "topH" ? 1 : Math.min(least, there);
        const { length } = left(make(bound, least, scores.length), scores);
        assert(length >= must && length <= there, `${length} of ${there} are left`);
      }),
      SETTINGS,
    );
  });

  Deno.test(`${name} leaves more, and all that it left, the looser it is`, () => {
    fc.assert(
      fc.property(SOME, SHARE, SHARE, (scores, a, b) => {
        const [low, high] = [Math.min(a, b), Math.max(a, b)];
        const [loose, strict] = LESS_FOR_MORE.includes(name) ? [low, high] : [high, low];
        const all = new Set(left(make(loose, 1, scores.length), scores));
        const lost = left(make(strict, 1, scores.length), scores).filter((id) => !all.has(id));
        assertEquals(lost, []);
      }),
      SETTINGS,
    );
  });

  if (name === "topK") continue;
  Deno.test(`${name} leaves a row without a softmax as it is`, () => {
    for (const odd of [[NaN, 1, 2], [1, 2, Infinity], [NONE, NONE, NONE]]) {
      const row = Float32Array.from(odd);
      make(0.5, 1, 3)(row, [], 0);
      assertEquals(row, Float32Array.from(odd));
    }
  });
}

Deno.test("top k leaves NaN for the draw to find", () => {
  for (const bits of [0x7fc00000, 0xffc00000]) {
    const row = Float32Array.of(1, 2, 3, 4);
    new Uint32Array(row.buffer)[1] = bits;
    topK(1, 1)(row, [], 0);
    assert(Number.isNaN(row[1]));
  }
});

Deno.test("top p leaves as few tokens as reach p", () => {
  fc.assert(
    fc.property(SOME, SHARE, (scores, p) => {
      const kept = left(topP(p, 1, scores.length), scores);
      const highest = ranked(scores).slice(0, kept.length);
      assertEquals(kept, highest.toSorted((a, b) => a - b));
      const weights = highest.map((token) => Math.exp(scores[token]! - scores[highest[0]!]!));
      const total = scores.reduce((sum, score) => sum + Math.exp(score - scores[highest[0]!]!), 0);
      const mass = weights.reduce((sum, weight) => sum + weight, 0);
      assert(mass >= p * total * (1 - 1e-12), "what is left has less than p");
      assert(mass - weights.at(-1)! < p * total * (1 + 1e-12), "one less would have had p");
    }),
    SETTINGS,
  );
});

Deno.test("a temperature keeps the order, and one of 1 everything", () => {
  fc.assert(
    fc.property(SOME, fc.double({ min: 0.05, max: 20, noNaN: true }), (scores, temperature) => {
      const config = new GenerationConfig({ do_sample: true, top_k: 0, temperature });
      const context = { vocabSize: scores.length, promptLength: 1, maxLength: 9, prompts: [[0]] };
      const row = scores.slice();
      processScores(
        logitsProcessors(config, { ...context, eos: [], sampling: true, beams: 1 }),
        [row],
        [[0]],
      );
      const order = ranked(scores);
      order.slice(1).forEach((token, i) => assert(row[token]! <= row[order[i]!]!));
      assertEquals(row[order[0]!], Math.fround(scores[order[0]!]! / Math.fround(temperature)));
    }),
    SETTINGS,
  );
});

/** Options that between them have every processor that looks at a row's own tokens, or at its scores. */
const OPTIONS = fc.record({
  repetition_penalty: fc.constantFrom(1, 0.7, 1.5),
  encoder_repetition_penalty: fc.constantFrom(1, 0.7, 1.5),
  no_repeat_ngram_size: fc.nat(3),
  encoder_no_repeat_ngram_size: fc.nat(3),
  bad_words_ids: fc.constantFrom(null, [[3], [0, 1], [1, 2, 0]]),
  sequence_bias: fc.constantFrom(null, [[[3], 1], [[0, 1], -2]] as [number[], number][]),
  min_length: fc.nat(9),
  temperature: fc.constantFrom(1, 0.5),
  top_h: fc.constantFrom(null, 0.9),
  top_k: fc.nat(6),
  top_p: fc.constantFrom(1, 0.8),
  min_p: fc.constantFrom(null, 0.1),
  typical_p: fc.constantFrom(1, 0.8),
  eta_cutoff: fc.constantFrom(0, 0.1),
  renormalize_logits: fc.boolean(),
});

Deno.test("a row's scores do not depend on the rows beside it, nor on what was processed before", () => {
  const row = fc.tuple(
    fc.array(fc.nat(5), { minLength: 6, maxLength: 6 }),
    fc.array(fc.integer({ min: -8, max: 8 }), { minLength: 6, maxLength: 6 }),
  );
  const rows = fc.array(row, { minLength: 1, maxLength: 4 });
  fc.assert(
    fc.property(OPTIONS, rows, (options, rows) => {
      const config = new GenerationConfig({ ...options, do_sample: true, eos_token_id: 5 });
      const prompts = rows.map(([ids]) => ids.slice(0, 3));
      const processors = () =>
        logitsProcessors(config, {
          vocabSize: 6,
          promptLength: 3,
          maxLength: 12,
          eos: [5],
          prompts,
          sampling: true,
          beams: 1,
        });
      const scores = rows.map(([, values]) => Float32Array.from(values));
      const shared = processors();
      processScores(shared, scores, rows.map(([ids]) => ids));
      rows.forEach(([ids, values], i) => {
        for (const some of [processors(), shared]) {
          const alone = Float32Array.from(values);
          for (const processor of some) processor(alone, ids, i);
          assertEquals(alone, scores[i]);
        }
      });
    }),
    { ...SETTINGS, numRuns: 200 },
  );
});

Deno.test("an n-gram is banned wherever it stands, as a search of every place finds it", () => {
  const ids = fc.array(fc.nat(2), { minLength: 1, maxLength: 60 });
  fc.assert(
    fc.property(
      ids,
      fc.integer({ min: 1, max: 9 }),
      fc.integer({ min: 1, max: 20 }),
      (ids, size, cut) => {
        for (const key of ["no_repeat_ngram_size", "encoder_no_repeat_ngram_size"] as const) {
          const prompt = ids.slice(0, cut);
          const text = key === "no_repeat_ngram_size" ? ids : prompt;
          const tail = size > 1 ? ids.slice(1 - size) : [];
          const banned = new Set<number>();
          for (let end = size - 1; tail.length === size - 1 && end < text.length; end++) {
            if (tail.every((id, i) => text[end - tail.length + i] === id)) banned.add(text[end]!);
          }
          const [processor] = logitsProcessors(new GenerationConfig({ [key]: size }), {
            vocabSize: 3,
            promptLength: prompt.length,
            maxLength: 99,
            eos: [],
            prompts: [prompt],
            sampling: false,
            beams: 1,
          });
          const row = new Float32Array(3);
          processor!(row, ids, 0);
          assertEquals(row, Float32Array.from([0, 1, 2], (id) => banned.has(id) ? NONE : 0));
        }
      },
    ),
    { ...SETTINGS, numRuns: 2000 },
  );
});

Deno.test("a filtered row's probabilities are those that were, divided by what is left", () => {
  const scores = Float32Array.from({ length: 40 }, (_, i) => 3 * Math.sin(5 * i));
  const before = Array.from(logSoftmax(scores), Math.exp);
  const row = scores.slice();
  topP(0.8, 1, 40)(row, [], 0);
  const after = Array.from(logSoftmax(row), Math.exp);
  const mass = before.reduce((sum, p, i) => row[i] === NONE ? sum : sum + p, 0);
  after.forEach((p, i) => {
    const expected = row[i] === NONE ? 0 : before[i]! / mass;
    assert(Math.abs(p - expected) < 1e-6, `token ${i}: ${p} instead of ${expected}`);
  });
});
