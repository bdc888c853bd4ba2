/** Logits processors against Hugging Face transformers, and what they refuse. */

import { assert, assertAlmostEquals, assertEquals, assertThrows } from "@std/assert";
import { bestToken } from "../model/generation/draw.ts";
import {
  logitsProcessors,
  type ProcessorContext,
  processScores,
} from "../model/generation/logits_processor.ts";
import { applyGuidance } from "../model/generation/processors/guidance.ts";
import { GenerationConfig, type GenerationConfigOptions } from "../model/generation_config.ts";
import { ModelInputError } from "../runtime/errors.ts";
import { parseSafetensors } from "../runtime/safetensors.ts";
import { readGolden } from "./golden_files.ts";

/** A call of transformers; how the file was made: `golden/generation_scores.py`. */
interface GoldenCase {
  readonly name: string;
  /** Name of the tensor that has the scores of each row. */
  readonly scores: string;
  readonly config: Readonly<Record<string, unknown>>;
  readonly max_length: number;
  readonly prompts: readonly number[][];
  readonly ids: readonly number[][];
  /** Tokens that each row allows. */
  readonly allowed?: readonly number[][];
}

const GOLDEN = "generation_scores.safetensors";
const golden = parseSafetensors(
  Deno.readFileSync(new URL(`testdata/golden/${GOLDEN}`, import.meta.url)),
  GOLDEN,
);
const { cases } = JSON.parse(golden.metadata.get("golden")!) as { cases: GoldenCase[] };

/** Rows of a stored tensor [rows, V], as copies. */
function rowsOf(name: string): Float32Array[] {
  const tensor = golden.tensors.get(name)!;
  const [rows, size] = tensor.shape as [number, number];
  const numbers = tensor.numbers as Float32Array;
  return Array.from({ length: rows }, (_, i) => numbers.slice(i * size, (i + 1) * size));
}

/** Where two rows of scores differ in what they ban, or by more than f32 rounds. */
function differences(actual: Float32Array, expected: Float32Array): string[] {
  assertEquals(actual.length, expected.length);
  return Array.from(actual.keys()).filter((token) => {
    const [a, e] = [actual[token]!, expected[token]!];
    // Infinities are the same or different, and not near.
    const isNear = Number.isFinite(e) && Math.abs(a - e) <= 1e-6 * Math.max(1, Math.abs(e));
    return a !== e && !isNear;
  }).map((token) => `token ${token}: ${actual[token]} instead of ${expected[token]}`);
}

/** Context of a call of which nothing is special. */
function contextOf(given: Partial<ProcessorContext> = {}): ProcessorContext {
  return {
    vocabSize: 8,
    promptLength: 3,
    maxLength: 20,
    eos: [],
    prompts: [[4, 3, 0]],
    sampling: false,
    beams: 1,
    ...given,
  };
}

/** What the processors of some options make of one row of scores. */
function process(
  options: GenerationConfigOptions,
  scores: readonly number[],
  ids: readonly number[],
  given: Partial<ProcessorContext> = {},
): number[] {
  const config = new GenerationConfig(options);
  const eos = [config.eos_token_id ?? []].flat();
  const context = contextOf({ sampling: config.do_sample, eos, ...given });
  const row = Float32Array.from(scores);
  processScores(logitsProcessors(config, context), [row], [ids]);
  return Array.from(row);
}

Deno.test("processed scores are those of transformers", () => {
  const wrong: string[] = [];
  for (const { name, scores, max_length, prompts, ids, allowed, ...rest } of cases) {
    const config = GenerationConfig.fromJson(rest.config);
    const rows = rowsOf(scores);
    const processors = logitsProcessors(config, {
      vocabSize: rows[0]!.length,
      promptLength: prompts[0]!.length,
      maxLength: max_length,
      eos: [config.eos_token_id ?? []].flat(),
      prompts,
      sampling: config.do_sample,
      beams: config.num_beams,
      ...(allowed && { prefixAllowedTokens: (row: number) => allowed[row]! }),
    });
    processScores(processors, rows, ids);
    rowsOf(`processed/${name}`).forEach((expected, row) => {
      const [first] = differences(rows[row]!, expected);
      if (first) wrong.push(`${name}, row ${row}, ${first}`);
    });
  }
  assertEquals(wrong, []);
});

