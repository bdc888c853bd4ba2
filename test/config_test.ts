import { assert, assertEquals } from "@std/assert";
import fc from "fast-check";
import { StableLmConfig, type StableLmConfigOptions } from "../model/config.ts";

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

Deno.test("each spelling of an activation names a gate of the swiglu op", () => {
  const names = ["silu", "swish", "gelu", "gelu_new", "gelu_pytorch_tanh", "relu"];
  assertEquals<string[]>(
    names.map((hidden_act) => new StableLmConfig({ hidden_act }).activation),
    ["silu", "silu", "gelu", "gelu_tanh", "gelu_tanh", "relu"],
  );
});

Deno.test("key and value heads follow the query heads where nothing is said", () => {
  const heads = (options: StableLmConfigOptions) =>
    new StableLmConfig({ hidden_size: 1024, ...options }).num_key_value_heads;
  assertEquals(heads({ num_attention_heads: 4 }), 4);
  assertEquals(heads({ num_attention_heads: 4, num_key_value_heads: null }), 4);
  assertEquals(heads({ num_attention_heads: 4, num_key_value_heads: 2 }), 2);
  // Hugging Face's default is 32, and with 64 query heads that is a model.
  assertEquals(heads({ num_attention_heads: 64 }), 32);
  assertEquals(heads({ num_attention_heads: 64, num_key_value_heads: null }), 64);
});

Deno.test("dtype comes before torch_dtype, and null before neither", () => {
  const dtype = (json: object) => StableLmConfig.fromJson(json).dtype;
  assertEquals(dtype({ dtype: "bfloat16", torch_dtype: "float16" }), "bfloat16");
  assertEquals(dtype({ dtype: null, torch_dtype: "float16" }), "float16");
  assertEquals(dtype({ torch_dtype: null }), null);
});

Deno.test("token ids of 0, null and lists are kept as they are", () => {
  const ids = (json: object) => {
    const { bos_token_id, eos_token_id, pad_token_id } = StableLmConfig.fromJson(json);
    return [bos_token_id, eos_token_id, pad_token_id];
  };
  assertEquals<unknown>(ids({}), [0, 0, null]);
  assertEquals<unknown>(ids({ pad_token_id: 0, bos_token_id: null, eos_token_id: null }), [
    null,
    null,
    0,
  ]);
  // Above the vocabulary too: a model may be asked for no such token.
  assertEquals<unknown>(ids({ vocab_size: 10, eos_token_id: [0, 2 ** 31 - 1] }), [
    0,
    [0, 2 ** 31 - 1],
    null,
  ]);
  assert(Object.is(StableLmConfig.fromJson({ pad_token_id: -0 }).pad_token_id, 0));
});

Deno.test("labels come from their names, or from their number", () => {
  const labels = (json: object) => {
    const { num_labels, id2label, label2id } = StableLmConfig.fromJson(json);
    return { num_labels, id2label: { ...id2label }, label2id: { ...label2id } };
  };
  const three = {
    num_labels: 3,
    id2label: { 0: "a", 1: "b", 2: "c" },
    label2id: { a: 0, b: 1, c: 2 },
  };
  assertEquals(labels({ id2label: three.id2label }), three);
  assertEquals(labels(three), three);
  assertEquals(labels({ ...three, label2id: { a: "0", b: "1", c: 2 } }), three);
  const one = { num_labels: 1, id2label: { 0: "LABEL_0" }, label2id: { LABEL_0: 0 } };
  assertEquals(labels({ num_labels: 1 }), one);
  assertEquals(labels({ num_labels: 1, label2id: { x: 7 } }), one);
  assertEquals(labels({ ...three, num_labels: 1 }), one, "the number wins over names of another");
  const odd = JSON.parse('{"id2label": {"0": "__proto__", "7": "constructor"}}');
  const { id2label, label2id } = StableLmConfig.fromJson(odd);
  assertEquals(Object.entries(id2label), [["0", "__proto__"], ["7", "constructor"]]);
  assertEquals(Object.entries(label2id), [["__proto__", 0], ["constructor", 7]]);
});

Deno.test("keys of other libraries and of training are skipped", () => {
  const config = StableLmConfig.fromJson({
    auto_map: { AutoConfig: "configuration.X" },
    _name_or_path: "x",
    is_decoder: true,
    is_causal: true,
    head_dim: 80,
    rope_pct: 0.5,
    norm_eps: 1,
    num_heads: 3,
    quantization_config: null,
    sliding_window: null,
    layer_types: ["full_attention", "full_attention"],
    output_attentions: null,
    toString: 1,
    __proto__: { hidden_size: 1 },
  });
  assertEquals(config, new StableLmConfig());
});

