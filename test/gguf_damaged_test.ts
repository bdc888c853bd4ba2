/** Damaged and hostile GGUF files: each is refused for its own reason, at a bounded cost. */

import { assert, assertEquals, assertRejects } from "@std/assert";
import fc from "fast-check";
import { openGguf } from "../model/weights/gguf/gguf.ts";
import { HeaderCursor } from "../model/weights/gguf/header_cursor.ts";
import { FileFaultError } from "../runtime/errors.ts";
import {
  f32Value,
  GGUF,
  ggufFile,
  i32Value,
  join,
  MemorySource,
  numberArray,
  type PartChanges,
  type TensorPart,
  text,
  textArray,
  textValue,
  tinyParts,
  u32,
  u32Value,
  u64,
} from "./gguf_file.ts";

/** A file: changes to the tiny model, its bytes, or its bytes with zeros behind them. */
type Damage = PartChanges | Uint8Array | MemorySource;

const magic = new TextEncoder().encode("GGUF");
const head = (tensors: number | bigint, keys: number | bigint) =>
  join(magic, u32(3), u64(tensors), u64(keys));
const oneKey = (...value: Uint8Array[]) => join(head(0, 1), text("k"), ...value);
const array = (type: number, count: number | bigint) => join(u32(9), u32(type), u64(count));
const good = ggufFile(tinyParts());
const key = (name: string, value: Uint8Array | null): PartChanges => ({ keys: { [name]: value } });
const tensor = (name: string, part: Omit<TensorPart, "name"> | null): PartChanges => ({
  tensors: { [name]: part },
});
const firstTensor = (sizes: (number | bigint)[], type = 0, offset: number | bigint = 0) =>
  tensor("token_embd.weight", { sizes, type, offset, bytes: new Uint8Array(64) });

