/**
 * A checkpoint's own defaults for generating text.
 *
 * Source: Hugging Face's GenerationConfig, whose keys and defaults these are
 *
 * @module
 */

import type { StableLmConfig } from "./config.ts";
import { ANY_LENGTH, JsonFields, type JsonObject, TOKEN_ID } from "./json_fields.ts";

/** When a beam search ends: at the first full set, by a heuristic, or only when nothing can be better. */
export type EarlyStopping = boolean | "never";

/** How the number of drafted tokens changes during assisted generation. */
export type AssistantSchedule = "constant" | "heuristic" | "heuristic_transient";

/** What is added to a token's score where it would complete a sequence. */
export type SequenceBias = readonly [tokens: readonly number[], bias: number];

/** From a number of new tokens on, the score of the eos token grows by the powers of a factor. */
export type ExponentialDecay = readonly [start: number, factor: number];

/** What a generation config may be made of; what is absent or null has its default. */
export type GenerationConfigOptions =
  & {
    readonly [Key in Exclude<keyof GenerationConfig, "other" | "stop_strings" | "toJSON">]?:
      | GenerationConfig[Key]
      | null;
  }
  & {
    /** Text, or texts, that end a row. */
    readonly stop_strings?: string | readonly string[] | null;
  };

/** Where the options come from. */
export interface GenerationConfigOrigin {
  /** What messages call it. */
  readonly file?: string;
  /** What stood there beside the options. */
  readonly other?: JsonObject;
}

/** Every key of {@linkcode GenerationConfigOptions}. */
const KEYS: Readonly<Record<keyof GenerationConfigOptions, true>> = {
  max_length: true,
  max_new_tokens: true,
  min_length: true,
  min_new_tokens: true,
  early_stopping: true,
  max_time: true,
  stop_strings: true,
  do_sample: true,
  num_beams: true,
  num_return_sequences: true,
  use_cache: true,
  temperature: true,
  top_k: true,
  top_p: true,
  min_p: true,
  top_h: true,
  typical_p: true,
  epsilon_cutoff: true,
  eta_cutoff: true,
  repetition_penalty: true,
  encoder_repetition_penalty: true,
  length_penalty: true,
  no_repeat_ngram_size: true,
  encoder_no_repeat_ngram_size: true,
  bad_words_ids: true,
  sequence_bias: true,
  renormalize_logits: true,
  remove_invalid_values: true,
  forced_bos_token_id: true,
  forced_eos_token_id: true,
  exponential_decay_length_penalty: true,
  suppress_tokens: true,
  begin_suppress_tokens: true,
  guidance_scale: true,
  num_assistant_tokens: true,
  num_assistant_tokens_schedule: true,
  assistant_confidence_threshold: true,
  prompt_lookup_num_tokens: true,
  max_matching_ngram_size: true,
  output_scores: true,
  output_logits: true,
  output_attentions: true,
  output_hidden_states: true,
  bos_token_id: true,
  eos_token_id: true,
  pad_token_id: true,
};

/** Names of {@linkcode GenerationConfigOptions}. */
export const GENERATION_KEYS: readonly (keyof GenerationConfigOptions)[] = Object.keys(
  KEYS,
) as (keyof GenerationConfigOptions)[];

const SCHEDULES: readonly AssistantSchedule[] = ["constant", "heuristic", "heuristic_transient"];

const FROM_1 = { whole: true, least: 1, most: 2 ** 24 };
const FROM_0 = { whole: true, least: 0, most: 2 ** 24 };
// Every beam and every sequence is a row of the batch.
const ROWS = { whole: true, least: 1, most: 1024 };
const SHARE = { least: 0, most: 1 };
const SHARE_ABOVE_0 = { above: 0, most: 1 };
const PENALTY = { above: 0, most: 1e6 };
const NUMBER = { least: -1e6, most: 1e6 };
const SECONDS = { least: 0 };
const PAIR = { least: 2, most: 2 };

/**
 * How a checkpoint wants to be generated from, complete and checked. Immutable. A call's own options
 * come before it.
 */
