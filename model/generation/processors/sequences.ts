/**
 * Sequences of tokens: a bias for what would complete one, or a ban.
 *
 * @module
 */

import type { SequenceBias } from "../../generation_config.ts";
import type { LogitsProcessor } from "./processor.ts";

/**
 * Adds a bias to the score of each token that would complete a sequence; a sequence of one token is always
 * about to be complete. Of a sequence that is listed twice, the last bias counts.
 */
export function sequenceBias(biases: readonly SequenceBias[]): LogitsProcessor {
  const distinct = new Map(biases.map((entry) => [entry[0].join(), entry]));
  const singles = new Map<number, number>();
  for (const [tokens, bias] of distinct.values()) {
    if (tokens.length === 1) singles.set(tokens[0]!, Math.fround(bias));
  }
  const endings = new Endings(distinct.values());
  return (scores, ids) => {
    // Biases of one token are added up before the score is: the order of transformers, in f32.
    const sums = new Map<number, number>();
    for (const { token, value } of endings.after(ids)) {
      const sum = sums.get(token) ?? singles.get(token) ?? 0;
      sums.set(token, Math.fround(sum + Math.fround(value)));
    }
    for (const [token, bias] of singles) {
      if (!sums.has(token)) scores[token]! += bias;
    }
    for (const [token, sum] of sums) scores[token]! += sum;
  };
}

/** Bans each token that would complete a sequence; sequences that are an eos token alone are passed over. */
export function badWords(
  words: readonly (readonly number[])[],
  eos: readonly number[],
): LogitsProcessor {
  const tokens = words.filter((word) => word.length === 1 && !eos.includes(word[0]!)).flat();
  const endings = new Endings(words.map((word) => [word, 0]));
  return (scores, ids) => {
    for (const token of tokens) scores[token] = -Infinity;
    for (const { token } of endings.after(ids)) scores[token] = -Infinity;
  };
}

/** What completes a sequence, and what the sequence stands for. */
interface Ending {
  /** Its tokens but the last. */
  readonly prefix: readonly number[];
  /** Its last token. */
  readonly token: number;
  readonly value: number;
}

/** Sequences of two tokens and more, found by the last token that must be there already. */
class Endings {
  readonly #byLast = new Map<number, Ending[]>();

  constructor(sequences: Iterable<SequenceBias>) {
    for (const [tokens, value] of sequences) {
      if (tokens.length < 2) continue;
      const prefix = tokens.slice(0, -1);
      const last = prefix.at(-1)!;
      const endings = this.#byLast.get(last) ?? [];
      endings.push({ prefix, token: tokens.at(-1)!, value });
      this.#byLast.set(last, endings);
    }
  }

  /** Those that one more token would complete, in the order in which they were given. */
  after(ids: readonly number[]): Ending[] {
    if (ids.length === 0) return [];
    const endings = this.#byLast.get(ids.at(-1)!) ?? [];
    return endings.filter(({ prefix }) => {
      const start = ids.length - prefix.length;
      return start >= 0 && prefix.every((token, i) => ids[start + i] === token);
    });
  }
}
