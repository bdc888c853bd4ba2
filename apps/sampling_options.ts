/**
 * How the text commands choose tokens: flags, and the settings of `generate` that they stand for.
 *
 * @module
 */

import type { GenerativeModel } from "../model/generation/generative_model.ts";
import type { GenerationSettings } from "../model/generation/options.ts";
import { contextLength } from "../model/generation/request.ts";
import { ModelInputError, requireInput } from "../runtime/errors.ts";
import { type OptionSpec, type OptionValues, UsageError } from "./command_line.ts";

const TOKENS = { type: "integer", value: "N", most: 2 ** 24 } as const;
const SHARE = { type: "number", value: "P", least: 0, most: 1 } as const;
const ROWS = { type: "integer", value: "N", least: 1, most: 1024 } as const;

/** The flags. What is not given is as the checkpoint says. */
export const SAMPLING_OPTIONS = {
  "max-new-tokens": {
    ...TOKENS,
    least: 1,
    summary: "most tokens to generate; the checkpoint's, else 200",
  },
  temperature: {
    type: "number",
    value: "T",
    least: 0,
    most: 1e6,
    summary: "what scores are divided by before tokens are drawn; 0 is --greedy",
  },
  "top-k": { ...TOKENS, least: 0, summary: "draw from the N likeliest tokens; 0 is all" },
  "top-p": { ...SHARE, summary: "draw from the likeliest tokens that together have probability P" },
  "min-p": { ...SHARE, summary: "draw from the tokens with P times the highest probability" },
  "repetition-penalty": {
    type: "number",
    value: "X",
    least: 1e-6,
    most: 1e6,
    summary: "what the scores of tokens seen before are divided by; 1 is none",
  },
  "no-repeat-ngram-size": { ...TOKENS, least: 0, summary: "no run of N tokens occurs twice" },
  greedy: { type: "flag", summary: "take the likeliest token each time; nothing is drawn" },
  "num-beams": {
    ...ROWS,
    summary: "search with N beams; they are drawn too, where the checkpoint or a flag says so",
  },
  "num-return-sequences": { ...ROWS, summary: "texts for each prompt" },
  "prompt-lookup": {
    ...TOKENS,
    least: 1,
    summary: "draft N tokens at a time from the text so far and check them together, which is " +
      "quicker where a text repeats itself",
  },
  stop: {
    type: "texts",
    value: "TEXT",
    summary: "end after TEXT; several may be given",
  },
  seed: {
    type: "integer",
    value: "N",
    least: 0,
    most: 2 ** 53 - 1,
    summary: "draw what another run with this seed drew; anew unless given",
  },
} as const satisfies Record<string, OptionSpec>;

/** Values of {@linkcode SAMPLING_OPTIONS}, or of some of them. */
export type SamplingValues = Partial<OptionValues<typeof SAMPLING_OPTIONS>>;

/** Settings by the flags that they come from. */
const FLAGS: Readonly<Record<string, Exclude<keyof typeof SAMPLING_OPTIONS, "greedy">>> = {
  maxNewTokens: "max-new-tokens",
  temperature: "temperature",
  topK: "top-k",
  topP: "top-p",
  minP: "min-p",
  repetitionPenalty: "repetition-penalty",
  noRepeatNgramSize: "no-repeat-ngram-size",
  numBeams: "num-beams",
  numReturnSequences: "num-return-sequences",
  promptLookupNumTokens: "prompt-lookup",
  stopStrings: "stop",
  seed: "seed",
};

/** Settings that say how tokens are drawn, and so that they are. */
const DRAWING = ["temperature", "topK", "topP", "minP"] as const;

/** New tokens where neither the call nor the checkpoint says how many. */
export const NEW_TOKENS = 200;

/** Settings of a call, and what its draws depend on. */
export type TextSettings = GenerationSettings & { readonly seed?: number | bigint | undefined };

/**
 * The settings that flags stand for. Any flag about drawing turns drawing on, and `--temperature 0` turns it off.
 *
 * @throws {UsageError} If two flags contradict each other
 */
