/** What `generate` is asked for: which options it takes, how they fit together, and what it refuses. */

import { assertEquals, assertThrows } from "@std/assert";
import { GenerationConfig, ModelInputError, PromptCache } from "../mod.ts";
import type { GenerateOptions } from "../model/generation/options.ts";
import { contextLength, makeRequest } from "../model/generation/request.ts";
import { tinyCpuModel } from "./tiny_model.ts";

const model = await tinyCpuModel({ eos_token_id: 0, pad_token_id: 5 });

/** The checkpoint's own settings in place of the model's. */
function withSettings(settings: ConstructorParameters<typeof GenerationConfig>[0]): typeof model {
  const generationConfig = new GenerationConfig(settings);
  return Object.create(model, { generationConfig: { value: generationConfig } });
}

function refused(options: GenerateOptions, text: string, of: typeof model = model): void {
  const error = assertThrows(() => makeRequest(of, options), ModelInputError);
  assertEquals((error as Error).message.includes(text), true, (error as Error).message);
}

const inputIds = [[7, 8, 9]];

Deno.test("a call's settings come before the checkpoint's, and those before the defaults", () => {
  const checkpoint = withSettings({ temperature: 0.5, top_k: 7, do_sample: true, eos_token_id: 3 });
  const { config, eos } = makeRequest(checkpoint, { inputIds, topK: 9, eosTokenId: [4, 6] });
  assertEquals([config.temperature, config.top_k, config.top_p], [0.5, 9, 1]);
  assertEquals(eos, [4, 6]);
});

Deno.test("null takes a checkpoint's setting back to the default; no topK is no limit", () => {
  const checkpoint = withSettings({ top_k: 7, do_sample: true, temperature: 0.5, eos_token_id: 3 });
  const { config, eos } = makeRequest(checkpoint, {
    inputIds,
    topK: null,
    temperature: null,
    eosTokenId: null,
  });
  assertEquals([config.top_k, config.temperature, eos], [0, 1, []]);
});

Deno.test("lengths: 20 new tokens by default, within the context; totals count the prompt", () => {
  const lengths = (options: GenerateOptions, of = model) => {
    const { maxLength, minLength, promptLength } = makeRequest(of, { inputIds, ...options });
    return [promptLength, maxLength, minLength];
  };
  assertEquals(lengths({}), [3, 23, 0]);
  assertEquals(lengths({ maxNewTokens: 4, minNewTokens: 2 }), [3, 7, 5]);
  assertEquals(lengths({ maxLength: 10, minLength: 5 }), [3, 10, 5]);
  assertEquals(lengths({ inputIds: [new Array(250).fill(7)] }), [250, 256, 0]);
  assertEquals(lengths({ inputIds: [new Array(256).fill(7)] }), [256, 257, 0]);
  // Whichever way the checkpoint states its length, the call's takes its place.
  assertEquals(lengths({ maxLength: 9 }, withSettings({ max_new_tokens: 50 })), [3, 9, 0]);
  assertEquals(lengths({ maxNewTokens: 9 }, withSettings({ max_length: 5 })), [3, 12, 0]);
  // What the checkpoint says of the least length gives way to a call that wants less.
  assertEquals(lengths({ maxNewTokens: 2 }, withSettings({ min_new_tokens: 8 })), [3, 5, 5]);
});

Deno.test("prompts of different lengths are padded on the left and masked", () => {
  const { prompts, mask } = makeRequest(model, { inputIds: [[7], [8, 9, 10], [11, 0]] });
  assertEquals(prompts, [[5, 5, 7], [8, 9, 10], [5, 11, 0]]);
  assertEquals(mask, [[0, 0, 1], [1, 1, 1], [0, 1, 1]]);
});

Deno.test("padding is inferred from the pad token unless it ends texts too", () => {
  const rows = [[5, 7, 8], [9, 5, 4]];
  assertEquals(makeRequest(model, { inputIds: rows }).mask, [[0, 1, 1], [1, 0, 1]]);
  refused({ inputIds: [[7, 8], [9, 5]] }, "attentionMask must be given where a prompt ends in");
  assertEquals(makeRequest(model, { inputIds: rows, eosTokenId: [2, 5] }).mask, undefined);
  const zero = { inputIds: [[0, 7], [8, 9]], padTokenId: 0, eosTokenId: 3 };
  assertEquals(makeRequest(model, zero).mask, [[0, 1], [1, 1]]);
  // With no pad token the first eos token fills up, and 0 is one like any other.
  const request = makeRequest(withSettings({ eos_token_id: [0, 4] }), { inputIds });
  assertEquals([request.pad, request.eos, request.mask], [0, [0, 4], undefined]);
});