export class GenerationConfig {
  /** Most tokens, the prompt's among them; null makes 20 new ones, within the model's positions. */
  readonly max_length: number | null;
  /** Most new tokens; comes before `max_length`. */
  readonly max_new_tokens: number | null;
  /** Fewest tokens, the prompt's among them. */
  readonly min_length: number;
  /** Fewest new tokens; comes before `min_length`. */
  readonly min_new_tokens: number | null;
  /** When a beam search ends. */
  readonly early_stopping: EarlyStopping;
  /** Seconds after which no new token is begun. */
  readonly max_time: number | null;
  /** Texts that end a row. */
  readonly stop_strings: readonly string[] | null;
  /** Whether tokens are drawn, not taken by the highest score. */
  readonly do_sample: boolean;
  /** Beams of a beam search; 1 is none. */
  readonly num_beams: number;
  /** Sequences for each prompt. */
  readonly num_return_sequences: number;
  /** Whether keys and values are kept from token to token. */
  readonly use_cache: boolean;
  /** What scores are divided by when tokens are drawn; 0 is refused by then, and legal until then. */
  readonly temperature: number;
  /** Tokens of the highest scores to draw from; 0 is all. */
  readonly top_k: number;
  /** Probability that the tokens to draw from have to reach. */
  readonly top_p: number;
  /** Smallest probability to draw, as a share of the highest one. */
  readonly min_p: number | null;
  /** Share of the entropy that the tokens to draw from keep. */
  readonly top_h: number | null;
  /** Probability that the most typical tokens have to reach. */
  readonly typical_p: number;
  /** Smallest probability to draw; 0 is none. */
  readonly epsilon_cutoff: number;
  /** The same, less strict where the entropy is high; 0 is none. */
  readonly eta_cutoff: number;
  /** What the scores of tokens seen before are divided by. */
  readonly repetition_penalty: number;
  /** What the scores of tokens outside the prompt are divided by. */
  readonly encoder_repetition_penalty: number;
  /** Power of the length that a beam's score is divided by. */
  readonly length_penalty: number;
  /** Length of the runs of tokens that occur once only; 0 is none. */
  readonly no_repeat_ngram_size: number;
  /** Length of the prompt's runs that do not occur again; 0 is none. */
  readonly encoder_no_repeat_ngram_size: number;
  /** Sequences that are never completed. */
  readonly bad_words_ids: readonly (readonly number[])[] | null;
  /** Biases for sequences. */
  readonly sequence_bias: readonly SequenceBias[] | null;
  /** Whether scores are made log-probabilities after everything else. */
  readonly renormalize_logits: boolean;
  /** Whether NaN and infinite scores are replaced. */
  readonly remove_invalid_values: boolean;
  /** Token that comes first. */
  readonly forced_bos_token_id: number | null;
  /** Token, or tokens, that come last where the length runs out. */
  readonly forced_eos_token_id: number | readonly number[] | null;
  /** Growth of the eos token's score. */
  readonly exponential_decay_length_penalty: ExponentialDecay | null;
  /** Tokens that never come. */
  readonly suppress_tokens: readonly number[] | null;
  /** Tokens that never come first. */
  readonly begin_suppress_tokens: readonly number[] | null;
  /** Weight of classifier-free guidance. */
  readonly guidance_scale: number | null;
  /** Tokens drafted at a time in assisted generation. */
  readonly num_assistant_tokens: number;
  /** How that number changes. */
  readonly num_assistant_tokens_schedule: AssistantSchedule;
  /** Probability below which drafting stops. */
  readonly assistant_confidence_threshold: number;
  /** Tokens drafted from the prompt itself; null is no such lookup. */
  readonly prompt_lookup_num_tokens: number | null;
  /** Longest run that such a lookup looks for. */
  readonly max_matching_ngram_size: number;
  /** Whether processed scores are returned. */
  readonly output_scores: boolean;
  /** Whether raw scores are returned. */
  readonly output_logits: boolean;
  /** Whether attention probabilities are returned. */
  readonly output_attentions: boolean;
  /** Whether hidden states are returned. */
  readonly output_hidden_states: boolean;
  /** Token that begins a text. */
  readonly bos_token_id: number | null;
  /** Token, or tokens, that end a row. */
  readonly eos_token_id: number | readonly number[] | null;
  /** Token that fills rows up. */
  readonly pad_token_id: number | null;
  /** What the file held beside these, unread. */
  readonly other: JsonObject;

