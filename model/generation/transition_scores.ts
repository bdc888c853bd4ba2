/**
 * Scores of the tokens that were generated, one by one.
 *
 * @module
 */

import { requireInput } from "../../runtime/errors.ts";
import { requireOptions } from "../inputs.ts";
import type { GenerateOutput } from "./output.ts";
import { logSumExp } from "./processors/softmax.ts";

/** What {@linkcode transitionScores} may be told. */
export interface TransitionScoreOptions {
  /**
   * Whether scores are made log-probabilities of what the processors left. Those of beams are the model's
   * log-probabilities already, changed by the processors. False unless given.
   */
  readonly normalizeLogits?: boolean;
}

/**
 * The score that each new token had when it was chosen, as transformers' `compute_transition_scores` has it.
 *
 * With beams, they are 0 behind a row's end, and their sum over a power of their number is the row's score. Without,
 * what a row is filled up with has its scores too: those of `newTokens[row].length` tokens are the row's own.
 *
 * @param output of a call with `outputScores`
 * @returns f32 [new tokens] of each row of `sequences`
 * @throws {ModelInputError} If the output has no scores, or an option is unknown
 */
export function transitionScores(
  { sequences, scores, beamIndices }: Pick<GenerateOutput, "sequences" | "scores" | "beamIndices">,
  options: TransitionScoreOptions = {},
): Float32Array[] {
  const name = "transitionScores";
  requireOptions(name, options, ["normalizeLogits"]);
  const rule = "must have scores, as with outputScores: true";
  requireInput(scores !== undefined, name, "output", rule, "none");
  const { normalizeLogits = false } = options;
  const isFlag = typeof normalizeLogits === "boolean";
  requireInput(isFlag, name, "normalizeLogits", "must be true or false", normalizeLogits);
  return sequences.map((ids, row) => {
    const steps = beamIndices?.[row]?.length ?? scores!.length;
    const tokens = ids.slice(ids.length - steps);
    return Float32Array.from(tokens, (id, step) => {
      const from = beamIndices ? beamIndices[row]![step]! : row;
      if (from < 0) return 0;
      const all = scores![step]![from]!;
      const score = all[id]!;
      return normalizeLogits && score !== -Infinity ? score - logSumExp(all) : score;
    });
  });
}
