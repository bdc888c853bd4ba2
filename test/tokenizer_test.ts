/** Tokenizers: ids and text as the Rust library has them, streams, batches, and files that are not sound. */

import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import fc from "fast-check";
import { EXIT, explain } from "../apps/command_line.ts";
import { BYTE_SYMBOLS } from "../model/tokenizer/byte_symbols.ts";
import { ModelInputError, Tokenizer, TokenizerError } from "../mod.ts";
import { SEED } from "./device.ts";

const FOLDER = new URL("testdata/tokenizer/", import.meta.url);
const NAMES = ["neox", "arcade"] as const;

/** As spelt in the file, with spaces between: texts with plain ids and, where they differ, ids with special tokens; ids with their texts. */
interface Golden {
  readonly encodings: readonly [text: string, plain: string, parsed?: string][];
  readonly decodings: readonly [ids: string, text: string, skipped?: string][];
}

function readJson(name: string): unknown {
  return JSON.parse(Deno.readTextFileSync(new URL(`${name}.json`, FOLDER)));
}

const golden = readJson("golden") as Record<string, Golden>;
const END = { bos_token: "<|endoftext|>", eos_token: { content: "<|endoftext|>" } };

function load(name: string, config: unknown = END): Promise<Tokenizer> {
  return Tokenizer.fromJson(readJson(name), config);
}

for (const name of NAMES) {
  const { encodings, decodings } = golden[name]!;

  Deno.test(`${name}: texts have the ids of the Rust library`, async () => {
    const tokenizer = await load(name);
    assert(encodings.length >= 200, `${encodings.length} texts`);
    const wrong: unknown[] = [];
    for (const [text, plain, parsed = plain] of encodings) {
      const got = tokenizer.encode(text).join(" ");
      const gotParsed = tokenizer.encode(text, { parseSpecialTokens: true }).join(" ");
      if (got !== plain) wrong.push({ text, got, plain });
      if (gotParsed !== parsed) wrong.push({ text, gotParsed, parsed });
    }
    assertEquals(wrong, []);
  });

  Deno.test(`${name}: ids have the texts of the Rust library`, async () => {
    const tokenizer = await load(name);
    for (const [spelt, text, skipped = text] of decodings) {
      const ids = spelt === "" ? [] : spelt.split(" ").map(Number);
      assertEquals(tokenizer.decode(ids), text, `${ids}`);
      assertEquals(tokenizer.decode(ids, { skipSpecialTokens: true }), skipped, `${ids}`);
    }
  });

  Deno.test(`${name}: any text comes back in normal form, with no special id`, async () => {
    const tokenizer = await load(name);
    const special = new Set(tokenizer.specialTokens.values());
    const piece = fc.oneof(
      fc.string({ unit: "binary", maxLength: 12 }),
      fc.string({ unit: "grapheme", maxLength: 12 }),
      fc.constantFrom(
        ...tokenizer.specialTokens.keys(),
        "  ",
        "\ud83d",
        "\udc00",
        "e\u0301→é",
        "\n",
      ),
    );
    const text = fc.array(piece, { maxLength: 6 }).map((pieces) => pieces.join(""));
    fc.assert(
      fc.property(text, (text) => {
        const ids = tokenizer.encode(text);
        assertEquals(tokenizer.decode(ids), text.toWellFormed().normalize("NFC"));
        assert(!ids.some((id) => special.has(id)));
      }),
      { seed: SEED, numRuns: 300 },
    );
  });

  Deno.test(`${name}: the pieces of a stream are the text of all ids, with no half character`, async () => {
    const tokenizer = await load(name);
    const ids = fc.array(fc.nat(tokenizer.vocabSize + 20), { maxLength: 40 });
    fc.assert(
      fc.property(ids, fc.boolean(), (ids, skipSpecialTokens) => {
        const stream = tokenizer.stream({ skipSpecialTokens });
        const pieces = [...ids.map((id) => stream.push(id)), stream.end()];
        assertEquals(pieces.join(""), tokenizer.decode(ids, { skipSpecialTokens }));
        assert(pieces.every((piece) => piece.isWellFormed()));
      }),
      { seed: SEED, numRuns: 300 },
    );
  });
}

Deno.test("a stream holds a character back until it is whole", async () => {
  const tokenizer = await load("neox");
  const bytes = [...new TextEncoder().encode("\ufeffé🦒")];
  const idOfByte = (byte: number) => tokenizer.tokenToId(BYTE_SYMBOLS[byte]!)!;
  const stream = tokenizer.stream();
  const pieces = bytes.map((byte) => stream.push(idOfByte(byte)));
  assertEquals(pieces, ["", "", "\ufeff", "", "é", "", "", "", "🦒"]);
  assertEquals(stream.push(idOfByte(0xf0)), "");
  assertThrows(() => stream.push(-1), ModelInputError);
  assertEquals(stream.push(idOfByte(0x41)), "\ufffdA", "what can no longer be completed");
  assertEquals(stream.push(idOfByte(0xc3)), "");
  assertEquals(stream.end(), "\ufffd");
  assertEquals(stream.push(idOfByte(0x41)) + stream.end(), "A", "a new text");
});

