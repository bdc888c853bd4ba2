/**
 * Lines of `deno task generate --batch`: what one may say, and which can run together.
 *
 * @module
 */

import { GENERATION_KEYS } from "../model/generation_config.ts";
import { makeRequest } from "../model/generation/request.ts";
import { philox4x32 } from "../model/generation/random.ts";
import { ModelInputError } from "../runtime/errors.ts";
import { describeJson } from "../runtime/json_text.ts";
import { type BadLine, readObject, requireKeys, type RunnableLine } from "./batch_run.ts";
import { type PreparedPrompt, preparePrompt } from "./continuation.ts";
import { JsonLineError, type Line } from "./json_lines.ts";
import { paddedLength } from "./row_length.ts";
import { type TextSettings, withMode, withOverrides } from "./sampling_options.ts";
import type { TextModel } from "./text_model.ts";

/** A line that can be run. */
export interface BatchPrompt extends RunnableLine {
  /** The prompt and its settings. */
  readonly prepared: PreparedPrompt;
  /** What its draws depend on. */
  readonly seed: number | bigint;
  /** Tokens of its row when it is run, padding on the left included. */
  readonly rowLength: number;
}

/** What holds for all lines. */
export interface BatchDefaults {
  /** Settings of lines that do not say otherwise. */
  readonly settings: TextSettings;
  /** What the seeds of lines that have none are made of. */
  readonly seed: number | bigint;
  /** Whether special tokens that prompts spell are tokens. */
  readonly parseSpecialTokens: boolean;
}

/** Settings that a line may have; what `generate` returns beside tokens has no place in a record. */
const LINE_SETTINGS: readonly string[] = [
  "seed",
  ...GENERATION_KEYS.filter((key) => !key.startsWith("output_")).map((key) =>
    key.replace(/_([a-z])/g, (_, letter: string) => letter.toUpperCase())
  ),
];

const LINE_KEYS: readonly string[] = ["prompt", "id", ...LINE_SETTINGS];

/** Reads a line, makes tokens of its prompt and checks its settings. */
export function readBatchLine(
  opened: TextModel,
  line: Line,
  defaults: BatchDefaults,
): BatchPrompt | BadLine {
  return readObject(line, (value) => {
    if (Object.hasOwn(value, "messages")) {
      throw new JsonLineError('must have a "prompt": "messages" of a chat are not rendered here');
    }
    requireKeys(value, LINE_KEYS, "prompt, id and settings");
    const { prompt, id: _, seed: ownSeed, ...own } = value;
    if (typeof prompt !== "string") {
      throw new JsonLineError(`must have a "prompt" of text: ${describeJson(prompt)}`);
    }
    const above = withMode(own, (argument) => {
      const rule = "must not be given with temperature 0, which draws nothing";
      throw new ModelInputError({
        op: "generate",
        argument,
        rule,
        value: describeJson(own[argument]),
      });
    });
    const settings = withOverrides(defaults.settings, above);
    const prepared = preparePrompt(opened, prompt, settings, defaults.parseSpecialTokens);
    const seed = (ownSeed ?? seedOfLine(defaults.seed, line.index)) as number | bigint;
    makeRequest(opened.model, { ...prepared.options, inputIds: [prepared.ids], seed });
    const rowLength = rowLengthOf(opened, prepared);
    return { prepared, seed, rowLength, group: groupOf(prepared, rowLength, line.index) };
  });
}

/** A seed for each line that is a function of the seed of all and the line's number: 53 bits, exact in JSON. */
export function seedOfLine(seed: number | bigint, index: number): number {
  const key = BigInt(seed);
  const words = new Uint32Array(4);
  const high = Math.floor(index / 2 ** 32);
  philox4x32(index, high, 0, LINE_SEEDS, Number(key & 0xffffffffn), Number(key >> 32n), words);
  return words[0]! * 2 ** 21 + (words[1]! >>> 11);
}

/** A purpose that no draw of a text has, so that these numbers are none of its own. */
const LINE_SEEDS = 0x6c696e65;

/** Tokens of a row with its padding, if it can have any. */
function rowLengthOf({ model }: TextModel, prepared: PreparedPrompt): number {
  const { ids, config } = prepared;
  const isExact = readsRuns(prepared) || config.forced_bos_token_id !== null;
  return isExact ? ids.length : paddedLength(model.config, ids.length);
}

/** Whether a setting looks at the tokens of a row in their order, or counts them, and would see padding. */
function readsRuns({ text, config }: PreparedPrompt): boolean {
  const { stop_strings: stops, min_length, min_new_tokens } = config;
  const size = (text: string) => new TextEncoder().encode(text).length;
  const reachesBack = stops?.some((stop) => size(stop) > size(text)) ?? false;
  return reachesBack || config.no_repeat_ngram_size > 0 ||
    config.encoder_no_repeat_ngram_size > 0 || config.bad_words_ids !== null ||
    config.sequence_bias !== null || (min_length > 0 && min_new_tokens === null);
}

/** The name of a line's group: its settings and length; of what has to run alone, its own number. */
function groupOf({ options, config }: PreparedPrompt, rowLength: number, index: number): string {
  const { prompt_lookup_num_tokens: lookup, num_beams: beams, do_sample: isDrawn } = config;
  const isAlone = lookup !== null || (beams > 1 && isDrawn);
  const { tokenizer: _, seed: __, ...settings } = options;
  const entries = Object.entries(settings).filter(([, value]) => value !== undefined);
  return JSON.stringify([
    isAlone ? index : -1,
    rowLength,
    entries.sort(([a], [b]) => a < b ? -1 : 1),
  ]);
}
