/**
 * What `generate` is asked for.
 *
 * @module
 */

import { ModelConfigError, ModelInputError, requireInput } from "../../runtime/errors.ts";
import type { Tensor } from "../../runtime/tensor.ts";
import {
  GENERATION_KEYS,
  GenerationConfig,
  type GenerationConfigOptions,
} from "../generation_config.ts";
import type { IdMatrix } from "../inputs.ts";
import { requireOptions } from "../inputs.ts";
import { Tokenizer } from "../tokenizer/tokenizer.ts";
import type { GenerativeModel } from "./generative_model.ts";
import type { LogitsProcessor } from "./logits_processor.ts";
import { PromptCache } from "./prompt_cache.ts";
import type { StoppingCriterion } from "./stopping.ts";

/** `max_new_tokens` → `maxNewTokens`. */
export type CamelCase<Name extends string> = Name extends `${infer Head}_${infer Tail}`
  ? `${Head}${Capitalize<CamelCase<Tail>>}`
  : Name;

/** The options of a {@linkcode GenerationConfig} in camelCase: `maxNewTokens`, `doSample`, `topK`, … */
export type GenerationSettings = {
  readonly [
    Key in keyof GenerationConfigOptions as CamelCase<Key>
  ]?: GenerationConfigOptions[Key] | undefined;
};

/** What one call is given beside the {@linkcode GenerationSettings}. */
export interface GenerationInputs<T extends Tensor = Tensor> {
  /**
   * Prompts as token ids. Rows of different lengths are padded on the left; rows that are padded already come with
   * their mask. One row of the bos token unless given.
   */
  readonly inputIds?: IdMatrix | readonly ArrayLike<number>[] | undefined;
  /**
   * 1 for each token to be seen and 0 for padding, as the shape of `inputIds`. Unless given, padding is what
   * equals the pad token, if that is not an eos token too.
   */
  readonly attentionMask?: IdMatrix | undefined;
  /**
   * What draws depend on, besides row and position: a whole number from 0 to 2⁶⁴ − 1. Random unless given. Or one
   * for each prompt, whose rows then draw what they would draw alone; not for beams.
   */
  readonly seed?: number | bigint | readonly (number | bigint)[] | undefined;
  /** Decodes streamed tokens, and is needed for `stopStrings`. */
  readonly tokenizer?: Tokenizer | undefined;
  /** Change the scores after the settings' own processors, and before those of sampling. */
  readonly logitsProcessors?: readonly LogitsProcessor[] | undefined;
  /** End a row besides the settings' own rules. */
  readonly stoppingCriteria?: readonly StoppingCriterion[] | undefined;
  /** The only tokens that may follow, given the number of the prompt and a row's tokens. */
  readonly prefixAllowedTokens?:
    | ((prompt: number, ids: readonly number[]) => readonly number[])
    | undefined;
  /** Prompts to be guided away from, with `guidanceScale`; the last token of each prompt unless given. */
  readonly negativePromptIds?: IdMatrix | undefined;
  /** Mask of `negativePromptIds`. */
  readonly negativePromptAttentionMask?: IdMatrix | undefined;
  /** A smaller model of the same vocabulary that drafts tokens, which this one then checks together. */
  readonly assistantModel?: GenerativeModel<T> | undefined;
  /** Keys and values of an earlier text that the prompt may begin with. */
  readonly promptCache?: PromptCache<T> | undefined;
  /** Most tokens of a prompt that run at a time, which bounds memory; 512 unless given. */
  readonly prefillChunkSize?: number | undefined;
  /** Return log-probabilities: of each new token and of this many of the likeliest, before any processing. */
  readonly outputLogprobs?: number | undefined;
  /** Ends the call, which then throws the signal's reason. */
  readonly signal?: AbortSignal | undefined;
}

/** What {@linkcode StableLmForCausalLM.generate} takes. */
export type GenerateOptions<T extends Tensor = Tensor> = GenerationInputs<T> & GenerationSettings;

/** Names of {@linkcode GenerationInputs}. */
const INPUTS: Readonly<Record<keyof GenerationInputs, true>> = {
  inputIds: true,
  attentionMask: true,
  seed: true,
  tokenizer: true,
  logitsProcessors: true,
  stoppingCriteria: true,
  prefixAllowedTokens: true,
  negativePromptIds: true,
  negativePromptAttentionMask: true,
  assistantModel: true,
  promptCache: true,
  prefillChunkSize: true,
  outputLogprobs: true,
  signal: true,
};

/** Names of the settings, as a call and as a generation config have them. */
const SETTINGS: ReadonlyMap<string, keyof GenerationConfigOptions> = new Map(
  GENERATION_KEYS.map((key) => [camelCase(key), key]),
);

