/**
 * StableLM, assembled from the kernels.
 *
 * @module
 */

export { StableLmModel } from "./base_model.ts";
export { type CausalLmInputs, StableLmForCausalLM } from "./causal_lm.ts";
export { CHATML_TEMPLATE, ZEPHYR_TEMPLATE } from "./chat/built_in.ts";
export { Chat } from "./chat/chat.ts";
export type { ChatOptions, ChatSettings, ReplyOptions } from "./chat/chat_options.ts";
export {
  type ChatOutput,
  ChatReply,
  type ReplyEnding,
  type ReplyParts,
} from "./chat/chat_reply.ts";
export { type ChatMessage, type ChatRenderOptions, ChatTemplate } from "./chat/chat_template.ts";
export { chatTokens, type ChatTokensOptions } from "./chat/chat_tokens.ts";
export {
  type ConfigDtype,
  type ProblemType,
  StableLmConfig,
  type StableLmConfigOptions,
} from "./config.ts";
export { type Estimate, estimate, type EstimateOptions } from "./estimate.ts";
export type { ForwardInputs } from "./forward_inputs.ts";
export * from "./generation_config.ts";
export type { GenerativeModel } from "./generation/generative_model.ts";
export type { LogitsProcessor } from "./generation/logits_processor.ts";
export type {
  CamelCase,
  GenerateOptions,
  GenerationInputs,
  GenerationSettings,
} from "./generation/options.ts";
export type {
  GenerateOutput,
  NewTokenLogprob,
  StepScores,
  TokenLogprob,
} from "./generation/output.ts";
export { PromptCache } from "./generation/prompt_cache.ts";
export type { FinishReason, StoppingCriterion } from "./generation/stopping.ts";
export { type GeneratedPiece, GenerationStream } from "./generation/stream.ts";
export { type TransitionScoreOptions, transitionScores } from "./generation/transition_scores.ts";
export { fetchCheckpoint, type FetchCheckpointOptions } from "./hub/fetch_checkpoint.ts";
export type { IdMatrix } from "./inputs.ts";
export type { JsonObject } from "./json_fields.ts";
export { KvCache, type KvCacheLayer, type KvCacheOptions } from "./kv_cache.ts";
export type { ActivationDtype } from "./layers.ts";
export type { LoadOptions, WeightOptions } from "./loading.ts";
export { BaseModelOutput, HeadOutput, ModelOutput, type OutputParts } from "./output.ts";
export { type Head, headOf, type Parameter, parameterCount, parametersOf } from "./parameters.ts";
export {
  type DecodeOptions,
  type DecoderRun,
  type ModelParts,
  StableLmPreTrainedModel,
} from "./pretrained.ts";
export {
  type FindOptions,
  findPretrained,
  type PretrainedFiles,
  type PretrainedOptions,
} from "./pretrained_files.ts";
export type {
  DefaultRope,
  DynamicRope,
  LinearRope,
  Llama3Rope,
  LongRope,
  RopeBase,
  RopeParameters,
  RopeParametersInput,
  RopeType,
  YarnRope,
} from "./rope_parameters.ts";
export {
  type SequenceClassificationInputs,
  StableLmForSequenceClassification,
} from "./sequence_classification.ts";
export {
  StableLmForTokenClassification,
  type TokenClassificationInputs,
} from "./token_classification.ts";
export { TokenStream } from "./tokenizer/token_stream.ts";
export {
  type EncodeBatchOptions,
  type EncodeOptions,
  type TokenBatch,
  type TokenDecodeOptions,
  Tokenizer,
  type TokenizerJsonOptions,
  type TokenizerOptions,
} from "./tokenizer/tokenizer.ts";
export { blobBytes, type ByteSource, fileBytes, memoryBytes } from "./weights/byte_source.ts";
export { type Checkpoint, openCheckpoint, openCheckpointFiles } from "./weights/checkpoint.ts";
export { type GgufCheckpoint, openGguf, type OpenGgufOptions } from "./weights/gguf/gguf.ts";
export type { GgufNumbers, GgufValue } from "./weights/gguf/metadata.ts";
export type { GgufConfig, GgufRopeScaling } from "./weights/gguf/stablelm_config.ts";
export { type FillOptions, type LoadProgress, ParameterStore } from "./weights/parameter_store.ts";
export {
  openSafetensors,
  type SafetensorsOptions,
  SafetensorsSource,
} from "./weights/safetensors_source.ts";
export * from "./weights/safetensors_writer.ts";
export type { RowRange, StoredTensor, WeightDtype, WeightSource } from "./weights/weight_source.ts";