  /**
   * Completes and checks options.
   *
   * @param options what differs from the defaults
   * @param origin where they come from
   * @throws {ModelConfigError} If an option is unknown or breaks a rule, or two exclude each other
   */
  constructor(options: GenerationConfigOptions = {}, origin: GenerationConfigOrigin = {}) {
    const { file = "GenerationConfig options", other = {} } = origin;
    const fields = new JsonFields(options, file).withoutNulls();
    const unknown = fields.keys().find((key) => !Object.hasOwn(KEYS, key));
    if (unknown !== undefined) {
      fields.refuse(
        unknown,
        "unknown-key",
        "must be an option of GenerationConfig, which it is not",
      );
    }
    this.max_length = fields.number("max_length", FROM_1, null);
    this.max_new_tokens = fields.number("max_new_tokens", FROM_1, null);
    this.min_length = fields.number("min_length", FROM_0, 0);
    this.min_new_tokens = fields.number("min_new_tokens", FROM_0, null);
    this.early_stopping = readEarlyStopping(fields);
    this.max_time = fields.number("max_time", SECONDS, null);
    this.stop_strings = readStopStrings(fields);
    this.do_sample = fields.boolean("do_sample", false);
    this.num_beams = fields.number("num_beams", ROWS, 1);
    this.num_return_sequences = fields.number("num_return_sequences", ROWS, 1);
    this.use_cache = fields.boolean("use_cache", true);
    this.temperature = fields.number("temperature", { least: 0, most: 1e6 }, 1);
    this.top_k = fields.number("top_k", FROM_0, 50);
    this.top_p = fields.number("top_p", SHARE, 1);
    this.min_p = fields.number("min_p", SHARE, null);
    this.top_h = fields.number("top_h", SHARE_ABOVE_0, null);
    this.typical_p = fields.number("typical_p", SHARE_ABOVE_0, 1);
    this.epsilon_cutoff = fields.number("epsilon_cutoff", SHARE, 0);
    this.eta_cutoff = fields.number("eta_cutoff", SHARE, 0);
    this.repetition_penalty = fields.number("repetition_penalty", PENALTY, 1);
    this.encoder_repetition_penalty = fields.number("encoder_repetition_penalty", PENALTY, 1);
    this.length_penalty = fields.number("length_penalty", NUMBER, 1);
    this.no_repeat_ngram_size = fields.number("no_repeat_ngram_size", FROM_0, 0);
    this.encoder_no_repeat_ngram_size = fields.number("encoder_no_repeat_ngram_size", FROM_0, 0);
    this.bad_words_ids = readBadWords(fields);
    this.sequence_bias = readSequenceBias(fields);
    this.renormalize_logits = fields.boolean("renormalize_logits", false);
    this.remove_invalid_values = fields.boolean("remove_invalid_values", false);
    this.forced_bos_token_id = fields.tokenId("forced_bos_token_id", null);
    this.forced_eos_token_id = fields.tokenIds("forced_eos_token_id", null);
    this.exponential_decay_length_penalty = readExponentialDecay(fields);
    this.suppress_tokens = readTokens(fields, "suppress_tokens");
    this.begin_suppress_tokens = readTokens(fields, "begin_suppress_tokens");
    this.guidance_scale = fields.number("guidance_scale", NUMBER, null);
    this.num_assistant_tokens = fields.number("num_assistant_tokens", FROM_1, 20);
    this.num_assistant_tokens_schedule = fields.word(
      "num_assistant_tokens_schedule",
      SCHEDULES,
      "constant",
    );
    this.assistant_confidence_threshold = fields.number(
      "assistant_confidence_threshold",
      SHARE,
      0.4,
    );
    this.prompt_lookup_num_tokens = fields.number("prompt_lookup_num_tokens", FROM_1, null);
    this.max_matching_ngram_size = fields.number("max_matching_ngram_size", FROM_1, 2);
    this.output_scores = fields.boolean("output_scores", false);
    this.output_logits = fields.boolean("output_logits", false);
    this.output_attentions = fields.boolean("output_attentions", false);
    this.output_hidden_states = fields.boolean("output_hidden_states", false);
    this.bos_token_id = fields.tokenId("bos_token_id", null);
    this.eos_token_id = fields.tokenIds("eos_token_id", null);
    this.pad_token_id = fields.tokenId("pad_token_id", null);
    this.other = Object.freeze({ ...other });
    requireSequencesToExist(fields, this);
    requireForcedToBeFree(fields, this, "forced_bos_token_id");
    requireForcedToBeFree(fields, this, "forced_eos_token_id");
    Object.freeze(this);
  }

  /**
   * Reads a parsed generation_config.json. Keys that are none of these fields stay in `other`.
   *
   * @param value what `JSON.parse` made of the file
   * @param file its name, for messages
   * @throws {ModelConfigError} If the file is no object, a key breaks a rule, or two exclude each other
   */
  static fromJson(value: unknown, file = "generation_config.json"): GenerationConfig {
    const { known, other } = split(new JsonFields(value, file));
    return new GenerationConfig(known, { file, other });
  }

