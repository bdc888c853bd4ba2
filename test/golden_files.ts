/**
 * The golden files: what Hugging Face transformers computes for small models. How they were made and what
 * is in them: `golden/README.md`.
 *
 * @module
 */

import { parseSafetensors } from "../runtime/safetensors.ts";
import type { HostTensor } from "../runtime/tensor.ts";

/** One call of `forward`. */
export interface GoldenCall {
  readonly input_ids?: readonly number[][];
  /** Batch and positions of the recipe's tensor `inputs_embeds`, which takes the place of ids. */
  readonly inputs_embeds?: readonly [batch: number, positions: number];
  readonly attention_mask?: readonly number[][];
  readonly position_ids?: readonly number[][];
  readonly labels?: readonly number[] | readonly number[][];
  readonly shift_labels?: readonly number[][];
  readonly num_items_in_batch?: number;
  readonly logits_to_keep?: number | readonly number[];
  readonly use_cache?: boolean;
  /** Start with an empty cache; the first call of a run does so anyway. */
  readonly fresh?: boolean;
  /** First cut the cache down to so many positions. */
  readonly crop?: number;
  /** First put these rows of the cache in the place of row 0, 1, …. */
  readonly reorder?: readonly number[];
}

/** Calls that share a KV cache. */
export interface GoldenRun {
  readonly name: string;
  /** What transformers computed in. */
  readonly dtype: "float32" | "float16";
  readonly calls: readonly GoldenCall[];
}

/** A model and its runs, in the order in which they were made with one instance of it. */
export interface GoldenModel {
  readonly name: string;
  /** The class of transformers. */
  readonly class_name: string;
  /** config.json as transformers 5 writes it. */
  readonly config: Readonly<Record<string, unknown>>;
  /** The same in the form of transformers 4. */
  readonly config_v4?: Readonly<Record<string, unknown>>;
  readonly runs: readonly GoldenRun[];
}

/** A file's models, and the outputs that it has of their calls. */
export interface GoldenFile {
  readonly models: readonly GoldenModel[];
  /** Tensors by `model/run/call/output`. */
  readonly tensors: ReadonlyMap<string, HostTensor>;
}

/** Causal models, one a file, that between them set every switch both ways. */
export const CAUSAL_FILES: readonly string[] = [
  "base",
  "qkv_bias",
  "parallel_qk_norm",
  "tied_gelu",
  "head_80",
  "head_64",
  "head_160",
  "grouped_8_2",
  "parallel_bias",
  "sequential_qk_norm",
  "tied_parallel",
  "gelu_tanh",
  "relu_full_rotation",
  "half_rotation",
  "multi_query",
  "odd_sizes",
];

/** Files of several models. */
export const OTHER_FILES: readonly string[] = [
  "half",
  "rope",
  "base_models",
  "sequence_classification",
  "token_classification",
];

const FOLDER = new URL("testdata/golden/", import.meta.url);

/** Names of the files of models that are there; what generation is held to has readers of its own. */
export function goldenFileNames(): string[] {
  return [...Deno.readDirSync(FOLDER)]
    .filter(({ name }) => name.endsWith(".safetensors") && !name.startsWith("generation_"))
    .map(({ name }) => name.replace(/\.safetensors$/, ""));
}

/** Reads a file by its name without ending. */
export function readGolden(name: string): GoldenFile {
  const file = `${name}.safetensors`;
  const { tensors, metadata } = parseSafetensors(Deno.readFileSync(new URL(file, FOLDER)), file);
  const { models } = JSON.parse(metadata.get("golden") ?? "{}") as GoldenFile;
  return { models, tensors };
}

/** A file's only model, or the one of that name. */
export function goldenModel(file: GoldenFile, name?: string): GoldenModel {
  const found = name === undefined ? file.models[0] : file.models.find((m) => m.name === name);
  if (!found) throw new RangeError(`There is no golden model ${name}`);
  return found;
}
