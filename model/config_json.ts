/**
 * What a config.json says beside a config's fields: which model it is, how it is spelled, and what no
 * StableLM here can do.
 *
 * @module
 */

import { JsonFields, type JsonObject } from "./json_fields.ts";

/** Where a config's options come from. */
export interface ConfigOrigin {
  /** What messages call it. */
  readonly file?: string;
  /** True for a file of the code that StableLM was first published with. */
  readonly legacy?: boolean;
}

/** Options that a config.json holds. */
export interface ConfigJson {
  /** The file's fields. */
  readonly fields: JsonFields;
  /** Those of them that make a config. */
  readonly options: JsonObject;
  /** Where they come from. */
  readonly origin: ConfigOrigin;
}

/** The code that StableLM was first published with: its model type, its classes, its own words. */
const LEGACY_TYPE = "stablelm_epoch";
const LEGACY_CLASS = /StableLMEpoch/;
const LEGACY_KEYS: Readonly<Record<string, string>> = {
  num_attention_heads: "num_heads",
  layer_norm_eps: "norm_eps",
  partial_rotary_factor: "rope_pct",
};

/** By key, an older word under which a file of this origin may have it. */
export function olderKeysOf({ legacy = false }: ConfigOrigin): Readonly<Record<string, string>> {
  return legacy ? LEGACY_KEYS : {};
}

/**
 * Picks a config's options from a parsed config.json.
 *
 * @param value what `JSON.parse` made of the file
 * @param file its name, for messages
 * @param known the keys that are options
 * @throws {ModelConfigError} If the file is no object, or says one thing in two ways
 * @throws {ModelUnsupportedError} If it describes something else than a causal StableLM with plain weights
 */
export function readConfigJson(value: unknown, file: string, known: readonly string[]): ConfigJson {
  const bare = new JsonFields(value, file);
  const origin = { file, legacy: isLegacy(bare) };
  const olderKeys = olderKeysOf(origin);
  const fields = new JsonFields(value, file, "", olderKeys);
  refuseUnsupported(fields);
  for (const [key, older] of Object.entries(olderKeys)) {
    if (bare.has(key) && bare.has(older) && bare.get(key) !== bare.get(older)) {
      bare.refuse(older, "contradiction", `must be as ${key} is`);
    }
  }
  const idle = idleLabelKeys(fields);
  const options = [...known, ...Object.values(olderKeys)]
    .filter((key) => bare.has(key) && !idle.includes(key))
    .map((key) => [key, bare.get(key)] as const);
  return { fields, options: Object.fromEntries(options), origin };
}

/**
 * Keys about labels that have no effect in Hugging Face's code: names of another number of labels than
 * `num_labels` says, and a way back from names that are not given.
 */
function idleLabelKeys(fields: JsonFields): readonly string[] {
  if (!fields.states("id2label")) return ["label2id"];
  const names = fields.object("id2label").keys().length;
  const isOther = fields.states("num_labels") && fields.get("num_labels") !== names;
  return isOther ? ["id2label", "label2id"] : [];
}

function isLegacy(fields: JsonFields): boolean {
  if (!fields.has("model_type")) {
    return (fields.texts("architectures", null) ?? []).some((name) => LEGACY_CLASS.test(name));
  }
  const type = fields.text("model_type", "stablelm");
  if (type !== "stablelm" && type !== LEGACY_TYPE) {
    fields.unsupported("model_type", "model-type", `must be stablelm or ${LEGACY_TYPE}`);
  }
  return type === LEGACY_TYPE;
}

function refuseUnsupported(fields: JsonFields): void {
  if (fields.states("quantization_config")) {
    const rule = "must be absent, as quantised safetensors are not read";
    fields.unsupported("quantization_config", "quantized", rule);
  }
  if (fields.states("per_layer_config")) {
    const rule = "must be absent, as all layers are built alike";
    fields.unsupported("per_layer_config", "heterogeneous", rule);
  }
  for (const key of ["sliding_window", "attention_chunk_size"]) {
    if (!fields.states(key)) continue;
    fields.unsupported(key, "windowed", "must be absent, as attention sees all earlier tokens");
  }
  const kinds = fields.get("layer_types");
  if (Array.isArray(kinds) && kinds.some((kind) => kind !== "full_attention")) {
    const rule = 'must hold "full_attention" only, as attention sees all earlier tokens';
    fields.unsupported("layer_types", "windowed", rule);
  }
  if (fields.get("tie_last_hidden_states") === false) {
    const rule = "must be true, as the last hidden state is the normalised one";
    fields.unsupported("tie_last_hidden_states", "hidden-states", rule);
  }
  // Null too: Hugging Face's code takes whatever is not true for attention in both directions.
  if (fields.has("is_causal") && fields.get("is_causal") !== true) {
    const rule = "must be true, as StableLM's attention is causal";
    fields.unsupported("is_causal", "not-causal", rule);
  }
}
