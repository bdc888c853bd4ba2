/**
 * What a GGUF file says about its StableLM, in the words of a Hugging Face config.json.
 *
 * The metadata alone will not do: converters leave keys out or fill them with a guess. Where the tensors
 * know better, they are asked.
 *
 * @module
 */

import { ModelFormatError } from "../../../runtime/errors.ts";
import type { GgufHeader, GgufTensor } from "./header.ts";
import { MetadataFields } from "./metadata_fields.ts";
import { partsOfLayers } from "./stablelm_tensors.ts";

/** How positions are scaled, under Hugging Face's keys. */
export interface GgufRopeScaling extends Record<string, unknown> {
  /** Which kind. */
  rope_type: "linear" | "yarn";
  /** What frequencies are divided by. */
  factor: number;
}

/**
 * The facts of a config.json that a GGUF file knows, ready for `StableLmConfig.fromJson`, and the caller's
 * to change. One has to be changed for Stable Code 3B: converters do not store the base of its
 * frequencies, so that `rope_theta` is 10,000 here and must be set to 1,000,000.
 */
export interface GgufConfig extends Record<string, unknown> {
  /** Rows of the embedding. */
  vocab_size: number;
  /** Width of the residual stream. */
  hidden_size: number;
  /** Decoder layers. */
  num_hidden_layers: number;
  /** Query heads. */
  num_attention_heads: number;
  /** Key and value heads. */
  num_key_value_heads: number;
  /** Base of the rotary frequencies. */
  rope_theta: number;
  /** Share of each head that is rotated. */
  partial_rotary_factor: number;
  /** How positions are scaled, if they are. */
  rope_scaling: GgufRopeScaling | null;
}

/** Sizes above this are refused; no tensor could have them. */
const MOST = 2 ** 31 - 1;

/** What llama.cpp takes where the key is missing. */
const ROPE_THETA = 10_000;

const SCALING = "stablelm.rope.scaling.";

/** Keys below {@linkcode SCALING} that are understood, or have no bearing on the numbers. */
const SCALING_KEYS: ReadonlySet<string> = new Set(
  ["type", "factor", "original_context_length", "yarn_beta_fast", "yarn_beta_slow", "finetuned"]
    .map((key) => SCALING + key),
);

/**
 * Reads a header's facts about the model.
 *
 * @throws {ModelFormatError} If a key is missing or wrong, or contradicts the tensors
 * @throws {ModelUnsupportedError} If it is no StableLM, is one of several parts, or scales positions in
 * another way than linear or yarn
 */
export function configOf(header: GgufHeader): GgufConfig {
  const fields = new MetadataFields(header.metadata, header.file);
  requireWholeStableLm(fields, header);
  const embedding = embeddingOf(header);
  const [vocab_size, width] = embedding.shape as [number, number];
  const hidden_size = fields.whole("stablelm.embedding_length", 1, MOST);
  if (hidden_size !== width) {
    const rule = `must be the length of an embedding, which is ${width}`;
    fields.fail("stablelm.embedding_length", "embedding-length", rule);
  }
  const num_hidden_layers = fields.whole("stablelm.block_count", 1, MOST);
  const parts = partsOfLayers(header);
  if (parts.layers !== num_hidden_layers) {
    const rule = `must be the number of layers in the file, which is ${parts.layers}`;
    fields.fail("stablelm.block_count", "block-count", rule);
  }
  const has = (...names: string[]) => names.some((name) => parts.names.has(name));
  const heads = headsOf(fields, hidden_size);
  const max_position_embeddings = fields.whole("stablelm.context_length", 1, MOST);
  const epsilon = "stablelm.attention.layer_norm_epsilon";
  requireTokens(fields, vocab_size);
  return {
    model_type: "stablelm",
    architectures: ["StableLmForCausalLM"],
    vocab_size,
    hidden_size,
    intermediate_size: fields.whole("stablelm.feed_forward_length", 1, MOST),
    num_hidden_layers,
    ...heads,
    hidden_act: "silu",
    max_position_embeddings,
    layer_norm_eps: fields.optionalNumber(epsilon) ??
      fields.fail(epsilon, "key-missing", "must be given"),
    tie_word_embeddings: !header.tensors.has("output.weight"),
    use_qkv_bias: has("attn_q.bias", "attn_k.bias", "attn_v.bias", "attn_qkv.bias"),
    qk_layernorm: has("attn_q_norm.weight", "attn_k_norm.weight"),
    // Not what the key of that name says: converters write true where they do not know.
    use_parallel_residual: !has("ffn_norm.weight", "ffn_norm.bias"),
    rope_theta: fields.optionalNumber("stablelm.rope.freq_base") ?? ROPE_THETA,
    partial_rotary_factor: rotatedShare(fields, hidden_size / heads.num_attention_heads),
    rope_scaling: ropeScaling(fields),
    bos_token_id: tokenId(fields, "bos", vocab_size),
    eos_token_id: tokenId(fields, "eos", vocab_size),
    pad_token_id: tokenId(fields, "padding", vocab_size),
    dtype: matrixDtype(header),
  };
}

const DTYPES = { f32: "float32", f16: "float16", bf16: "bfloat16" } as const;

/** What holds every matrix without a rounding; vectors are stored as f32 whatever they were. */
function matrixDtype({ tensors }: GgufHeader): string {
  const dtypes = new Set<keyof typeof DTYPES>();
  for (const { shape, type } of tensors.values()) if (shape.length > 1) dtypes.add(type.dtype);
  const [only = "f32", another] = dtypes;
  return DTYPES[another === undefined ? only : "f32"];
}