Deno.test("a mask of ones is none, and one that ends in 0 is refused", () => {
  assertEquals(makeRequest(model, { inputIds, attentionMask: [[1, 1, 1]] }).mask, undefined);
  assertEquals(makeRequest(model, { inputIds, attentionMask: [[0, 1, 1]] }).mask, [[0, 1, 1]]);
  refused({ inputIds, attentionMask: [[1, 1, 0]] }, "attentionMask must end in 1");
  refused({ inputIds, attentionMask: [[1, 1]] }, "attentionMask");
  refused({ inputIds: [[1], [2, 3]], attentionMask: [[1, 1], [1, 1]] }, "attentionMask");
});

Deno.test("without a prompt the bos token begins", () => {
  assertEquals(makeRequest(model, {}).prompts, [[1]]);
  refused({ bosTokenId: null }, "inputIds must be given, as there is no bos token");
});

Deno.test("bad prompts are refused by name", () => {
  refused({ inputIds: [] }, "inputIds");
  refused({ inputIds: [[]] }, "inputIds");
  refused({ inputIds: [[7], []] }, "inputIds");
  refused({ inputIds: [[97]] }, "inputIds");
  refused({ inputIds: [[7], [1.5, 2]] }, "inputIds");
  refused({ inputIds: [[7], [-1, 2]] }, "inputIds[1] must hold whole numbers");
  refused({ inputIds: [new Array(257).fill(7)] }, "at most 256 tokens");
  refused({ inputIds, maxLength: 3 }, "fewer tokens than maxLength, 3");
  refused({ inputIds: [[7], [8, 9]] }, "padTokenId", withSettings({}));
});

Deno.test("unknown and contradictory options are refused by name", () => {
  const cases: readonly (readonly [Record<string, unknown>, string])[] = [
    [{ max_new_tokens: 5 }, "option max_new_tokens must be one of inputIds"],
    [{ temperatur: 1 }, "option temperatur"],
    [{ seed: null }, "seed must be left out rather than null"],
    [{ maxNewTokens: 0 }, "maxNewTokens"],
    [{ maxNewTokens: 5, maxLength: 9 }, "maxNewTokens must not be given with maxLength"],
    [{ minNewTokens: 5, maxNewTokens: 4 }, "minNewTokens must leave at most 7 tokens"],
    [{ minNewTokens: 5, minLength: 4 }, "minNewTokens must not be given with minLength"],
    [{ temperature: 0.7 }, "temperature needs doSample: true"],
    [{ topK: 5 }, "topK needs doSample"],
    [{ topP: 0.5, doSample: false }, "topP needs doSample"],
    [{ minP: 0.5 }, "minP needs doSample"],
    [{ lengthPenalty: 2 }, "lengthPenalty needs numBeams above 1"],
    [{ earlyStopping: "never" }, "earlyStopping needs numBeams above 1"],
    [{ earlyStopping: "often", numBeams: 2 }, "earlyStopping"],
    [{ numReturnSequences: 2 }, "numReturnSequences must be 1 unless doSample is true or numBeams"],
    [{ numReturnSequences: 3, numBeams: 2 }, "numReturnSequences must be at most numBeams, 2"],
    [{ maxMatchingNgramSize: 3 }, "maxMatchingNgramSize needs promptLookupNumTokens"],
    [{ numAssistantTokens: 3 }, "numAssistantTokens needs an assistantModel"],
    [{ negativePromptIds: [[1]] }, "negativePromptIds needs a guidanceScale"],
    [{ guidanceScale: 2, numBeams: 2 }, "guidanceScale must not be given with numBeams"],
    [{ promptLookupNumTokens: 2, numBeams: 2 }, "promptLookupNumTokens"],
    [{ promptLookupNumTokens: 2, useCache: false }, "promptLookupNumTokens"],
    [{ promptLookupNumTokens: 2, inputIds: [[1], [2]] }, "one prompt only"],
    [{ assistantModel: model, promptLookupNumTokens: 2 }, "assistantModel"],
    [{ stopStrings: "x" }, "tokenizer must be given where there are stopStrings"],
    [{ outputAttentions: true }, "outputAttentions is not returned by generate"],
    [{ outputLogprobs: -1 }, "outputLogprobs"],
    [{ outputLogprobs: 101 }, "outputLogprobs"],
    [{ prefillChunkSize: 0 }, "prefillChunkSize"],
    [{ eosTokenId: 97 }, "eosTokenId must be below 97"],
    [{ eosTokenId: 97, padTokenId: null }, "eosTokenId must be below 97"],
    [{ guidanceScale: 2, negativePromptAttentionMask: [[1]] }, "must come with negativePromptIds"],
    [{ padTokenId: 1000 }, "padTokenId must be below 97"],
    [{ seed: -1 }, "seed"],
    [{ seed: 2 ** 53 }, "seed"],
    [{ seed: 2n ** 64n }, "seed"],
    [{ repetitionPenalty: 0 }, "repetitionPenalty"],
    [{ topP: 1.5, doSample: true }, "topP"],
    [{ suppressTokens: [3], forcedBosTokenId: 3 }, "suppressTokens has not"],
  ];
  for (const [options, text] of cases) refused({ inputIds, ...options }, text);
});