Deno.test("a config cannot be changed", () => {
  const config = StableLmConfig.fromJson({ eos_token_id: [1, 2] });
  const parts = [config, config.rope_parameters, config.id2label, config.eos_token_id as number[]];
  for (const part of parts) assert(Object.isFrozen(part));
});

Deno.test("a legacy config is read with the words that it had", () => {
  const json = {
    architectures: ["StableLMEpochForCausalLM"],
    model_type: "stablelm_epoch",
    bos_token_id: null,
    hidden_size: 5120,
    norm_eps: 1e-6,
    num_heads: 32,
    num_key_value_heads: 8,
    rope_pct: 0.5,
    rope_theta: 10000,
    rotary_scaling_factor: 1,
  };
  const config = StableLmConfig.fromJson(json);
  assertEquals(
    [config.layer_norm_eps, config.num_attention_heads, config.rotary_dim, config.bos_token_id],
    [1e-6, 32, 80, null],
  );
  const { qk_layernorm, use_parallel_residual, use_qkv_bias } = config;
  assertEquals([qk_layernorm, use_parallel_residual, use_qkv_bias], [false, false, false]);
  const { model_type: _, ...untyped } = json;
  assertEquals(StableLmConfig.fromJson(untyped), config, "known by its class alone");
  const { model_type } = config.toJSON();
  assertEquals(model_type, "stablelm", "written in today's words");
  assertEquals(StableLmConfig.fromJson(config.toJSON()), config);
  // Where the current word is there as well, it is the one that is read.
  const both = StableLmConfig.fromJson({ ...json, num_attention_heads: 32 });
  assertEquals(both, config);
});

/** Options that make a config, of every kind. */
const options: fc.Arbitrary<StableLmConfigOptions> = fc.record({
  groups: fc.integer({ min: 1, max: 8 }),
  shared: fc.integer({ min: 1, max: 8 }),
  headDim: fc.integer({ min: 1, max: 80 }).map((half) => 2 * half),
  rotary: fc.nat(),
  rope: fc.constantFrom("default", "linear", "dynamic", "yarn", "llama3", "longrope"),
  factor: fc.double({ min: 0.1, max: 100, noNaN: true }),
  rest: fc.record({
    vocab_size: fc.integer({ min: 1, max: 2 ** 24 }),
    hidden_act: fc.constantFrom("silu", "gelu", "gelu_new", "relu"),
    layer_norm_eps: fc.double({ min: 2 ** -126, max: 1, noNaN: true }),
    max_position_embeddings: fc.integer({ min: 2, max: 2 ** 24 }),
    rope_theta: fc.double({ min: 2, max: 1e30, noNaN: true }),
    use_cache: fc.boolean(),
    qk_layernorm: fc.boolean(),
    use_parallel_residual: fc.boolean(),
    eos_token_id: fc.oneof(fc.constant(null), fc.nat(), fc.array(fc.nat(), { minLength: 1 })),
    pad_token_id: fc.constantFrom(null, 0),
    id2label: fc.dictionary(fc.nat(999).map(String), fc.string(), { minKeys: 2 }),
    problem_type: fc.constantFrom(null, "single_label_classification" as const),
    classifier_dropout: fc.option(fc.double({ min: 0, max: 1, noNaN: true })),
    dtype: fc.constantFrom(null, "float32" as const, "bfloat16" as const),
    architectures: fc.option(fc.array(fc.string())),
    output_hidden_states: fc.boolean(),
  }, { requiredKeys: [] }),
}).map(({ groups, shared, headDim, rotary, rope, factor, rest }) => {
  const pairs = 1 + rotary % (headDim / 2);
  // Dynamic scaling needs more than one pair.
  if (rope === "dynamic" && pairs === 1) rope = "linear";
  const divisors = Array(pairs).fill(factor);
  return {
    ...rest,
    hidden_size: groups * shared * headDim,
    num_attention_heads: groups * shared,
    num_key_value_heads: groups,
    // A little above, so that the product is not cut below what it should be.
    partial_rotary_factor: Math.min((2 * pairs + 0.5) / headDim, 1),
    rope_parameters: {
      rope_type: rope as "default",
      ...(rope !== "default" && { factor }),
      ...(rope === "llama3" && { low_freq_factor: 1, high_freq_factor: 4 }),
      ...(rope === "longrope" && { short_factor: divisors, long_factor: divisors }),
    },
  };
});

Deno.test("a config survives being written and read", () => {
  fc.assert(
    fc.property(options, (given) => {
      const config = new StableLmConfig(given);
      assertEquals(StableLmConfig.fromJson(JSON.parse(JSON.stringify(config))), config);
    }),
    { numRuns: 500 },
  );
});
