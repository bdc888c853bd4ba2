/**
 * Finds the files of a model: a folder, a GGUF file, or a repository of the Hugging Face hub.
 *
 * @module
 */

import type { Backend } from "../runtime/backend.ts";
import { ModelDownloadError, ModelFormatError, requireInput } from "../runtime/errors.ts";
import type { Tensor } from "../runtime/tensor.ts";
import { CONFIG_KEYS, StableLmConfig } from "./config.ts";
import { GenerationConfig } from "./generation_config.ts";
import { fetchCheckpoint, type FetchCheckpointOptions } from "./hub/fetch_checkpoint.ts";
import { requireOptions } from "./inputs.ts";
import { loadParts, requireWeightOptions, WEIGHT_OPTIONS, type WeightOptions } from "./loading.ts";
import type { Head } from "./parameters.ts";
import type { ModelParts } from "./pretrained.ts";
import { fileBytes } from "./weights/byte_source.ts";
import { openCheckpoint } from "./weights/checkpoint.ts";
import { openGguf } from "./weights/gguf/gguf.ts";
import type { WeightSource } from "./weights/weight_source.ts";

/** What is found of a model; its weights are read later. */
export interface PretrainedFiles extends Disposable {
  /** Its config, checked. */
  readonly config: StableLmConfig;
  /** How it is meant to generate: generation_config.json, or where there is none, the config's own words. */
  readonly generationConfig: GenerationConfig;
  /** Its weights. */
  readonly source: WeightSource;
  /** What is odd about the files but does no harm, as sentences. */
  readonly warnings: readonly string[];
}

/** Where to look for a model. */
export interface FindOptions extends FetchCheckpointOptions {
  /**
   * Keys of `config.json` to put in place of the file's: `{ rope_theta: 1e6 }` for a GGUF file of
   * stable-code-3b, which does not store it.
   */
  readonly config?: Readonly<Record<string, unknown>> | undefined;
}

/** How a model is found and loaded. */
export interface PretrainedOptions<T extends Tensor> extends WeightOptions, FindOptions {
  /** Where the model is to run. */
  readonly backend: Backend<T>;
  /** Told how far downloading and loading have come, one after the other. */
  readonly onProgress?: WeightOptions["onProgress"];
}

/** Names of {@linkcode FetchCheckpointOptions}. */
export const FETCH_OPTIONS: readonly string[] = [
  "revision",
  "accessToken",
  "cacheDir",
  "endpoint",
  "signal",
  "onProgress",
  "onWarning",
  "localFilesOnly",
  "fetch",
];

/** Names of {@linkcode FindOptions}. */
const FIND_OPTIONS: readonly string[] = ["config", ...FETCH_OPTIONS];

/**
 * Finds a model and loads it.
 *
 * @param where a folder with `config.json` and safetensors files, a `.gguf` file, either as a path or a file
 * URL, or a repository of the hub as `owner/name`; a folder of that name comes first
 * @throws {ModelInputError} If an option is unknown or not one of its values
 * @throws {ModelDownloadError} If the repository could not be fetched
 * @throws {ModelConfigError | ModelFormatError | ModelUnsupportedError} If a file breaks a rule
 */
export async function loadPretrained<T extends Tensor>(
  head: Head,
  where: string | URL,
  options: PretrainedOptions<T>,
): Promise<ModelParts<T>> {
  requireOptions("fromPretrained", options, [
    ...new Set(["backend", ...FIND_OPTIONS, ...WEIGHT_OPTIONS]),
  ]);
  requireWeightOptions("fromPretrained", options);
  const { backend, dtype, activationDtype, allowNonFinite, signal, onProgress, ...find } = options;
  using files = await findPretrained(where, { ...find, signal, onProgress });
  const { config, source, generationConfig } = files;
  for (const warning of files.warnings) options.onWarning?.(warning);
  const weights = { dtype, activationDtype, allowNonFinite, signal, onProgress };
  return { ...await loadParts(head, { backend, config, source, ...weights }), generationConfig };
}

/**
 * Finds a model and opens its files.
 *
 * @param where as for {@linkcode loadPretrained}
 */
