/**
 * A causal model small enough to generate from in every test.
 *
 * @module
 */

import { StableLmForCausalLM } from "../model/causal_lm.ts";
import { StableLmConfig, type StableLmConfigOptions } from "../model/config.ts";
import { CpuBackend } from "../mod.ts";
import type { Backend } from "../runtime/backend.ts";
import type { Tensor } from "../runtime/tensor.ts";
import { recipeSource } from "./recipe.ts";

/** Its config; there is no token that ends a text. */
export const TINY: StableLmConfigOptions = {
  vocab_size: 97,
  hidden_size: 32,
  intermediate_size: 44,
  num_hidden_layers: 2,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  max_position_embeddings: 256,
  bos_token_id: 1,
  eos_token_id: null,
  pad_token_id: null,
};

/** Loads it. */
export function tinyModel<T extends Tensor>(
  backend: Backend<T>,
  config: StableLmConfigOptions = {},
): Promise<StableLmForCausalLM<T>> {
  const complete = new StableLmConfig({ ...TINY, ...config });
  return StableLmForCausalLM.load({ backend, config: complete, source: recipeSource(complete) });
}

/** Loads it on the CPU. */
export function tinyCpuModel(
  config: StableLmConfigOptions = {},
): ReturnType<typeof tinyModel<ReturnType<CpuBackend["upload"]>>> {
  return tinyModel(new CpuBackend(), config);
}
