/**
 * Bans and orders: tokens that must not come, and tokens that must.
 *
 * @module
 */

import { printable, requireInput } from "../../../runtime/errors.ts";
import type { LogitsProcessor } from "./processor.ts";

/** Bans tokens, always or while `when` holds for the tokens that the row has so far. */
export function suppress(
  tokens: readonly number[],
  when: (length: number) => boolean = () => true,
): LogitsProcessor {
  return (scores, ids) => {
    if (!when(ids.length)) return;
    for (const token of tokens) scores[token] = -Infinity;
  };
}

/** Leaves nothing but some tokens, each with a score of 0, when a row has `length` tokens. */
export function force(tokens: readonly number[], length: number): LogitsProcessor {
  return (scores, ids) => {
    if (ids.length !== length) return;
    scores.fill(-Infinity);
    for (const token of tokens) scores[token] = 0;
  };
}

/**
 * Leaves the tokens that a function allows after the row's tokens so far. Where all of these were banned
 * before, for each of the prompt's beams, they get a score of 0.
 *
 * The last rule is about several rows: they must come in order, and all of a step's before the
 * processor that follows, as `processScores` has it.
 *
 * @param allowed gives the tokens that may come next; an error if there are none
 * @param beams rows of a prompt that are judged together
 */
export function allowOnly(
  allowed: (row: number, ids: readonly number[]) => readonly number[],
  beams: number,
): LogitsProcessor {
  let banned: (() => void)[] = [];
  return (scores, ids, row) => {
    const tokens = allowed(row, ids);
    requireTokens(tokens, scores.length, row);
    const kept = Array.from(tokens, (token) => scores[token]!);
    scores.fill(-Infinity);
    tokens.forEach((token, i) => scores[token] = kept[i]!);
    if (row % beams === 0) banned = [];
    if (kept.some((score) => score !== -Infinity)) return;
    banned.push(() => tokens.forEach((token) => scores[token] = 0));
    if (banned.length === beams) banned.forEach((giveBack) => giveBack());
  };
}

function requireTokens(tokens: readonly number[], vocabSize: number, row: number): void {
  const isList = Array.isArray(tokens) || ArrayBuffer.isView(tokens);
  const wrong = isList
    ? tokens.find((token) => !Number.isInteger(token) || token < 0 || token >= vocabSize)
    : tokens;
  requireInput(
    isList && tokens.length > 0 && wrong === undefined,
    "generate",
    "prefixAllowedTokens",
    `must return one token or more from 0 to ${vocabSize - 1}`,
    wrong === undefined ? `none for row ${row}` : printable(`${wrong} for row ${row}`),
  );
}