Deno.test("text of special tokens is text unless asked for", async () => {
  const tokenizer = await load("neox");
  const text = "a<|endoftext|>b";
  assert(!tokenizer.encode(text).includes(0));
  const a = tokenizer.tokenToId("a")!, b = tokenizer.tokenToId("b")!;
  const parsed = tokenizer.encode(text, { parseSpecialTokens: true });
  assertEquals(parsed, [a, 0, b]);
  assertEquals(tokenizer.decode(parsed, { skipSpecialTokens: true }), "ab");
  // Merges and a word list that lead to the token do not get there either.
  const json = readJson("neox") as { model: { vocab: Record<string, number>; merges: unknown[] } };
  json.model.vocab["qz"] = 9000;
  json.model.merges.push(["q", "z"]);
  const added = [{ id: 9000, content: "qz", special: true, normalized: false }];
  for (const ignore_merges of [true, false]) {
    const model = { ...json.model, ignore_merges };
    const tokenizer = await Tokenizer.fromJson({ ...json, model, added_tokens: added });
    assertEquals(tokenizer.encode("qz").length, 2);
    assertEquals(tokenizer.encode("qz", { parseSpecialTokens: true }), [9000]);
  }
});

Deno.test("tokens by name, empty texts, ids that stand for nothing, lone surrogates", async () => {
  const tokenizer = await load("neox");
  assertEquals([tokenizer.bosToken, tokenizer.eosToken, tokenizer.padToken], [0, 0, null]);
  assertEquals([...tokenizer.specialTokens], [["<|endoftext|>", 0], ["<|padding|>", 1]]);
  assertEquals(tokenizer.tokenToId("<|padding|>"), 1);
  assertEquals(tokenizer.idToToken(0), "<|endoftext|>");
  assertEquals([tokenizer.tokenToId("no such"), tokenizer.idToToken(1e6)], [null, null]);
  assertEquals(tokenizer.idToToken(tokenizer.vocabSize), null);
  assert(tokenizer.idToToken(tokenizer.vocabSize - 1) !== null);
  assertEquals(tokenizer.encode(""), []);
  assertEquals(tokenizer.decode([]), "");
  assertEquals(tokenizer.decode([tokenizer.vocabSize, 50277, 50303]), "");
  assertEquals(tokenizer.decode(tokenizer.encode("\ud800x")), "\ufffdx");
  assertEquals(tokenizer.decode(tokenizer.encode("do n't . Yes !")), "do n't . Yes !");
  for (const ids of [[-1], [0.5], [NaN], ["1"], [2n], 7, null] as unknown[] as number[][]) {
    assertThrows(() => tokenizer.decode(ids), ModelInputError);
  }
  assertThrows(() => tokenizer.encode(7 as unknown as string), ModelInputError);
  const misspelt = { parseSpecialToken: true } as Parameters<typeof tokenizer.encode>[1];
  assertThrows(() => tokenizer.encode("a", misspelt), ModelInputError, "parseSpecialToken");
  const text = { parseSpecialTokens: "false" } as unknown as { parseSpecialTokens: boolean };
  assertThrows(() => tokenizer.encode("a", text), ModelInputError, "true or false");
});

Deno.test("batches are filled up on either side, also with id 0", async () => {
  const tokenizer = await load("neox");
  const [a, b] = ["a", "b"].map((token) => tokenizer.tokenToId(token)!) as [number, number];
  const texts = ["a", "abb"];
  const [, long] = texts.map((text) => tokenizer.encode(text)) as [number[], number[]];
  const fill = long.length - 1;
  const zeros = new Array<number>(fill).fill(0), ones = long.map(() => 1);
  assertEquals(tokenizer.encodeBatch(texts, { padding: "left", padTokenId: 0 }), {
    inputIds: [[...zeros, a], long],
    attentionMask: [[...zeros, 1], ones],
  });
  assertEquals(tokenizer.encodeBatch(texts, { padTokenId: b }).inputIds[0], [
    a,
    ...zeros.map(() => b),
  ]);
  assertThrows(() => tokenizer.encodeBatch(texts), ModelInputError, "padTokenId must be given");
  assertEquals(tokenizer.encodeBatch(["a", "b"]).attentionMask, [[1], [1]]);
  const padded = await load("neox", { pad_token: "<|padding|>", padding_side: "left" });
  assertEquals(padded.encodeBatch(texts).inputIds[0], [...zeros.map(() => 1), a]);
  for (const options of [{ padTokenId: -1 }, { padding: "both" }, { padId: 0 }]) {
    assertThrows(
      () => tokenizer.encodeBatch(texts, options as { padTokenId: number }),
      ModelInputError,
    );
  }
});

