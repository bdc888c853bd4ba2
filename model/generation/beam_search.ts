/**
 * Beam search and beam sampling: several rows of each prompt at a time, of which the best are returned.
 *
 * @module
 */

import type { Tensor } from "../../runtime/tensor.ts";
import { type Beam, Beams } from "./beams.ts";
import { CandidateChooser } from "./candidates.ts";
import type { Decoding } from "./decoding.ts";
import { logSoftmax } from "./draw.ts";
import { processScores } from "./logits_processor.ts";
import type { GenerateOutput, GenerationRun } from "./output.ts";
import { breathe } from "./pace.ts";
import { Recorder } from "./recorder.ts";
import type { GenerationRequest } from "./request.ts";
import { decodingOf } from "./sample.ts";
import { processorsOf, readRows } from "./scorer.ts";

/**
 * Follows the `num_beams` best rows of each prompt, and returns the best of those that have ended.
 *
 *   score(t₁ … tₙ) = Σ z(tᵢ), where z are processed log-probabilities;
 *   once the row has ended, score / nᵖ, where p is length_penalty
 *
 * Of the prompt's beams with each next token, the max(2, 1 + eos tokens) · num_beams best are looked at, or,
 * with `do_sample`, as many that are drawn by the softmax of their scores without putting back. The first
 * num_beams of them may end rows; the best num_beams of those that do not end go on.
 *
 * Scores are added up in f32 and equal ones keep their order, by beam and token. (transformers leaves that order to
 * the sorting of the machine.) What fills rows up is the pad token, be its id 0, too.
 *
 * Rows come at the end: each step before the last hands out no token, and lets the caller end the search.
 */
export async function* beamSearch<T extends Tensor>(request: GenerationRequest<T>): GenerationRun {
  const { config, prompts, seed, maxLength, promptLength } = request;
  const { num_beams: count, early_stopping: earlyStopping } = config;
  const rules = {
    count,
    earlyStopping,
    lengthPenalty: config.length_penalty,
    maxNewTokens: maxLength - promptLength,
  };
  const searches = prompts.map((ids, prompt) => new Beams(ids, prompt * count, rules));
  const recorder = new Recorder(config, prompts.length * count);
  const processors = processorsOf(request);
  const chooser = new CandidateChooser(request);
  const running = () => searches.flatMap((search) => search.running);
  // Each prompt runs once: its beams are alike until the first of their tokens is chosen.
  using decoding = decodingOf(request, prompts, 1);
  for (let copies = count;; copies = 1) {
    await breathe();
    const scores = await rowsOf(request, decoding, copies);
    recorder.logits(scores);
    for (const row of scores) logSoftmax(row, row);
    processScores(processors, scores, running().map(({ ids }) => ids));
    recorder.scores(scores);
    const chosen = searches.map((search, prompt) =>
      chooser.choose(search, scores.slice(prompt * count, (prompt + 1) * count), prompt)
    );
    searches.forEach((search, prompt) => search.advance(chosen[prompt]!));
    const isOver = !searches.some((search) => search.canImprove) ||
      (earlyStopping === true && searches.every((search) => search.isFull)) ||
      chosen.flat().every(({ reason }) => reason !== undefined);
    if (isOver) break;
    decoding.reorder(running().map(({ rows }) => Math.floor(rows.at(-1)! / copies)), promptLength);
    decoding.append(running().map(({ ids }) => ids.slice(-1)));
    yield { tokens: searches.flatMap(() => noTokens(config.num_return_sequences)) };
  }
  const found = searches.flatMap(({ ended }) => ended.slice(0, config.num_return_sequences));
  const outcome = outcomeOf(request, found);
  yield { tokens: outcome.newTokens };
  return { ...outcome, seed, ...recorder.kept };
}

/** Logits of the next token of each row, those of each row so many times. */
async function rowsOf<T extends Tensor>(
  request: GenerationRequest<T>,
  decoding: Decoding<T>,
  copies: number,
): Promise<Float32Array[]> {
  using logits = await decoding.logits();
  const rows = await readRows(request, logits);
  return rows.flatMap((row) =>
    Array.from({ length: copies }, (_, i) => i === 0 ? row : row.slice())
  );
}

/** The rows that were found, filled up to one length. */
function outcomeOf<T extends Tensor>(
  { config, pad, promptLength }: GenerationRequest<T>,
  found: readonly Beam[],
): Pick<
  GenerateOutput,
  "sequences" | "newTokens" | "finishReasons" | "sequencesScores" | "beamIndices"
> {
  const longest = Math.max(...found.map(({ rows }) => rows.length));
  const filled = (row: readonly number[], length: number, filler: number) => [
    ...row,
    ...new Array<number>(length - row.length).fill(filler),
  ];
  return {
    sequences: found.map(({ ids }) => filled(ids, promptLength + longest, pad ?? 0)),
    newTokens: found.map(({ ids }) => ids.slice(promptLength)),
    finishReasons: found.map(({ reason }) => reason ?? "exhausted"),
    ...(config.output_scores
      ? {
        sequencesScores: found.map(({ score }) => score),
        beamIndices: found.map(({ rows }) => filled(rows, longest, -1)),
      }
      : {}),
  };
}

function noTokens(rows: number): number[][] {
  return Array.from({ length: rows }, () => []);
}
