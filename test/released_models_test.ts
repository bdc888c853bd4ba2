/** What the README says of the released models follows from their configs. */

import { assert, assertEquals } from "@std/assert";
import { parameterCount, StableLmConfig, type StableLmConfigOptions } from "../mod.ts";

const STABLELM_2 = { vocab_size: 100_352, bos_token_id: 100_257, eos_token_id: 100_257 };

const SMALL: StableLmConfigOptions = {
  ...STABLELM_2,
  hidden_size: 2048,
  intermediate_size: 5632,
  num_hidden_layers: 24,
  use_qkv_bias: true,
};

const LARGE: StableLmConfigOptions = {
  ...STABLELM_2,
  hidden_size: 5120,
  intermediate_size: 13_824,
  num_hidden_layers: 40,
  num_key_value_heads: 8,
  qk_layernorm: true,
  use_parallel_residual: true,
};

const RELEASED: readonly [names: readonly string[], config: StableLmConfigOptions][] = [
  [["stablelm-3b-4e1t", "stablelm-zephyr-3b"], {}],
  [["stable-code-3b", "stable-code-instruct-3b"], { max_position_embeddings: 16_384 }],
  [["stablelm-2-1_6b", "stablelm-2-zephyr-1_6b", "stablelm-2-1_6b-chat"], SMALL],
  [["stablelm-2-12b", "stablelm-2-12b-chat"], LARGE],
];

const readme = await Deno.readTextFile(new URL("../README.md", import.meta.url));

for (const [names, options] of RELEASED) {
  Deno.test(`the README's row of ${names[0]}`, () => {
    const row = readme.split("\n").find((line) => line.startsWith(`| \`stabilityai/${names[0]}\``));
    assert(row, "there is a row");
    const [models, ...cells] = row.split("|").slice(1, -1).map((cell) => cell.trim());
    for (const name of names) assert(models!.includes(name), name);
    const config = new StableLmConfig(options);
    const parameters = parameterCount(config, "causal-lm");
    const { num_hidden_layers: layers, num_key_value_heads: heads, head_dim: headDim } = config;
    const gibibytes = (bytes: number) => `${(bytes / 2 ** 30).toFixed(2)} GiB`;
    assertEquals(cells, [
      parameters.toLocaleString("en"),
      config.max_position_embeddings.toLocaleString("en"),
      gibibytes(2 * parameters),
      gibibytes(4 * parameters),
      gibibytes(2 * layers * heads * headDim * 4096 * 4),
    ]);
  });
}
