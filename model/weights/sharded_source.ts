/**
 * Tensors of a checkpoint that is split over several safetensors files, with an index that says which
 * tensor lies in which.
 *
 * @module
 */

import { ModelFormatError } from "../../runtime/errors.ts";
import {
  decodeJson,
  describeJson,
  isRecord,
  quoteName,
  walkJson,
} from "../../runtime/json_text.ts";
import { MAX_NAME_LENGTH, MAX_TENSORS } from "../../runtime/safetensors_header.ts";
import type { HostTensor } from "../../runtime/tensor.ts";
import type { ByteSource } from "./byte_source.ts";
import {
  openSafetensors,
  requireTensor,
  type SafetensorsOptions,
  type SafetensorsSource,
} from "./safetensors_source.ts";
import type { RowRange, StoredTensor, WeightSource } from "./weight_source.ts";

/** Name of the index in a folder. */
export const INDEX_FILE = "model.safetensors.index.json";

/** Indices above this are refused; the largest StableLM's takes 200 kB. */
export const MAX_INDEX_BYTES = 16 * 1024 * 1024;

/** Files that an index may name. */
export const MAX_SHARDS = 1000;

/** A file of the same folder, and nothing else: no path, no address, no other kind of file. */
const SHARD_NAME = /^[A-Za-z0-9._-]{1,255}\.safetensors$/;

/** What an index says. */
export interface ShardIndex {
  /** File of each tensor. */
  readonly weightMap: ReadonlyMap<string, string>;
  /** Bytes of all tensors, if the index says so. */
  readonly totalSize?: number | undefined;
}

/** Opens a file by name; undefined if there is none. */
export type OpenShard = (name: string) => Promise<ByteSource | undefined>;

/** Several safetensors files as one {@linkcode WeightSource}. */
export class ShardedSource implements WeightSource {
  readonly name: string;
  readonly tensors: ReadonlyMap<string, StoredTensor>;
  /** What is odd about the index but does no harm, as sentences. */
  readonly warnings: readonly string[];
  readonly #shards: ReadonlyMap<string, SafetensorsSource>;
  readonly #weightMap: ReadonlyMap<string, string>;

  /**
   * Takes over the shards.
   *
   * @param name what messages call the index
   * @param index what the index says
   * @param shards every file that the index names
   * @throws {ModelFormatError} reason `missing-tensor`, `unmapped-tensor` or `wrong-shard`, if a shard
   * does not hold what the index says
   */
  constructor(name: string, index: ShardIndex, shards: ReadonlyMap<string, SafetensorsSource>) {
    this.name = name;
    this.#shards = shards;
    this.#weightMap = index.weightMap;
    requireAgreement(name, index.weightMap, shards);
    const tensors = new Map<string, StoredTensor>();
    let bytes = 0;
    for (const [tensorName, shard] of index.weightMap) {
      const tensor = shards.get(shard)!.tensors.get(tensorName)!;
      tensors.set(tensorName, tensor);
      bytes += tensor.byteLength;
    }
    this.tensors = tensors;
    const isTold = index.totalSize === undefined || index.totalSize === bytes;
    this.warnings = isTold
      ? []
      : [`${name}: total_size is ${index.totalSize}, and the tensors take ${bytes} bytes`];
  }

  /**
   * Reads a tensor, or rows of it, from the shard that holds it.
   *
   * @throws {ModelFormatError} reason `truncated`, if the shard has become shorter
   * @throws {ModelUnsupportedError} reason `entry-dtype`, if it is no float tensor
   * @throws {RangeError} If there is no such tensor or row
   */
  async read(name: string, rows?: RowRange, signal?: AbortSignal): Promise<HostTensor> {
    requireTensor(this, name);
    return await this.#shards.get(this.#weightMap.get(name)!)!.read(name, rows, signal);
  }