/** Each with the reason for which it is refused as damaged. */
const damaged: Readonly<Record<string, readonly [Damage, string]>> = {
  "nothing": [new Uint8Array(0), "truncated"],
  "three bytes": [magic.slice(0, 3), "truncated"],
  "another format": [{ magic: "GGML" }, "magic"],
  "a file cut in its first counts": [good.slice(0, 12), "truncated"],
  "a file cut in a key": [join(head(0, 1), u64(20), new Uint8Array(19)), "string-length"],
  "a file cut before a value's type": [join(head(0, 1), text("k")), "keys-count"],
  "a file cut in a tensor's entry": [cutAfter("blk.0.attn_q.weight"), "truncated"],
  "a file cut in the last tensor": [good.slice(0, -1), "tensor-end"],

  "2⁶⁴ − 1 tensors": [{ tensorCount: 2n ** 64n - 1n }, "tensors-count"],
  "2⁴⁰ tensors": [{ tensorCount: 2n ** 40n }, "tensors-count"],
  "as many tensors as wrap around at 56 bytes each": [
    head(2n ** 64n / 56n + 1n, 0),
    "tensors-count",
  ],
  "more tensors than fit": [join(head(2, 0), new Uint8Array(41)), "tensors-count"],
  "more tensors than are allowed, with room": [
    new MemorySource(head(65_537, 0), 2 ** 30),
    "tensors-count",
  ],
  "2⁶⁴ − 1 keys": [{ keyCount: 2n ** 64n - 1n }, "keys-count"],
  "more keys than fit": [join(head(0, 2), new Uint8Array(27)), "keys-count"],
  "more keys than are allowed, with room": [
    new MemorySource(head(0, 65_537), 2 ** 30),
    "keys-count",
  ],
  "more keys than are there": [{ keyCount: 20 }, "string-length"],

  "a string of 2⁶⁴ − 1 bytes": [oneKey(u32(8), u64(2n ** 64n - 1n)), "string-length"],
  "a string of 2⁶³ bytes": [oneKey(u32(8), u64(2n ** 63n)), "string-length"],
  "a string of 2⁵³ + 1 bytes": [oneKey(u32(8), u64(2n ** 53n + 1n)), "string-length"],
  "a string of a byte too much": [oneKey(u32(8), u64(4), new Uint8Array(3)), "string-length"],
  "a string above 64 MiB, with room": [
    new MemorySource(oneKey(u32(8), u64(2 ** 26 + 1)), 2 ** 30),
    "string-length",
  ],
  "a key that is not UTF-8": [
    join(head(0, 1), u64(2), Uint8Array.of(0xff, 0xfe), u32(0), u32(0)),
    "utf-8",
  ],
  "a value that is not UTF-8": [key("k", join(u32(8), u64(2), Uint8Array.of(0xc3, 0x28))), "utf-8"],
  "half a surrogate pair": [
    key("k", join(u32(8), u64(3), Uint8Array.of(0xed, 0xa0, 0x80))),
    "utf-8",
  ],
  "an overlong letter in a long string": [
    key("k", join(u32(8), u64(40), new Uint8Array(38).fill(97), Uint8Array.of(0xc0, 0xaf))),
    "utf-8",
  ],
  "an empty key": [join(head(0, 1), text(""), u32Value(1), new Uint8Array(9)), "key-length"],
  "a key of 65,536 letters": [key("k".repeat(65_536), u32Value(1)), "key-length"],
  "a key given twice": [
    join(head(0, 2), text("k"), u32Value(1), text("k"), u32Value(1)),
    "key-twice",
  ],

  "an array of 2⁶³ elements": [oneKey(array(0, 2n ** 63n)), "elements-count"],
  "an array of 2⁶² elements": [oneKey(array(4, 2n ** 62n), new Uint8Array(9)), "elements-count"],
  "an array whose bytes wrap around to 8": [oneKey(array(10, 2n ** 61n + 1n)), "elements-count"],
  "an array of a string too much": [oneKey(array(8, 2), text("a")), "elements-count"],
  "an array that is cut": [oneKey(array(6, 3), new Uint8Array(11)), "elements-count"],
  "an array of 2²⁴ + 1 elements, with room": [
    new MemorySource(oneKey(array(0, 2 ** 24 + 1)), 2 ** 30),
    "elements-count",
  ],
  "arrays in arrays, five deep": [oneKey(u32(9), nested(4), array(0, 0).slice(4)), "array-depth"],
  "arrays in arrays, 100,000 deep": [oneKey(u32(9), nested(100_000)), "array-depth"],
  "2,000 empty arrays in an array": [
    oneKey(array(9, 2000), new Uint8Array(2000 * 12)),
    "array-count",
  ],
  "a value of type 13": [key("k", join(u32(13), u32(0))), "value-type"],
  "a value of type 2³² − 1": [key("k", join(u32(2 ** 32 - 1), u32(0))), "value-type"],
  "elements of type 13": [key("k", join(array(13, 1), u32(0))), "value-type"],
  "a boolean of 2": [key("k", join(u32(7), Uint8Array.of(2))), "bool"],
  "an array with a boolean of 255": [key("k", numberArray(7, Uint8Array.of(1, 255))), "bool"],

  "an alignment of 0": [key("general.alignment", u32Value(0)), "alignment"],
  "an alignment of 13": [key("general.alignment", u32Value(13)), "alignment"],
  "an alignment of 2¹⁷": [key("general.alignment", u32Value(2 ** 17)), "alignment"],
  "an alignment of 2³¹": [key("general.alignment", u32Value(2 ** 31)), "alignment"],
  "an alignment stored as i32": [key("general.alignment", i32Value(32)), "alignment"],
  "an alignment stored as text": [key("general.alignment", textValue("32")), "alignment"],
  "an alignment that the tensors do not have": [
    key("general.alignment", u32Value(64)),
    "tensor-offset",
  ],

  "a tensor without a name": [tensor("", { sizes: [4] }), "tensor-name"],
  "a tensor with a name of 513 letters": [tensor("n".repeat(513), { sizes: [4] }), "tensor-name"],
  "a tensor given twice": [
    ggufFile({ keys: {}, tensors: [{ name: "t", sizes: [4] }, { name: "t", sizes: [4] }] }),
    "tensor-twice",
  ],
  "a tensor of five axes": [firstTensor([1, 1, 1, 1, 1]), "tensor-rank"],
  "a tensor without elements": [firstTensor([4, 0]), "tensor-shape"],
  "sizes whose product wraps around to 0": [
    firstTensor([2n ** 32n, 2n ** 32n, 2n ** 32n, 2n ** 32n]),
    "tensor-end",
  ],
  "sizes whose bytes wrap around to 16": [firstTensor([2n ** 62n + 4n]), "tensor-end"],
  "sizes of 2⁶⁴ − 1": [firstTensor([2n ** 64n - 1n, 2n ** 64n - 1n]), "tensor-end"],
  "a tensor a little longer than the file": [firstTensor([4, 100]), "tensor-end"],
  "a row that is not whole blocks": [firstTensor([48, 1], 8), "row-length"],
  "a row of half a large block": [firstTensor([128, 2], 12), "row-length"],
  "an offset that is not aligned": [firstTensor([4, 3], 0, 4), "tensor-offset"],
  "an offset that leaves a hole": [firstTensor([4, 3], 0, 64), "tensor-offset"],
  "an offset of 2⁶³": [firstTensor([4, 3], 0, 2n ** 63n), "tensor-offset"],
  "an offset that wraps around": [firstTensor([4, 3], 0, 2n ** 64n - 32n), "tensor-offset"],
  "tensors that overlap": [
    tensor("output_norm.weight", { sizes: [4], offset: 0 }),
    "tensor-offset",
  ],

  "no architecture": [key("general.architecture", null), "key-missing"],
  "an architecture that is a number": [key("general.architecture", u32Value(1)), "key-value"],
  "no embedding": [tensor("token_embd.weight", null), "tensor-missing"],
  "an embedding of one axis": [tensor("token_embd.weight", { sizes: [12] }), "tensor-shape"],
  "another embedding length": [key("stablelm.embedding_length", u32Value(8)), "embedding-length"],
  "no embedding length": [key("stablelm.embedding_length", null), "key-missing"],
  "no epsilon": [key("stablelm.attention.layer_norm_epsilon", null), "key-missing"],
  "an epsilon that is NaN": [
    key("stablelm.attention.layer_norm_epsilon", f32Value(NaN)),
    "key-value",
  ],
  "a context length of 0": [key("stablelm.context_length", u32Value(0)), "key-value"],
  "a feed-forward length of −1": [key("stablelm.feed_forward_length", i32Value(-1)), "key-value"],
  "no layers": [key("stablelm.block_count", u32Value(0)), "key-value"],
  "a million layers": [key("stablelm.block_count", u32Value(1_000_000)), "block-count"],
  "2⁶³ layers": [key("stablelm.block_count", join(u32(10), u64(2n ** 63n))), "key-value"],
  "a layer more than is counted": [
    tensor("blk.1.attn_norm.weight", { sizes: [4] }),
    "layers-differ",
  ],
  "a layer left out": [tensor("blk.2.attn_norm.weight", { sizes: [4] }), "layers-differ"],
  "layers of which only one has a norm": [
    {
      keys: { "stablelm.block_count": u32Value(2) },
      tensors: { "blk.1.ffn_norm.weight": { sizes: [4] } },
    },
    "layers-differ",
  ],
  "no heads": [key("stablelm.attention.head_count", u32Value(0)), "key-value"],
  "heads that do not divide the width": [
    key("stablelm.attention.head_count", u32Value(3)),
    "head-count",
  ],
  "heads that are counted by layer": [
    key("stablelm.attention.head_count", numberArray(GGUF.u32, Uint32Array.of(2))),
    "key-value",
  ],
  "key heads that do not divide the heads": [
    {
      keys: {
        "stablelm.attention.head_count": u32Value(4),
        "stablelm.attention.head_count_kv": u32Value(3),
      },
    },
    "head-count",
  ],
  "more key heads than heads": [key("stablelm.attention.head_count_kv", u32Value(4)), "key-value"],
  "a rotation of more than a head": [
    key("stablelm.rope.dimension_count", u32Value(4)),
    "key-value",
  ],
  "no rotation": [key("stablelm.rope.dimension_count", u32Value(0)), "key-value"],
  "an odd rotation": [
    {
      keys: {
        "stablelm.attention.head_count": u32Value(1),
        "stablelm.rope.dimension_count": u32Value(3),
      },
    },
    "key-value",
  ],
  "a base that is infinite": [key("stablelm.rope.freq_base", f32Value(Infinity)), "key-value"],
  "more tokens than embeddings": [
    key("tokenizer.ggml.tokens", textArray("a", "b", "c", "d")),
    "token-count",
  ],
  "tokens that are numbers": [
    key("tokenizer.ggml.tokens", numberArray(4, Uint32Array.of(1))),
    "key-value",
  ],
  "scores that are i32": [
    key("tokenizer.ggml.scores", numberArray(5, new Int32Array(3))),
    "key-value",
  ],
  "fewer scores than tokens": [
    key("tokenizer.ggml.scores", numberArray(6, new Float32Array(2))),
    "token-count",
  ],
  "token types that are f32": [
    key("tokenizer.ggml.token_type", numberArray(6, new Float32Array(3))),
    "key-value",
  ],
  "merges that are no list": [key("tokenizer.ggml.merges", textValue("a b")), "key-value"],
  "an end that is no token": [key("tokenizer.ggml.eos_token_id", u32Value(3)), "key-value"],
  "a padding of −1": [key("tokenizer.ggml.padding_token_id", i32Value(-1)), "key-value"],
  "norms for other heads": [tensor("blk.0.attn_q_norm.weight", { sizes: [2, 3] }), "tensor-shape"],
  "norms of another width": [tensor("blk.0.attn_k_norm.weight", { sizes: [3, 2] }), "tensor-shape"],
  "a fused projection of other heads": [
    tensor("blk.0.attn_qkv.weight", { sizes: [4, 11] }),
    "tensor-shape",
  ],
};

