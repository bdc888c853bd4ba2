/**
 * `deno task generate --batch`: a text for each line of a file, several lines at a time.
 *
 * @module
 */

import type { GenerateOptions } from "../model/generation/options.ts";
import type { FinishReason } from "../model/generation/stopping.ts";
import { freshSeed } from "../runtime/verify.ts";
import { type BatchDefaults, type BatchPrompt, readBatchLine } from "./batch_lines.ts";
import {
  type BatchFiles,
  type BatchSurroundings,
  type LineResults,
  nameOf,
  runBatch,
} from "./batch_run.ts";
import type { JsonRecord, Line } from "./json_lines.ts";
import type { TextSettings } from "./sampling_options.ts";
import { type ModelValues, openTextModel, type TextModel } from "./text_model.ts";

/** A text that a line's prompt was continued with. */
export interface BatchText {
  /** It, without the prompt and without special tokens. */
  readonly text: string;
  /** Its tokens, the special one at its end included. */
  readonly newTokens: number;
  /** Why it ended. */
  readonly finishReason: FinishReason;
}

/** A line of the output. */
export type BatchRecord =
  & JsonRecord
  & {
    /** What the line called itself, if it did. */
    readonly id?: unknown;
  }
  & (
    | { readonly error: string }
    | {
      /** Tokens of the prompt. */
      readonly promptTokens: number;
      /** What its draws depended on; absent where nothing was drawn. */
      readonly seed?: number | bigint;
      /** All texts, where several were asked for; the best beam first. */
      readonly texts?: readonly BatchText[];
    } & Partial<BatchText>
  );

/** What the batch is to do, beside the model. */
export interface BatchOptions extends ModelValues, BatchFiles {
  /** Whether special tokens that prompts spell are tokens. */
  readonly "parse-special-tokens"?: boolean | undefined;
}

/**
 * Runs a batch, as {@linkcode runBatch} does.
 *
 * @returns 1 if the output has errors, those of earlier runs included
 * @throws {UsageError} If a file cannot be used
 */
export async function generateBatch(
  options: BatchOptions,
  settings: TextSettings,
  surroundings: BatchSurroundings,
): Promise<number> {
  const { progress, signal } = surroundings;
  const defaults: BatchDefaults = {
    settings,
    seed: settings.seed ?? freshSeed(),
    parseSpecialTokens: options["parse-special-tokens"] ?? false,
  };
  const open = async () => {
    const opened = await openTextModel(options, { signal, progress });
    return {
      read: (line: Line) => readBatchLine(opened, line, defaults),
      run: (lines: readonly BatchPrompt[]) => runLines(opened, lines, signal),
      [Symbol.dispose]: () => opened[Symbol.dispose](),
    };
  };
  return await runBatch(options, open, surroundings);
}

/** Continues prompts together. */
async function runLines(
  opened: TextModel,
  lines: readonly BatchPrompt[],
  signal: AbortSignal,
): Promise<LineResults<BatchRecord>> {
  const output = await opened.model.generate({ ...callOf(lines), signal });
  const { newTokens, finishReasons } = output;
  const texts = newTokens.map((ids, row): BatchText => ({
    text: opened.tokenizer.decode(ids, { skipSpecialTokens: true }),
    newTokens: ids.length,
    finishReason: finishReasons[row]!,
  }));
  const each = texts.length / lines.length;
  return {
    records: lines.map((line, i) => recordOf(line, texts.slice(i * each, (i + 1) * each))),
    tokens: texts.reduce((sum, { newTokens }) => sum + newTokens, 0),
  };
}

/**
 * The call for lines of one group. Padding is hidden from the model by the mask, and from settings that look at
 * a row's tokens by being one of them, the first.
 */
function callOf(lines: readonly BatchPrompt[]): GenerateOptions {
  const [{ prepared: { options, config }, rowLength }] = lines as [BatchPrompt];
  const rows = lines.map(({ prepared: { ids } }) => {
    const missing = rowLength - ids.length;
    return { ids: [...new Array<number>(missing).fill(ids[0]!), ...ids], missing };
  });
  const seeds = lines.map(({ seed }) => seed);
  const { pad_token_id: pad, eos_token_id: eos } = config;
  const filler = pad === null && [eos ?? []].flat().length === 0 ? { padTokenId: 0 } : {};
  return {
    ...options,
    ...filler,
    inputIds: rows.map(({ ids }) => ids),
    attentionMask: rows.map(({ ids, missing }) => ids.map((_, at) => at < missing ? 0 : 1)),
    ...(config.do_sample ? { seed: seeds.length === 1 ? seeds[0] : seeds } : {}),
  };
}

/** What a line's prompt has become. */
function recordOf(line: BatchPrompt, texts: readonly BatchText[]): BatchRecord {
  const { prepared: { ids, config }, seed } = line;
  return {
    ...nameOf(line),
    promptTokens: ids.length,
    ...(config.do_sample ? { seed } : {}),
    ...(config.num_return_sequences > 1 ? { texts } : texts[0]),
  };
}
