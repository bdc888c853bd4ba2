/**
 * The config of a StableLM model: the facts that its weights alone do not tell.
 *
 * Source: Hugging Face's StableLmConfig, whose keys and defaults these are
 *
 * @module
 */

import type { Activation } from "../kernels/swiglu/swiglu.ts";
import { ModelConfigError } from "../runtime/errors.ts";
import { type ConfigOrigin, olderKeysOf, readConfigJson } from "./config_json.ts";
import { resolveLabels } from "./config_labels.ts";
import { JsonFields } from "./json_fields.ts";
import {
  POSITIONS,
  resolveRopeParameters,
  type RopeParameters,
  type RopeParametersInput,
  rotaryDimOf,
} from "./rope_parameters.ts";
import { FEATURES, featuresOf } from "./tensor_features.ts";

/** Element types that a config may name for its weights. */
export type ConfigDtype = "float32" | "float16" | "bfloat16";

/** Losses of a sequence classifier. */
export type ProblemType =
  | "regression"
  | "single_label_classification"
  | "multi_label_classification";

/** What a config may be made of; what is absent has Hugging Face's default. */
export interface StableLmConfigOptions extends
  Partial<
    Omit<
      StableLmConfig,
      // Computed, or given in another form than they are kept in.
      | "head_dim"
      | "rotary_dim"
      | "activation"
      | "toJSON"
      | "rope_parameters"
      | "num_key_value_heads"
      | "id2label"
      | "label2id"
    >
  > {
  /**
   * Key and value heads. Null: as many as query heads. Unless given: 32, as with Hugging Face, or as many
   * as query heads where 32 would not divide them.
   */
  readonly num_key_value_heads?: number | null;
  /** Names of the classes by number, which also tell how many there are. */
  readonly id2label?: Readonly<Record<string, string>> | null;
  /** Numbers of the classes by name; the inverse of `id2label` unless given. */
  readonly label2id?: Readonly<Record<string, number>> | null;
  /** How positions turn into angles. */
  readonly rope_parameters?: RopeParametersInput | null;
  /** The same under its older key, which comes first. */
  readonly rope_scaling?: RopeParametersInput | null;
  /** Base of the rotary frequencies where `rope_parameters` has none. */
  readonly rope_theta?: number;
  /** Share of a head that is rotated where `rope_parameters` has none. */
  readonly partial_rotary_factor?: number;
  /** Positions before a context extension, where stated beside `rope_parameters`. */
  readonly original_max_position_embeddings?: number;
  /** The dtype under its older key, which `dtype` comes before. */
  readonly torch_dtype?: ConfigDtype | null;
}

/** Every key of {@linkcode StableLmConfigOptions}. */
const OPTION_KEYS: Readonly<Record<keyof StableLmConfigOptions, true>> = {
  architectures: true,
  vocab_size: true,
  hidden_size: true,
  intermediate_size: true,
  num_hidden_layers: true,
  num_attention_heads: true,
  num_key_value_heads: true,
  hidden_act: true,
  max_position_embeddings: true,
  original_max_position_embeddings: true,
  initializer_range: true,
  layer_norm_eps: true,
  use_cache: true,
  tie_word_embeddings: true,
  rope_parameters: true,
  rope_scaling: true,
  rope_theta: true,
  partial_rotary_factor: true,
  use_qkv_bias: true,
  qk_layernorm: true,
  use_parallel_residual: true,
  hidden_dropout: true,
  attention_dropout: true,
  bos_token_id: true,
  eos_token_id: true,
  pad_token_id: true,
  num_labels: true,
  id2label: true,
  label2id: true,
  problem_type: true,
  classifier_dropout: true,
  dtype: true,
  torch_dtype: true,
  output_hidden_states: true,
  output_attentions: true,
};

/** Every key of a config that bears on what is computed. */
export const CONFIG_KEYS: readonly string[] = ["model_type", ...Object.keys(OPTION_KEYS)];

/** `hidden_act` as checkpoints spell it, and the gate of the swiglu op that it stands for. */
const ACTIVATION_OF: Readonly<Record<string, Activation>> = {
  silu: "silu",
  swish: "silu",
  gelu: "gelu",
  gelu_new: "gelu_tanh",
  gelu_pytorch_tanh: "gelu_tanh",
  relu: "relu",
};

const DTYPES: readonly ConfigDtype[] = ["float32", "float16", "bfloat16"];

const PROBLEM_TYPES: readonly ProblemType[] = [
  "regression",
  "single_label_classification",
  "multi_label_classification",
];

