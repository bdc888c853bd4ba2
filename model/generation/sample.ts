/**
 * Greedy decoding and sampling: one token of each row at a time.
 *
 * @module
 */

import type { Tensor } from "../../runtime/tensor.ts";
import { Decoding } from "./decoding.ts";
import { bestToken, drawToken } from "./draw.ts";
import { processScores } from "./logits_processor.ts";
import type { GenerationRun, NewTokenLogprob } from "./output.ts";
import { breathe } from "./pace.ts";
import { CounterRandom } from "./random.ts";
import { Recorder } from "./recorder.ts";
import type { GenerationRequest } from "./request.ts";
import { Rows } from "./rows.ts";
import { bestOnDevice, Guidance, processorsOf, readRows, repeated } from "./scorer.ts";

/**
 * Generates one token of each row at a time: the one of the highest score, or one drawn by its probability.
 *
 *   greedy:   tₙ = argmax z(t₀ … tₙ₋₁)
 *   sampling: tₙ ~ softmax z(t₀ … tₙ₋₁), where z are the processed scores
 */
export async function* sample<T extends Tensor>(request: GenerationRequest<T>): GenerationRun {
  const { config, inputs, seed } = request;
  const repeats = config.num_return_sequences;
  const prompts = repeated(request.prompts, repeats);
  using held = new DisposableStack();
  const decoding = held.use(decodingOf(request, prompts, repeats));
  const isGuided = config.guidance_scale !== null && config.guidance_scale !== 1;
  const guidance = isGuided ? held.use(new Guidance(request, prompts)) : undefined;
  const rows = new Rows(request, prompts.length);
  const recorder = new Recorder(config, prompts.length, inputs.outputLogprobs);
  const processors = processorsOf(request);
  const random = config.do_sample ? randomOf(request) : undefined;
  const stays = !random && !guidance && processors.length === 0 && !recorder.needsLogits;
  while (!rows.finished) {
    await breathe();
    using logits = await decoding.logits();
    let best: readonly number[];
    let logprobsOf: (
      t: readonly (readonly number[])[],
    ) => readonly (readonly NewTokenLogprob[])[] | undefined = () => undefined;
    if (stays) {
      best = await bestOnDevice(request, logits, (row) => rows.hasEnded(row));
    } else {
      const scores = await readRows(request, logits);
      logprobsOf = recorder.logits(scores);
      await guidance?.apply(scores);
      processScores(processors, scores, decoding.rows);
      recorder.scores(scores);
      // Counted from the first new token, so that padding changes no draw.
      const step = decoding.length - request.promptLength;
      // A row that has ended is written to no more, and may have nothing left to choose from.
      best = scores.map((row, i) =>
        rows.hasEnded(i) ? 0 : random ? random(i, row, step) : bestToken(row, i)
      );
    }
    const tokens = rows.next(best);
    decoding.append(tokens.written);
    guidance?.append(tokens.written);
    rows.stop(decoding.rows);
    const logprobs = logprobsOf(tokens.fresh);
    yield { tokens: tokens.fresh, ...(logprobs ? { logprobs } : {}) };
  }
  return {
    sequences: decoding.rows.map((row) => [...row]),
    ...rows.outcome,
    seed,
    ...recorder.kept,
  };
}

/** Draws the next token of a row. Where prompts have seeds of their own, rows count anew with each prompt. */
function randomOf<T extends Tensor>(
  { config, seed, seeds }: GenerationRequest<T>,
): (row: number, scores: Float32Array, step: number) => number {
  const randoms = (seeds ?? [seed]).map((seed) => new CounterRandom(seed));
  if (!seeds) return (row, scores, step) => drawToken(scores, randoms[0]!, row, step);
  const { num_return_sequences: repeats } = config;
  return (row, scores, step) =>
    drawToken(scores, randoms[Math.floor(row / repeats)]!, row % repeats, step);
}

/** The rows of a call, with room for all that may come. */
export function decodingOf<T extends Tensor>(
  request: GenerationRequest<T>,
  rows: readonly (readonly number[])[],
  repeats: number,
): Decoding<T> {
  const { model, config, inputs, mask, maxLength, promptLength } = request;
  return new Decoding(model, rows, {
    mask: mask && repeated(mask, repeats),
    useCache: config.use_cache,
    chunk: inputs.prefillChunkSize ?? 512,
    // A length that is never reached costs no memory: room grows.
    capacity: Math.min(maxLength, promptLength + 256),
    promptCache: inputs.promptCache,
    signal: inputs.signal,
  });
}