/** Each with the reason for which it is refused as unsupported, and words of the message. */
const unsupported: Readonly<Record<string, readonly [Damage, string, string]>> = {
  "version 0": [{ version: 0 }, "version", "0"],
  "version 1": [{ version: 1 }, "version", "must be 2 or 3"],
  "version 4": [{ version: 4 }, "version", "4"],
  "a big-endian file": [{ version: 3 << 24 }, "big-endian", "little-endian"],
  "another architecture": [
    key("general.architecture", textValue("llama")),
    "architecture",
    '"llama"',
  ],
  "a part of a split file": [
    key("split.count", join(u32(GGUF.u16), Uint8Array.of(2, 0))),
    "split",
    "llama-gguf-split --merge",
  ],
  "a type that is not supported": [firstTensor([256, 3], 16), "tensor-type", "IQ2_XXS"],
  "a type that was removed": [firstTensor([32, 3], 4), "tensor-type", "Q4_2"],
  "a type that is not known": [firstTensor([4, 3], 99), "tensor-type", "Q4_K, Q5_K, Q6_K: type 99"],
  "old blocks": [
    {
      keys: { "general.quantization_version": u32Value(1) },
      tensors: { "blk.0.ffn_up.weight": { sizes: [32, 1], type: 8, bytes: new Uint8Array(34) } },
    },
    "quantization-version",
    "must be 2",
  ],
  "a quantised vector": [
    tensor("output_norm.bias", { sizes: [32], type: 8, bytes: new Uint8Array(34) }),
    "tensor-type",
    "a vector must be F32, F16 or BF16: Q8_0",
  ],
  "a tensor that StableLM does not have": [
    tensor("rope_freqs.weight", { sizes: [4] }),
    "tensor-unknown",
    "rope_freqs.weight",
  ],
  "a bias that StableLM does not have": [
    tensor("blk.0.attn_output.bias", { sizes: [4] }),
    "tensor-unknown",
    "blk.0.attn_output.bias",
  ],
  "more heads than anyone has": [
    {
      keys: {
        "stablelm.embedding_length": u32Value(2 ** 18),
        "stablelm.attention.head_count": u32Value(2 ** 17),
      },
      tensors: {
        "token_embd.weight": { sizes: [2 ** 18, 3] },
        "blk.0.attn_q_norm.weight": { sizes: [2, 2 ** 17] },
      },
    },
    "tensor-count",
    "may have 65536 tensors",
  ],
  "a projection both fused and not": [
    tensor("blk.0.attn_qkv.weight", { sizes: [4, 12] }),
    "tensor-twice",
    "model.layers.0.self_attn.q_proj.weight",
  ],
  "a scaling that is not supported": [
    key("stablelm.rope.scaling.type", textValue("longrope")),
    "rope-scaling",
    "must be none, linear or yarn",
  ],
  "a scaling with more to it": [
    key("stablelm.rope.scaling.attn_factor", f32Value(2)),
    "rope-scaling",
    "stablelm.rope.scaling.attn_factor",
  ],
};