/** What messages call options that come from no file. */
const OPTIONS = "StableLmConfig options";

// No released model comes near these; they bound what a hostile file can make a loader ask for.
const VOCABULARY = { whole: true, least: 1, most: 2 ** 24 };
const WIDTH = { whole: true, least: 1, most: 2 ** 16 };
const INNER_WIDTH = { whole: true, least: 1, most: 2 ** 18 };
const LAYERS = { whole: true, least: 1, most: 1024 };
const HEADS = { whole: true, least: 1, most: 4096 };
// From the smallest normal f32: what is below may be flushed to 0.
const EPSILON = { least: 2 ** -126, most: 1 };
const DEVIATION = { least: 0, most: 1e6 };
const PROBABILITY = { least: 0, most: 1 };

/**
 * A StableLM config, complete and checked: no field is left open where a default exists. Immutable.
 *
 * Token ids are whole numbers from 0 that fit 31 bits. As in Hugging Face's code, the padding id must be
 * below `vocab_size`, and the others need not be. Ids of 0 are ids like any other.
 */
export class StableLmConfig {
  /** Names of the classes that the checkpoint was saved from; null if it does not say. */
  readonly architectures: readonly string[] | null;
  /** Rows of the embedding and of the head. */
  readonly vocab_size: number;
  /** Elements of the residual stream. */
  readonly hidden_size: number;
  /** Elements between the two halves of the MLP. */
  readonly intermediate_size: number;
  /** Decoder layers. */
  readonly num_hidden_layers: number;
  /** Query heads. */
  readonly num_attention_heads: number;
  /** Key and value heads, each shared by as many query heads as the ratio says. */
  readonly num_key_value_heads: number;
  /** Activation of the MLP's gate, as the checkpoint spells it. */
  readonly hidden_act: string;
  /** Positions that the model was trained for. */
  readonly max_position_embeddings: number;
  /** Standard deviation of freshly drawn weights. */
  readonly initializer_range: number;
  /** What every LayerNorm adds to the variance. */
  readonly layer_norm_eps: number;
  /** Whether a forward pass keeps keys and values unless told otherwise. */
  readonly use_cache: boolean;
  /** Whether the head is the embedding. */
  readonly tie_word_embeddings: boolean;
  /** How positions turn into angles. */
  readonly rope_parameters: RopeParameters;
  /** Whether the query, key and value projections have biases. */
  readonly use_qkv_bias: boolean;
  /** Whether each query and key head is normalised. */
  readonly qk_layernorm: boolean;
  /** Whether attention and MLP read the same normalised input. */
  readonly use_parallel_residual: boolean;
  /** Dropout after the MLP, in training. */
  readonly hidden_dropout: number;
  /** Dropout of attention probabilities, in training. */
  readonly attention_dropout: number;
  /** Token that begins a text. */
  readonly bos_token_id: number | null;
  /** Token, or tokens, that end a text. */
  readonly eos_token_id: number | readonly number[] | null;
  /** Token that fills a batch up. */
  readonly pad_token_id: number | null;
  /** Classes of a classification head. */
  readonly num_labels: number;
  /** Their names by number. */
  readonly id2label: Readonly<Record<string, string>>;
  /** Their numbers by name. */
  readonly label2id: Readonly<Record<string, number>>;
  /** Loss of a sequence classifier; null leaves it to the labels. */
  readonly problem_type: ProblemType | null;
  /** Dropout before a token classifier's head, in training; null takes `hidden_dropout`. */
  readonly classifier_dropout: number | null;
  /** Element type that the weights were saved in; null if the checkpoint does not say. */
  readonly dtype: ConfigDtype | null;
  /** Whether a forward pass returns every hidden state unless told otherwise. */
  readonly output_hidden_states: boolean;
  /** Whether a forward pass returns attention probabilities unless told otherwise. */
  readonly output_attentions: boolean;