function requireWholeStableLm(fields: MetadataFields, { tensors }: GgufHeader): void {
  const key = "general.architecture";
  const architecture = fields.optionalText(key) ?? fields.fail(key, "key-missing", "must be given");
  if (architecture !== "stablelm") fields.refuse(key, "architecture", 'must be "stablelm"');
  if ((fields.optionalWhole("split.count", 0, MOST) ?? 1) > 1) {
    const rule = "the model must be in one file; join the parts with llama-gguf-split --merge";
    fields.refuse("split.count", "split", rule);
  }
  const version = "general.quantization_version";
  const quantized = [...tensors.values()].some(({ type }) => type.dequantize !== undefined);
  if (quantized && (fields.optionalWhole(version, 0, MOST) ?? 2) !== 2) {
    fields.refuse(version, "quantization-version", "must be 2, as the blocks of 1 are others");
  }
}

function embeddingOf({ file, tensors }: GgufHeader): GgufTensor {
  const embedding = tensors.get("token_embd.weight");
  if (embedding?.shape.length === 2) return embedding;
  throw new ModelFormatError({
    file,
    place: 'tensor "token_embd.weight"',
    reason: embedding === undefined ? "tensor-missing" : "tensor-shape",
    rule: "a model has one, of two axes",
    value: embedding === undefined ? "it is missing" : `[${embedding.shape.join(", ")}]`,
  });
}

function headsOf(
  fields: MetadataFields,
  hiddenSize: number,
): { num_attention_heads: number; num_key_value_heads: number } {
  const key = "stablelm.attention.head_count";
  const num_attention_heads = fields.whole(key, 1, hiddenSize);
  if (hiddenSize % num_attention_heads !== 0) {
    fields.fail(key, "head-count", `must divide the embedding length, ${hiddenSize}`);
  }
  const keyValueKey = "stablelm.attention.head_count_kv";
  const num_key_value_heads = fields.optionalWhole(keyValueKey, 1, num_attention_heads) ??
    num_attention_heads;
  if (num_attention_heads % num_key_value_heads !== 0) {
    fields.fail(keyValueKey, "head-count", `must divide the head count, ${num_attention_heads}`);
  }
  return { num_attention_heads, num_key_value_heads };
}

function rotatedShare(fields: MetadataFields, headDim: number): number {
  const key = "stablelm.rope.dimension_count";
  const rotated = fields.whole(key, 2, headDim);
  if (rotated % 2 !== 0) fields.fail(key, "key-value", "must be even");
  // The model multiplies back and cuts: where the quotient lies a rounding low, the next number is due.
  const share = rotated / headDim;
  return Math.trunc(headDim * share) === rotated ? share : share * (1 + Number.EPSILON);
}

function ropeScaling(fields: MetadataFields): GgufRopeScaling | null {
  for (const key of fields.keysUnder(SCALING)) {
    if (SCALING_KEYS.has(key)) continue;
    fields.refuse(key, "rope-scaling", "scaling knows type, factor, original length and betas");
  }
  const type = fields.optionalText(`${SCALING}type`) ?? "linear";
  // Older converters had a key of their own; 0 is llama.cpp's word for no scaling.
  const stored = fields.optionalNumber(`${SCALING}factor`) ??
    fields.optionalNumber("stablelm.rope.scale_linear") ?? 1;
  const factor = stored === 0 ? 1 : stored;
  switch (type) {
    case "none":
      return null;
    case "linear":
      return factor === 1 ? null : { rope_type: "linear", factor };
    case "yarn":
      return { rope_type: "yarn", factor, ...yarnOf(fields) };
    default:
      return fields.refuse(`${SCALING}type`, "rope-scaling", "must be none, linear or yarn");
  }
}

function yarnOf(fields: MetadataFields): Record<string, number> {
  const original = fields.optionalWhole(`${SCALING}original_context_length`, 1, MOST);
  const fast = fields.optionalNumber(`${SCALING}yarn_beta_fast`);
  const slow = fields.optionalNumber(`${SCALING}yarn_beta_slow`);
  return {
    ...(original !== undefined && { original_max_position_embeddings: original }),
    ...(fast !== undefined && { beta_fast: fast }),
    ...(slow !== undefined && { beta_slow: slow }),
  };
}

function tokenId(fields: MetadataFields, kind: string, vocabSize: number): number | null {
  return fields.optionalWhole(`tokenizer.ggml.${kind}_token_id`, 0, vocabSize - 1) ?? null;
}

/** Ids are indices into these lists and into the embedding alike. */
function requireTokens(fields: MetadataFields, vocabSize: number): void {
  const tokens = fields.optionalTextCount("tokenizer.ggml.tokens");
  if (tokens !== undefined && tokens > vocabSize) {
    const rule = `there may be as many as the embedding has rows, ${vocabSize}`;
    fields.fail("tokenizer.ggml.tokens", "token-count", rule);
  }
  fields.optionalTextCount("tokenizer.ggml.merges");
  for (const [key, type] of [["scores", "f32"], ["token_type", "i32"]] as const) {
    const path = `tokenizer.ggml.${key}`;
    const count = fields.optionalNumberCount(path, type);
    if (count !== undefined && count !== tokens) {
      fields.fail(path, "token-count", `there must be one a token, ${tokens ?? 0}`);
    }
  }
}
