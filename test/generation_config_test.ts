import { assert, assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import { StableLmConfig } from "../model/config.ts";
import { GenerationConfig, type GenerationConfigOptions } from "../model/generation_config.ts";
import { ModelConfigError } from "../runtime/errors.ts";

Deno.test("a generation config of nothing has the library's defaults", () => {
  assertEquals<unknown>({ ...new GenerationConfig() }, {
    max_length: null,
    max_new_tokens: null,
    min_length: 0,
    min_new_tokens: null,
    early_stopping: false,
    max_time: null,
    stop_strings: null,
    do_sample: false,
    num_beams: 1,
    num_return_sequences: 1,
    use_cache: true,
    temperature: 1,
    top_k: 50,
    top_p: 1,
    min_p: null,
    top_h: null,
    typical_p: 1,
    epsilon_cutoff: 0,
    eta_cutoff: 0,
    repetition_penalty: 1,
    encoder_repetition_penalty: 1,
    length_penalty: 1,
    no_repeat_ngram_size: 0,
    encoder_no_repeat_ngram_size: 0,
    bad_words_ids: null,
    sequence_bias: null,
    renormalize_logits: false,
    remove_invalid_values: false,
    forced_bos_token_id: null,
    forced_eos_token_id: null,
    exponential_decay_length_penalty: null,
    suppress_tokens: null,
    begin_suppress_tokens: null,
    guidance_scale: null,
    num_assistant_tokens: 20,
    num_assistant_tokens_schedule: "constant",
    assistant_confidence_threshold: 0.4,
    prompt_lookup_num_tokens: null,
    max_matching_ngram_size: 2,
    output_scores: false,
    output_logits: false,
    output_attentions: false,
    output_hidden_states: false,
    bos_token_id: null,
    eos_token_id: null,
    pad_token_id: null,
    other: {},
  });
});

/** generation_config.json as published, and the fields that differ from the defaults. */
const RELEASED: Readonly<Record<string, readonly [object, object]>> = {
  "3B": [
    { _from_model_config: true, bos_token_id: 0, eos_token_id: 0, transformers_version: "4.38.0" },
    { bos_token_id: 0, eos_token_id: 0 },
  ],
  "1.6B chat": [
    { bos_token_id: 100257, do_sample: true, eos_token_id: 100278, transformers_version: "4.39.0" },
    { bos_token_id: 100257, eos_token_id: 100278, do_sample: true },
  ],
  "12B chat": [
    { bos_token_id: 100257, eos_token_id: 100278, pad_token_id: 100257 },
    { bos_token_id: 100257, eos_token_id: 100278, pad_token_id: 100257 },
  ],
};

for (const [name, [json, expected]] of Object.entries(RELEASED)) {
  Deno.test(`the generation config of ${name} is read as published`, () => {
    const { other: _, ...fields } = GenerationConfig.fromJson(json);
    const { other: __, ...defaults } = new GenerationConfig();
    assertEquals<unknown>(fields, { ...defaults, ...expected });
  });
}

Deno.test("null is the default, and ids of 0 and lists are kept", () => {
  const config = GenerationConfig.fromJson({ top_k: null, do_sample: null, pad_token_id: 0 });
  assertEquals([config.top_k, config.do_sample, config.pad_token_id], [50, false, 0]);
  assertEquals(GenerationConfig.fromJson({ top_k: 0 }).top_k, 0);
  assertEquals(GenerationConfig.fromJson({ eos_token_id: [0, 100278] }).eos_token_id, [0, 100278]);
  assertEquals(GenerationConfig.fromJson({ stop_strings: "\n" }).stop_strings, ["\n"]);
  assertEquals(GenerationConfig.fromJson({ suppress_tokens: [] }).suppress_tokens, []);
  assertEquals(
    GenerationConfig.fromJson({ temperature: 0 }).temperature,
    0,
    "greedy files have it",
  );
});

Deno.test("unknown keys of a file are kept aside, those of options refused by name", () => {
  const json = { penalty_alpha: 0.6, toString: 1, top_k: 3 };
  const config = GenerationConfig.fromJson(json);
  assertEquals(config.other, { penalty_alpha: 0.6, toString: 1 });
  assertEquals(config.toJSON(), json);
  assertThrows(
    () => new GenerationConfig({ topK: 3 } as GenerationConfigOptions),
    ModelConfigError,
    'GenerationConfig options: key "topK"',
  );
});

Deno.test("without its file, a generation config comes from the model's config", () => {
  const json = {
    model_type: "stablelm",
    eos_token_id: [5, 0],
    bos_token_id: null,
    pad_token_id: 3,
    use_cache: false,
    max_length: 77,
    temperature: null,
    hidden_act: "silu",
  };
  const config = GenerationConfig.fromModelConfig(StableLmConfig.fromJson(json), json);
  assertEquals(config.toJSON(), {
    eos_token_id: [5, 0],
    pad_token_id: 3,
    use_cache: false,
    max_length: 77,
  });
  const { bos_token_id, eos_token_id } = GenerationConfig.fromModelConfig(new StableLmConfig());
  assertEquals([bos_token_id, eos_token_id], [0, 0], "the config's own defaults");
  const silent = GenerationConfig.fromModelConfig(StableLmConfig.fromJson({}), {});
  assertEquals([silent.bos_token_id, silent.eos_token_id], [null, null], "the file states none");
  const wrong = { top_p: 2 };
  const error = assertThrows(
    () => GenerationConfig.fromModelConfig(new StableLmConfig(), wrong),
    ModelConfigError,
  );
  assertEquals([error.fault.file, error.fault.place], ["config.json", 'key "top_p"']);
});

/** A generation_config.json, the key at fault, and what the message says of it. */
const WRONG: readonly (readonly [json: object, key: string, words: string])[] = [
  [{ max_length: 0 }, "max_length", "whole number from 1"],
  [{ max_new_tokens: 0 }, "max_new_tokens", "from 1 to 16777216 or null: 0"],
  [{ max_new_tokens: 2.5 }, "max_new_tokens", "2.5"],
  [{ min_length: -1 }, "min_length", "from 0 to 16777216: -1"],
  [{ min_new_tokens: "3" }, "min_new_tokens", '"3"'],
  [{ early_stopping: "always" }, "early_stopping", 'must be true, false or "never": "always"'],
  [{ early_stopping: 1 }, "early_stopping", '"never": 1'],
  [{ max_time: -1 }, "max_time", "at least 0 or null: -1"],
  [{ stop_strings: "" }, "stop_strings", "none of them empty"],
  [{ stop_strings: [] }, "stop_strings", "none of them empty"],
  [{ stop_strings: ["a", ""] }, "stop_strings", "none of them empty"],
  [{ stop_strings: ["a", 1] }, "stop_strings[1]", "must be a string: 1"],
  [{ do_sample: "true" }, "do_sample", 'must be true or false: "true"'],
  [{ num_beams: 0 }, "num_beams", "from 1 to 1024: 0"],
  [{ num_beams: 2000 }, "num_beams", "2000"],
  [{ num_return_sequences: 0 }, "num_return_sequences", "from 1"],
  [{ num_return_sequences: 2 }, "num_return_sequences", "must be 1 unless do_sample is true"],
  [{ num_return_sequences: 3, num_beams: 2 }, "num_return_sequences", "at most num_beams, 2: 3"],
  [
    { num_return_sequences: 3, num_beams: 2, do_sample: true },
    "num_return_sequences",
    "at most num_beams, 2: 3",
  ],
  [{ use_cache: 0 }, "use_cache", "true or false: 0"],
  [{ temperature: -0.1 }, "temperature", "from 0"],
  [{ top_k: -1 }, "top_k", "from 0"],
  [{ top_k: 1.5 }, "top_k", "whole number"],
  [{ top_p: 1.1 }, "top_p", "from 0 to 1: 1.1"],
  [{ min_p: -0.1 }, "min_p", "from 0 to 1 or null"],
  [{ top_h: 0 }, "top_h", "above 0 and at most 1"],
  [{ typical_p: 0 }, "typical_p", "above 0 and at most 1: 0"],
  [{ epsilon_cutoff: 1.1 }, "epsilon_cutoff", "1.1"],
  [{ eta_cutoff: -1 }, "eta_cutoff", "-1"],
  [{ repetition_penalty: 0 }, "repetition_penalty", "above 0"],
  [{ encoder_repetition_penalty: -1 }, "encoder_repetition_penalty", "above 0"],
  [{ length_penalty: "1" }, "length_penalty", '"1"'],
  [{ no_repeat_ngram_size: -1 }, "no_repeat_ngram_size", "from 0"],
  [{ encoder_no_repeat_ngram_size: 0.5 }, "encoder_no_repeat_ngram_size", "whole"],
  [{ bad_words_ids: [] }, "bad_words_ids", "lists of token ids: a list of 0"],
  [{ bad_words_ids: [[1], []] }, "bad_words_ids[1]", "a list of 0"],
  [{ bad_words_ids: [[1, -2]] }, "bad_words_ids[0][1]", "-2"],
  [{ bad_words_ids: [[undefined]] }, "bad_words_ids[0][0]", "null"],
  [{ sequence_bias: {} }, "sequence_bias", "an object"],
  [{ sequence_bias: [[[1]]] }, "sequence_bias[0]", "a list of 1"],
  [{ sequence_bias: [[[], 1]] }, "sequence_bias[0][0]", "a list of 0"],
  [{ sequence_bias: [[[1], "2"]] }, "sequence_bias[0][1]", '"2"'],
  [{ renormalize_logits: 1 }, "renormalize_logits", "true or false"],
  [{ remove_invalid_values: 1 }, "remove_invalid_values", "true or false"],
  [{ forced_bos_token_id: [1] }, "forced_bos_token_id", "a list of 1"],
  [{ forced_eos_token_id: [] }, "forced_eos_token_id", "a list of 0"],
  [{ exponential_decay_length_penalty: [1] }, "exponential_decay_length_penalty", "a list of 1"],
  [{ exponential_decay_length_penalty: [1, 0] }, "exponential_decay_length_penalty[1]", "above 0"],
  [{ suppress_tokens: 5 }, "suppress_tokens", "must be a list of 0 to 65536 numbers: 5"],
  [{ begin_suppress_tokens: [-1] }, "begin_suppress_tokens[0]", "-1"],
  [{ suppress_tokens: [1, 0], forced_bos_token_id: 0 }, "forced_bos_token_id", "suppress_tokens"],
  [{ suppress_tokens: [1, 0], forced_eos_token_id: [0] }, "forced_eos_token_id", "a list of 1"],
  [{ guidance_scale: "x" }, "guidance_scale", '"x"'],
  [{ num_assistant_tokens: 0 }, "num_assistant_tokens", "from 1"],
  [{ num_assistant_tokens_schedule: "x" }, "num_assistant_tokens_schedule", '"heuristic"'],
  [{ assistant_confidence_threshold: 2 }, "assistant_confidence_threshold", "2"],
  [{ prompt_lookup_num_tokens: 0 }, "prompt_lookup_num_tokens", "from 1"],
  [{ max_matching_ngram_size: 0 }, "max_matching_ngram_size", "from 1"],
  [{ output_scores: "no" }, "output_scores", '"no"'],
  [{ output_logits: "no" }, "output_logits", '"no"'],
  [{ output_attentions: "no" }, "output_attentions", '"no"'],
  [{ output_hidden_states: "no" }, "output_hidden_states", '"no"'],
  [{ bos_token_id: -1 }, "bos_token_id", "-1"],
  [{ eos_token_id: [] }, "eos_token_id", "a list of 0"],
  [{ eos_token_id: [1, 2 ** 31] }, "eos_token_id[1]", "2147483648"],
  [{ pad_token_id: -1 }, "pad_token_id", "-1"],
];

for (const [json, key, words] of WRONG) {
  Deno.test(`a generation config is refused: ${JSON.stringify(json)}`, () => {
    const error = assertThrows(() => GenerationConfig.fromJson(json), ModelConfigError, words);
    assertEquals(error.fault.place, `key "${key}"`);
    assert(error.message.startsWith(`Cannot read generation_config.json: key "${key}": `));
  });
}

Deno.test("sequences that fit their mode, and forced tokens that are free, are no fault", () => {
  for (
    const json of [
      { num_return_sequences: 3, do_sample: true },
      { num_return_sequences: 3, num_beams: 3 },
      { num_return_sequences: 2, num_beams: 3, do_sample: true },
      { suppress_tokens: [0], forced_eos_token_id: [0, 1] },
      { suppress_tokens: [], forced_bos_token_id: 0 },
    ]
  ) {
    assertEquals(GenerationConfig.fromJson(json).toJSON(), json);
  }
});

Deno.test("a generation config survives being written and read", () => {
  const share = fc.double({ min: 0, max: 1, noNaN: true });
  const ids = fc.array(fc.nat(), { minLength: 1 });
  const options = fc.record({
    max_length: fc.integer({ min: 1, max: 2 ** 24 }),
    early_stopping: fc.constantFrom(true, false, "never"),
    stop_strings: fc.oneof(
      fc.string({ minLength: 1 }),
      fc.array(fc.string({ minLength: 1 }), { minLength: 1 }),
    ),
    do_sample: fc.boolean(),
    temperature: share,
    top_k: fc.option(fc.nat(1000)),
    top_p: share,
    bad_words_ids: fc.array(ids, { minLength: 1 }),
    sequence_bias: fc.array(fc.tuple(ids, share), { minLength: 1 }),
    exponential_decay_length_penalty: fc.tuple(fc.nat(1000), fc.constantFrom(0.5, 1.5)),
    eos_token_id: fc.oneof(fc.constant(null), fc.nat(), ids),
    pad_token_id: fc.option(fc.nat()),
    transformers_version: fc.string(),
    // As JSON has it: -0 would come back as 0.
    watermarking_config: fc.jsonValue().map((value) => JSON.parse(JSON.stringify(value))),
  }, { requiredKeys: [] });
  fc.assert(
    fc.property(options, (json) => {
      const config = GenerationConfig.fromJson(json);
      assertEquals(GenerationConfig.fromJson(JSON.parse(JSON.stringify(config))), config);
    }),
    { numRuns: 300 },
  );
});

Deno.test("1,000 random files end in a generation config or an error about the file", () => {
  const keys = Object.keys(new GenerationConfig()).filter((key) => key !== "other");
  const json = fc.oneof(
    fc.anything(),
    fc.dictionary(fc.constantFrom(...keys), fc.jsonValue(), { maxKeys: 3 }),
  );
  fc.assert(
    fc.property(json, (value) => {
      try {
        GenerationConfig.fromJson(value);
      } catch (error) {
        if (!(error instanceof ModelConfigError)) throw error;
      }
    }),
    { numRuns: 1000 },
  );
});

Deno.test("a generation config cannot be changed", () => {
  const config = GenerationConfig.fromJson({ eos_token_id: [1], bad_words_ids: [[1]], x: 1 });
  for (const part of [config, config.eos_token_id, config.bad_words_ids, config.other]) {
    assert(Object.isFrozen(part));
  }
});