Deno.test("the golden scores have every processor, and combinations of them", () => {
  const options = new Set(cases.flatMap(({ config }) => Object.keys(config)));
  const tried = [
    "sequence_bias encoder_repetition_penalty repetition_penalty no_repeat_ngram_size",
    "encoder_no_repeat_ngram_size bad_words_ids min_length min_new_tokens forced_bos_token_id",
    "forced_eos_token_id remove_invalid_values exponential_decay_length_penalty suppress_tokens",
    "begin_suppress_tokens temperature top_h top_k top_p min_p typical_p epsilon_cutoff eta_cutoff",
    "renormalize_logits",
  ].join(" ").split(" ");
  assertEquals(tried.filter((option) => !options.has(option)), []);
  assert(cases.some(({ allowed }) => allowed));
  assertEquals(cases.filter(({ name }) => name.startsWith("combination")).length, 40);
});

const X = [2, 1, 0.5, -1, 3, 1, -0.25, -4];
const IDS = [4, 3, 0, 4, 3];
const DRAW: GenerationConfigOptions = { do_sample: true, top_k: 0 };
const NONE = -Infinity;

/** Options, and the tokens that are left of X after IDS. */
const LEFT: readonly (readonly [GenerationConfigOptions, number[]])[] = [
  [{ top_k: 2 }, [0, 4]],
  [{ top_k: 3 }, [0, 1, 4, 5]],
  [{ top_k: 100 }, [0, 1, 2, 3, 4, 5, 6, 7]],
  [{ top_p: 0.6 }, [0, 4]],
  [{ top_p: 0.7 }, [0, 4]],
  [{ top_p: 0.9 }, [0, 1, 4, 5]],
  [{ top_p: 0 }, [4]],
  [{ top_p: 1 }, [0, 1, 2, 3, 4, 5, 6, 7]],
  [{ min_p: 0.1 }, [0, 1, 4, 5]],
  [{ min_p: 0.2 }, [0, 4]],
  [{ typical_p: 0.2 }, [0]],
  [{ typical_p: 0.5 }, [0, 4]],
  [{ typical_p: 0.9 }, [0, 1, 4, 5]],
  [{ epsilon_cutoff: 0.05 }, [0, 1, 4, 5]],
  [{ epsilon_cutoff: 0.9 }, [4]],
  [{ eta_cutoff: 0.1 }, [0, 4]],
  [{ top_h: 0.4 }, [4]],
  [{ no_repeat_ngram_size: 1 }, [1, 2, 5, 6, 7]],
  [{ no_repeat_ngram_size: 2 }, [1, 2, 3, 4, 5, 6, 7]],
  [{ no_repeat_ngram_size: 3 }, [1, 2, 3, 4, 5, 6, 7]],
  [{ min_length: 6, eos_token_id: [0, 7] }, [1, 2, 3, 4, 5, 6]],
  [{ min_length: 5, eos_token_id: [0, 7] }, [0, 1, 2, 3, 4, 5, 6, 7]],
  [{ min_new_tokens: 3, eos_token_id: 0 }, [1, 2, 3, 4, 5, 6, 7]],
  [{ min_new_tokens: 2, eos_token_id: 0 }, [0, 1, 2, 3, 4, 5, 6, 7]],
  [{ bad_words_ids: [[4, 3, 1], [2], [0, 5]] }, [0, 3, 4, 5, 6, 7]],
];

Deno.test("known options leave the tokens that are known to be left", () => {
  for (const [options, expected] of LEFT) {
    const scores = process({ ...DRAW, ...options }, X, IDS);
    const left = Array.from(scores.keys()).filter((token) => scores[token] !== NONE);
    assertEquals(left, expected, JSON.stringify(options));
    assertEquals(left.map((token) => scores[token]), expected.map((token) => X[token]));
  }
});

/** Options, and what becomes of X after IDS. */
const CHANGED: readonly (readonly [GenerationConfigOptions, number[]])[] = [
  [{ ...DRAW, temperature: 0.5 }, [4, 2, 1, -2, 6, 2, -0.5, -8]],
  [{ repetition_penalty: 1.3 }, [1.538462, 1, 0.5, -1.3, 2.307692, 1, -0.25, -4]],
  [{ repetition_penalty: 0.5 }, [4, 1, 0.5, -0.5, 6, 1, -0.25, -4]],
  [
    { sequence_bias: [[[3, 1], 1], [[2], -2], [[4, 5], 7], [Array(9).fill(3), 5], [[3, 1], 10]] },
    [2, 11, -1.5, -1, 3, 1, -0.25, -4],
  ],
  [
    { exponential_decay_length_penalty: [1, 1.5], eos_token_id: 0 },
    [3, 1, 0.5, -1, 3, 1, -0.25, -4],
  ],
  [
    { renormalize_logits: true },
    [-1.575847, -2.575847, -3.075847, -4.575847, -0.575847, -2.575847, -3.825847, -7.575847],
  ],
];

