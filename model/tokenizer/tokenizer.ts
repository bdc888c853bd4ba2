/**
 * Text to token ids and back.
 *
 * @module
 */

import type { Tokenizer as Encoder } from "@huggingface/tokenizers";
import { requireInput } from "../../runtime/errors.ts";
import type { FetchCheckpointOptions } from "../hub/fetch_checkpoint.ts";
import { requireOptions } from "../inputs.ts";
import { FETCH_OPTIONS, findFolder } from "../pretrained_files.ts";
import { bytesOfToken } from "./byte_symbols.ts";
import { readSpecialTokens, type SpecialIds } from "./special_tokens.ts";
import { TokenSplitter } from "./token_splitter.ts";
import { TokenStream } from "./token_stream.ts";
import { readTokenizerFiles } from "./tokenizer_files.ts";
import { readTokenizerJson, type TokenizerDefinition } from "./tokenizer_json.ts";

/** How a tokenizer is found: as the model is. */
export type TokenizerOptions = FetchCheckpointOptions;

/** How a tokenizer is made of JSON. */
export interface TokenizerJsonOptions {
  /** What messages call the two values; `tokenizer.json` and `tokenizer_config.json` unless given. */
  readonly files?: { readonly tokenizer: string; readonly config: string } | undefined;
}

/** How text becomes ids. */
export interface EncodeOptions {
  /** Put around the text what the tokenizer's template does; nothing in StableLM's. True unless given. */
  readonly addSpecialTokens?: boolean | undefined;
  /**
   * Whether `<|endoftext|>` in the text is that token rather than thirteen letters. False unless given: text of
   * users must not be able to end a turn.
   */
  readonly parseSpecialTokens?: boolean | undefined;
}

/** How texts become rows of one length. */
export interface EncodeBatchOptions extends EncodeOptions {
  /** The side to fill up; what `tokenizer_config.json` says, else right, unless given. */
  readonly padding?: "left" | "right" | undefined;
  /** What to fill up with; the config's `pad_token` unless given. */
  readonly padTokenId?: number | undefined;
}

/** How ids become text. */
export interface TokenDecodeOptions {
  /** Leave special tokens out; false unless given. */
  readonly skipSpecialTokens?: boolean | undefined;
}

/** Rows for a model's `forward`. */
export interface TokenBatch {
  /** Ids, [texts, tokens]. */
  readonly inputIds: number[][];
  /** 1 for a token of a text and 0 for what fills up, [texts, tokens]. */
  readonly attentionMask: number[][];
}

const ENCODE_OPTIONS: readonly string[] = ["addSpecialTokens", "parseSpecialTokens"];
const NO_BYTES = new Uint8Array(0);

/** A byte-level BPE tokenizer, as all StableLM models have one. It holds nothing that has to be given back. */
export class Tokenizer {
  readonly #definition: TokenizerDefinition;
  readonly #special: SpecialIds;
  readonly #specialIds: ReadonlySet<number>;
  readonly #vocabSize: number;
  readonly #encoder: Encoder;
  readonly #plain: TokenSplitter;
  readonly #parsing: TokenSplitter;

