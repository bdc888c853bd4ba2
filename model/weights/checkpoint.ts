/**
 * A model as Hugging Face stores it: a folder with `config.json` and safetensors files.
 *
 * @module
 */

import {
  ModelConfigError,
  ModelFormatError,
  ModelUnsupportedError,
  printable,
} from "../../runtime/errors.ts";
import { decodeJson, describeJson, isRecord } from "../../runtime/json_text.ts";
import type { ByteSource } from "./byte_source.ts";
import { blobFolder, diskFolder, type ModelFolder } from "./model_folder.ts";
import { openSafetensors, type SafetensorsOptions } from "./safetensors_source.ts";
import { INDEX_FILE, MAX_INDEX_BYTES, openSharded } from "./sharded_source.ts";
import type { WeightSource } from "./weight_source.ts";

/** A model's files, opened. Its weights are read on demand, until it is disposed. */
export interface Checkpoint extends Disposable {
  /** What `config.json` holds; nothing in it has been checked. */
  readonly config: Readonly<Record<string, unknown>>;
  /** What messages call `config.json`. */
  readonly configFile: string;
  /** What `generation_config.json` holds, if there is one; nothing in it has been checked. */
  readonly generationConfig?: Readonly<Record<string, unknown>>;
  /** The weights. */
  readonly source: WeightSource;
  /** Names of the files that were opened, in order of opening. */
  readonly files: readonly string[];
  /** What is odd about the files but does no harm, as sentences. */
  readonly warnings: readonly string[];
}

const CONFIG_FILE = "config.json";
const GENERATION_CONFIG_FILE = "generation_config.json";
const WEIGHTS_FILE = "model.safetensors";

/** Configs above this are refused; the released ones take less than 2 kB. */
const MAX_CONFIG_BYTES = 1024 * 1024;

/**
 * Opens a folder on disk: `config.json`, `generation_config.json` if it is there, and
 * `model.safetensors`, or else the shards of `model.safetensors.index.json`.
 *
 * Permissions: `--allow-read` of the folder. In Hugging Face's cache, where the files are links, none
 * other is needed.
 *
 * @param path the folder
 * @throws {ModelConfigError} If a config is not a JSON object
 * @throws {ModelFormatError} If a file is missing or damaged; `fault.reason` says which rule it breaks
 * @throws {ModelUnsupportedError} If the weights are in another format
 */
export function openCheckpoint(
  path: string,
  options: SafetensorsOptions = {},
): Promise<Checkpoint> {
  return openModelFolder(diskFolder(path), options);
}

/**
 * Opens files that a browser has picked: as {@linkcode openCheckpoint}, without a disk.
 *
 * @param files by their name without folders; others than the model's may be among them
 * @param name what messages call the folder
 */
export function openCheckpointFiles(
  files: ReadonlyMap<string, Blob>,
  name: string = "the chosen files",
  options: SafetensorsOptions = {},
): Promise<Checkpoint> {
  return openModelFolder(blobFolder(files, name), options);
}

/** Opens a model's files in any kind of folder; see {@linkcode openCheckpoint}. */
export async function openModelFolder(
  folder: ModelFolder,
  options: SafetensorsOptions = {},
): Promise<Checkpoint> {
  const files: string[] = [];
  const note = (name: string, bytes: ByteSource | undefined): ByteSource | undefined => {
    if (bytes) files.push(name);
    return bytes;
  };
  const remembering: ModelFolder = {
    ...folder,
    open: async (name) => note(name, await folder.open(name)),
    openChosen: async (name) => note(name, await folder.openChosen(name)),
  };
  const config = await readConfig(remembering, CONFIG_FILE, options);
  if (config === undefined) return failNotFound(folder, [CONFIG_FILE]);
  const generationConfig = await readConfig(remembering, GENERATION_CONFIG_FILE, options);
  const { source, warnings } = await openWeights(remembering, options);
  return {
    config,
    configFile: `${folder.name}/${CONFIG_FILE}`,
    ...generationConfig === undefined ? {} : { generationConfig },
    source,
    files,
    warnings,
    [Symbol.dispose]: () => source[Symbol.dispose](),
  };
}

async function openWeights(
  folder: ModelFolder,
  options: SafetensorsOptions,
): Promise<{ source: WeightSource; warnings: readonly string[] }> {
  const whole = await folder.open(WEIGHTS_FILE);
  if (whole) return { source: await openSafetensors(whole, options), warnings: [] };
  const index = await folder.open(INDEX_FILE);
  if (index === undefined) return failNoWeights(folder);
  const json = await readWhole(index, MAX_INDEX_BYTES, options, (rule, value) => {
    throw new ModelFormatError({ file: index.name, reason: "index-length", rule, value });
  });
  const open = (shard: string) => folder.openChosen(shard);
  const source = await openSharded(open, json, index.name, options);
  return { source, warnings: source.warnings };
}

async function readConfig(
  folder: ModelFolder,
  name: string,
  options: SafetensorsOptions,
): Promise<Record<string, unknown> | undefined> {
  const bytes = await folder.open(name);
  if (bytes === undefined) return undefined;
  const fail = (rule: string, value: string): never => {
    throw new ModelConfigError({ file: bytes.name, reason: "config-json", rule, value });
  };
  const json = await readWhole(bytes, MAX_CONFIG_BYTES, options, fail);
  const { value } = decodeJson(json, (fault) => {
    return fail(fault.rule === "utf8" ? "must be UTF-8" : "must be JSON", fault.value);
  });
  return isRecord(value) ? value : fail("must be a JSON object", describeJson(value));
}

/** Reads a file and closes it; `fail` is called before the first byte is, if it is too long. */
async function readWhole(
  bytes: ByteSource,
  most: number,
  { signal }: SafetensorsOptions,
  fail: (rule: string, value: string) => never,
): Promise<Uint8Array> {
  using file = bytes;
  if (file.size > most) fail(`must have at most ${most} bytes`, `${file.size}`);
  return await file.read(0, file.size, signal);
}

async function failNoWeights(folder: ModelFolder): Promise<never> {
  const names = await folder.list();
  const pickled = names.find((name) => /^pytorch_model.*\.(bin|json)$/.test(name));
  if (pickled !== undefined) {
    throw new ModelUnsupportedError({
      file: `${folder.name}/${pickled}`,
      reason: "pickled-weights",
      rule: "weights must be safetensors; convert them with Python: " +
        "AutoModelForCausalLM.from_pretrained(folder).save_pretrained(newFolder)",
      value: "PyTorch's pickle format, which can run code when it is read",
    });
  }
  return failNotFound(folder, [WEIGHTS_FILE, INDEX_FILE]);
}

/** Says what was looked for, and what is there instead. */
async function failNotFound(folder: ModelFolder, wanted: readonly string[]): Promise<never> {
  const names = await folder.list();
  const gguf = names.find((name) => name.endsWith(".gguf"));
  const shown = names.slice(0, 8).map((name) => printable(name, 60)).join(", ");
  const found = names.length === 0
    ? "it is empty"
    : `it holds ${shown}${names.length > 8 ? ` and ${names.length - 8} more` : ""}`;
  throw new ModelFormatError({
    file: folder.name,
    reason: "missing-file",
    rule: `the folder must hold ${wanted.join(" or ")}` +
      (gguf === undefined ? "" : `; a GGUF model is opened by its file, ${printable(gguf, 60)}`),
    value: found,
  });
}