export async function findPretrained(
  where: string | URL,
  options: FindOptions = {},
): Promise<PretrainedFiles> {
  requireOptions("findPretrained", options, FIND_OPTIONS);
  const { config: replaced = {}, ...fetching } = options;
  for (const key of Object.keys(replaced)) {
    const rule = "must be a key of a StableLM config";
    requireInput(CONFIG_KEYS.includes(key), "findPretrained", `config ${key}`, rule, key);
  }
  return await findAt(await placeOf("findPretrained", where), replaced, fetching);
}

/**
 * The folder of a model: one that is there, or the cache's, to which a repository of the hub is fetched.
 *
 * @param method whose argument it is, for messages
 * @param where a folder, as a path or a file URL, or `owner/name`
 */
export async function findFolder(
  method: string,
  where: string | URL,
  options: FetchCheckpointOptions,
): Promise<string> {
  const place = await placeOf(method, where);
  return await isFolder(place) ? place : await fetchNamed(place, options);
}

/** The path or name that the caller gave. */
async function placeOf(method: string, where: string | URL): Promise<string> {
  const place = where instanceof URL ? await pathOf(method, where) : where;
  const isPlace = typeof place === "string" && place !== "";
  requireInput(isPlace, method, "where", "must be a path, a file: URL or owner/name", place);
  return place;
}

async function findAt(
  where: string,
  replaced: Readonly<Record<string, unknown>>,
  fetching: FetchCheckpointOptions,
): Promise<PretrainedFiles> {
  const { signal } = fetching;
  if (/\.gguf$/i.test(where)) {
    const { config, source } = await openGguf(await fileBytes(where), { signal });
    return opened(source, () => {
      const stated = StableLmConfig.fromJson({ ...config, ...replaced }, source.name);
      const generationConfig = GenerationConfig.fromModelConfig(stated);
      return { config: stated, generationConfig, warnings: [] };
    });
  }
  const folder = await findFolder("findPretrained", where, fetching);
  const checkpoint = await openCheckpoint(folder, { signal });
  const { config, configFile, generationConfig, source, warnings } = checkpoint;
  return opened(source, () => {
    const json = { ...config, ...replaced };
    const stated = StableLmConfig.fromJson(json, configFile);
    return {
      config: stated,
      generationConfig: generationConfig
        ? GenerationConfig.fromJson(generationConfig, `${folder}/generation_config.json`)
        : GenerationConfig.fromModelConfig(stated, json, configFile),
      warnings,
    };
  });
}

/** What could not be fetched may have been meant as a folder. */
async function fetchNamed(name: string, options: FetchCheckpointOptions): Promise<string> {
  try {
    return await fetchCheckpoint(name, options);
  } catch (error) {
    if (!(error instanceof ModelDownloadError)) throw error;
    throw new ModelDownloadError(`${error.message}; and there is no folder ${name} here`);
  }
}

async function pathOf(method: string, url: URL): Promise<string> {
  requireInput(url.protocol === "file:", method, "where", "must be a file: URL", url);
  const { fileURLToPath } = await import("node:url");
  return fileURLToPath(url);
}

/** Closes the source again if what is read from its config breaks a rule. */
function opened(
  source: WeightSource,
  read: () => Omit<PretrainedFiles, "source" | typeof Symbol.dispose>,
): PretrainedFiles {
  using made = new DisposableStack();
  made.use(source);
  const found = read();
  made.move();
  return { ...found, source, [Symbol.dispose]: () => source[Symbol.dispose]() };
}

/**
 * True for a folder that is there. What looks like a path and not like a repository's name is one, so that
 * the message about it speaks of a folder.
 */
async function isFolder(where: string): Promise<boolean> {
  const { stat } = await import("node:fs/promises");
  const isName = /^[A-Za-z0-9][\w.-]*\/[\w.-]+$/.test(where);
  try {
    const found = await stat(where);
    if (found.isDirectory()) return true;
    if (isName) return false;
    throw new ModelFormatError({
      file: where,
      reason: "not-a-model",
      rule: "a model is a folder, a .gguf file, or owner/name on the hub",
      value: "a file",
    });
  } catch (error) {
    if (error instanceof ModelFormatError) throw error;
    return !isName;
  }
}