Deno.test("known options make of scores what is known", () => {
  for (const [options, expected] of CHANGED) {
    process(options, X, IDS).forEach((score, token) => {
      assertAlmostEquals(score, expected[token]!, 1e-6, JSON.stringify(options));
    });
  }
  const forced = process({ forced_eos_token_id: 0 }, X, IDS, { maxLength: 6 });
  assertEquals(forced, [0, NONE, NONE, NONE, NONE, NONE, NONE, NONE]);
  const largest = 3.4028234663852886e38;
  const removed = process({ remove_invalid_values: true }, [NaN, Infinity, NONE, 1], IDS);
  assertEquals(removed, [0, largest, -largest, 1]);
});

Deno.test("the first tokens that a model may draw are those of transformers", () => {
  const { tensors } = readGolden("base");
  const prompt = [5, 17, 3, 96, 42, 8, 60, 23];
  const logits = (tensors.get("base/prompt/0/logits")!.numbers as Float32Array).slice(7 * 97);
  const left = (options: GenerationConfigOptions) => {
    const context = { vocabSize: 97, promptLength: 8, prompts: [prompt] };
    const scores = process({ do_sample: true, ...options }, [...logits], prompt, context);
    const tokens = Array.from(scores.keys()).filter((token) => scores[token] !== NONE);
    return tokens.sort((a, b) => scores[b]! - scores[a]!).map((id) => [id, scores[id]!] as const);
  };
  assertEquals(left({}).length, 50);
  const some = left({ temperature: 0.7, top_k: 5, top_p: 0.9, repetition_penalty: 1.2 });
  assertEquals(some.map(([id]) => id), [9, 19, 68, 82, 0]);
  const expected = [4.77147, 4.47297, 3.90107, 3.81636, 3.55849];
  some.forEach(([, score], i) => assertAlmostEquals(score, expected[i]!, 1e-5));
  const nucleus = left({ temperature: 0.7, top_k: 0, top_p: 0.5 });
  assertEquals(nucleus.map(([id]) => id), [9, 19, 68, 82, 0]);
  assertEquals(left({ temperature: 1.5, min_p: 0.3, top_k: 0 }).length, 16);
  const typical = left({ typical_p: 0.3, top_k: 0 }).map(([id]) => id);
  assertEquals([typical.length, typical.slice(0, 3)], [13, [93, 84, 57]]);
});

Deno.test("processors of sampling are for drawing only", () => {
  const options = { temperature: 0, top_k: 1, top_p: 0.1, min_p: 0.9, epsilon_cutoff: 0.9 };
  assertEquals(process(options, X, IDS), X);
});

Deno.test("a caller's processors come between those of content and those of sampling", () => {
  const custom = [(scores: Float32Array, ids: readonly number[], row: number) => {
    assertEquals([scores[4], ids, row], [3 / 2, IDS, 0]);
    scores[7] = 100;
  }];
  const scores = process({ ...DRAW, repetition_penalty: 2, top_k: 1 }, X, IDS, { custom });
  assertEquals(scores, [NONE, NONE, NONE, NONE, NONE, NONE, NONE, 100]);
});

Deno.test("a prompt's tokens are rewarded in each of its rows", () => {
  const config = new GenerationConfig({ encoder_repetition_penalty: 2, num_beams: 2 });
  const prompts = [[1], [1], [3], [3]];
  const processors = logitsProcessors(config, contextOf({ vocabSize: 4, prompts, beams: 2 }));
  const scores = prompts.map(() => Float32Array.of(1, 1, -1, -1));
  processScores(processors, scores, prompts);
  const [first, second] = [[1, 2, -1, -1], [1, 1, -1, -0.5]];
  assertEquals(scores.map((row) => [...row]), [first, first, second, second]);
});

