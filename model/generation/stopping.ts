/**
 * When a row of tokens has ended.
 *
 * @module
 */

import type { Tokenizer } from "../tokenizer/tokenizer.ts";

/** Says whether a row has ended, given its tokens with prompt and padding, and its number. */
export type StoppingCriterion = (ids: readonly number[], row: number) => boolean;

/**
 * Why a row has ended: its tokens were as many as asked for, or one of the rules ended it. "exhausted" is a row that
 * a beam search was asked for and did not find, as the settings leave too few.
 */
export type FinishReason = "length" | "time" | "stop" | "eos" | "criterion" | "exhausted";

/** What may end a row. */
export interface StoppingOptions {
  /** Most tokens, prompt and padding included. */
  readonly maxLength: number;
  /** Seconds from now after which no token is begun. */
  readonly maxTime?: number | null;
  /** Texts that end a row; they need the tokenizer. */
  readonly stopStrings?: readonly string[] | null;
  /** Decodes tokens. */
  readonly tokenizer?: Tokenizer | undefined;
  /** Tokens that end a row. */
  readonly eos: readonly number[];
  /** What the caller adds. */
  readonly criteria?: readonly StoppingCriterion[] | undefined;
}

/** The rules that end a row, of which the first that applies is the reason. */
export class Stopping {
  readonly #rules: (readonly [FinishReason, StoppingCriterion])[] = [];

  /** Starts the clock. */
  constructor(options: StoppingOptions) {
    const { maxLength, maxTime, stopStrings, tokenizer, eos, criteria = [] } = options;
    this.#rules.push(["length", (ids) => ids.length >= maxLength]);
    if (maxTime != null) {
      this.#rules.push(["time", endsAt(performance.now() + 1000 * maxTime)]);
    }
    if (stopStrings && tokenizer) {
      this.#rules.push(["stop", endsWithin(stopStrings, tokenizer)]);
    }
    this.#rules.push(["eos", (ids) => eos.includes(ids.at(-1)!)]);
    for (const criterion of criteria) this.#rules.push(["criterion", criterion]);
  }

  /** Why a row has ended with its last token, or undefined. */
  reason(ids: readonly number[], row: number): FinishReason | undefined {
    return this.#rules.find(([, ends]) => ends(ids, row))?.[0];
  }
}

/** Whether it is past a time, in milliseconds. Rows of one length, as those of a step are, get the same answer. */
function endsAt(end: number): StoppingCriterion {
  let [length, isOver] = [-1, false];
  return (ids) => {
    if (ids.length !== length) [length, isOver] = [ids.length, performance.now() > end];
    return isOver;
  };
}

/** Whether one of the texts ends within, or with, the last token. Bytes are compared, which no token breaks. */
function endsWithin(texts: readonly string[], tokenizer: Tokenizer): StoppingCriterion {
  const encoder = new TextEncoder();
  const wanted = texts.map((text) => encoder.encode(text));
  const longest = Math.max(...wanted.map(({ length }) => length));
  return (ids) => {
    const last = tokenizer.tokenBytes(ids.at(-1)!);
    // What precedes the last token, as far back as a text that ends in it can begin.
    const pieces = [last];
    let before = 0;
    for (let i = ids.length - 2; i >= 0 && before < longest - 1; i--) {
      const piece = tokenizer.tokenBytes(ids[i]!);
      pieces.unshift(piece);
      before += piece.length;
    }
    const bytes = pieces.flatMap((piece) => [...piece]);
    return wanted.some((text) => {
      const first = Math.max(0, before + 1 - text.length);
      for (let at = first; at + text.length <= bytes.length; at++) {
        if (text.every((byte, i) => bytes[at + i] === byte)) return true;
      }
      return false;
    });
  };
}