/** Settings that do something only where another has a certain value, and what they must be otherwise. */
const DEPENDENT: readonly {
  readonly names: Readonly<Record<string, readonly unknown[]>>;
  readonly rule: string;
  readonly applies: (config: GenerationConfig, inputs: GenerationInputs) => boolean;
}[] = [
  {
    // A temperature of 0 means greedy, which it is.
    names: {
      temperature: [0, 1],
      topK: [0],
      topP: [1],
      minP: [],
      topH: [],
      typicalP: [1],
      epsilonCutoff: [0],
      etaCutoff: [0],
    },
    rule: "needs doSample: true",
    applies: (config) => config.do_sample,
  },
  {
    names: { lengthPenalty: [1], earlyStopping: [false] },
    rule: "needs numBeams above 1",
    applies: (config) => config.num_beams > 1,
  },
  {
    names: { maxMatchingNgramSize: [2] },
    rule: "needs promptLookupNumTokens",
    applies: (config) => config.prompt_lookup_num_tokens !== null,
  },
  {
    names: {
      numAssistantTokens: [20],
      numAssistantTokensSchedule: ["constant"],
      assistantConfidenceThreshold: [0.4],
    },
    rule: "needs an assistantModel",
    applies: (_, { assistantModel }) => assistantModel !== undefined,
  },
  {
    names: { negativePromptIds: [], negativePromptAttentionMask: [] },
    rule: "needs a guidanceScale other than 1",
    applies: ({ guidance_scale: scale }) => scale !== null && scale !== 1,
  },
];

/** Keys that other versions of `generate` know, which would change what comes out. */
const REFUSED: ReadonlyMap<string, readonly unknown[]> = new Map<string, readonly unknown[]>([
  ["penalty_alpha", [0]],
  ["num_beam_groups", [1]],
  ["diversity_penalty", [0]],
  ["constraints", []],
  ["force_words_ids", []],
  ["dola_layers", []],
  ["watermarking_config", []],
  ["token_healing", [false]],
]);

/**
 * The settings of a call: its own, then the checkpoint's, then the defaults.
 *
 * @throws {ModelInputError} If an option is unknown, breaks a rule, or would have no effect
 */
export function resolveSettings<T extends Tensor>(
  model: GenerativeModel<T>,
  options: GenerateOptions<T>,
): GenerationConfig {
  requireKnown(options);
  requireKinds(options);
  const base = model.generationConfig ?? GenerationConfig.fromModelConfig(model.config);
  const { other, ...stated } = base;
  for (const [key, neutral] of REFUSED) {
    const value = other[key] ?? null;
    if (value === null || neutral.includes(value)) continue;
    fail(key, "of the generation config is not supported", JSON.stringify(value));
  }
  const given: Record<string, unknown> = {};
  for (const [name, key] of SETTINGS) {
    const value = (options as Record<string, unknown>)[name];
    // No limit is 0 in a config, where null stands for the default.
    if (value !== undefined) given[key] = key === "top_k" ? value ?? 0 : value;
  }
  requireOneLength(given);
  const config = merged(stated, given);
  for (const { names, rule, applies } of DEPENDENT) {
    if (applies(config, options)) continue;
    for (const [name, neutral] of Object.entries(names)) {
      const value = (options as Record<string, unknown>)[name] ?? null;
      if (value !== null && !neutral.includes(value)) fail(name, rule, shown(value));
    }
  }
  requireModesToAgree(config, options);
  return config;
}

/** Null stands for a setting's default, which takes the place of what the checkpoint says. */
function requireKnown(options: object): void {
  const isObject = typeof options === "object" && options !== null;
  requireInput(isObject, "generate", "options", "must be an object", options);
  const inputs = Object.entries(options).filter(([name]) => !SETTINGS.has(name));
  const names = [...Object.keys(INPUTS), ...SETTINGS.keys()];
  requireOptions("generate", Object.fromEntries(inputs), names);
}

/** What is used late in a call, or called back, is checked before it begins. */
function requireKinds<T extends Tensor>(options: GenerationInputs<T>): void {
  const { tokenizer, promptCache, signal, assistantModel, prefixAllowedTokens: allowed } = options;
  const rule = (isKept: boolean, name: string, text: string, value: unknown) =>
    requireInput(isKept, "generate", name, text, typeof value);
  const isOptional = (value: unknown, kind: { [Symbol.hasInstance](value: unknown): boolean }) =>
    value === undefined || value instanceof kind;
  rule(isOptional(tokenizer, Tokenizer), "tokenizer", "must be a Tokenizer", tokenizer);
  rule(isOptional(promptCache, PromptCache), "promptCache", "must be a PromptCache", promptCache);
  rule(isOptional(signal, AbortSignal), "signal", "must be an AbortSignal", signal);
  const isModel = assistantModel === undefined || typeof assistantModel.forward === "function";
  rule(isModel, "assistantModel", "must be a model", assistantModel);
  const isCallable = allowed === undefined || typeof allowed === "function";
  rule(isCallable, "prefixAllowedTokens", "must be a function", allowed);
  for (const name of ["logitsProcessors", "stoppingCriteria"] as const) {
    const list: unknown = options[name] ?? [];
    const isList = Array.isArray(list) && list.every((each) => typeof each === "function");
    rule(isList, name, "must be a list of functions", list);
  }
}