Deno.test("a template's tokens stand around the text", async () => {
  const template = {
    type: "TemplateProcessing",
    single: [
      { SpecialToken: { id: "<|endoftext|>", type_id: 0 } },
      { Sequence: { id: "A", type_id: 0 } },
      { SpecialToken: { id: "<|padding|>", type_id: 0 } },
    ],
    special_tokens: { "<|endoftext|>": { ids: [0] }, "<|padding|>": { ids: [1] } },
  };
  const processors = [{ type: "ByteLevel" }, template];
  const post_processor = { type: "Sequence", processors };
  const json = { ...readJson("neox") as object, post_processor };
  const tokenizer = await Tokenizer.fromJson(json);
  const a = tokenizer.tokenToId("a")!;
  assertEquals(tokenizer.encode("a"), [0, a, 1]);
  assertEquals(tokenizer.encode("a", { addSpecialTokens: false }), [a]);
});

/** What is changed in a sound file, and the reason for which it is refused. */
type Change = (json: Json) => unknown;
// deno-lint-ignore no-explicit-any
type Json = any;

const HOSTILE: readonly [what: string, reason: string, change: Change][] = [
  ["no object", "not-an-object", () => [1]],
  ["null", "not-an-object", () => null],
  ...["model", "pre_tokenizer", "normalizer", "decoder", "post_processor"].map((
    key,
  ): [string, string, Change] => [`no ${key}`, "missing-key", (json) => delete json[key]]),
  ["another model", "unsupported", (json) => json.model.type = "Unigram"],
  ["a model that is a list", "not-an-object", (json) => json.model = []],
  ["dropout", "unsupported", (json) => json.model.dropout = 0.1],
  ["byte fallback", "unsupported", (json) => json.model.byte_fallback = true],
  ["a suffix of words", "unsupported", (json) => json.model.end_of_word_suffix = "</w>"],
  ["a vocabulary that is a list", "not-an-object", (json) => json.model.vocab = ["a"]],
  ["a negative id", "bad-id", (json) => json.model.vocab.a = -1],
  ["an id with a fraction", "bad-id", (json) => json.model.vocab.a = 1.5],
  ["an id that is text", "bad-id", (json) => json.model.vocab.a = "7"],
  ["an id beyond all", "bad-id", (json) => json.model.vocab.a = 2 ** 24],
  ["an id of two tokens", "repeated-id", (json) => json.model.vocab.a = json.model.vocab.b],
  ["a byte without a token", "missing-byte", (json) => delete json.model.vocab["Ā"]],
  ["merges that are text", "not-a-list", (json) => json.model.merges = "a b"],
  ["a merge of three", "bad-merge", (json) => json.model.merges.push(["a", "b", "c"])],
  ["merges in two forms", "bad-merge", (json) => json.model.merges.push("a b")],
  ["a merge of nothing", "bad-merge", (json) => json.model.merges.push(["", "a"])],
  ["a merge to no token", "unknown-token", (json) => json.model.merges.push(["Q", "Ā"])],
  ["no added tokens", "not-a-list", (json) => delete json.added_tokens],
  ["an added token that is text", "not-an-object", (json) => json.added_tokens.push("<s>")],
  ["an empty added token", "bad-token", (json) => json.added_tokens[0].content = ""],
  ["half a character", "bad-token", (json) => json.added_tokens[0].content = "\ud800"],
  ["an added token twice", "repeated-id", (json) => json.added_tokens.push(json.added_tokens[0])],
  ["an added token's id taken", "repeated-id", (json) => json.added_tokens[2].id = 70],
  ["a special letter", "bad-token", (json) => {
    json.added_tokens.push({ id: json.model.vocab.a, content: "a", special: true });
  }],
  ["a special token in normal form", "unsupported", (json) => {
    json.added_tokens[0].normalized = true;
  }],
  ["special as text", "not-a-boolean", (json) => json.added_tokens[0].special = "yes"],
  ["whole words only", "unsupported", (json) => json.added_tokens[0].single_word = true],
  ["space taken along", "unsupported", (json) => json.added_tokens[0].lstrip = true],
  ["another normalizer", "unsupported", (json) => json.normalizer = { type: "Precompiled" }],
  ["another decoder", "unsupported", (json) => json.decoder = { type: "Metaspace" }],
  ["another pre-tokenizer", "unsupported", (json) => json.pre_tokenizer = { type: "Metaspace" }],
  ["a space put first", "unsupported", (json) => json.pre_tokenizer.add_prefix_space = true],
  ["no bytes at the end", "unsupported", (json) => json.pre_tokenizer = { type: "Digits" }],
  ["a pattern without end", "unknown-pattern", (json) => {
    const pattern = { Regex: "(a+)+$" };
    json.pre_tokenizer = { type: "Split", pattern, behavior: "Isolated", invert: false };
  }],
  ["a way to split", "unsupported", (json) => {
    const pattern = { Regex: "a" };
    json.pre_tokenizer = { type: "Split", pattern, behavior: "MergedWithNext", invert: false };
  }],
  ["a sequence in a sequence", "unsupported", (json) => {
    const inner = { type: "Sequence", pretokenizers: [] };
    json.pre_tokenizer = { type: "Sequence", pretokenizers: [inner] };
  }],
  ["another post-processor", "unsupported", (json) => json.post_processor = { type: "Bert" }],
  ["a template without a text", "unsupported", (json) => {
    json.post_processor = { type: "TemplateProcessing", single: [], special_tokens: {} };
  }],
  ["a template's unknown token", "unknown-token", (json) => {
    const single = [{ SpecialToken: { id: "constructor" } }, { Sequence: { id: "A" } }];
    json.post_processor = { type: "TemplateProcessing", single, special_tokens: {} };
  }],
];

