/**
 * Which parameters a StableLM of a given config has, and under which names a checkpoint stores them.
 *
 * @module
 */

import type { Shape } from "../runtime/tensor.ts";
import type { StableLmConfig } from "./config.ts";

/** What stands on top of the decoder. */
export type Head = "none" | "causal-lm" | "sequence-classification" | "token-classification";

/** What stands on the decoder of a checkpoint, by its tensors' names. */
export function headOf(config: StableLmConfig, names: ReadonlySet<string>): Head {
  if (names.has("score.bias")) return "token-classification";
  if (names.has("score.weight")) return "sequence-classification";
  const isBare = !names.has("lm_head.weight") &&
    (!config.tie_word_embeddings || names.has("embed_tokens.weight"));
  return isBare ? "none" : "causal-lm";
}

/** A parameter of the model; a checkpoint may store it as several tensors, one after the other. */
export interface Parameter {
  /** Its name in the model: that of its tensor, unless there are several. */
  readonly name: string;
  /** Sizes, outermost first. */
  readonly shape: Shape;
  /** The checkpoint's tensors that it is made of. */
  readonly tensors: readonly string[];
  /** Sizes of each of them: the parameter's own, or those of its rows. */
  readonly tensorShape: Shape;
}

/**
 * Parameters of a StableLM, in the order of the forward pass.
 *
 * @param tied whether the LM head is the embedding's table; what the config says unless given
 */
export function parametersOf(
  config: StableLmConfig,
  head: Head,
  tied: boolean = config.tie_word_embeddings,
): Parameter[] {
  const { hidden_size: hidden, vocab_size: vocab, num_labels: labels } = config;
  const parameters: Parameter[] = [];
  const add = (name: string, ...shape: number[]) =>
    parameters.push({ name, shape, tensors: [name], tensorShape: shape });

  add("model.embed_tokens.weight", vocab, hidden);
  for (let layer = 0; layer < config.num_hidden_layers; layer++) {
    parameters.push(...layerParameters(config, `model.layers.${layer}`));
  }
  add("model.norm.weight", hidden);
  add("model.norm.bias", hidden);
  if (head === "causal-lm" && !tied) add("lm_head.weight", vocab, hidden);
  if (head === "sequence-classification" || head === "token-classification") {
    add("score.weight", labels, hidden);
  }
  if (head === "token-classification") add("score.bias", labels);
  return parameters;
}

function layerParameters(config: StableLmConfig, layer: string): Parameter[] {
  const { hidden_size: hidden, intermediate_size: intermediate, head_dim: headDim } = config;
  const { num_attention_heads: heads, num_key_value_heads: keyValueHeads } = config;
  const parameters: Parameter[] = [];
  const add = (suffix: string, ...shape: number[]) => {
    const name = `${layer}.${suffix}`;
    parameters.push({ name, shape, tensors: [name], tensorShape: shape });
  };

  add("input_layernorm.weight", hidden);
  add("input_layernorm.bias", hidden);
  for (const [projection, count] of [["q", heads], ["k", keyValueHeads], ["v", keyValueHeads]]) {
    add(`self_attn.${projection}_proj.weight`, Number(count) * headDim, hidden);
    if (config.use_qkv_bias) add(`self_attn.${projection}_proj.bias`, Number(count) * headDim);
  }
  if (config.qk_layernorm) {
    for (const [projection, count] of [["q", heads], ["k", keyValueHeads]] as const) {
      const name = `${layer}.self_attn.${projection}_layernorm`;
      // The model normalises all heads in one go; checkpoints have one tensor for each.
      const tensors = Array.from({ length: count }, (_, head) => `${name}.norms.${head}.weight`);
      const shape = [count, headDim];
      parameters.push({ name: `${name}.weight`, shape, tensors, tensorShape: [headDim] });
    }
  }
  add("self_attn.o_proj.weight", hidden, heads * headDim);
  if (!config.use_parallel_residual) {
    add("post_attention_layernorm.weight", hidden);
    add("post_attention_layernorm.bias", hidden);
  }
  add("mlp.gate_proj.weight", intermediate, hidden);
  add("mlp.up_proj.weight", intermediate, hidden);
  add("mlp.down_proj.weight", hidden, intermediate);
  return parameters;
}

/** Elements of all parameters. */
export function parameterCount(config: StableLmConfig, head: Head): number {
  return parametersOf(config, head).reduce(
    (count, { shape }) => count + shape.reduce((product, size) => product * size, 1),
    0,
  );
}
