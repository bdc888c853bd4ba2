/** The configs of the released models, read as they were published. */

import { assertEquals } from "@std/assert";
import { StableLmConfig } from "../model/config.ts";

/** Keys that every published config.json has beside those that tell the models apart. */
const PUBLISHED = {
  attention_dropout: 0,
  hidden_act: "silu",
  hidden_dropout: 0,
  initializer_range: 0.02,
  layer_norm_eps: 1e-5,
  model_type: "stablelm",
  num_attention_heads: 32,
  partial_rotary_factor: 0.25,
  rope_scaling: null,
  tie_word_embeddings: false,
  use_cache: true,
};
const THREE_B = {
  ...PUBLISHED,
  architectures: ["StableLmForCausalLM"],
  bos_token_id: 0,
  eos_token_id: 0,
  hidden_size: 2560,
  intermediate_size: 6912,
  max_position_embeddings: 4096,
  num_hidden_layers: 32,
  num_key_value_heads: 32,
  rope_theta: 10000,
  torch_dtype: "bfloat16",
  transformers_version: "4.38.0",
  use_qkv_bias: false,
  vocab_size: 50304,
};
const CODE_3B = { ...THREE_B, max_position_embeddings: 16384, rope_theta: 1000000 };
const SMALL = {
  ...PUBLISHED,
  architectures: ["StableLmForCausalLM"],
  bos_token_id: 100257,
  eos_token_id: 100257,
  hidden_size: 2048,
  intermediate_size: 5632,
  max_position_embeddings: 4096,
  num_hidden_layers: 24,
  num_key_value_heads: 32,
  rope_theta: 10000,
  torch_dtype: "float16",
  transformers_version: "4.38.0",
  use_qkv_bias: true,
  vocab_size: 100352,
};
const TWELVE_B = {
  ...PUBLISHED,
  architectures: ["StableLmForCausalLM"],
  bos_token_id: 100257,
  eos_token_id: 100257,
  hidden_size: 5120,
  initializer_range: 0.01,
  intermediate_size: 13824,
  max_position_embeddings: 4096,
  num_hidden_layers: 40,
  num_key_value_heads: 8,
  qk_layernorm: true,
  rope_theta: 10000,
  rotary_scaling_factor: 1,
  torch_dtype: "bfloat16",
  transformers_version: "4.40.0",
  use_norm_bias: false,
  use_parallel_residual: true,
  use_qkv_bias: false,
  vocab_size: 100352,
};

/** config.json, head dim, rotary dim, theta, bias, norm and parallel switches, eos, dtype, cache. */
const RELEASED: Readonly<Record<string, readonly [object, readonly unknown[]]>> = {
  "stablelm-3b-4e1t": [
    THREE_B,
    [80, 20, 1e4, false, false, false, 0, "bfloat16", true],
  ],
  "stablelm-zephyr-3b": [
    { ...THREE_B, torch_dtype: "float32" },
    [80, 20, 1e4, false, false, false, 0, "float32", true],
  ],
  "stable-code-3b": [
    CODE_3B,
    [80, 20, 1e6, false, false, false, 0, "bfloat16", true],
  ],
  "stable-code-instruct-3b": [
    { ...CODE_3B, use_cache: false },
    [80, 20, 1e6, false, false, false, 0, "bfloat16", false],
  ],
  "stablelm-2-1_6b": [
    SMALL,
    [64, 16, 1e4, true, false, false, 100257, "float16", true],
  ],
  "stablelm-2-zephyr-1_6b": [
    SMALL,
    [64, 16, 1e4, true, false, false, 100257, "float16", true],
  ],
  "stablelm-2-1_6b-chat": [
    { ...SMALL, eos_token_id: 100278, torch_dtype: "float32" },
    [64, 16, 1e4, true, false, false, 100278, "float32", true],
  ],
  "stablelm-2-12b": [
    TWELVE_B,
    [160, 40, 1e4, false, true, true, 100257, "bfloat16", true],
  ],
  "stablelm-2-12b-chat": [
    { ...TWELVE_B, eos_token_id: 100278 },
    [160, 40, 1e4, false, true, true, 100278, "bfloat16", true],
  ],
};

for (const [name, [json, expected]] of Object.entries(RELEASED)) {
  Deno.test(`the config of ${name} is read as published`, () => {
    const config = StableLmConfig.fromJson(json);
    const { head_dim, rotary_dim, rope_parameters, eos_token_id, dtype, use_cache } = config;
    const { use_qkv_bias, qk_layernorm, use_parallel_residual } = config;
    assertEquals<readonly unknown[]>([
      head_dim,
      rotary_dim,
      rope_parameters.rope_theta,
      use_qkv_bias,
      qk_layernorm,
      use_parallel_residual,
      eos_token_id,
      dtype,
      use_cache,
    ], expected);
    assertEquals<unknown>(rope_parameters, {
      rope_type: "default",
      rope_theta: (json as typeof THREE_B).rope_theta,
      partial_rotary_factor: 0.25,
    });
    // What is spelled alike in both is taken over as it stands.
    for (const [key, value] of Object.entries(json)) {
      if (key in config) assertEquals(config[key as keyof StableLmConfig] as unknown, value, key);
    }
    assertEquals([config.pad_token_id, config.num_labels, config.activation], [null, 2, "silu"]);
  });
}

Deno.test("a config of nothing is StableLM-3B-4E1T's", () => {
  const { architectures: _, dtype: __, ...published } = StableLmConfig.fromJson(THREE_B);
  const { architectures, dtype, ...defaults } = new StableLmConfig();
  assertEquals(defaults, published);
  assertEquals([architectures, dtype], [null, null]);
  assertEquals(StableLmConfig.fromJson({}), new StableLmConfig());
});
