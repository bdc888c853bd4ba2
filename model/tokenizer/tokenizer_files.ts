/**
 * Finds and reads a tokenizer's files.
 *
 * @module
 */

import { TokenizerError } from "../../runtime/errors.ts";
import { decodeJson, isRecord } from "../../runtime/json_text.ts";
import { diskFolder, type ModelFolder } from "../weights/model_folder.ts";
import { JsonPlace } from "./json_place.ts";

/** What a tokenizer's files hold, as JSON. */
export interface TokenizerJson {
  /** `tokenizer.json`. */
  readonly tokenizer: unknown;
  /** `tokenizer_config.json` on top of `special_tokens_map.json`; undefined where there is neither. */
  readonly config: unknown;
  /** What messages call the two. */
  readonly files: { readonly tokenizer: string; readonly config: string };
}

const MiB = 1024 * 1024;

/** That of StableLM 2 has 7 MiB. */
const MAX_TOKENIZER_BYTES = 64 * MiB;

const MAX_CONFIG_BYTES = 4 * MiB;

/**
 * Reads a tokenizer's files.
 *
 * @param path the folder
 * @throws {TokenizerError} If there is no `tokenizer.json`, or a file is too long or no JSON
 */
export async function readTokenizerFiles(
  path: string,
  signal: AbortSignal | undefined,
): Promise<TokenizerJson> {
  const folder = diskFolder(path);
  const files = {
    tokenizer: `${folder.name}/tokenizer.json`,
    config: `${folder.name}/tokenizer_config.json`,
  };
  const tokenizer = await readJson(folder, "tokenizer.json", MAX_TOKENIZER_BYTES, signal);
  if (tokenizer === undefined) {
    const rule = "the folder must hold it";
    throw new TokenizerError({
      file: files.tokenizer,
      reason: "missing-file",
      rule,
      value: "there is none",
    });
  }
  const read = (name: string) => readJson(folder, name, MAX_CONFIG_BYTES, signal);
  const config = await read("tokenizer_config.json");
  const map = await read("special_tokens_map.json");
  if (map === undefined) return { tokenizer, config, files };
  if (config !== undefined && !isRecord(config)) return { tokenizer, config, files };
  const tokens = new JsonPlace(`${folder.name}/special_tokens_map.json`).record(map);
  return { tokenizer, config: { ...tokens, ...config }, files };
}

async function readJson(
  folder: ModelFolder,
  name: string,
  most: number,
  signal: AbortSignal | undefined,
): Promise<unknown> {
  using file = await folder.open(name);
  if (file === undefined) return undefined;
  const at = new JsonPlace(file.name);
  if (file.size > most) at.fail("too-long", `must have at most ${most} bytes`, `${file.size}`);
  const bytes = await file.read(0, file.size, signal);
  return decodeJson(bytes, ({ rule, value }) => {
    return at.fail("not-json", rule === "utf8" ? "must be UTF-8" : "must be JSON", value);
  }).value;
}
