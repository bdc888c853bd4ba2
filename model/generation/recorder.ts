/**
 * What a call keeps of its steps, where it was asked to.
 *
 * @module
 */

import type { GenerationConfig } from "../generation_config.ts";
import type { GenerateOutput, NewTokenLogprob, TokenLogprob } from "./output.ts";
import { logSumExp } from "./processors/softmax.ts";

/** Keeps scores, logits and log-probabilities. */
export class Recorder {
  readonly #wanted: { readonly scores: boolean; readonly logits: boolean; readonly top?: number };
  readonly #scores: Float32Array[][] = [];
  readonly #logits: Float32Array[][] = [];
  readonly #logprobs: NewTokenLogprob[][] = [];

  /** Takes what to keep, and of how many rows. */
  constructor(config: GenerationConfig, rows: number, outputLogprobs?: number) {
    this.#wanted = {
      scores: config.output_scores,
      logits: config.output_logits,
      ...(outputLogprobs === undefined ? {} : { top: outputLogprobs }),
    };
    if (outputLogprobs !== undefined) {
      for (let row = 0; row < rows; row++) this.#logprobs.push([]);
    }
  }

  /** Whether logits have to be read for it. */
  get needsLogits(): boolean {
    const { scores, logits, top } = this.#wanted;
    return scores || logits || top !== undefined;
  }

  /**
   * Keeps the logits of a step, before they are processed.
   *
   * @returns what to call with the tokens that were chosen: gives their log-probabilities, if those are wanted
   */
  logits(rows: readonly Float32Array[]): (
    tokens: readonly (readonly number[])[],
  ) => readonly (readonly NewTokenLogprob[])[] | undefined {
    if (this.#wanted.logits) this.#logits.push(rows.map((row) => row.slice()));
    const { top } = this.#wanted;
    if (top === undefined) return () => undefined;
    const likeliest = rows.map((row) => topLogprobs(row, top));
    const copies = rows.map((row) => ({ row: row.slice(), normaliser: logSumExp(row) }));
    return (tokens) => {
      const step = tokens.map((ids, row) =>
        ids.map((id): NewTokenLogprob => {
          const { row: logits, normaliser } = copies[row]!;
          return { id, logprob: logits[id]! - normaliser, top: likeliest[row]! };
        })
      );
      step.forEach((found, row) => this.#logprobs[row]!.push(...found));
      return step;
    };
  }

  /** Keeps the processed scores of a step. */
  scores(rows: readonly Float32Array[]): void {
    if (this.#wanted.scores) this.#scores.push(rows.map((row) => row.slice()));
  }

  /** What was kept. */
  get kept(): Pick<GenerateOutput, "scores" | "logits" | "logprobs"> {
    const { scores, logits, top } = this.#wanted;
    return {
      ...(scores ? { scores: this.#scores } : {}),
      ...(logits ? { logits: this.#logits } : {}),
      ...(top === undefined ? {} : { logprobs: this.#logprobs }),
    };
  }
}

/** The so many likeliest tokens, best first; of equal ones the lower id. */
function topLogprobs(row: Float32Array, count: number): TokenLogprob[] {
  if (count === 0) return [];
  const best: number[] = [];
  for (let id = 0; id < row.length; id++) {
    if (best.length === count && row[id]! <= row[best.at(-1)!]!) continue;
    let at = best.length;
    while (at > 0 && row[best[at - 1]!]! < row[id]!) at--;
    best.splice(at, 0, id);
    best.length = Math.min(best.length, count);
  }
  const normaliser = logSumExp(row);
  return best.map((id) => ({ id, logprob: row[id]! - normaliser }));
}