for (const [name, [damage, reason]] of Object.entries(damaged)) {
  Deno.test(`GGUF refuses ${name}`, async () => {
    await assertRefused(damage, "model-format", reason);
  });
}

for (const [name, [damage, reason, words]] of Object.entries(unsupported)) {
  Deno.test(`GGUF does not support ${name}, and says so`, async () => {
    const message = await assertRefused(damage, "model-unsupported", reason);
    assert(message.includes(words), message);
  });
}

Deno.test("sizes are multiplied without a rounding", async () => {
  const sizes = [2n ** 32n - 1n, 2n ** 32n - 1n, 2n ** 32n - 1n];
  const message = await assertRefused(firstTensor(sizes), "model-format", "tensor-end");
  assert(message.endsWith(`takes ${4n * (2n ** 32n - 1n) ** 3n}`), message);
});

Deno.test("text from a GGUF file is made safe to show", async () => {
  const name = `\u001b[2J\u202e${"x".repeat(300)}`;
  const message = await assertRefused(
    tensor(name, { sizes: [4] }),
    "model-unsupported",
    "tensor-unknown",
  );
  assert(message.includes('tensor "?[2J?xxx'), message);
  assert(message.length < 300);
});

Deno.test("a GGUF header ends at 256 MiB, whatever the file has room for", async () => {
  const source = new MemorySource(magic, 2 ** 40);
  const cursor = new HeaderCursor(source);
  await cursor.fill(4);
  const error = await assertRejects(() => cursor.fill(2 ** 28 + 1), FileFaultError, "268435456");
  assertEquals([error.fault.reason, source.reads.length], ["header-length", 1]);
});

