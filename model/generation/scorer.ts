/**
 * The scores of next tokens: logits, guided and processed.
 *
 * @module
 */

import { argmax } from "../../kernels/argmax/argmax.ts";
import type { Tensor } from "../../runtime/tensor.ts";
import { Decoding } from "./decoding.ts";
import { bestToken } from "./draw.ts";
import { type LogitsProcessor, logitsProcessors } from "./logits_processor.ts";
import { applyGuidance } from "./processors/guidance.ts";
import type { GenerationRequest } from "./request.ts";

/** The processors of a call, in order. */
export function processorsOf<T extends Tensor>(request: GenerationRequest<T>): LogitsProcessor[] {
  const { config, inputs, model, prompts, promptLength, maxLength, eos } = request;
  const { num_beams: beams, num_return_sequences: returned } = config;
  const repeats = beams > 1 ? beams : returned;
  const allowed = inputs.prefixAllowedTokens;
  return logitsProcessors(config, {
    vocabSize: model.config.vocab_size,
    promptLength,
    maxLength,
    eos,
    prompts: repeated(prompts, repeats),
    sampling: config.do_sample,
    beams,
    custom: inputs.logitsProcessors ?? [],
    ...(allowed
      ? { prefixAllowedTokens: (row, ids) => allowed(Math.floor(row / repeats), ids) }
      : {}),
  });
}

/** Each row, so many times in a row. */
export function repeated<Row>(rows: readonly Row[], times: number): Row[] {
  return rows.flatMap((row) => new Array<Row>(times).fill(row));
}

/** The rows of a tensor [rows, 1, V] of logits, read to host memory; each is the caller's to change. */
export async function readRows<T extends Tensor>(
  { model }: GenerationRequest<T>,
  logits: T,
): Promise<Float32Array[]> {
  const { values } = await model.backend.read(logits);
  const size = model.config.vocab_size;
  return Array.from(
    { length: values.length / size },
    (_, row) => (values as Float32Array).subarray(row * size, (row + 1) * size),
  );
}

/**
 * The best token of each row of logits, found on the device, so that a number per row is read and not a vocabulary.
 *
 * @param isIdle whether a row may have no best token, as nothing comes of it; none may unless given
 * @throws {ModelInputError} If the scores of another row are all NaN or −∞
 */
export async function bestOnDevice<T extends Tensor>(
  request: GenerationRequest<T>,
  logits: T,
  isIdle: (row: number) => boolean = () => false,
): Promise<readonly number[]> {
  const { backend } = request.model;
  using ids = backend.run(argmax, { x: logits }, {}).ids;
  const best = [...(await backend.read(ids)).values as Uint32Array];
  // 0 is what the device says of scores that have no best one, too.
  const doubtful = best.flatMap((id, row) => id === 0 && !isIdle(row) ? [row] : []);
  if (doubtful.length > 0) {
    const scores = await readRows(request, logits);
    for (const row of doubtful) bestToken(scores[row]!, row);
  }
  return best;
}

/**
 * Classifier-free guidance: the same rows after another prompt, whose scores are led away from.
 *
 * Source: Sanchez et al., "Stay on topic with Classifier-Free Guidance", 2023
 */
export class Guidance<T extends Tensor> implements Disposable {
  readonly #decoding: Decoding<T>;
  readonly #request: GenerationRequest<T>;

  /** Takes the negative prompt of each row. */
  constructor(request: GenerationRequest<T>, rows: readonly (readonly number[])[]) {
    this.#request = request;
    const { negative } = request;
    const repeats = request.config.num_return_sequences;
    const prompts = negative
      ? repeated(negative.prompts, repeats)
      : rows.map((row) => row.slice(-1));
    const mask = negative?.mask && repeated(negative.mask, repeats);
    const { use_cache: useCache } = request.config;
    this.#decoding = new Decoding(request.model, prompts, {
      mask,
      useCache,
      chunk: request.inputs.prefillChunkSize ?? 512,
      signal: request.inputs.signal,
      // As for the rows themselves: room grows.
      capacity: prompts[0]!.length + Math.min(request.maxLength - request.promptLength, 256),
    });
  }

  /** Changes the scores of every row. */
  async apply(scores: readonly Float32Array[]): Promise<void> {
    using logits = await this.#decoding.logits();
    const unconditional = await readRows(this.#request, logits);
    const { guidance_scale: scale } = this.#request.config;
    scores.forEach((row, i) => applyGuidance(row, unconditional[i]!, scale!));
  }

  /** Follows the rows. */
  append(tokens: readonly (readonly number[])[]): void {
    this.#decoding.append(tokens);
  }

  /** Gives its cache back. */
  [Symbol.dispose](): void {
    this.#decoding[Symbol.dispose]();
  }
}
