/**
 * Texts as rows of tokens that a model runs once, without generating.
 *
 * @module
 */

import type { StableLmConfig } from "../model/config.ts";
import { contextLength } from "../model/generation/request.ts";
import type { Tokenizer } from "../model/tokenizer/tokenizer.ts";
import { requireInput } from "../runtime/errors.ts";
import { paddedLength } from "./row_length.ts";

/** A text that can run. */
export interface TextRow {
  /** As it was written. */
  readonly text: string;
  /** Its tokens. */
  readonly ids: readonly number[];
  /** What the model is given: its tokens, or the bos token where there are none. */
  readonly row: readonly number[];
  /** Tokens of the row when it is run, padding on the right included. */
  readonly rowLength: number;
}

/** What rows are made for. */
export interface RowModel {
  /** The model's config. */
  readonly config: StableLmConfig;
  /** Its tokenizer. */
  readonly tokenizer: Tokenizer;
  /** Whether rows may have padding. */
  readonly canPad: boolean;
}

/**
 * Makes a row of a text.
 *
 * @param op what it is for, in messages
 * @throws {ModelInputError} If it has more tokens than the model has positions, or none and there is no bos token
 */
export function textRow(
  op: string,
  { config, tokenizer, canPad }: RowModel,
  text: string,
  parseSpecialTokens: boolean,
): TextRow {
  const ids = tokenizer.encode(text, { parseSpecialTokens });
  const context = contextLength(config);
  const fits = `must have at most ${context} tokens, as the model has no more positions`;
  requireInput(ids.length <= context, op, "the text", fits, ids.length);
  const bos = config.bos_token_id;
  const rule = "must not be empty, as the model has no bos token to stand for it";
  requireInput(ids.length > 0 || bos !== null, op, "the text", rule, '""');
  const row = ids.length > 0 ? ids : [bos!];
  const rowLength = canPad ? paddedLength(config, row.length) : row.length;
  return { text, ids, row, rowLength };
}

/**
 * What `forward` takes for rows of one length. Padding stands on the right, where no token of a text sees it and all
 * keep their positions.
 */
export function inputsOf(
  rows: readonly TextRow[],
  padTokenId: number | null,
): { inputIds: number[][]; attentionMask: number[][] } {
  const fill = padTokenId ?? 0;
  const filled = (
    row: readonly number[],
    length: number,
    more: number,
  ) => [...row, ...new Array<number>(length - row.length).fill(more)];
  return {
    inputIds: rows.map(({ row, rowLength }) => filled(row, rowLength, fill)),
    attentionMask: rows.map(({ row, rowLength }) => filled(row.map(() => 1), rowLength, 0)),
  };
}

/** The shortest decimal number that is the same f32; of what is no number, itself. */
export function shortestF32(value: number): number {
  const float = Math.fround(value);
  for (let digits = 1; digits < 9; digits++) {
    const short = Number(float.toPrecision(digits));
    if (Math.fround(short) === float) return short;
  }
  return Number(float.toPrecision(9));
}
