/** Rotary parameters in the forms that transformers has given them over time. */

import { assertEquals } from "@std/assert";
import { StableLmConfig } from "../model/config.ts";

/** A config.json, and what its rotary parameters are resolved to. */
const ROPE: Readonly<Record<string, readonly [object, object]>> = {
  "scaling in the older form": [
    { rope_theta: 1234, rope_scaling: { type: "linear", factor: 2 } },
    { rope_type: "linear", factor: 2, rope_theta: 1234, partial_rotary_factor: 0.25 },
  ],
  "a base beside the newer form": [
    { rope_theta: 5, rope_parameters: { rope_type: "default" } },
    { rope_type: "default", rope_theta: 5, partial_rotary_factor: 0.25 },
  ],
  "a base inside before one beside": [
    { rope_theta: 5, rope_parameters: { rope_theta: 7 } },
    { rope_type: "default", rope_theta: 7, partial_rotary_factor: 0.25 },
  ],
  "a share inside before one beside": [
    { partial_rotary_factor: 0.3, rope_parameters: { partial_rotary_factor: 0.5 } },
    { rope_type: "default", rope_theta: 1e4, partial_rotary_factor: 0.5 },
  ],
  "nothing beside where both stand inside": [
    {
      rope_theta: null,
      partial_rotary_factor: null,
      rope_parameters: { rope_theta: 7, partial_rotary_factor: 0.5 },
    },
    { rope_type: "default", rope_theta: 7, partial_rotary_factor: 0.5 },
  ],
  "rope_scaling before rope_parameters": [
    {
      rope_scaling: { type: "linear", factor: 3 },
      rope_parameters: { rope_type: "dynamic", factor: 9, rope_theta: 77 },
    },
    { rope_type: "linear", factor: 3, rope_theta: 1e4, partial_rotary_factor: 0.25 },
  ],
  "rope_parameters where rope_scaling is empty": [
    { rope_scaling: {}, rope_parameters: { rope_theta: 77 } },
    { rope_type: "default", rope_theta: 77, partial_rotary_factor: 0.25 },
  ],
  "rope_type before type": [
    { rope_scaling: { rope_type: "dynamic", type: "linear", factor: 2 } },
    { rope_type: "dynamic", factor: 2, rope_theta: 1e4, partial_rotary_factor: 0.25 },
  ],
  "a factor below 1": [
    { rope_scaling: { type: "linear", factor: 0.5 } },
    { rope_type: "linear", factor: 0.5, rope_theta: 1e4, partial_rotary_factor: 0.25 },
  ],
  "yarn with nothing but its kind": [
    { rope_scaling: { type: "yarn", factor: null }, max_position_embeddings: 512 },
    {
      rope_type: "yarn",
      rope_theta: 1e4,
      partial_rotary_factor: 0.25,
      factor: 1,
      original_max_position_embeddings: 512,
      beta_fast: 32,
      beta_slow: 1,
      truncate: true,
    },
  ],
  "yarn with everything": [
    {
      rope_parameters: {
        rope_type: "yarn",
        factor: null,
        original_max_position_embeddings: 1024,
        beta_fast: 16,
        beta_slow: 2,
        truncate: false,
        attention_factor: 0.7,
        mscale: 0.5,
        mscale_all_dim: 0,
      },
    },
    {
      rope_type: "yarn",
      rope_theta: 1e4,
      partial_rotary_factor: 0.25,
      factor: 4,
      original_max_position_embeddings: 1024,
      beta_fast: 16,
      beta_slow: 2,
      truncate: false,
      attention_factor: 0.7,
      mscale: 0.5,
      mscale_all_dim: 0,
    },
  ],
  "an original length beside before one inside": [
    {
      original_max_position_embeddings: 100,
      rope_scaling: {
        type: "llama3",
        factor: 8,
        low_freq_factor: 1,
        high_freq_factor: 4,
        original_max_position_embeddings: 200,
      },
    },
    {
      rope_type: "llama3",
      rope_theta: 1e4,
      partial_rotary_factor: 0.25,
      factor: 8,
      original_max_position_embeddings: 100,
      low_freq_factor: 1,
      high_freq_factor: 4,
    },
  ],
  "longrope with one divisor a pair": [
    {
      hidden_size: 128,
      num_attention_heads: 8,
      rope_scaling: {
        type: "longrope",
        short_factor: [1, 1.5],
        long_factor: [2, 3],
        original_max_position_embeddings: 2048,
        attention_factor: null,
      },
    },
    {
      rope_type: "longrope",
      rope_theta: 1e4,
      partial_rotary_factor: 0.25,
      factor: 2,
      original_max_position_embeddings: 2048,
      short_factor: [1, 1.5],
      long_factor: [2, 3],
    },
  ],
};

for (const [name, [json, expected]] of Object.entries(ROPE)) {
  Deno.test(`rotary parameters are resolved: ${name}`, () => {
    assertEquals<unknown>(StableLmConfig.fromJson(json).rope_parameters, expected);
  });
}