Deno.test("a beam that allows nothing dies, and all beams of a prompt do not", () => {
  const config = new GenerationConfig({ num_beams: 2 });
  const prefixAllowedTokens = (row: number) => [[0], [1], [2], [2]][row]!;
  const context = contextOf({ vocabSize: 3, prefixAllowedTokens, beams: 2 });
  const processors = logitsProcessors(config, context);
  const run = (banned: number) => {
    const scores = Array.from({ length: 4 }, () => Float32Array.of(-1, -2, -3));
    for (const row of scores) row[banned] = NONE;
    processScores(processors, scores, [[1], [1], [1], [1]]);
    return scores.map((row) => [...row]);
  };
  const [first, second] = [[NONE, -2, NONE], [NONE, NONE, -3]];
  const [dead, revived] = [[NONE, NONE, NONE], [NONE, NONE, 0]];
  assertEquals(run(0), [dead, first, second, second]);
  assertEquals(run(1), [[-1, NONE, NONE], dead, second, second]);
  assertEquals(run(0), [dead, first, second, second]);
  assertEquals(run(2), [[-1, NONE, NONE], first, revived, revived]);
});

Deno.test("a banned token stays banned, and no score grows beyond f32, while eos gets likelier", () => {
  const decay: GenerationConfigOptions = {
    exponential_decay_length_penalty: [0, 1e6],
    eos_token_id: [0, 2],
    suppress_tokens: [],
    bad_words_ids: [[3, 2]],
  };
  const ids = [...IDS, ...Array(100).fill(3)];
  const scores = process(decay, [1, 1, 1, 1], ids, { vocabSize: 4 });
  assertEquals(scores, [3.4028234663852886e38, 1, NONE, 1]);
});

Deno.test("guidance leads away from another prompt's scores", () => {
  const [scores, other] = [Float32Array.of(1, 2, 3), Float32Array.of(3, 2, 1)];
  applyGuidance(scores, other, 1.5);
  // transformers: 1.5 · (log_softmax([1, 2, 3]) − log_softmax([3, 2, 1])) + log_softmax([3, 2, 1])
  const expected = [-3.4076059, -1.4076059, 0.5923941];
  scores.forEach((score, token) => assertAlmostEquals(score, expected[token]!, 1e-6));
  assertEquals([...other], [3, 2, 1]);
  const plain = Float32Array.of(1, 2, 3);
  applyGuidance(plain, other, 1);
  [-2.4076059, -1.4076059, -0.4076059].forEach((e, i) => assertAlmostEquals(plain[i]!, e, 1e-6));
});

/** Options, and what the message says of them. */
const REFUSED: readonly (readonly [GenerationConfigOptions, string])[] = [
  [{ ...DRAW, temperature: 0 }, "temperature must be greater than 0 to draw tokens"],
  [{ ...DRAW, temperature: 1e-50 }, "take"],
  [{ bad_words_ids: [[1, 8]] }, "badWordsIds must have tokens from 0 to 7: 8"],
  [{ sequence_bias: [[[9, 1], 1]] }, "sequenceBias must have tokens from 0 to 7: 9"],
  [{ suppress_tokens: [0, 8] }, "suppressTokens must have tokens from 0 to 7: 8"],
  [{ begin_suppress_tokens: [8] }, "beginSuppressTokens must have tokens from 0 to 7: 8"],
  [{ forced_bos_token_id: 8 }, "forcedBosTokenId must have tokens from 0 to 7: 8"],
  [{ forced_eos_token_id: [0, 8] }, "forcedEosTokenId must have tokens from 0 to 7: 8"],
  [{ exponential_decay_length_penalty: [0, 2] }, "exponentialDecayLengthPenalty must have an eos"],
  [
    { exponential_decay_length_penalty: [0, 2], eos_token_id: 8 },
    "eosTokenId must have tokens from 0 to 7: 8",
  ],
];

Deno.test("options that cannot be are refused by name, rule and value", () => {
  for (const [options, message] of REFUSED) {
    const error = assertThrows(() => process(options, X, IDS), ModelInputError, message);
    assertEquals(error.fault.op, "generate");
  }
});

Deno.test("a function that allows no token, or none that there is, is refused", () => {
  for (const allowed of [[], [8], [-1], [0.5], [NaN], "0", undefined] as unknown[]) {
    const prefixAllowedTokens = () => allowed as number[];
    assertThrows(
      () => process({}, X, IDS, { prefixAllowedTokens }),
      ModelInputError,
      "prefixAllowedTokens must return one token or more from 0 to 7",
    );
  }
  const typed = () => Uint32Array.of(4, 0) as unknown as number[];
  const scores = process({}, X, IDS, { prefixAllowedTokens: typed });
  assertEquals([scores[0], scores[4], bestToken(Float32Array.from(scores))], [2, 3, 4]);
});

Deno.test("an eos token that the model has no score for is no token to ban", () => {
  assertEquals(process({ min_length: 9, eos_token_id: [8, 1] }, X, IDS), X.with(1, NONE));
});