Deno.test("3,000 damaged GGUF files end in a checkpoint or one of our errors", async () => {
  const odd = [0n, 1n, 5n, 255n, 2n ** 31n, 2n ** 32n - 1n, 2n ** 53n + 1n, 2n ** 61n, 2n ** 63n];
  const headerLength = good.length - 15 * 128;
  const byte = fc.record({ at: fc.nat(good.length - 1), value: fc.nat(255) });
  const word = fc.record({ at: fc.nat(headerLength), value: fc.constantFrom(...odd) });
  let opened = 0;
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.oneof(byte, word), { minLength: 1, maxLength: 3 }),
      fc.nat(60),
      async (changes, cut) => {
        const bytes = good.slice(0, good.length - (cut > 50 ? (cut - 50) ** 3 : 0));
        for (const { at, value } of changes) {
          const change = typeof value === "number" ? Uint8Array.of(value) : u64(value);
          for (let i = 0; i < change.length; i++) {
            if (at + i < bytes.length) bytes[at + i] = change[i]!;
          }
        }
        const source = new MemorySource(bytes);
        try {
          const checkpoint = await openGguf(source);
          for (const name of checkpoint.source.tensors.keys()) await checkpoint.source.read(name);
          opened++;
        } catch (error) {
          if (!(error instanceof FileFaultError)) throw error;
          assertEquals(source.disposals, 1);
        }
        // What is read is what is held: no length of the file's may make that much more than the file.
        const read = source.reads.reduce((sum, { length }) => sum + length, 0);
        assert(read <= 2 * bytes.length, `${read} bytes were read of ${bytes.length}`);
      },
    ),
    { numRuns: 3000, seed: 20 },
  );
  assert(opened > 100, `${opened} of the files could be opened`);
});

async function assertRefused(damage: Damage, code: string, reason: string): Promise<string> {
  const source = damage instanceof MemorySource
    ? damage
    : new MemorySource(damage instanceof Uint8Array ? damage : ggufFile(tinyParts(damage)));
  const error = await assertRejects(() => openGguf(source), FileFaultError);
  assertEquals([error.code, error.fault.reason], [code, reason], error.message);
  assert(error.message.startsWith("Cannot read f.gguf: "), error.message);
  assertEquals(source.disposals, 1);
  // Nothing was read for a claim that the file cannot keep.
  assert(source.reads.every(({ length }) => length <= 2 ** 20), JSON.stringify(source.reads));
  return error.message;
}

function cutAfter(words: string): Uint8Array {
  const bytes = new TextDecoder("latin1").decode(good);
  return good.slice(0, bytes.indexOf(words) + words.length + 6);
}

/** Arrays of one array each; the type of the outermost is for the caller to give. */
function nested(depth: number): Uint8Array {
  return join(...Array(Math.min(depth, 50_000)).fill(join(u32(9), u64(1))));
}
