/**
 * A model whose next token depends on the last one alone, so that what it must draw is known.
 *
 * @module
 */

import { CpuBackend, type GenerativeModel, HostTensor, KvCache, StableLmConfig } from "../mod.ts";
import type { CausalLmInputs } from "../model/causal_lm.ts";
import { HeadOutput } from "../model/output.ts";

/** Scores the next token by a table; it keeps a cache as a model does, which holds nothing. */
export class BigramModel implements GenerativeModel<HostTensor> {
  readonly backend = new CpuBackend();
  readonly activationDtype = "f32";
  readonly generationConfig = undefined;
  readonly config: StableLmConfig;
  readonly #scores: readonly (readonly number[])[];

  /** Takes the logits of what may follow each token: [V][V]. */
  constructor(scores: readonly (readonly number[])[]) {
    this.#scores = scores;
    this.config = new StableLmConfig({
      vocab_size: scores.length,
      hidden_size: 8,
      num_attention_heads: 1,
      num_key_value_heads: 1,
      num_hidden_layers: 1,
      max_position_embeddings: 2 ** 15,
      bos_token_id: 0,
      eos_token_id: null,
    });
  }

  /** An empty cache. */
  createCache(options: { batch?: number; capacity?: number } = {}): KvCache<HostTensor> {
    const { batch = 1, capacity = 1 } = options;
    const sizes = { layers: 1, heads: 1, headDim: 8, dtype: "f32" } as const;
    return new KvCache(this.backend, { ...sizes, batch, capacity });
  }

  /** The table's rows for the last tokens. */
  // deno-lint-ignore require-await -- a model's answer comes later
  async forward(inputs: CausalLmInputs<HostTensor>): Promise<HeadOutput<HostTensor>> {
    const ids = inputs.inputIds as readonly (readonly number[])[];
    const cache = inputs.pastKeyValues!;
    const kept = inputs.logitsToKeep as number;
    cache.reserve(ids[0]!.length);
    cache.advance(ids[0]!.length);
    const rows = ids.flatMap((row) => row.slice(-kept).flatMap((id) => this.#scores[id]!));
    const logits = HostTensor.from([ids.length, kept, this.#scores.length], rows);
    return new HeadOutput(logits, undefined, {}, [logits]);
  }
}