export function settingsOfFlags(values: SamplingValues): TextSettings {
  const settings: Record<string, unknown> = {};
  for (const [name, flag] of Object.entries(FLAGS)) {
    if (values[flag] !== undefined) settings[name] = values[flag];
  }
  const isGreedy = values.greedy === true;
  const without = (name: string, by: string): never => {
    throw new UsageError(`--${FLAGS[name]} must not be given with ${by}, which draws nothing`);
  };
  if (isGreedy) {
    const drawing = DRAWING.find((name) => (settings[name] ?? 0) !== 0);
    if (drawing) without(drawing, "--greedy");
    settings.doSample = false;
  }
  return withMode(settings, (name) => without(name, "--temperature 0"));
}

/**
 * Says whether tokens are drawn, where settings about drawing leave that open: a temperature of 0 means no, anything
 * else about drawing means yes.
 *
 * @param refuse told of a setting that has no effect at that temperature; throws
 */
export function withMode(
  settings: TextSettings,
  refuse: (name: string) => never,
): TextSettings {
  const given = DRAWING.filter((name) => (settings[name] ?? null) !== null);
  if (given.length === 0 || (settings.doSample ?? null) !== null) return settings;
  if (settings.temperature !== 0) return { ...settings, doSample: true };
  const idle = given.find((name) => name !== "temperature");
  if (idle !== undefined) refuse(idle);
  const { temperature: _, ...rest } = settings;
  return { ...rest, doSample: false };
}

/**
 * Settings with others on top. Where those above say whether tokens are drawn, what those below say about it is
 * void.
 */
export function withOverrides(below: TextSettings, above: TextSettings): TextSettings {
  const kept: Record<string, unknown> = { ...below };
  if (above.doSample === false) { for (const name of DRAWING) delete kept[name]; }
  if (above.doSample !== undefined) delete kept.doSample;
  return { ...kept, ...above };
}

/**
 * Settings whose text ends where the model's positions do, at the latest.
 *
 * @param promptTokens tokens that come before
 * @throws {ModelInputError} If these leave no room
 */
export function withinContext(
  { config, generationConfig }: Pick<GenerativeModel, "config" | "generationConfig">,
  settings: TextSettings,
  promptTokens: number,
): TextSettings {
  const context = contextLength(config);
  const rule = `must have fewer tokens than the model has positions, ${context}`;
  requireInput(promptTokens < context, "generate", "inputIds", rule, promptTokens);
  const { max_new_tokens: stated, max_length: statedInAll } = generationConfig ?? {};
  const asked = settings.maxNewTokens ?? newTokens(settings.maxLength, promptTokens) ??
    stated ?? newTokens(statedInAll, promptTokens) ?? NEW_TOKENS;
  // The prompt alone may be longer than the length in all: what to say of it is up to generate.
  if (asked < 1) return settings;
  return {
    ...settings,
    maxNewTokens: Math.min(asked, context - promptTokens),
    maxLength: undefined,
  };
}

/** What a length in all leaves after a prompt. */
function newTokens(inAll: number | null | undefined, promptTokens: number): number | undefined {
  return inAll == null ? undefined : inAll - promptTokens;
}

/**
 * An error about settings in the words of the command line; any other error as it is.
 *
 * @param error what `generate` threw
 */
export function inFlagWords(error: unknown): unknown {
  if (!(error instanceof ModelInputError)) return error;
  const { argument, rule, value } = error.fault;
  const isPrompt = argument === "inputIds";
  const flag = Object.hasOwn(FLAGS, argument) ? `--${FLAGS[argument]}` : argument;
  return new UsageError(`${isPrompt ? "the prompt" : flag} ${flagWords(rule)}: ${value}`);
}

/** Names of settings in a sentence, as flags. */
function flagWords(text: string): string {
  return text
    .replace("doSample: true", "drawing (--temperature above 0)")
    .replace("doSample is true", "tokens are drawn (--temperature above 0)")
    .replace(/\b[a-z]+(?:[A-Z]\w*)+\b/g, (word) => {
      return Object.hasOwn(FLAGS, word) ? `--${FLAGS[word]}` : word;
    });
}
