/**
 * Checks a `tokenizer.json`: a byte-level BPE, as all StableLM models have, or an error that says what is wrong.
 *
 * @module
 */

import { describeJson, quoteName } from "../../runtime/json_text.ts";
import { BYTE_SYMBOLS } from "./byte_symbols.ts";
import { JsonPlace } from "./json_place.ts";
import { readPreTokenizer } from "./pre_tokenizers.ts";
import { type AddedIds, readPostProcessor } from "./post_processor.ts";

/** A token that is found in text before it is cut into words. */
export interface AddedToken {
  /** Its id. */
  readonly id: number;
  /** Its text. */
  readonly content: string;
  /** Whether it steers the model rather than being text. */
  readonly special: boolean;
  /** Whether it is looked for in normalized text. */
  readonly normalized: boolean;
}

/** What a `tokenizer.json` says, checked. */
export interface TokenizerDefinition {
  /** Tokens by id, the added ones among them. */
  readonly tokens: ReadonlyMap<number, string>;
  /** Ids by token, the added ones among them. */
  readonly ids: ReadonlyMap<string, number>;
  /** The added tokens. */
  readonly added: readonly AddedToken[];
  /** What encoding puts around a text. */
  readonly around: AddedIds;
  /**
   * For `@huggingface/tokenizers`: all but the tokens that are found in text as it was given, and nothing by
   * which text could become a special token.
   */
  readonly forPackage: object;
}

const MAX_TOKENS = 2 ** 20, MAX_MERGES = 2 ** 21, MAX_ADDED = 2 ** 14;

/** Bytes that no UTF-8 has; GPT-NeoX has no tokens for them. */
const UNUSED_BYTES: readonly number[] = [
  0xc0,
  0xc1,
  ...Array.from({ length: 11 }, (_, i) => 0xf5 + i),
];

/** Keys that `@huggingface/tokenizers` needs, null or not. */
const KEYS = ["model", "pre_tokenizer", "normalizer", "decoder", "post_processor"] as const;

/**
 * Reads the value of a `tokenizer.json`.
 *
 * @param file its name, for messages
 * @throws {TokenizerError} If it breaks a rule, or is of another kind
 */
export function readTokenizerJson(value: unknown, file: string): TokenizerDefinition {
  const root = new JsonPlace(file);
  const json = root.record(value);
  for (const key of KEYS) {
    if (!Object.hasOwn(json, key)) {
      root.key(key).fail("missing-key", "must be there", "there is none");
    }
  }
  const { vocab, merges, ignoreMerges } = readModel(json["model"], root.key("model"));
  const added = readAdded(json["added_tokens"], root.key("added_tokens"), vocab);
  const preTokenizer = readPreTokenizer(json["pre_tokenizer"], root.key("pre_tokenizer"));
  const normalizer = readNormalizer(json["normalizer"], root.key("normalizer"));
  const decoder = root.key("decoder").record(json["decoder"])["type"];
  if (decoder !== "ByteLevel") {
    root.key("decoder.type").fail("unsupported", "must be ByteLevel", describeJson(decoder));
  }
  const ids = new Map(vocab);
  for (const { content, id } of added) ids.set(content, id);
  const tokens = new Map(Array.from(ids, ([token, id]) => [id, token]));
  const around = readPostProcessor(json["post_processor"], root.key("post_processor"), tokens);
  const special = new Set(added.filter((token) => token.special).map(({ content }) => content));
  return {
    tokens,
    ids,
    added,
    around,
    forPackage: {
      model: {
        type: "BPE",
        unk_token: null,
        fuse_unk: false,
        ignore_merges: ignoreMerges,
        vocab: Object.fromEntries([...vocab].filter(([token]) => !special.has(token))),
        merges: merges.filter(([left, right]) => !special.has(left + right)),
      },
      added_tokens: added.filter((token) => token.normalized),
      normalizer,
      pre_tokenizer: preTokenizer,
      post_processor: null,
      decoder: { type: "ByteLevel" },
    },
  };
}

/** What the model's part says. */
interface BpeParts {
  readonly vocab: ReadonlyMap<string, number>;
  readonly merges: readonly (readonly [left: string, right: string])[];
  readonly ignoreMerges: boolean;
}

function readModel(value: unknown, at: JsonPlace): BpeParts {
  const model = at.record(value);
  if (model["type"] !== "BPE") {
    at.key("type").fail("unsupported", "must be BPE", describeJson(model["type"]));
  }
  for (const key of ["dropout", "continuing_subword_prefix", "end_of_word_suffix"]) {
    const given = model[key] ?? null;
    if (given !== null && given !== "" && given !== 0) {
      at.key(key).fail("unsupported", "must be null", describeJson(given));
    }
  }
  at.flag(model, "byte_fallback", false);
  const vocab = readVocab(model["vocab"], at.key("vocab"));
  const merges = readMerges(model["merges"], at.key("merges"), vocab);
  return { vocab, merges, ignoreMerges: at.boolean(model, "ignore_merges", false) };
}