  /** Closes all shards. */
  [Symbol.dispose](): void {
    for (const shard of this.#shards.values()) shard[Symbol.dispose]();
  }
}

/**
 * Opens every shard that an index names.
 *
 * @param open opens a shard by name; what it gives is closed with the source, or when opening fails
 * @param indexJson the bytes of the index
 * @param indexName what messages call the index
 * @throws {ModelFormatError} If the index or a shard breaks a rule; `fault.reason` says which
 * @throws {ModelUnsupportedError} If a shard holds a tensor of an unknown dtype
 */
export async function openSharded(
  open: OpenShard,
  indexJson: Uint8Array,
  indexName: string = INDEX_FILE,
  options: SafetensorsOptions = {},
): Promise<ShardedSource> {
  const index = parseShardIndex(indexJson, indexName);
  const shards = new Map<string, SafetensorsSource>();
  try {
    for (const shard of new Set(index.weightMap.values())) {
      const bytes = await open(shard);
      if (bytes === undefined) {
        throw new ModelFormatError({
          file: shard,
          reason: "missing-shard",
          rule: `must exist, as ${indexName} names it`,
          value: "there is none",
        });
      }
      shards.set(shard, await openSafetensors(bytes, options));
    }
    return new ShardedSource(indexName, index, shards);
  } catch (error) {
    for (const shard of shards.values()) shard[Symbol.dispose]();
    throw error;
  }
}

/**
 * Parses and checks an index.
 *
 * @param json its bytes
 * @param file its name, for messages
 * @throws {ModelFormatError} If a rule is broken; `fault.reason` starts with `index-`
 */
export function parseShardIndex(json: Uint8Array, file: string): ShardIndex {
  const fail = (reason: string, rule: string, value: string, place?: string): never => {
    const where = place === undefined ? {} : { place };
    throw new ModelFormatError({ file, ...where, reason, rule, value });
  };
  if (json.byteLength > MAX_INDEX_BYTES) {
    fail("index-length", `must have at most ${MAX_INDEX_BYTES} bytes`, `${json.byteLength}`);
  }
  const { value, text } = decodeJson(json, (fault) => {
    if (fault.rule === "utf8") return fail("index-utf8", "must be UTF-8", fault.value);
    return fail("index-json", "must be JSON", fault.value);
  });
  if (!isRecord(value)) return fail("index-json", "must be a JSON object", describeJson(value));
  const map = Object.hasOwn(value, "weight_map") ? value["weight_map"] : undefined;
  const mapPlace = 'key "weight_map"';
  if (!isRecord(map)) return fail("index-map", "must be an object", describeJson(map), mapPlace);
  const twice = nameGivenTwice(text);
  if (twice !== undefined) {
    fail("index-duplicate", "a name must be given once", `${quoteName(twice)} is given twice`);
  }
  const entries = Object.entries(map);
  if (entries.length === 0 || entries.length > MAX_TENSORS) {
    fail("index-map", `must name 1 to ${MAX_TENSORS} tensors`, `${entries.length}`, mapPlace);
  }
  const weightMap = new Map<string, string>();
  for (const [name, shard] of entries) {
    const place = `tensor ${quoteName(name)}`;
    if (name.length > MAX_NAME_LENGTH) {
      const rule = `a name must have at most ${MAX_NAME_LENGTH} characters`;
      fail("index-name", rule, `${name.length}`, place);
    }
    if (typeof shard !== "string" || !SHARD_NAME.test(shard)) {
      const rule = "its file must be named by letters, digits, . _ and -, ending in .safetensors";
      return fail("index-shard", rule, describeJson(shard), place);
    }
    weightMap.set(name, shard);
  }
  const count = new Set(weightMap.values()).size;
  if (count > MAX_SHARDS) {
    fail("index-shards", `must name at most ${MAX_SHARDS} files`, `${count}`, mapPlace);
  }
  const { metadata } = value;
  const totalSize = isRecord(metadata) ? metadata["total_size"] : undefined;
  return { weightMap, totalSize: typeof totalSize === "number" ? totalSize : undefined };
}

/** A tensor that is given two files, or a key of the index that is there twice. */
function nameGivenTwice(indexText: string): string | undefined {
  const outer = new Set<string>();
  let inner = new Set<string>();
  let twice: string | undefined;
  walkJson(indexText, 2, {
    key(depth, name) {
      const seen = depth === 1 ? outer : inner;
      if (depth === 1) inner = new Set();
      if (seen.has(name)) twice ??= name;
      seen.add(name);
    },
  });
  return twice;
}

/** Throws unless each tensor lies in the shard that the index gives for it, and in no other. */
function requireAgreement(
  index: string,
  weightMap: ReadonlyMap<string, string>,
  shards: ReadonlyMap<string, SafetensorsSource>,
): void {
  for (const [shard, { name: file, tensors }] of shards) {
    for (const name of tensors.keys()) {
      const mapped = weightMap.get(name);
      if (mapped === shard) continue;
      const place = `tensor ${quoteName(name)}`;
      if (mapped === undefined) {
        const rule = `must be named by ${index}`;
        throw new ModelFormatError({
          file,
          place,
          reason: "unmapped-tensor",
          rule,
          value: "it is not",
        });
      }
      const rule = `must be in ${quoteName(mapped)} and nowhere else, as ${index} says`;
      const value = "it is here";
      throw new ModelFormatError({ file, place, reason: "wrong-shard", rule, value });
    }
  }
  for (const [name, shard] of weightMap) {
    const { name: file, tensors } = shards.get(shard)!;
    if (tensors.has(name)) continue;
    const place = `tensor ${quoteName(name)}`;
    const rule = `must be in this file, as ${index} says`;
    const value = "it is not";
    throw new ModelFormatError({ file, place, reason: "missing-tensor", rule, value });
  }
}
