/**
 * The golden runs of `generate`: what Hugging Face transformers gives for small models, and how ours is held to
 * it. How they were made and what is in them: `golden/README.md`.
 *
 * @module
 */

import { assertEquals } from "@std/assert";
import { CpuBackend, Tokenizer } from "../mod.ts";
import { StableLmForCausalLM } from "../model/causal_lm.ts";
import { StableLmConfig } from "../model/config.ts";
import type { GenerateOptions } from "../model/generation/options.ts";
import type { GenerateOutput, StepScores } from "../model/generation/output.ts";
import { transitionScores } from "../model/generation/transition_scores.ts";
import type { Backend } from "../runtime/backend.ts";
import type { Tensor } from "../runtime/tensor.ts";
import { sharedBackend } from "./device.ts";
import { CAUSAL_FILES, goldenModel, readGolden } from "./golden_files.ts";
import type { Place } from "./golden_run.ts";
import { recipeSource } from "./recipe.ts";

/** The files, each of which is one family of runs. */
export const GENERATION_FAMILIES = ["greedy", "sampling", "options", "beams", "assisted"] as const;

/** One of the files. */
export type GenerationFamily = typeof GENERATION_FAMILIES[number];

/** Scores or logits of one row at one step; numbers are spelled with spaces between them, as in all that follows. */
interface GoldenVector {
  readonly step: number;
  readonly row: number;
  readonly values: string;
}

/** One call of `generate`. */
export interface GenerationRun {
  readonly name: string;
  /** Name of the golden model. */
  readonly model: string;
  /** In transformers' words. Ids and masks are rows of text; `assistant_model` is a model's name. */
  readonly options: Readonly<Record<string, unknown>>;
  /** New tokens of each row; absent where they are drawn. */
  readonly sequences?: readonly string[];
  /** New tokens that each row has alone, without its padding; present where they are the same ones. */
  readonly solo_lengths?: readonly number[];
  readonly scores?: readonly GoldenVector[];
  readonly logits?: readonly GoldenVector[];
  /** Scores of the new tokens, as they are and as log-probabilities, row by row. */
  readonly transitions?: {
    readonly scores: readonly string[];
    readonly normalized: readonly string[];
  };
  readonly sequences_scores?: string;
  readonly beam_indices?: readonly string[];
}

/** A file's runs, and the configs of those of its models that no other golden file has. */
interface GenerationFile {
  readonly models: Readonly<Record<string, Readonly<Record<string, unknown>>>>;
  readonly runs: readonly GenerationRun[];
}

/** How far a score may be off, as a share of the largest one of its kind. */
const GATES: Readonly<Record<Place, number>> = { CPU: 2e-5, GPU: 1e-4 };

/** Reads a family's file. */
export function readGenerations(family: GenerationFamily): GenerationFile {
  return readJson(`golden/generation_${family}.json`) as GenerationFile;
}

/** The models of a file on one backend, each loaded when it is first asked for. */
export class GenerationModels implements Disposable {
  readonly #place: Place;
  readonly #file: GenerationFile;
  readonly #loaded = new Map<string, StableLmForCausalLM<Tensor>>();
  readonly #owned = new DisposableStack();

  /** Models for the runs of `file`. */
  constructor(place: Place, file: GenerationFile) {
    this.#place = place;
    this.#file = file;
  }

  /** The model of a name with the recipe's weights. */
  async get(name: string): Promise<StableLmForCausalLM<Tensor>> {
    const loaded = this.#loaded.get(name);
    if (loaded) return loaded;
    const json = this.#file.models[name] ??
      goldenModel(readGolden(CAUSAL_FILES.includes(name) ? name : "rope"), name).config;
    const config = StableLmConfig.fromJson(json);
    const backend = this.#place === "CPU" ? new CpuBackend() : await sharedBackend();
    using source = recipeSource(config);
    const model = await StableLmForCausalLM.load<Tensor>({
      backend: backend as unknown as Backend,
      config,
      source,
    });
    this.#loaded.set(name, this.#owned.use(model));
    return model;
  }

