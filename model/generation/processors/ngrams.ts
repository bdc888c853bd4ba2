/**
 * Bans of runs of tokens that have occurred before.
 *
 * @module
 */

import type { LogitsProcessor } from "./processor.ts";

/**
 * Bans each token that would complete a run of `size` tokens that the row has already, prompt and padding
 * included.
 */
export function noRepeatNgram(size: number): LogitsProcessor {
  return (scores, ids) => banFollowers(scores, ids, ids, size - 1);
}

/**
 * Bans each token that would complete a run of `size` tokens that the prompt has.
 *
 * @param prompts the prompt of each row
 */
export function promptNgram(
  size: number,
  prompts: readonly (readonly number[])[],
): LogitsProcessor {
  return (scores, ids, row) => banFollowers(scores, prompts[row]!, ids, size - 1);
}

/**
 * Bans what follows in `text` wherever the last `length` tokens of `ids` stand in it, in time that grows with
 * the text alone.
 *
 * Source: Knuth, Morris, Pratt, "Fast pattern matching in strings", 1977
 */
function banFollowers(
  scores: Float32Array,
  text: readonly number[],
  ids: readonly number[],
  length: number,
): void {
  const start = ids.length - length;
  if (start < 0 || text.length <= length) return;
  const borders = bordersOf(ids, start, length);
  let matched = 0;
  for (const token of text) {
    if (matched === length) scores[token] = -Infinity;
    while (matched > 0 && (matched === length || ids[start + matched] !== token)) {
      matched = borders[matched - 1]!;
    }
    if (matched < length && ids[start + matched] === token) matched++;
  }
}

/** For each prefix of the run, how much of its beginning is its end as well, itself aside. */
function bordersOf(ids: readonly number[], start: number, length: number): Int32Array {
  const borders = new Int32Array(length);
  let border = 0;
  for (let i = 1; i < length; i++) {
    const token = ids[start + i];
    while (border > 0 && ids[start + border] !== token) border = borders[border - 1]!;
    if (ids[start + border] === token) border++;
    borders[i] = border;
  }
  return borders;
}