for (const [what, reason, change] of HOSTILE) {
  Deno.test(`refused: ${what}`, async () => {
    const json = readJson("neox");
    const changed = change(json);
    const given = what === "no object" || what === "null" ? changed : json;
    const error = await assertRejects(() => Tokenizer.fromJson(given), TokenizerError);
    assertEquals(error.fault.reason, reason, error.message);
    assertEquals(error.code, "tokenizer");
    assertEquals(explain("inspect", error).status, EXIT.model);
    assertEquals(error.fault.file, "tokenizer.json");
  });
}

const CONFIGS: readonly [config: unknown, reason: string][] = [
  [[], "not-an-object"],
  [{ pad_token: "<pad>" }, "unknown-token"],
  [{ bos_token: 0 }, "not-a-token"],
  [{ padding_side: "both" }, "bad-side"],
];

Deno.test("a tokenizer's config that is not sound is refused", async () => {
  for (const [config, reason] of CONFIGS) {
    const error = await assertRejects(() => load("neox", config), TokenizerError);
    assertEquals(error.fault.reason, reason);
    assertEquals(error.fault.file, "tokenizer_config.json");
  }
});

Deno.test("a folder's files, and those that are not sound", async () => {
  await using folder = await scratchFolder();
  const write = (name: string, text: string) => Deno.writeTextFile(`${folder.path}/${name}`, text);
  const load = () => Tokenizer.fromPretrained(folder.path);
  const refuses = async (reason: string) => {
    const error = await assertRejects(load, TokenizerError);
    assertEquals(error.fault.reason, reason, error.message);
  };
  await refuses("missing-file");
  await write("tokenizer.json", "{");
  await refuses("not-json");
  await Deno.writeFile(`${folder.path}/tokenizer.json`, new Uint8Array([0x22, 0xff, 0x22]));
  await refuses("not-json");
  await Deno.truncate(`${folder.path}/tokenizer.json`, 64 * 1024 * 1024 + 1);
  await refuses("too-long");
  await Deno.truncate(`${folder.path}/tokenizer.json`, 0);
  await write("tokenizer.json", JSON.stringify(readJson("neox")));
  assertEquals((await load()).eosToken, null);
  await write("special_tokens_map.json", '{"eos_token":"<|endoftext|>","pad_token":"<|padding|>"}');
  assertEquals((await load()).padToken, 1);
  await write("tokenizer_config.json", '{"pad_token":"<|endoftext|>"}');
  const tokenizer = await load();
  assertEquals([tokenizer.padToken, tokenizer.eosToken], [0, 0]);
  await write("special_tokens_map.json", "[]");
  await refuses("not-an-object");
  const unknown = { dtype: "f32" } as Parameters<typeof Tokenizer.fromPretrained>[1];
  await assertRejects(() => Tokenizer.fromPretrained(folder.path, unknown), ModelInputError);
});

async function scratchFolder(): Promise<AsyncDisposable & { path: string }> {
  const path = `test/scratch/tokenizer-${crypto.randomUUID()}`;
  await Deno.mkdir(path, { recursive: true });
  return {
    path,
    [Symbol.asyncDispose]: () => Deno.remove(path, { recursive: true }),
  };
}