  [Symbol.dispose](): void {
    this.#owned.dispose();
  }
}

/** Makes a run, and throws where something that the file has of it does not come out. */
export async function checkGeneration(
  models: GenerationModels,
  place: Place,
  run: GenerationRun,
): Promise<void> {
  const model = await models.get(run.model);
  const options = await optionsOf(models, run);
  const outputScores = Boolean(run.scores ?? run.transitions ?? run.sequences_scores);
  const output = await model.generate({
    ...options,
    ...(outputScores ? { outputScores } : {}),
    ...(run.logits ? { outputLogits: true } : {}),
  });
  const promptLength = options.inputIds ? (options.inputIds as number[][])[0]!.length : 1;
  if (run.sequences) checkSequences(output, promptLength, expectedRows(run));
  const gate = GATES[place];
  checkVectors("scores", output.scores, run.scores, gate);
  checkVectors("logits", output.logits, run.logits, gate);
  if (run.sequences_scores !== undefined) {
    checkNumbers("sequencesScores", output.sequencesScores!, run.sequences_scores, gate);
    assertEquals(output.beamIndices, run.beam_indices!.map(numbersOf), "beamIndices");
  }
  for (const [kind, normalizeLogits] of [["scores", false], ["normalized", true]] as const) {
    const expected = run.transitions?.[kind] ?? [];
    const actual = expected.length > 0 ? transitionScores(output, { normalizeLogits }) : [];
    assertEquals(actual.length, expected.length, `transition scores: rows`);
    expected.forEach((row, i) => checkNumbers(`transitions[${i}], ${kind}`, actual[i]!, row, gate));
  }
}

/** Runs each row of a batch alone, which must give what the file has of the row before it was filled up. */
export async function checkSolo(models: GenerationModels, run: GenerationRun): Promise<void> {
  const model = await models.get(run.model);
  const { inputIds, attentionMask, ...rest } = await optionsOf(models, run);
  const masks = attentionMask as number[][];
  for (const [i, ids] of (inputIds as number[][]).entries()) {
    const prompt = ids.filter((_, place) => masks[i]![place] === 1);
    const alone = { inputIds: [prompt], attentionMask: [prompt.map(() => 1)] };
    const { newTokens } = await model.generate({ ...rest, ...alone });
    const expected = numbersOf(run.sequences![i]!).slice(0, run.solo_lengths![i]);
    checkRow(`row ${i} alone`, newTokens[0]!, expected);
  }
}

/** A run whose rows do not end, cut to fewer tokens. */
export function shortened(run: GenerationRun, tokens: number): GenerationRun {
  assertEquals(run.options.eos_token_id, null, "rows that end would differ");
  const { name, model, options, sequences } = run;
  const first = sequences!.map((row) => row.split(" ").slice(0, tokens).join(" "));
  return { name, model, options: { ...options, max_new_tokens: tokens }, sequences: first };
}

/** A run's options in our words. */
async function optionsOf(
  models: GenerationModels,
  { model, options }: GenerationRun,
): Promise<GenerateOptions> {
  const given: Record<string, unknown> = {};
  for (const [key, value] of Object.entries(options)) {
    const name = key.replace(/_([a-z])/g, (_, letter: string) => letter.toUpperCase());
    if (MATRICES.includes(key)) given[name] = (value as string[]).map(numbersOf);
    else if (key === "assistant_model") given[name] = await models.get(value as string);
    else if (key === "prefix_allowed_tokens") {
      given[name] = RULES[value as string]!((await models.get(model)).config.vocab_size);
    } else given[name] = value;
  }
  if (options.stop_strings) given.tokenizer = await goldenTokenizer();
  return given;
}