  /**
   * Completes and checks options.
   *
   * @param options what differs from the defaults, which are those of StableLM-3B-4E1T
   * @param origin where they come from, for messages
   * @throws {ModelConfigError} If an option is unknown or breaks a rule
   * @throws {ModelUnsupportedError} If `hidden_act`, `dtype` or the rotary embedding's kind is none that
   * this library computes
   */
  constructor(options: StableLmConfigOptions = {}, origin: ConfigOrigin = {}) {
    const olderKeys = olderKeysOf(origin);
    const fields = new JsonFields(options, origin.file ?? OPTIONS, "", olderKeys);
    requireKnownKeys(fields, [...Object.keys(OPTION_KEYS), ...Object.values(olderKeys)]);
    this.architectures = fields.texts("architectures", null);
    this.vocab_size = fields.number("vocab_size", VOCABULARY, 50_304);
    this.hidden_size = fields.number("hidden_size", WIDTH, 2560);
    this.intermediate_size = fields.number("intermediate_size", INNER_WIDTH, 6912);
    this.num_hidden_layers = fields.number("num_hidden_layers", LAYERS, 32);
    this.num_attention_heads = fields.number("num_attention_heads", HEADS, 32);
    this.num_key_value_heads = readKeyValueHeads(fields, this.num_attention_heads);
    requireMultiple(fields, this, "hidden_size", "num_attention_heads");
    requireMultiple(fields, this, "num_attention_heads", "num_key_value_heads");
    this.hidden_act = readActivation(fields);
    this.max_position_embeddings = fields.number("max_position_embeddings", POSITIONS, 4096);
    this.initializer_range = fields.number("initializer_range", DEVIATION, 0.02);
    this.layer_norm_eps = fields.number("layer_norm_eps", EPSILON, 1e-5);
    this.use_cache = fields.boolean("use_cache", true);
    this.tie_word_embeddings = fields.boolean("tie_word_embeddings", false);
    this.rope_parameters = Object.freeze(resolveRopeParameters(fields, this));
    this.use_qkv_bias = fields.boolean("use_qkv_bias", false);
    this.qk_layernorm = fields.boolean("qk_layernorm", false);
    this.use_parallel_residual = fields.boolean("use_parallel_residual", false);
    this.hidden_dropout = fields.number("hidden_dropout", PROBABILITY, 0);
    this.attention_dropout = fields.number("attention_dropout", PROBABILITY, 0);
    this.bos_token_id = fields.tokenId("bos_token_id", 0);
    this.eos_token_id = fields.tokenIds("eos_token_id", 0);
    this.pad_token_id = fields.tokenId("pad_token_id", null);
    ({ num_labels: this.num_labels, id2label: this.id2label, label2id: this.label2id } =
      resolveLabels(fields));
    this.problem_type = fields.word("problem_type", PROBLEM_TYPES, null);
    requireSeveralLabels(fields, this.problem_type, this.num_labels);
    this.classifier_dropout = fields.number("classifier_dropout", PROBABILITY, null);
    this.dtype = readDtype(fields);
    this.output_hidden_states = readFlag(fields, "output_hidden_states");
    this.output_attentions = readFlag(fields, "output_attentions");
    if (this.pad_token_id !== null && this.pad_token_id >= this.vocab_size) {
      fields.refuse("pad_token_id", "range", `must be below vocab_size, ${this.vocab_size}`);
    }
    ORIGINS.set(this, {
      origin,
      stated: new Set(FEATURES.filter((feature) => fields.has(feature))),
    });
    Object.freeze(this);
  }

  /** Elements of a head. */
  get head_dim(): number {
    return this.hidden_size / this.num_attention_heads;
  }

  /** Elements of a head that are rotated; even. */
  get rotary_dim(): number {
    return rotaryDimOf(this.head_dim, this.rope_parameters.partial_rotary_factor);
  }

  /** The gate of the swiglu op that `hidden_act` stands for. */
  get activation(): Activation {
    return ACTIVATION_OF[this.hidden_act]!;
  }

  /**
   * Reads a parsed config.json, of any version of Hugging Face's code.
   *
   * Keys that do not bear on what a StableLM computes are skipped, as that code does. A legacy config
   * (`model_type` "stablelm_epoch") is read with the keys that it had.
   *
   * @param value what `JSON.parse` made of the file
   * @param file its name, for messages
   * @throws {ModelConfigError} If the file is no object, or a key breaks a rule
   * @throws {ModelUnsupportedError} If it describes another kind of model, quantised weights, attention
   * that is not causal, or an activation, dtype or rotary embedding that this library does not compute
   */
  static fromJson(value: unknown, file = "config.json"): StableLmConfig {
    const { fields, options, origin } = readConfigJson(value, file, Object.keys(OPTION_KEYS));
    const config = new StableLmConfig(options, origin);
    const headDim = fields.number("head_dim", WIDTH, null) ?? config.head_dim;
    if (headDim !== config.head_dim) {
      const rule = `must be hidden_size / num_attention_heads, ${config.head_dim}`;
      fields.refuse("head_dim", "contradiction", rule);
    }
    return config;
  }

