/**
 * Logits processors: what changes the scores of a next token before it is chosen.
 *
 * @module
 */

import { requireInput } from "../../runtime/errors.ts";
import type { GenerationConfig } from "../generation_config.ts";
import { allowOnly, force, suppress } from "./processors/bans.ts";
import {
  epsilonCutoff,
  etaCutoff,
  minP,
  topH,
  topK,
  topP,
  typicalP,
} from "./processors/filters.ts";
import { noRepeatNgram, promptNgram } from "./processors/ngrams.ts";
import {
  encoderRepetitionPenalty,
  exponentialDecay,
  repetitionPenalty,
} from "./processors/penalties.ts";
import type { LogitsProcessor } from "./processors/processor.ts";
import { removeInvalid, renormalize, temperature } from "./processors/scaling.ts";
import { badWords, sequenceBias } from "./processors/sequences.ts";

export type { LogitsProcessor } from "./processors/processor.ts";

/** What processors know of the call, beside its config. */
export interface ProcessorContext {
  /** Scores of a row. */
  readonly vocabSize: number;
  /** Tokens of each row of the prompt, padding included. */
  readonly promptLength: number;
  /** Most tokens of a row, the prompt's among them. */
  readonly maxLength: number;
  /** Tokens that end a row; may be empty. */
  readonly eos: readonly number[];
  /** The prompt of each row, padding included; a prompt of several rows is there as often. */
  readonly prompts: readonly (readonly number[])[];
  /** Whether tokens are drawn. */
  readonly sampling: boolean;
  /** Beams of a prompt; 1 is none. */
  readonly beams: number;
  /** Gives the tokens that may come after those of a row. */
  readonly prefixAllowedTokens?: (row: number, ids: readonly number[]) => readonly number[];
  /** The caller's own processors. */
  readonly custom?: readonly LogitsProcessor[];
}

/**
 * The processors that a config asks for, in the order of transformers: those that say what may come, then the
 * caller's own, then those of sampling, and log-probabilities last. Guidance, which needs a model, comes
 * before all of them and is not here.
 *
 * Each row is processed on its own, except that `prefixAllowedTokens` looks at all beams of a prompt.
 *
 * @param config the call's config, complete
 * @param context what else is known of the call
 * @throws {ModelInputError} If a token is not one of the vocabulary, or the config asks for what cannot be
 */
export function logitsProcessors(
  config: GenerationConfig,
  context: ProcessorContext,
): LogitsProcessor[] {
  requireKnownTokens(config, context);
  return [
    ...contentProcessors(config, context),
    ...lengthProcessors(config, context),
    ...suppressProcessors(config, context),
    ...context.custom ?? [],
    ...context.sampling ? samplingProcessors(config, context) : [],
    ...config.renormalize_logits ? [renormalize()] : [],
  ];
}

/**
 * Runs processors on the rows of a step: each on all rows before the next one begins.
 *
 * @param scores of each row, [V]; changed in place
 * @param rows tokens of each row
 */
export function processScores(
  processors: readonly LogitsProcessor[],
  scores: readonly Float32Array[],
  rows: readonly (readonly number[])[],
): void {
  for (const processor of processors) {
    scores.forEach((row, i) => processor(row, rows[i]!, i));
  }
}

/** What depends on the tokens that were there before. */
function* contentProcessors(
  config: GenerationConfig,
  context: ProcessorContext,
): Generator<LogitsProcessor> {
  const { vocabSize, prompts, eos } = context;
  if (config.sequence_bias) yield sequenceBias(config.sequence_bias);
  if (config.encoder_repetition_penalty !== 1) {
    yield encoderRepetitionPenalty(config.encoder_repetition_penalty, vocabSize, prompts);
  }
  if (config.repetition_penalty !== 1) {
    yield repetitionPenalty(config.repetition_penalty, vocabSize);
  }
  if (config.no_repeat_ngram_size > 0) yield noRepeatNgram(config.no_repeat_ngram_size);
  if (config.encoder_no_repeat_ngram_size > 0) {
    yield promptNgram(config.encoder_no_repeat_ngram_size, prompts);
  }
  if (config.bad_words_ids) yield badWords(config.bad_words_ids, eos);
}

