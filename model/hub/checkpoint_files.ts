/**
 * Which of a repository's files a StableLM needs.
 *
 * @module
 */

import { ModelUnsupportedError } from "../../runtime/errors.ts";
import { INDEX_FILE, parseShardIndex } from "../weights/sharded_source.ts";

/** The config, without which there is no model. */
export const CONFIG = "config.json";

/** Weights in one file. */
export const SINGLE_WEIGHTS = "model.safetensors";

/** Files that are taken where they are. */
const TEXT_FILES: readonly string[] = [
  CONFIG,
  "generation_config.json",
  "tokenizer.json",
  "tokenizer_config.json",
  "special_tokens_map.json",
  "chat_template.jinja",
];

/** Weights, among them forms that are not read. */
const WEIGHTS = /\.(safetensors|bin|gguf|pth?|ckpt|h5|msgpack|onnx|nemo|tflite)$/i;

/**
 * The files to fetch, but for the shards, which the index names. Weights come last, so that weights that are
 * here say that the rest is.
 *
 * @param names what the repository has
 * @param where the repository and revision, for messages
 * @throws {ModelUnsupportedError} reason `no-config` or `no-safetensors`
 */
export function checkpointFiles(names: Iterable<string>, where: string): string[] {
  const present = new Set(names);
  if (!present.has(CONFIG)) {
    throw new ModelUnsupportedError({
      file: where,
      reason: "no-config",
      rule: `a model must have a ${CONFIG}`,
      value: listed([...present], "no file at all"),
    });
  }
  const weights = [SINGLE_WEIGHTS, INDEX_FILE].find((name) => present.has(name));
  if (weights === undefined) {
    throw new ModelUnsupportedError({
      file: where,
      reason: "no-safetensors",
      rule: `weights must be in ${SINGLE_WEIGHTS}, or in shards with a ${INDEX_FILE}`,
      value: listed([...present].filter((name) => WEIGHTS.test(name)), "no weights"),
    });
  }
  return [...TEXT_FILES.filter((name) => present.has(name)), weights];
}

/**
 * The shards that an index names, in order; each is the name of a file beside it and nothing else.
 *
 * @param file the index, for messages
 * @throws {ModelFormatError} If it is no index, or names anything else
 */
export function shardNames(bytes: Uint8Array, file: string): string[] {
  return [...new Set(parseShardIndex(bytes, file).weightMap.values())].sort();
}

/** Names for a message. */
function listed(names: readonly string[], none: string): string {
  if (names.length === 0) return `it has ${none}`;
  const rest = names.length > 8 ? ` and ${names.length - 8} more` : "";
  return `it has ${names.slice(0, 8).join(", ")}${rest}`;
}