function readVocab(value: unknown, at: JsonPlace): Map<string, number> {
  const entries = Object.entries(at.record(value));
  if (entries.length > MAX_TOKENS) {
    at.fail("too-many", `must have at most ${MAX_TOKENS} tokens`, String(entries.length));
  }
  const vocab = new Map<string, number>();
  const owners = new Map<number, string>();
  for (const [token, given] of entries) {
    const id = at.key(token).id(given);
    const owner = owners.get(id);
    if (owner !== undefined) {
      const tokens = `${quoteName(owner)} and ${quoteName(token)}`;
      at.fail("repeated-id", "must give every token an id of its own", `${tokens} have ${id}`);
    }
    owners.set(id, token);
    vocab.set(token, id);
  }
  const missing = BYTE_SYMBOLS.findIndex((symbol, byte) =>
    !vocab.has(symbol) && !UNUSED_BYTES.includes(byte)
  );
  if (missing >= 0) {
    at.fail(
      "missing-byte",
      "must have a token for every byte of UTF-8",
      `none for byte ${missing}`,
    );
  }
  return vocab;
}

function readMerges(
  value: unknown,
  at: JsonPlace,
  vocab: ReadonlyMap<string, number>,
): (readonly [string, string])[] {
  const list = at.list(value, MAX_MERGES);
  const isPaired = Array.isArray(list[0]);
  const rule = isPaired
    ? "must be two tokens, as the first merge is"
    : "must be two tokens with a space between them";
  const fail = (i: number, reason: string, rule: string): never =>
    at.fail(reason, rule, `merge ${i} is ${describeJson(list[i])}`);
  return list.map((merge, i) => {
    if (Array.isArray(merge) !== isPaired) fail(i, "bad-merge", rule);
    const parts: unknown = typeof merge === "string" ? merge.split(" ") : merge;
    if (!Array.isArray(parts) || parts.length !== 2) return fail(i, "bad-merge", rule);
    const [left, right] = parts;
    if (typeof left !== "string" || typeof right !== "string" || left === "" || right === "") {
      return fail(i, "bad-merge", rule);
    }
    if (![left, right, left + right].every((token) => vocab.has(token))) {
      fail(i, "unknown-token", "must join tokens of the vocabulary to another one");
    }
    return [left, right];
  });
}

function readAdded(
  value: unknown,
  at: JsonPlace,
  vocab: ReadonlyMap<string, number>,
): AddedToken[] {
  const owners = new Map(Array.from(vocab, ([token, id]) => [id, token]));
  const seen = new Set<string>();
  return at.list(value, MAX_ADDED).map((entry, i) => {
    const place = at.key(String(i));
    const fields = place.record(entry);
    const { content } = fields;
    if (typeof content !== "string" || content === "" || !content.isWellFormed()) {
      return place.key("content").fail("bad-token", "must be a text", describeJson(content));
    }
    const id = place.key("id").id(fields["id"]);
    for (const key of ["single_word", "lstrip", "rstrip"]) place.flag(fields, key, false);
    const special = place.boolean(fields, "special", false);
    if (special && BYTE_SYMBOLS.includes(content)) {
      place.fail("bad-token", "must not be special, being a letter of bytes", quoteName(content));
    }
    const owner = owners.get(id) ?? content;
    if (owner !== content || (vocab.get(content) ?? id) !== id || seen.has(content)) {
      const rule = "must have an id and a text of its own, or those of the vocabulary";
      place.fail("repeated-id", rule, `${quoteName(content)} has ${id}`);
    }
    const normalized = place.boolean(fields, "normalized", !special);
    if (special && normalized) {
      place.key("normalized").fail("unsupported", "must be false of a special token", "true");
    }
    owners.set(id, content);
    seen.add(content);
    return { id, content, special, normalized };
  });
}

function readNormalizer(value: unknown, at: JsonPlace): unknown {
  if (value === null) return null;
  const type = at.record(value)["type"];
  const isKnown = type === "NFC" || type === "NFD" || type === "NFKC" || type === "NFKD";
  if (isKnown) return { type };
  const rule = "must be NFC, NFD, NFKC or NFKD, or the normalizer null";
  return at.key("type").fail(
    "unsupported",
    rule,
    describeJson(type),
  );
}