/** Options that are rows of numbers. */
const MATRICES: readonly string[] = [
  "input_ids",
  "attention_mask",
  "negative_prompt_ids",
  "negative_prompt_attention_mask",
];

/** Rules about the tokens that may follow, by name. */
const RULES: Readonly<
  Record<string, (vocabulary: number) => (prompt: number, ids: readonly number[]) => number[]>
> = {
  parity: (vocabulary) => (prompt, ids) =>
    Array.from({ length: vocabulary }, (_, id) => id)
      .filter((id) => (id + ids.at(-1)! + prompt) % 2 === 0),
};

let tokenizer: Promise<Tokenizer> | undefined;

function goldenTokenizer(): Promise<Tokenizer> {
  return tokenizer ??= Tokenizer.fromJson(readJson("tokenizer/neox.json"));
}

function readJson(path: string): unknown {
  return JSON.parse(Deno.readTextFileSync(new URL(`testdata/${path}`, import.meta.url)));
}

function numbersOf(text: string): number[] {
  return text === "" ? [] : text.split(" ").map(Number);
}

/**
 * New tokens of each row as they should be, filled up with the pad token. That is what transformers gives but in two
 * cases: it takes a pad of 0 for none in a beam search, and fills with an eos token; and it lets rows that a text has
 * ended go on until all have ended, if there is no eos token.
 */
function expectedRows(
  { options, sequences, solo_lengths, beam_indices }: GenerationRun,
): number[][] {
  const { pad_token_id: pad, stop_strings: stops, eos_token_id: eos } = options;
  const rows = sequences!.map(numbersOf);
  const lengths = stops && eos === null
    ? solo_lengths
    : pad === 0
    ? beam_indices?.map((row) => numbersOf(row).filter((beam) => beam >= 0).length)
    : undefined;
  if (lengths === undefined) return rows;
  return rows.map((row, i) => row.map((id, at) => at < lengths[i]! ? id : pad as number));
}

function checkSequences(
  { sequences }: GenerateOutput,
  promptLength: number,
  expected: readonly number[][],
): void {
  assertEquals(sequences.length, expected.length, "rows");
  expected.forEach((row, i) => checkRow(`row ${i}`, sequences[i]!.slice(promptLength), row));
}

function checkRow(place: string, actual: readonly number[], expected: readonly number[]): void {
  const length = Math.max(actual.length, expected.length);
  const at = Array.from({ length }, (_, i) => i).find((i) => actual[i] !== expected[i]);
  if (at === undefined) return;
  const token = (ids: readonly number[]) => ids[at] ?? "nothing";
  throw new Error(
    `${place}: new token ${at} is ${token(actual)}, not ${token(expected)}: ` +
      `[${actual.join(" ")}], not [${expected.join(" ")}]`,
  );
}

function checkVectors(
  kind: string,
  steps: StepScores | undefined,
  expected: readonly GoldenVector[] = [],
  gate: number,
): void {
  for (const { step, row, values } of expected) {
    checkNumbers(`${kind}[${step}][${row}]`, steps![step]![row]!, values, gate);
  }
}

/** Numbers must be within the gate; those that stand for nothing, which are infinite or next to it, the same. */
function checkNumbers(
  place: string,
  actual: ArrayLike<number>,
  expected: string,
  gate: number,
): void {
  const theirs = numbersOf(expected);
  assertEquals(actual.length, theirs.length, `${place}: length`);
  const isNumber = (x: number) => Math.abs(x) < 1e30;
  const scale = Math.max(...theirs.filter(isNumber).map(Math.abs));
  theirs.forEach((value, i) => {
    const ours = actual[i]!;
    const isSame = isNumber(value) ? Math.abs(ours - value) <= gate * scale : ours === value ||
      Math.abs(ours / value - 1) < 1e-6;
    if (isSame) return;
    throw new Error(`${place}[${i}] is ${ours}, not ${value} (gate ${gate} of ${scale})`);
  });
}
