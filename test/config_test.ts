import { assert, assertEquals } from "@std/assert";
import fc from "fast-check";
import { StableLmConfig, type StableLmConfigOptions } from "../model/config.ts";

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