Deno.test("what is called back or used late has to be what it is for", () => {
  const cases: readonly (readonly [Record<string, unknown>, string])[] = [
    [{ stoppingCriteria: () => true }, "stoppingCriteria must be a list of functions: function"],
    [{ stoppingCriteria: [1] }, "stoppingCriteria must be a list of functions"],
    [{ logitsProcessors: [null] }, "logitsProcessors must be a list of functions"],
    [{ prefixAllowedTokens: [1] }, "prefixAllowedTokens must be a function"],
    [{ tokenizer: {}, stopStrings: "x" }, "tokenizer must be a Tokenizer"],
    [{ promptCache: {} }, "promptCache must be a PromptCache"],
    [{ assistantModel: {} }, "assistantModel must be a model"],
    [{ signal: { aborted: false } }, "signal must be an AbortSignal"],
  ];
  for (const [options, text] of cases) refused({ inputIds, ...options }, text);
});

Deno.test("a prompt cache is for prompts without padding", () => {
  using promptCache = new PromptCache(model);
  const rule = "promptCache must be given with a prompt without padding";
  refused({ inputIds, attentionMask: [[0, 1, 1]], promptCache } as GenerateOptions, rule);
  refused({ inputIds: [[5, 8, 9]], promptCache } as GenerateOptions, rule);
  const attentionMask = [[1, 1, 1]];
  makeRequest(model, { inputIds: [[5, 8, 9]], attentionMask, promptCache });
});

Deno.test("what a setting is by default may be said even where it has no effect", () => {
  makeRequest(model, { inputIds, temperature: 0, topK: 0, topP: 1, lengthPenalty: 1 });
  makeRequest(model, { inputIds, temperature: 1, earlyStopping: false, numAssistantTokens: 20 });
});

Deno.test("a checkpoint that asks for another way of generating is refused, unless it is neutral", () => {
  const config = GenerationConfig.fromJson({ penalty_alpha: 0.6, top_k: 4 });
  const of = Object.create(model, { generationConfig: { value: config } });
  refused({ inputIds }, "penalty_alpha of the generation config is not supported", of);
  const neutral = GenerationConfig.fromJson({ penalty_alpha: 0, transformers_version: "5.0.0" });
  makeRequest(Object.create(model, { generationConfig: { value: neutral } }), { inputIds });
});

Deno.test("seeds: whole numbers, bigints, and a fresh one otherwise", () => {
  assertEquals(makeRequest(model, { inputIds, seed: 0 }).seed, 0);
  assertEquals(makeRequest(model, { inputIds, seed: 2n ** 64n - 1n }).seed, 2n ** 64n - 1n);
  const fresh = new Set(Array.from({ length: 8 }, () => makeRequest(model, { inputIds }).seed));
  assertEquals(fresh.size, 8);
  assertEquals([...fresh].every(Number.isSafeInteger), true);
});

Deno.test("the context of a model that stretches at run time is its factor longer", () => {
  const stretched = Object.create(model.config, {
    rope_parameters: { value: { rope_type: "dynamic", rope_theta: 1e4, factor: 2.5 } },
  });
  assertEquals([contextLength(model.config), contextLength(stretched)], [256, 640]);
});
