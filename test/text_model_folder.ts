/** A model folder with a tokenizer of one byte per token, small enough to generate from in every test. */

import { StableLmConfig, type StableLmConfigOptions } from "../mod.ts";
import { BYTE_SYMBOLS } from "../model/tokenizer/byte_symbols.ts";
import { writeCheckpoint } from "./checkpoint_folder.ts";
import { TINY } from "./tiny_model.ts";

/** Token 0, which ends a text and begins one; byte b is token b + 1. */
export const END = "<|endoftext|>";

/** Tokens of a text, in a model of this kind. */
export function byteTokens(text: string): number[] {
  return Array.from(new TextEncoder().encode(text), (byte) => byte + 1);
}

/** `tokenizer.json`, with more special tokens behind the bytes on request. */
export function byteTokenizer(more: readonly string[] = []): Readonly<Record<string, unknown>> {
  const tokens = [END, ...BYTE_SYMBOLS, ...more];
  const special = (content: string) => {
    return { id: tokens.indexOf(content), content, special: true, normalized: false };
  };
  return {
    added_tokens: [END, ...more].map(special).map((token) => {
      return { ...token, single_word: false, lstrip: false, rstrip: false };
    }),
    normalizer: null,
    pre_tokenizer: { type: "ByteLevel", add_prefix_space: false, use_regex: true },
    post_processor: null,
    decoder: { type: "ByteLevel" },
    model: {
      type: "BPE",
      vocab: Object.fromEntries(tokens.map((token, id) => [token, id])),
      merges: [],
    },
  };
}

/** Writes config, weights by the recipe, tokenizer and generation config into a folder. */
export async function writeTextModel(
  folder: string,
  generation: Readonly<Record<string, unknown>> = {},
  config: StableLmConfigOptions = {},
): Promise<void> {
  const ids = { bos_token_id: 0, eos_token_id: 0 };
  const complete = new StableLmConfig({ ...TINY, ...ids, vocab_size: 257, ...config });
  await writeCheckpoint(folder, complete);
  const write = (name: string, value: unknown) =>
    Deno.writeTextFile(`${folder}/${name}`, JSON.stringify(value));
  await write("tokenizer.json", byteTokenizer());
  await write("generation_config.json", { ...ids, ...generation });
}