/** What depends on how long a row is, and what must come. */
function* lengthProcessors(
  config: GenerationConfig,
  context: ProcessorContext,
): Generator<LogitsProcessor> {
  const { promptLength, maxLength, eos, beams, prefixAllowedTokens } = context;
  const { min_new_tokens, exponential_decay_length_penalty: decay } = config;
  const shortest = min_new_tokens === null ? config.min_length : promptLength + min_new_tokens;
  if (eos.length > 0 && shortest > 0) yield suppress(eos, (length) => length < shortest);
  if (prefixAllowedTokens) yield allowOnly(prefixAllowedTokens, beams);
  if (config.forced_bos_token_id !== null) yield force([config.forced_bos_token_id], 1);
  if (config.forced_eos_token_id !== null) {
    yield force([config.forced_eos_token_id].flat(), maxLength - 1);
  }
  if (config.remove_invalid_values) yield removeInvalid();
  if (decay) yield exponentialDecay(promptLength + decay[0], decay[1], eos);
}

function* suppressProcessors(
  config: GenerationConfig,
  { promptLength }: ProcessorContext,
): Generator<LogitsProcessor> {
  if (config.suppress_tokens) yield suppress(config.suppress_tokens);
  if (config.begin_suppress_tokens) {
    const isBosForced = promptLength <= 1 && config.forced_bos_token_id !== null;
    const begin = isBosForced ? promptLength + 1 : promptLength;
    yield suppress(config.begin_suppress_tokens, (length) => length === begin);
  }
}

/** What tokens may be drawn. */
function* samplingProcessors(
  config: GenerationConfig,
  { vocabSize, eos, beams }: ProcessorContext,
): Generator<LogitsProcessor> {
  const { top_h, top_k, top_p, min_p, typical_p, epsilon_cutoff, eta_cutoff } = config;
  requireInput(
    Math.fround(config.temperature) > 0,
    "generate",
    "temperature",
    "must be greater than 0 to draw tokens; doSample: false takes the best ones",
    config.temperature,
  );
  // Each beam needs one token that does not end it.
  const least = beams === 1 ? 1 : eos.length > 0 ? eos.length + 1 : 2;
  if (config.temperature !== 1) yield temperature(config.temperature);
  if (top_h !== null) yield topH(top_h);
  if (top_k > 0) yield topK(top_k, least);
  if (top_p < 1) yield topP(top_p, least, vocabSize);
  if (min_p !== null) yield minP(min_p, least);
  if (typical_p < 1) yield typicalP(typical_p, least, vocabSize);
  if (epsilon_cutoff > 0 && epsilon_cutoff < 1) yield epsilonCutoff(epsilon_cutoff, least);
  if (eta_cutoff > 0 && eta_cutoff < 1) yield etaCutoff(eta_cutoff, least, vocabSize);
}

/** Throws for ids that the model has no score for, and for an eos that is needed and not there. */
function requireKnownTokens(config: GenerationConfig, context: ProcessorContext): void {
  const { vocabSize, eos } = context;
  const decays = config.exponential_decay_length_penalty !== null;
  const rule = "must have an eosTokenId to make likelier";
  requireInput(
    !decays || eos.length > 0,
    "generate",
    "exponentialDecayLengthPenalty",
    rule,
    "none",
  );
  const used: Readonly<Record<string, readonly number[] | null>> = {
    sequenceBias: config.sequence_bias?.flatMap(([tokens]) => tokens) ?? null,
    badWordsIds: config.bad_words_ids?.flat() ?? null,
    forcedBosTokenId: [config.forced_bos_token_id ?? []].flat(),
    forcedEosTokenId: [config.forced_eos_token_id ?? []].flat(),
    eosTokenId: decays ? eos : null,
    suppressTokens: config.suppress_tokens,
    beginSuppressTokens: config.begin_suppress_tokens,
  };
  for (const [option, tokens] of Object.entries(used)) {
    const unknown = tokens?.find((token) => token >= vocabSize);
    const range = `must have tokens from 0 to ${vocabSize - 1}`;
    requireInput(unknown === undefined, "generate", option, range, unknown);
  }
}
