/**
 * One prompt, and the texts that a model makes of it.
 *
 * @module
 */

import type { GenerationConfig } from "../model/generation_config.ts";
import { type GenerateOptions, resolveSettings } from "../model/generation/options.ts";
import type { FinishReason } from "../model/generation/stopping.ts";
import { requireInput } from "../runtime/errors.ts";
import { type TextSettings, withinContext } from "./sampling_options.ts";
import type { TextModel } from "./text_model.ts";

/** A prompt, and all that `generate` is to do with it; nothing has been computed yet. */
export interface PreparedPrompt {
  /** As it was written. */
  readonly text: string;
  /** Its tokens; the bos token where the text is empty. */
  readonly ids: readonly number[];
  /** What `generate` is called with, but for the prompt. */
  readonly options: TextSettings & Pick<GenerateOptions, "tokenizer">;
  /** The settings of the call, the checkpoint and the library together. */
  readonly config: GenerationConfig;
}

/** A text that was generated. */
export interface GeneratedText {
  /** It, without the prompt and without special tokens. */
  readonly text: string;
  /** Its tokens. */
  readonly ids: readonly number[];
  /** Why it ended; null if it was cut short. */
  readonly finishReason: FinishReason | null;
}

/** What became of a prompt. */
export interface Continuation {
  /** The settings, complete, in the words of generation_config.json. */
  readonly settings: Readonly<Record<string, unknown>>;
  /** What draws depended on; null where nothing was drawn. */
  readonly seed: number | null;
  /** Text and tokens that came before. */
  readonly prompt: Pick<GeneratedText, "text" | "ids">;
  /** What came after; several with `num_return_sequences`. */
  readonly sequences: readonly GeneratedText[];
  /** How long it took. */
  readonly timings: {
    /** From the call to its first token; null where tokens do not come one by one. */
    readonly firstTokenSeconds: number | null;
    /** From the call to its end. */
    readonly seconds: number;
    /** Tokens of all sequences. */
    readonly newTokens: number;
    /** Tokens after the first step for each second after it; of a beam search, all for each second. */
    readonly tokensPerSecond: number | null;
  };
}

/**
 * Makes tokens of a prompt and settles how to go on from them.
 *
 * @param parseSpecialTokens whether special tokens that the text spells are tokens
 * @throws {ModelInputError} If a setting breaks a rule, the prompt leaves no room, or there is no bos token for an
 * empty one
 */
export function preparePrompt(
  { model, tokenizer }: TextModel,
  text: string,
  settings: TextSettings,
  parseSpecialTokens: boolean,
): PreparedPrompt {
  const encoded = tokenizer.encode(text, { parseSpecialTokens });
  const options = { ...withinContext(model, settings, encoded.length || 1), tokenizer };
  const config = resolveSettings(model, options);
  const { bos_token_id: bos } = config;
  const rule = "must not be empty, as the model has no bos token to begin a text with";
  requireInput(encoded.length > 0 || bos !== null, "generate", "inputIds", rule, '""');
  return { text, ids: encoded.length > 0 ? encoded : [bos!], options, config };
}

/** Whether text can be shown as it comes: beams are chosen at the end, and several texts come side by side. */
export function comesInOrder({ config }: PreparedPrompt): boolean {
  return config.num_beams === 1 && config.num_return_sequences === 1;
}

/**
 * Generates. If it is cut short by the signal, the result is what there is by then.
 *
 * @param onText told each piece of text, in whole characters; not for beams
 * @throws {ModelInputError} If a setting breaks a rule
 */
export async function continuePrompt(
  opened: TextModel,
  prepared: PreparedPrompt,
  signal: AbortSignal,
  onText: (text: string) => Promise<void> = () => Promise.resolve(),
): Promise<Continuation> {
  const { text, ids, options, config } = prepared;
  const { other: _, ...settings } = config;
  const started = performance.now();
  const texts = new GrowingTexts(config.num_return_sequences);
  const call = { ...options, inputIds: [ids], signal };
  try {
    await (config.num_beams > 1 ? search(opened, call, texts) : draw(opened, call, texts, onText));
  } catch (error) {
    if (!signal.aborted) throw error;
  }
  const { sequences, newTokens, firstAt } = texts;
  const now = performance.now();
  const later = firstAt === undefined ? newTokens : newTokens - sequences.length;
  const seconds = (now - (firstAt ?? started)) / 1000;
  return {
    settings: { ...settings },
    seed: config.do_sample ? Number(options.seed ?? 0) : null,
    prompt: { text, ids },
    sequences,
    timings: {
      firstTokenSeconds: firstAt === undefined ? null : (firstAt - started) / 1000,
      seconds: (now - started) / 1000,
      newTokens,
      tokensPerSecond: later > 0 && seconds > 0 ? later / seconds : null,
    },
  };
}

/** The texts of a call while they grow. */
class GrowingTexts {
  /** When the first token came. */
  firstAt: number | undefined;
  readonly #texts: string[];
  readonly #ids: number[][];
  readonly #reasons: (FinishReason | null)[];

  constructor(count: number) {
    this.#texts = new Array<string>(count).fill("");
    this.#ids = this.#texts.map(() => []);
    this.#reasons = this.#texts.map(() => null);
  }

  get sequences(): GeneratedText[] {
    return this.#texts.map((text, i) => {
      return { text, ids: this.#ids[i]!, finishReason: this.#reasons[i]! };
    });
  }

  get newTokens(): number {
    return this.#ids.reduce((sum, { length }) => sum + length, 0);
  }

  add(row: number, text: string, ids: readonly number[]): void {
    this.#texts[row] += text;
    this.#ids[row]!.push(...ids);
  }

  end(reasons: readonly FinishReason[]): void {
    reasons.forEach((reason, row) => this.#reasons[row] = reason);
  }
}

/** Token by token. */
async function draw(
  { model }: TextModel,
  call: GenerateOptions,
  texts: GrowingTexts,
  onText: (text: string) => Promise<void>,
): Promise<void> {
  const stream = model.stream(call);
  for await (const { row, text, ids } of stream) {
    texts.firstAt ??= performance.now();
    texts.add(row, text, ids);
    await onText(text);
  }
  texts.end((await stream.output).finishReasons);
}

/** All at once. */
async function search(
  { model, tokenizer }: TextModel,
  call: GenerateOptions,
  texts: GrowingTexts,
): Promise<void> {
  const { newTokens, finishReasons } = await model.generate(call);
  newTokens.forEach((ids, row) =>
    texts.add(row, tokenizer.decode(ids, { skipSpecialTokens: true }), ids)
  );
  texts.end(finishReasons);
}
