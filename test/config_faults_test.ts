import { assert, assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import { StableLmConfig, type StableLmConfigOptions } from "../model/config.ts";
import { FileFaultError, ModelConfigError, ModelUnsupportedError } from "../runtime/errors.ts";

/** A config.json, the key at fault, and what the message says of it. */
const WRONG: Readonly<Record<string, readonly [object, string, string]>> = {
  "a padding id past the vocabulary": [
    { vocab_size: 5, pad_token_id: 5 },
    "pad_token_id",
    "must be below vocab_size, 5: 5",
  ],
  "a size of 0": [{ vocab_size: 0 }, "vocab_size", "from 1 to 16777216: 0"],
  "a size above the bound": [{ hidden_size: 65537 }, "hidden_size", "from 1 to 65536: 65537"],
  "a fraction of a layer": [{ num_hidden_layers: 1.5 }, "num_hidden_layers", "whole number"],
  "a thousand layers too many": [{ num_hidden_layers: 2024 }, "num_hidden_layers", "1024: 2024"],
  "a size as text": [{ intermediate_size: "6912" }, "intermediate_size", '262144: "6912"'],
  "a size of null": [{ vocab_size: null }, "vocab_size", "null"],
  "a size past the integers": [{ vocab_size: 1e300 }, "vocab_size", "1e+300"],
  "more heads than any": [{ num_attention_heads: 5000 }, "num_attention_heads", "4096: 5000"],
  "a width that heads do not divide": [
    { hidden_size: 100 },
    "hidden_size",
    "must be divisible by num_attention_heads, 32: 100",
  ],
  "heads that groups do not divide": [
    { num_key_value_heads: 5 },
    "num_attention_heads",
    "must be divisible by num_key_value_heads, 5: 32",
  ],
  "no heads to share": [{ num_key_value_heads: 0 }, "num_key_value_heads", "4096 or null: 0"],
  "a head dim of its own": [{ head_dim: 64 }, "head_dim", "hidden_size / num_attention_heads, 80"],
  "positions past f32": [{ max_position_embeddings: 1e12 }, "max_position_embeddings", "16777216"],
  "an epsilon of 0": [{ layer_norm_eps: 0 }, "layer_norm_eps", "to 1: 0"],
  "an epsilon that f32 flushes": [{ layer_norm_eps: 1e-39 }, "layer_norm_eps", "1e-39"],
  "an epsilon as text": [{ layer_norm_eps: "1e-5" }, "layer_norm_eps", '"1e-5"'],
  "a negative deviation": [{ initializer_range: -1 }, "initializer_range", "-1"],
  "a dropout above 1": [{ hidden_dropout: 1.1 }, "hidden_dropout", "from 0 to 1: 1.1"],
  "a dropout of null": [{ attention_dropout: null }, "attention_dropout", "null"],
  "a classifier's dropout below 0": [{ classifier_dropout: -0.1 }, "classifier_dropout", "or null"],
  "a switch as a number": [{ use_cache: 1 }, "use_cache", "must be true or false: 1"],
  "a switch as text": [{ qk_layernorm: "true" }, "qk_layernorm", 'true or false: "true"'],
  "a switch of null": [{ use_qkv_bias: null }, "use_qkv_bias", "null"],
  "a token id below 0": [{ pad_token_id: -1 }, "pad_token_id", "2147483647 or null: -1"],
  "a token id of 32 bits": [{ bos_token_id: 2 ** 31 }, "bos_token_id", "2147483648"],
  "a token as text": [{ eos_token_id: "</s>" }, "eos_token_id", '"</s>"'],
  "no token in a list": [{ eos_token_id: [] }, "eos_token_id", "1 to 65536 numbers: a list of 0"],
  "half a token in a list": [{ eos_token_id: [0, 0.5] }, "eos_token_id[1]", "0.5"],
  "a null in a list": [{ eos_token_id: [null] }, "eos_token_id[0]", "null"],
  "an activation that is no text": [{ hidden_act: 1 }, "hidden_act", "must be a string: 1"],
  "a dtype that is no text": [{ torch_dtype: 16 }, "torch_dtype", "must be a string or null: 16"],
  "architectures that are no list": [{ architectures: "X" }, "architectures", "list"],
  "an architecture that is no text": [{ architectures: [1] }, "architectures[0]", "string: 1"],
  "an unknown problem": [{ problem_type: "ranking" }, "problem_type", '"regression"'],
  "one label to choose from": [
    { problem_type: "single_label_classification", num_labels: 1 },
    "problem_type",
    "unless num_labels > 1",
  ],
  "no label": [{ num_labels: 0 }, "num_labels", "from 1 to 65536 or null: 0"],
  "names that are no object": [{ id2label: ["a"] }, "id2label", "JSON object: a list of 1"],
  "no name": [{ id2label: {} }, "id2label", "must have 1 to 65536 entries: 0"],
  "a name of no number": [{ id2label: { a: "x" } }, "id2label.a", "whole number from 0"],
  "a name of a number with a zero": [{ id2label: { "01": "x" } }, "id2label.01", "whole number"],
  "a name that is no text": [{ id2label: { 0: 1 } }, "id2label.0", "must be a string: 1"],
  "a number that is none": [
    { id2label: { 0: "x" }, label2id: { x: "one" } },
    "label2id.x",
    '"one"',
  ],
  "rotary parameters that are no object": [
    { rope_scaling: "linear" },
    "rope_scaling",
    'JSON object: "linear"',
  ],
  "a base below 1": [{ rope_theta: 0 }, "rope_theta", "from 1 to 1e+30: 0"],
  "a base of null": [{ rope_theta: null }, "rope_theta", "null"],
  "a base out of bounds inside": [
    { rope_parameters: { rope_theta: 1e31 } },
    "rope_parameters.rope_theta",
    "1e+31",
  ],
  "no share": [{ partial_rotary_factor: 0 }, "partial_rotary_factor", "above 0 and at most 1: 0"],
  "more than all of a head": [{ partial_rotary_factor: 1.5 }, "partial_rotary_factor", "1.5"],
  "a share that rotates an odd number": [
    { partial_rotary_factor: 0.0126 },
    "partial_rotary_factor",
    "must rotate an even number of a head's 80 elements, at least 2: 0.0126, which rotates 1",
  ],
  "a share inside that rotates nothing": [
    { rope_parameters: { partial_rotary_factor: 0.01 } },
    "rope_parameters.partial_rotary_factor",
    "which rotates 0",
  ],
  "a kind that is no text": [
    { rope_parameters: { rope_type: null } },
    "rope_parameters.rope_type",
    "must be a string: null",
  ],
  "linear without a factor": [
    { rope_scaling: { type: "linear" } },
    "rope_scaling.type",
    '"linear" needs the keys factor beside it: missing factor',
  ],
  "llama3 without its ends": [
    { rope_parameters: { rope_type: "llama3", factor: 8 } },
    "rope_parameters.rope_type",
    "missing low_freq_factor, high_freq_factor",
  ],
  "longrope without divisors": [
    { rope_parameters: { rope_type: "longrope" } },
    "rope_parameters.rope_type",
    "missing short_factor, long_factor",
  ],
  "yarn without a factor": [
    { rope_parameters: { rope_type: "yarn" } },
    "rope_parameters.rope_type",
    "missing factor",
  ],
  "a factor of 0": [
    { rope_scaling: { type: "dynamic", factor: 0 } },
    "rope_scaling.factor",
    "above 0",
  ],
  "a factor of null": [
    { rope_scaling: { type: "linear", factor: null } },
    "rope_scaling.factor",
    "null",
  ],
  "dynamic with one pair": [
    { partial_rotary_factor: 0.025, rope_scaling: { type: "dynamic", factor: 2 } },
    "rope_scaling.type",
    "must not be dynamic",
  ],
  "yarn on a base of 1": [
    { rope_theta: 1, rope_scaling: { type: "yarn", factor: 2 } },
    "rope_theta",
    "must be above 1 for yarn",
  ],
  "yarn's ramp as text": [
    { rope_scaling: { type: "yarn", factor: 2, beta_fast: "32" } },
    "rope_scaling.beta_fast",
    '"32"',
  ],
  "yarn's rounding as text": [
    { rope_scaling: { type: "yarn", factor: 2, truncate: "no" } },
    "rope_scaling.truncate",
    '"no"',
  ],
  "llama3's ends in the wrong order": [
    { rope_scaling: { type: "llama3", factor: 2, low_freq_factor: 4, high_freq_factor: 4 } },
    "rope_scaling.high_freq_factor",
    "must be above low_freq_factor, 4: 4",
  ],
  "longrope's divisors of another number": [
    { rope_scaling: { type: "longrope", short_factor: [1], long_factor: Array(10).fill(1) } },
    "rope_scaling.short_factor",
    "must be a list of 10 numbers: a list of 1",
  ],
  "a divisor of 0": [
    {
      rope_scaling: {
        type: "longrope",
        short_factor: Array(10).fill(1),
        long_factor: [...Array(9).fill(1), 0],
      },
    },
    "rope_scaling.long_factor[9]",
    "above 0",
  ],
  "longrope from one position": [
    {
      original_max_position_embeddings: 1,
      rope_scaling: {
        type: "longrope",
        short_factor: Array(10).fill(1),
        long_factor: Array(10).fill(1),
      },
    },
    "rope_scaling.original_max_position_embeddings",
    "must be above 1",
  ],
  "a model type that is no text": [{ model_type: 1 }, "model_type", "must be a string: 1"],
  "a legacy key out of range": [
    { model_type: "stablelm_epoch", norm_eps: -1 },
    "norm_eps",
    "to 1: -1",
  ],
  "a legacy key that says otherwise": [
    { model_type: "stablelm_epoch", num_heads: 16, num_attention_heads: 32 },
    "num_heads",
    "must be as num_attention_heads is: 16",
  ],
};

for (const [name, [json, key, words]] of Object.entries(WRONG)) {
  Deno.test(`a config is refused: ${name}`, () => {
    const error = assertThrows(
      () => StableLmConfig.fromJson(json, "a/config.json"),
      ModelConfigError,
      words,
    );
    assertEquals([error.code, error.fault.place], ["model-config", `key "${key}"`]);
    assert(error.message.startsWith(`Cannot read a/config.json: key "${key}": `), error.message);
  });
}

/** A config.json that is well formed, the key at fault, and what the message names. */
const UNSUPPORTED: Readonly<Record<string, readonly [object, string, string]>> = {
  "another model": [{ model_type: "llama" }, "model_type", '"llama"'],
  "quantised weights": [{ quantization_config: {} }, "quantization_config", "quantised"],
  "attention both ways": [{ is_causal: false }, "is_causal", "causal: false"],
  "attention both ways by null": [{ is_causal: null }, "is_causal", "causal: null"],
  "a window": [{ sliding_window: 128 }, "sliding_window", "sees all earlier tokens: 128"],
  "chunks": [{ attention_chunk_size: 64 }, "attention_chunk_size", "sees all earlier tokens"],
  "layers with a window": [
    { layer_types: ["full_attention", "sliding_attention"] },
    "layer_types",
    '"full_attention" only',
  ],
  "another last state": [
    { tie_last_hidden_states: false },
    "tie_last_hidden_states",
    "must be true",
  ],
  "layers that differ": [{ per_layer_config: { 0: {} } }, "per_layer_config", "alike"],
  "an unknown activation": [{ hidden_act: "mish" }, "hidden_act", '"mish"'],
  "an activation from the prototype": [{ hidden_act: "toString" }, "hidden_act", '"toString"'],
  "an unknown dtype": [{ torch_dtype: "float64" }, "torch_dtype", '"float64"'],
  "an unknown kind of rotary embedding": [
    { rope_scaling: { type: "proportional", factor: 1 } },
    "rope_scaling.type",
    '"proportional"',
  ],
  "a kind from the prototype": [
    { rope_parameters: { rope_type: "constructor" } },
    "rope_parameters.rope_type",
    '"constructor"',
  ],
};

for (const [name, [json, key, words]] of Object.entries(UNSUPPORTED)) {
  Deno.test(`a config is not supported: ${name}`, () => {
    const error = assertThrows(() => StableLmConfig.fromJson(json), ModelUnsupportedError, words);
    assertEquals([error.code, error.fault.place], ["model-unsupported", `key "${key}"`]);
  });
}

Deno.test("a config.json that is no object is refused as a whole", () => {
  for (const value of [null, [], "x", 1, true, undefined]) {
    const error = assertThrows(() => StableLmConfig.fromJson(value), ModelConfigError);
    assertEquals(error.fault.place, undefined);
    assert(error.message.startsWith("Cannot read config.json: must be a JSON object: "));
  }
});

Deno.test("text of a file is printed safely and cut", () => {
  const error = assertThrows(
    () => StableLmConfig.fromJson({ model_type: "\u001b[31m\u202e" + "x".repeat(500) }),
    ModelUnsupportedError,
  );
  // deno-lint-ignore no-control-regex
  assert(!/[\u0000-\u001f\u202e]/.test(error.message));
  assert(error.message.length < 250, error.message);
});

Deno.test("an option that is none is refused by name, with undefined taken for absent", () => {
  const options = { hidden_sizes: 64 } as StableLmConfigOptions;
  const error = assertThrows(() => new StableLmConfig(options), ModelConfigError, "hidden_sizes");
  assertEquals(error.fault.file, "StableLmConfig options");
  const model_type = { model_type: "stablelm" } as StableLmConfigOptions;
  assertThrows(() => new StableLmConfig(model_type), ModelConfigError, "model_type");
  const open = { hidden_size: undefined, odd: undefined } as unknown as StableLmConfigOptions;
  assertEquals(new StableLmConfig(open), new StableLmConfig());
});

Deno.test("options must not contradict each other about labels", () => {
  const id2label = { 0: "a", 1: "b" };
  assertThrows(() => new StableLmConfig({ id2label, num_labels: 3 }), ModelConfigError, "2: 3");
  assertThrows(() => new StableLmConfig({ label2id: { a: 0 } }), ModelConfigError, "id2label");
});

Deno.test("3,000 random config.json values end in a config or an error about the file", () => {
  const keys = Object.keys({ ...new StableLmConfig().toJSON(), rope_scaling: 0, model_type: 0 });
  const rope = [
    "rope_type",
    "type",
    "factor",
    "short_factor",
    "beta_fast",
    "partial_rotary_factor",
  ];
  const json = fc.oneof(
    fc.jsonValue(),
    fc.dictionary(fc.constantFrom(...keys), fc.jsonValue(), { maxKeys: 4 }),
    fc.dictionary(
      fc.constantFrom("rope_parameters", "rope_scaling", "id2label", "label2id"),
      fc.dictionary(
        fc.constantFrom(...rope, "0", "a"),
        fc.oneof(
          fc.jsonValue(),
          fc.constantFrom("linear", "dynamic", "yarn", "llama3", "longrope"),
        ),
      ),
    ),
    fc.anything(),
  );
  let read = 0;
  fc.assert(
    fc.property(json, (value) => {
      try {
        StableLmConfig.fromJson(value);
        read++;
      } catch (error) {
        if (!(error instanceof FileFaultError)) throw error;
      }
    }),
    { numRuns: 3000 },
  );
  assert(read > 100, `only ${read} were read`);
  assertEquals(({} as Record<string, unknown>).rope_type, undefined);
});