  /**
   * The generation config of a checkpoint that has no generation_config.json: the token ids that its
   * config.json states, `use_cache`, and whatever of these fields stands in its config.json, where older files had them.
   *
   * @param config the checkpoint's config
   * @param value what `JSON.parse` made of its config.json; without it, all of the config's own ids count
   * @param file that file's name, for messages
   * @throws {ModelConfigError} If a key breaks a rule, or two exclude each other
   */
  static fromModelConfig(
    config: StableLmConfig,
    value?: unknown,
    file = "config.json",
  ): GenerationConfig {
    const fields = new JsonFields(value ?? {}, file);
    const { known } = split(fields);
    // An id that a file does not state is none to stop at, whatever the config's default.
    const stated = <K extends "bos_token_id" | "eos_token_id" | "pad_token_id">(key: K) =>
      value === undefined || fields.has(key) ? config[key] : null;
    const ids = {
      bos_token_id: stated("bos_token_id"),
      eos_token_id: stated("eos_token_id"),
      pad_token_id: stated("pad_token_id"),
    };
    return new GenerationConfig({ ...known, ...ids, use_cache: config.use_cache }, { file });
  }

  /** The config as a generation_config.json object: what differs from the defaults, and the rest of its file. */
  toJSON(): Record<string, unknown> {
    const { other, ...fields } = this;
    const defaults: JsonObject = { ...DEFAULTS };
    const stated = Object.entries(fields).filter(([key, value]) => value !== defaults[key]);
    return { ...other, ...Object.fromEntries(stated) };
  }
}

const DEFAULTS = new GenerationConfig();

/** Known and unknown fields of a file, apart. */
function split(fields: JsonFields): { known: GenerationConfigOptions; other: JsonObject } {
  const entries = fields.keys().map((key) => [key, fields.get(key)] as const);
  const isKnown = ([key]: readonly [string, unknown]) => Object.hasOwn(KEYS, key);
  return {
    known: Object.fromEntries(entries.filter(isKnown)),
    other: Object.fromEntries(entries.filter((entry) => !isKnown(entry))),
  };
}

function readEarlyStopping(fields: JsonFields): EarlyStopping {
  const value = fields.get("early_stopping") ?? false;
  if (typeof value === "boolean" || value === "never") return value;
  return fields.refuse("early_stopping", "unknown-word", 'must be true, false or "never"');
}

function readStopStrings(fields: JsonFields): readonly string[] | null {
  const one = fields.get("stop_strings");
  const texts = typeof one === "string" ? [one] : fields.texts("stop_strings", null);
  if (texts?.length === 0 || texts?.includes("")) {
    const rule = "must be a string or a list of strings, none of them empty";
    fields.refuse("stop_strings", "empty", rule);
  }
  return texts;
}

function readBadWords(fields: JsonFields): GenerationConfig["bad_words_ids"] {
  if (!fields.has("bad_words_ids")) return null;
  const words = fields.entries("bad_words_ids", "lists of token ids");
  return Object.freeze(words.keys().map((place) => words.numbers(place, TOKEN_ID)));
}

function readSequenceBias(fields: JsonFields): readonly SequenceBias[] | null {
  if (!fields.has("sequence_bias")) return null;
  const biases = fields.entries("sequence_bias", "pairs of token ids and a number");
  return Object.freeze(
    biases.keys().map((place): SequenceBias => {
      const pair = biases.entries(place, "values: token ids, and a number", PAIR);
      return Object.freeze([pair.numbers("0", TOKEN_ID), pair.number("1", NUMBER, 0)]);
    }),
  );
}

function readExponentialDecay(fields: JsonFields): ExponentialDecay | null {
  const key = "exponential_decay_length_penalty";
  if (!fields.has(key)) return null;
  const pair = fields.entries(key, "numbers: a start and a factor", PAIR);
  return Object.freeze([pair.number("0", FROM_0, 0), pair.number("1", PENALTY, 1)]);
}

// An empty list suppresses nothing, and some files have one.
function readTokens(fields: JsonFields, key: string): readonly number[] | null {
  return fields.has(key) ? fields.numbers(key, TOKEN_ID, ANY_LENGTH) : null;
}

function requireSequencesToExist(fields: JsonFields, config: GenerationConfig): void {
  const { num_return_sequences: sequences, num_beams, do_sample } = config;
  if (num_beams === 1 ? do_sample || sequences === 1 : sequences <= num_beams) return;
  const rule = num_beams === 1
    ? "must be 1 unless do_sample is true or num_beams is as many"
    : `must be at most num_beams, ${num_beams}`;
  fields.refuse("num_return_sequences", "contradiction", rule);
}

function requireForcedToBeFree(
  fields: JsonFields,
  config: GenerationConfig,
  key: "forced_bos_token_id" | "forced_eos_token_id",
): void {
  const forced = [config[key] ?? []].flat();
  const { suppress_tokens } = config;
  if (forced.length === 0 || !forced.every((id) => suppress_tokens?.includes(id))) return;
  fields.refuse(key, "contradiction", "must have a token that suppress_tokens has not");
}