  /** The config as a config.json object, which Hugging Face's code and {@linkcode fromJson} read. */
  toJSON(): Record<string, unknown> {
    const { num_labels: _, classifier_dropout, ...fields } = this;
    return {
      model_type: "stablelm",
      ...fields,
      ...(classifier_dropout !== null && { classifier_dropout }),
      // Hugging Face's own files have it in both places.
      partial_rotary_factor: this.rope_parameters.partial_rotary_factor,
    };
  }
}

/**
 * The config with the features that a checkpoint's tensors show: per-head norms of queries and keys,
 * parallel residual, biases of the attention's projections.
 *
 * Tensors fill in what the config leaves open; legacy configs leave out switches that their weights
 * need, so there the tensors have the last word.
 *
 * @param config the checkpoint's config
 * @param names names of the checkpoint's tensors; without any layer among them, nothing is inferred
 * @throws {ModelConfigError} If the config, not being a legacy one, states the opposite of a tensor's name
 */
export function withTensorNames(config: StableLmConfig, names: Iterable<string>): StableLmConfig {
  const features = featuresOf(names);
  if (features === undefined) return config;
  const { origin, stated } = ORIGINS.get(config)!;
  for (const feature of FEATURES) {
    const { present, evidence } = features[feature];
    if (present === config[feature] || origin.legacy || !stated.has(feature)) continue;
    throw new ModelConfigError({
      file: origin.file ?? OPTIONS,
      place: `key "${feature}"`,
      reason: "contradiction",
      rule: `must be ${present}, as the checkpoint has ${evidence}`,
      value: String(config[feature]),
    });
  }
  return new StableLmConfig({
    ...config,
    qk_layernorm: features.qk_layernorm.present,
    use_parallel_residual: features.use_parallel_residual.present,
    use_qkv_bias: features.use_qkv_bias.present,
  }, origin);
}

/** What a config was made from. */
interface Provenance {
  readonly origin: ConfigOrigin;
  /** Features that it named. */
  readonly stated: ReadonlySet<string>;
}

const ORIGINS = new WeakMap<StableLmConfig, Provenance>();

function requireKnownKeys(fields: JsonFields, known: readonly string[]): void {
  const unknown = fields.keys().find((key) => !known.includes(key));
  if (unknown === undefined) return;
  fields.refuse(unknown, "unknown-key", "must be an option of StableLmConfig, which it is not");
}

function readKeyValueHeads(fields: JsonFields, queryHeads: number): number {
  const byDefault = !fields.has("num_key_value_heads") && queryHeads % 32 === 0 ? 32 : queryHeads;
  return fields.number("num_key_value_heads", HEADS, null) ?? byDefault;
}

function requireMultiple<Key extends string>(
  fields: JsonFields,
  config: Readonly<Record<Key, number>>,
  key: Key,
  divisor: Key,
): void {
  if (config[key] % config[divisor] === 0) return;
  const rule = `must be divisible by ${divisor}, ${config[divisor]}`;
  fields.refuse(key, "not-divisible", rule, String(config[key]));
}

function readActivation(fields: JsonFields): string {
  const name = fields.text("hidden_act", "silu");
  if (Object.hasOwn(ACTIVATION_OF, name)) return name;
  const known = Object.keys(ACTIVATION_OF).join(", ");
  return fields.unsupported("hidden_act", "activation", `must be one of ${known}`);
}

/** Null stands for false, as some checkpoints have it. */
function readFlag(fields: JsonFields, key: string): boolean {
  return fields.states(key) ? fields.boolean(key, false) : false;
}

function readDtype(fields: JsonFields): ConfigDtype | null {
  const key = fields.states("dtype") ? "dtype" : "torch_dtype";
  const name = fields.text(key, null);
  const dtype = DTYPES.find((each) => each === name) ?? null;
  if (dtype === name) return dtype;
  return fields.unsupported(key, "dtype", `must be one of ${DTYPES.join(", ")}`);
}

function requireSeveralLabels(
  fields: JsonFields,
  problem: ProblemType | null,
  labels: number,
): void {
  if (problem !== "single_label_classification" || labels > 1) return;
  fields.refuse(
    "problem_type",
    "single-label",
    "must not be single_label_classification unless num_labels > 1 (two classes are 2 labels; one " +
      "number is a regression)",
    `${labels} label`,
  );
}