  private constructor(definition: TokenizerDefinition, special: SpecialIds, encoder: Encoder) {
    this.#definition = definition;
    this.#special = special;
    this.#vocabSize = definition.tokens.keys().reduce((size, id) => Math.max(size, id + 1), 0);
    this.#encoder = encoder;
    const raw = definition.added.filter((token) => !token.normalized);
    this.#parsing = new TokenSplitter(raw);
    this.#plain = new TokenSplitter(raw.filter((token) => !token.special));
    this.#specialIds = new Set(
      definition.added.filter((token) => token.special).map(({ id }) => id),
    );
  }

  /**
   * Reads the tokenizer of a model: `tokenizer.json`, and if they are there `tokenizer_config.json` and
   * `special_tokens_map.json`.
   *
   * @param where the model's folder, as a path or a file URL, or `owner/name` on the hub, which is fetched as
   * for the model, weights included
   * @throws {TokenizerError} If a file is missing, breaks a rule, or is of another kind than byte-level BPE
   * @throws {ModelDownloadError} If the repository could not be fetched
   * @throws {ModelInputError} If an option is unknown
   */
  static async fromPretrained(
    where: string | URL,
    options: TokenizerOptions = {},
  ): Promise<Tokenizer> {
    const method = "Tokenizer.fromPretrained";
    requireOptions(method, options, FETCH_OPTIONS);
    const folder = await findFolder(method, where, options);
    const { tokenizer, config, files } = await readTokenizerFiles(folder, options.signal);
    return await Tokenizer.fromJson(tokenizer, config, { files });
  }

  /**
   * Makes a tokenizer of what its files hold.
   *
   * @param tokenizerJson the value of `tokenizer.json`
   * @param configJson the value of `tokenizer_config.json`, if there is one
   * @throws {TokenizerError} If one breaks a rule, or is of another kind than byte-level BPE
   */
  static async fromJson(
    tokenizerJson: unknown,
    configJson?: unknown,
    options: TokenizerJsonOptions = {},
  ): Promise<Tokenizer> {
    requireOptions("Tokenizer.fromJson", options, ["files"]);
    const { tokenizer = "tokenizer.json", config = "tokenizer_config.json" } = options.files ?? {};
    const definition = readTokenizerJson(tokenizerJson, tokenizer);
    const special = readSpecialTokens(configJson, config, definition.ids);
    const { Tokenizer: EncoderOfPackage } = await import("@huggingface/tokenizers");
    const encoder = new EncoderOfPackage(definition.forPackage, {});
    return new Tokenizer(definition, special, encoder);
  }

  /** One more than the highest id; a model's vocabulary may be larger. */
  get vocabSize(): number {
    return this.#vocabSize;
  }

  /** Id of the token that begins a text, or null. */
  get bosToken(): number | null {
    return this.#special.bos;
  }

  /** Id of the token that ends a text, or null. A chat may end its turns with another. */
  get eosToken(): number | null {
    return this.#special.eos;
  }

  /** Id of the token that rows are filled up with, or null. */
  get padToken(): number | null {
    return this.#special.pad;
  }

  /** Ids of the special tokens by their text. */
  get specialTokens(): ReadonlyMap<string, number> {
    const special = this.#definition.added.filter((token) => token.special);
    return new Map(special.map(({ content, id }) => [content, id]));
  }

  /** The id of a token as the vocabulary spells it, or null. */
  tokenToId(token: string): number | null {
    return this.#definition.ids.get(token) ?? null;
  }

  /** The token of an id as the vocabulary spells it, or null. */
  idToToken(id: number): string | null {
    return this.#definition.tokens.get(id) ?? null;
  }

  /**
   * The ids of a text; none for "". Halves of surrogate pairs count as U+FFFD.
   *
   * @throws {ModelInputError} If the text is no string or an option is unknown
   */
  encode(text: string, options: EncodeOptions = {}): number[] {
    requireEncodeOptions("encode", options, []);
    requireInput(typeof text === "string", "encode", "text", "must be a string", typeof text);
    return this.#encode(text, options);
  }

  /**
   * The ids of several texts, in rows of one length.
   *
   * @throws {ModelInputError} If rows have to be filled up and there is nothing to do it with
   */
  encodeBatch(texts: readonly string[], options: EncodeBatchOptions = {}): TokenBatch {
    const method = "encodeBatch";
    requireEncodeOptions(method, options, ["padding", "padTokenId"]);
    const isTexts = Array.isArray(texts) && texts.every((text) => typeof text === "string");
    requireInput(isTexts, method, "texts", "must be a list of strings", typeof texts);
    const { padding = this.#special.paddingSide, padTokenId } = options;
    const isSide = padding === "left" || padding === "right";
    requireInput(isSide, method, "padding", 'must be "left" or "right"', padding);
    if (padTokenId !== undefined) requireId(method, "padTokenId", padTokenId);
    const rows = texts.map((text) => this.#encode(text, options));
    const tokens = rows.reduce((most, row) => Math.max(most, row.length), 0);
    const pad = padTokenId ?? this.#special.pad;
    const batch: TokenBatch = { inputIds: [], attentionMask: [] };
    for (const row of rows) {
      const missing = tokens - row.length;
      const rule = "must be given, as texts differ in length and the tokenizer has no pad_token";
      requireInput(missing === 0 || pad !== null, method, "padTokenId", rule, "none");
      const fill = new Array<number>(missing).fill(pad ?? 0);
      const ones = new Array<number>(row.length).fill(1), zeros = fill.map(() => 0);
      const isLeft = padding === "left";
      batch.inputIds.push(isLeft ? [...fill, ...row] : [...row, ...fill]);
      batch.attentionMask.push(isLeft ? [...zeros, ...ones] : [...ones, ...zeros]);
    }
    return batch;
  }

  /**
   * The text of ids. Bytes that are no UTF-8 become U+FFFD; an id without a token, as a model's vocabulary may
   * have, becomes nothing. Spaces stay as they are.
   *
   * @throws {ModelInputError} If an id is not a whole number from 0 or an option is unknown
   */
  decode(ids: ArrayLike<number>, options: TokenDecodeOptions = {}): string {
    requireDecodeOptions("decode", options);
    const isList = typeof ids === "object" && ids !== null && Number.isSafeInteger(ids.length);
    requireInput(isList, "decode", "ids", "must be a list of ids", typeof ids);
    const pieces = Array.from(ids, (id) => this.#bytes("decode", id, options));
    const bytes = new Uint8Array(pieces.reduce((sum, { length }) => sum + length, 0));
    let at = 0;
    for (const piece of pieces) {
      bytes.set(piece, at);
      at += piece.length;
    }
    return new TextDecoder("utf-8", { ignoreBOM: true }).decode(bytes);
  }

  /**
   * The bytes that a token stands for, which may be a part of a character; none for an id without a token.
   *
   * @throws {ModelInputError} If the id is not a whole number from 0
   */
  tokenBytes(id: number): Uint8Array<ArrayBuffer> {
    return this.#bytes("tokenBytes", id, {});
  }

  /** Decodes tokens as they come; see {@linkcode TokenStream}. */
  stream(options: TokenDecodeOptions = {}): TokenStream {
    requireDecodeOptions("stream", options);
    const { skipSpecialTokens } = options;
    return new TokenStream((id) => this.#bytes("push", id, { skipSpecialTokens }));
  }

  #encode(text: string, options: EncodeOptions): number[] {
    const { addSpecialTokens = true, parseSpecialTokens = false } = options;
    const splitter = parseSpecialTokens ? this.#parsing : this.#plain;
    const ids = splitter.split(text.toWellFormed()).flatMap((piece) =>
      typeof piece === "number"
        ? [piece]
        : this.#encoder.encode(piece, { add_special_tokens: false }).ids
    );
    if (!addSpecialTokens) return ids;
    const { before, after } = this.#definition.around;
    return [...before, ...ids, ...after];
  }

  #bytes(method: string, id: number, options: TokenDecodeOptions): Uint8Array<ArrayBuffer> {
    requireId(method, "ids", id);
    if (options.skipSpecialTokens && this.#specialIds.has(id)) return NO_BYTES;
    const token = this.#definition.tokens.get(id);
    return token === undefined ? NO_BYTES : bytesOfToken(token);
  }
}

function requireId(method: string, argument: string, id: unknown): void {
  const isId = Number.isSafeInteger(id) && (id as number) >= 0;
  requireInput(isId, method, argument, "must be whole numbers from 0", id);
}

function requireEncodeOptions(method: string, options: object, more: readonly string[]): void {
  requireOptions(method, options, [...ENCODE_OPTIONS, ...more]);
  requireBooleans(method, options, ENCODE_OPTIONS);
}

function requireDecodeOptions(method: string, options: object): void {
  requireOptions(method, options, ["skipSpecialTokens"]);
  requireBooleans(method, options, ["skipSpecialTokens"]);
}

/** A string such as "false" must not count as true where it opens the door to special tokens. */
function requireBooleans(method: string, options: object, names: readonly string[]): void {
  for (const [name, value] of Object.entries(options)) {
    const isSound = !names.includes(name) || value === undefined || typeof value === "boolean";
    requireInput(isSound, method, name, "must be true or false", value);
  }
}
