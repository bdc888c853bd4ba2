import { assertEquals, assertStrictEquals, assertThrows } from "@std/assert";
import { StableLmConfig, withTensorNames } from "../model/config.ts";
import { ModelConfigError } from "../runtime/errors.ts";

const NORM = "self_attn.q_layernorm.norms.0.weight";

/** Names of a checkpoint's tensors, as far as they tell its features. */
function tensorNames(
  qkNorm: boolean,
  parallel: boolean,
  bias: boolean,
  prefix = "model.",
): string[] {
  const layer = (name: string) => [0, 1].map((i) => `${prefix}layers.${i}.${name}`);
  return [
    `${prefix}embed_tokens.weight`,
    ...layer("self_attn.q_proj.weight"),
    ...layer("input_layernorm.weight"),
    ...(qkNorm ? layer(NORM) : []),
    ...(parallel ? [] : layer("post_attention_layernorm.weight")),
    ...(bias ? layer("self_attn.q_proj.bias") : []),
  ];
}

const BITS = [false, true];
const SWITCHES = BITS.flatMap((a) => BITS.flatMap((b) => BITS.map((c) => [a, b, c] as const)));

function switches(config: StableLmConfig): readonly [boolean, boolean, boolean] {
  return [config.qk_layernorm, config.use_parallel_residual, config.use_qkv_bias];
}

Deno.test("tensor names fill in the switches that a config leaves open", () => {
  for (const wanted of SWITCHES) {
    for (const prefix of ["model.", ""]) {
      const names = tensorNames(...wanted, prefix);
      for (const json of [{}, { model_type: "stablelm_epoch", use_qkv_bias: false }]) {
        const config = withTensorNames(StableLmConfig.fromJson(json), names);
        assertEquals(switches(config), wanted);
        assertEquals(switches(withTensorNames(config, names)), wanted);
      }
    }
  }
});

Deno.test("a switch that a config states must be what the tensors show", () => {
  const keys = ["qk_layernorm", "use_parallel_residual", "use_qkv_bias"] as const;
  for (const shown of SWITCHES) {
    keys.forEach((key, i) => {
      const agreeing = StableLmConfig.fromJson({ [key]: shown[i] });
      assertEquals(switches(withTensorNames(agreeing, tensorNames(...shown))), shown);
      const opposed = StableLmConfig.fromJson({ [key]: !shown[i] }, "c.json");
      const error = assertThrows(
        () => withTensorNames(opposed, tensorNames(...shown)),
        ModelConfigError,
        `must be ${shown[i]}, as the checkpoint has `,
      );
      assertEquals([error.fault.file, error.fault.place], ["c.json", `key "${key}"`]);
      // The last word of legacy files is the tensors'.
      const legacy = StableLmConfig.fromJson({ [key]: !shown[i], model_type: "stablelm_epoch" });
      assertEquals(switches(withTensorNames(legacy, tensorNames(...shown))), shown);
    });
  }
  const stated = StableLmConfig.fromJson({ qk_layernorm: false });
  const names = tensorNames(true, false, false);
  assertThrows(() => withTensorNames(stated, names), ModelConfigError, `model.layers.0.${NORM}`);
});

Deno.test("names without a layer among them tell nothing", () => {
  const config = new StableLmConfig({ qk_layernorm: true });
  for (const names of [[], ["lm_head.weight"], ["sublayers.0.input_layernorm.weight"]]) {
    assertStrictEquals(withTensorNames(config, names), config);
  }
});

Deno.test("inference from names keeps everything else", () => {
  const config = StableLmConfig.fromJson({
    architectures: ["X"],
    hidden_act: "gelu",
    num_labels: 5,
    pad_token_id: 0,
    rope_scaling: { type: "yarn", factor: 2 },
    use_qkv_bias: true,
  });
  assertEquals(withTensorNames(config, tensorNames(false, false, true)), config);
});