/** A call's length takes the place of the checkpoint's, whichever way the two are stated. */
function requireOneLength(given: Record<string, unknown>): void {
  for (const bound of ["max", "min"]) {
    const total = `${bound}_length`, fresh = `${bound}_new_tokens`;
    const both = given[total] != null && given[fresh] != null;
    if (both) fail(camelCase(fresh), `must not be given with ${camelCase(total)}`, "both");
    if (given[total] != null) given[fresh] = null;
  }
}

function merged(
  stated: GenerationConfigOptions,
  given: Readonly<Record<string, unknown>>,
): GenerationConfig {
  try {
    return new GenerationConfig({ ...stated, ...given }, { file: "generate" });
  } catch (error) {
    if (!(error instanceof ModelConfigError)) throw error;
    const { place = "", rule, value } = error.fault;
    return fail(callersWords(place), callersWords(rule), value);
  }
}

/** Keys of a generation config as the caller writes them. */
function callersWords(text: string): string {
  const plain = text.replace(/^key "(.*)"$/, "$1");
  return plain.replace(/\b[a-z]+(?:_[a-z]+)+\b/g, (word) => camelCase(word));
}

function requireModesToAgree<T extends Tensor>(
  config: GenerationConfig,
  options: GenerationInputs<T>,
): void {
  const { num_beams: beams, num_return_sequences: returned } = config;
  const { assistantModel, promptCache, outputLogprobs, prefillChunkSize } = options;
  const rule = (isKept: boolean, name: string, text: string, value: unknown) =>
    requireInput(isKept, "generate", name, text, shown(value));
  const looksUp = config.prompt_lookup_num_tokens !== null;
  const isGuided = config.guidance_scale !== null && config.guidance_scale !== 1;
  const drafts = assistantModel !== undefined || looksUp;
  const name = assistantModel ? "assistantModel" : "promptLookupNumTokens";
  if (assistantModel && looksUp) fail(name, "must not be given with promptLookupNumTokens", "both");
  if (drafts) {
    rule(beams === 1, name, "must not be given with numBeams above 1", beams);
    rule(returned === 1, name, "must not be given with numReturnSequences above 1", returned);
    rule(!isGuided, name, "must not be given with guidanceScale", config.guidance_scale);
    rule(config.use_cache, name, "must not be given with useCache: false", false);
  }
  if (beams > 1) {
    const seeds = Array.isArray(options.seed) ? options.seed.length : 1;
    rule(seeds === 1, "seed", "must be one with numBeams above 1", seeds);
    rule(!isGuided, "guidanceScale", "must not be given with numBeams above 1", beams);
    rule(outputLogprobs === undefined, "outputLogprobs", "must not be given with beams", beams);
  }
  if (promptCache) {
    rule(config.use_cache, "promptCache", "must not be given with useCache: false", false);
    rule(beams === 1, "promptCache", "must not be given with numBeams above 1", beams);
    rule(returned === 1, "promptCache", "must not be given with numReturnSequences", returned);
  }
  for (const key of ["output_attentions", "output_hidden_states"] as const) {
    rule(!config[key], camelCase(key), "is not returned by generate, but by forward", true);
  }
  const hasStops = config.stop_strings !== null;
  const needed = "must be given where there are stopStrings";
  rule(!hasStops || options.tokenizer !== undefined, "tokenizer", needed, undefined);
  const isCount = (value: number, least: number) => Number.isSafeInteger(value) && value >= least;
  if (outputLogprobs !== undefined) {
    const most = "must be a whole number from 0 to 100";
    const fits = isCount(outputLogprobs, 0) && outputLogprobs <= 100;
    rule(fits, "outputLogprobs", most, outputLogprobs);
  }
  const chunk = prefillChunkSize ?? 512;
  rule(isCount(chunk, 1), "prefillChunkSize", "must be a whole number from 1", chunk);
}

function camelCase(key: string): string {
  return key.replace(/_([a-z])/g, (_, letter: string) => letter.toUpperCase());
}

function shown(value: unknown): string {
  return typeof value === "string" ? JSON.stringify(value) : String(value);
}

function fail(argument: string, rule: string, value: string): never {
  throw new ModelInputError({ op: "generate", argument, rule, value });
}
