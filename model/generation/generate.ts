/**
 * Text from a model: picks the way of generating that the settings ask for.
 *
 * @module
 */

import { requireInput } from "../../runtime/errors.ts";
import type { Tensor } from "../../runtime/tensor.ts";
import { assisted } from "./assisted.ts";
import { beamSearch } from "./beam_search.ts";
import type { GenerativeModel } from "./generative_model.ts";
import type { GenerateOptions } from "./options.ts";
import type { GenerateOutput, GenerationRun } from "./output.ts";
import { type GenerationRequest, makeRequest } from "./request.ts";
import { sample } from "./sample.ts";
import { processorsOf } from "./scorer.ts";
import { GenerationStream } from "./stream.ts";

/** See {@linkcode StableLmForCausalLM.generate}. */
export async function generate<T extends Tensor>(
  model: GenerativeModel<T>,
  options: GenerateOptions<T>,
): Promise<GenerateOutput> {
  const run = start(checked(model, options));
  for (;;) {
    const { done, value } = await run.next();
    if (done) return value;
  }
}

/** See {@linkcode StableLmForCausalLM.stream}. */
export function stream<T extends Tensor>(
  model: GenerativeModel<T>,
  options: GenerateOptions<T>,
): GenerationStream {
  const request = checked(model, options);
  const { num_beams: beams } = request.config;
  requireInput(
    beams === 1,
    "stream",
    "numBeams",
    "must be 1 to stream, as beams are chosen at the end",
    beams,
  );
  return new GenerationStream(start(request), options.tokenizer);
}

/** A call that breaks no rule, be it one of its processors', before anything has happened. */
function checked<T extends Tensor>(
  model: GenerativeModel<T>,
  options: GenerateOptions<T>,
): GenerationRequest<T> {
  const request = makeRequest(model, options);
  processorsOf(request);
  return request;
}

/** Nothing is computed before the first step is asked for. */
function start<T extends Tensor>(request: GenerationRequest<T>): GenerationRun {
  const { config, inputs } = request;
  if (config.num_beams > 1) return beamSearch(request);
  if (inputs.assistantModel || config.prompt_lookup_num_tokens !== null) return assisted(request);
  return sample(request);
}
