/**
 * What generation gives, as a whole and step by step.
 *
 * @module
 */

import type { FinishReason } from "./stopping.ts";

/** A token and how likely the model found it. */
export interface TokenLogprob {
  /** Its id. */
  readonly id: number;
  /** Natural logarithm of its probability, before any processing. */
  readonly logprob: number;
}

/** The log-probability of a new token, and the likeliest ones in its place. */
export interface NewTokenLogprob extends TokenLogprob {
  /** The likeliest tokens, best first; as many as were asked for. */
  readonly top: readonly TokenLogprob[];
}

/** Scores [V] of the next token of each row, per step. */
export type StepScores = readonly (readonly Float32Array[])[];

/** What {@linkcode StableLmForCausalLM.generate} returns. */
export interface GenerateOutput {
  /**
   * Tokens of each row, prompt and padding included, all of one length; rows that ended early are filled up with the
   * pad token. Rows of one prompt follow each other, with beams best first.
   */
  readonly sequences: readonly (readonly number[])[];
  /** New tokens of each row, without what it was filled up with. */
  readonly newTokens: readonly (readonly number[])[];
  /** Why each row has ended. */
  readonly finishReasons: readonly FinishReason[];
  /** What draws depended on: what was given, else a random number. Of several seeds the first. */
  readonly seed: number | bigint;
  /** Processed scores, with `outputScores`; those of beams are log-probabilities. */
  readonly scores?: StepScores;
  /** The model's scores, with `outputLogits`. */
  readonly logits?: StepScores;
  /** Log-probabilities of each row's new tokens, with `outputLogprobs`. */
  readonly logprobs?: readonly (readonly NewTokenLogprob[])[];
  /** Score of each row, with beams and `outputScores`. */
  readonly sequencesScores?: readonly number[];
  /** For each new token of a row, the beam that it continued; −1 behind the row's end. With beams and `outputScores`. */
  readonly beamIndices?: readonly (readonly number[])[];
}

/** What a step adds to the rows. */
export interface GenerationStep {
  /** New tokens of each row; none where it has ended. */
  readonly tokens: readonly (readonly number[])[];
  /** Their log-probabilities, with `outputLogprobs`. */
  readonly logprobs?: readonly (readonly NewTokenLogprob[])[];
}

/** A way of generating: steps as they come, then the whole. Ending it early gives back what it holds. */
export type GenerationRun = AsyncGenerator<GenerationStep, GenerateOutput, void>;
