/** GGUF files: what llama.cpp's Python package wrote, and what its converters leave unsaid. */

import { assert, assertEquals, assertRejects } from "@std/assert";
import { BLOCK_BYTES, dequantizeQ4_K } from "../model/weights/gguf/ggml_blocks.ts";
import { openGguf } from "../model/weights/gguf/gguf.ts";
import { ModelInputError } from "../runtime/errors.ts";
import type { HostTensor } from "../runtime/tensor.ts";
import { StableLmConfig } from "../model/config.ts";
import {
  f32Value,
  GGUF,
  ggufFile,
  join,
  MemorySource,
  numberArray,
  text,
  textArray,
  textValue,
  tinyParts,
  u32,
  u32Value,
  u64,
} from "./gguf_file.ts";

const FOLDER = new URL("testdata/gguf/", import.meta.url);
const golden: Readonly<Record<string, Readonly<Record<string, string>>>> = JSON.parse(
  Deno.readTextFileSync(new URL("tiny.json", FOLDER)),
);

for (const [file, wanted] of Object.entries(golden)) {
  Deno.test(`${file} holds the tensors that were written, to the bit`, async () => {
    const { source } = await openFile(file);
    assertEquals([...source.tensors.keys()].sort(), Object.keys(wanted).sort());
    for (const [name, { shape, storedAs, dtype }] of source.tensors) {
      const tensor = await source.read(name);
      assertEquals([tensor.shape, tensor.dtype], [shape, dtype]);
      const digest = await sha256(Float32Array.from(tensor.numbers));
      assertEquals(`${storedAs}[${shape.join(", ")}] ${digest}`, wanted[name]!, name);
    }
  });

  Deno.test(`${file} gives the same rows one at a time`, async () => {
    const { source } = await openFile(file);
    for (const [name, { shape }] of source.tensors) {
      const all = await source.read(name);
      const [rows, ...rest] = shape as [number, ...number[]];
      const parts: HostTensor[] = [];
      for (let begin = 0; begin < rows; begin += 5) {
        parts.push(await source.read(name, { begin, end: Math.min(begin + 5, rows) }));
      }
      assertEquals(parts[0]!.shape, [Math.min(5, rows), ...rest]);
      assertEquals(join(...parts.map(({ bytes }) => bytes)), new Uint8Array(all.bytes));
    }
  });
}

Deno.test("a parallel StableLM with norms of q and k is known by its tensors", async () => {
  const { config, metadata } = await openFile("tiny_parallel.gguf");
  assertEquals(config, {
    model_type: "stablelm",
    architectures: ["StableLmForCausalLM"],
    vocab_size: 96,
    hidden_size: 64,
    intermediate_size: 64,
    num_hidden_layers: 2,
    num_attention_heads: 4,
    num_key_value_heads: 2,
    hidden_act: "silu",
    max_position_embeddings: 128,
    layer_norm_eps: 1e-5,
    tie_word_embeddings: false,
    use_qkv_bias: false,
    qk_layernorm: true,
    use_parallel_residual: true,
    rope_theta: 1e6,
    partial_rotary_factor: 0.25,
    rope_scaling: null,
    bos_token_id: 0,
    eos_token_id: 0,
    pad_token_id: 1,
    dtype: "float32",
  });
  assertEquals(metadata.get("general.name"), "Tiny StableLM");
  assertEquals((metadata.get("tokenizer.ggml.tokens") as string[]).slice(1, 3), ["Ġthe", "日本"]);
  assertEquals(metadata.get("tokenizer.ggml.merges"), ["Ġ t", "Ġt he"]);
  assertEquals((metadata.get("tokenizer.ggml.token_type") as Int32Array)[0], 3);
});

Deno.test("a sequential StableLM is known as one, whatever use_parallel_residual says", async () => {
  const { config, metadata } = await openFile("tiny_sequential.gguf");
  assertEquals(metadata.get("stablelm.use_parallel_residual"), true);
  const { use_parallel_residual, use_qkv_bias, qk_layernorm, tie_word_embeddings } = config;
  assertEquals(
    { use_parallel_residual, use_qkv_bias, qk_layernorm, tie_word_embeddings },
    {
      use_parallel_residual: false,
      use_qkv_bias: true,
      qk_layernorm: false,
      tie_word_embeddings: true,
    },
  );
  assertEquals([config.num_key_value_heads, config.pad_token_id], [2, null]);
  assertEquals([config.rope_theta, config.partial_rotary_factor], [10_000, 0.5]);
});

Deno.test("the config is one that StableLmConfig takes, with a base of the caller's", async () => {
  const { config } = await openFile("tiny_sequential.gguf");
  const changed = { ...config, rope_theta: 1e6 };
  const resolved = StableLmConfig.fromJson(changed, "tiny_sequential.gguf");
  assertEquals([resolved.head_dim, resolved.rotary_dim], [16, 8]);
  assertEquals(resolved.rope_parameters.rope_theta, 1e6);
  assertEquals(resolved.tie_word_embeddings, true);
});

Deno.test("the share of a head that is rotated gives back the very number that the file has", async () => {
  for (let headDim = 2; headDim <= 160; headDim += headDim < 32 ? 1 : 7) {
    for (let rotated = 2; rotated <= headDim; rotated += 2) {
      const keys = {
        "stablelm.embedding_length": u32Value(headDim),
        "stablelm.attention.head_count": u32Value(1),
        "stablelm.rope.dimension_count": u32Value(rotated),
        "tokenizer.ggml.tokens": null,
      };
      const parts = tinyParts({ keys });
      const tensors = [
        { name: "token_embd.weight", sizes: [headDim, 1] },
        { name: "blk.0.attn_norm.weight", sizes: [1] },
      ];
      const { config } = await open({ ...parts, tensors });
      const { partial_rotary_factor } = config;
      assertEquals(
        Math.trunc(headDim * partial_rotary_factor),
        rotated,
        `${rotated} of ${headDim}`,
      );
      assert(partial_rotary_factor <= 1);
    }
  }
});

Deno.test("the dtype is one that holds every matrix as it is", async () => {
  const dtype = async (type: number, down: number = type) => {
    const tensors = Object.fromEntries(
      tinyParts().tensors.flatMap(({ name, sizes }) => {
        if (sizes.length < 2) return [];
        const stored = name === "blk.0.ffn_down.weight" ? down : type;
        const count = sizes.reduce<number>((product, size) => product * Number(size), 1);
        return [[name, { sizes, type: stored, bytes: new Uint8Array(count * (stored ? 2 : 4)) }]];
      }),
    );
    return (await open(tinyParts({ tensors }))).config.dtype;
  };
  assertEquals(await dtype(1), "float16");
  assertEquals(await dtype(30), "bfloat16");
  assertEquals(await dtype(1, 30), "float32");
  assertEquals(await dtype(1, 0), "float32");
});

Deno.test("missing ids are null, and id 0 is an id", async () => {
  const { config } = await open(tinyParts());
  assertEquals([config.bos_token_id, config.eos_token_id, config.pad_token_id], [null, 0, null]);
});

Deno.test("position scaling is mapped to rope_scaling", async () => {
  const scaled = async (keys: Record<string, Uint8Array>) => {
    const prefixed = Object.entries(keys).map(([key, value]) => [`stablelm.rope.${key}`, value]);
    const { config } = await open(tinyParts({ keys: Object.fromEntries(prefixed) }));
    StableLmConfig.fromJson(config);
    return config.rope_scaling;
  };
  const factor = { "scaling.factor": f32Value(2.5) };
  const linear = { "scaling.type": textValue("linear") };
  assertEquals(await scaled({}), null);
  assertEquals(await scaled({ "scaling.type": textValue("none"), ...factor }), null);
  assertEquals(await scaled({ ...linear, "scaling.factor": f32Value(0) }), null);
  assertEquals(await scaled({ ...linear, "scaling.factor": f32Value(1) }), null);
  assertEquals(await scaled({ ...linear, ...factor }), { rope_type: "linear", factor: 2.5 });
  assertEquals(await scaled({ scale_linear: f32Value(4) }), { rope_type: "linear", factor: 4 });
  const yarn = {
    "scaling.type": textValue("yarn"),
    "scaling.original_context_length": u32Value(8),
    "scaling.yarn_beta_fast": f32Value(16),
    "scaling.yarn_beta_slow": f32Value(2),
    ...factor,
  };
  assertEquals(await scaled(yarn), {
    rope_type: "yarn",
    factor: 2.5,
    original_max_position_embeddings: 8,
    beta_fast: 16,
    beta_slow: 2,
  });
});

Deno.test("a fused projection is taken apart by rows", async () => {
  const count = 4 + 2 * 2;
  const numbers = Float32Array.from({ length: count * 4 }, (_, i) => i);
  const fused = {
    "blk.0.attn_q.weight": null,
    "blk.0.attn_k.weight": null,
    "blk.0.attn_v.weight": null,
    "blk.0.attn_qkv.weight": { sizes: [4, count], bytes: bytesOf(numbers) },
    "blk.0.attn_qkv.bias": { sizes: [count], bytes: bytesOf(numbers.slice(0, count)) },
  };
  const keys = { "stablelm.attention.head_count_kv": u32Value(1) };
  const { source, config } = await open(tinyParts({ keys, tensors: fused }));
  assertEquals(config.use_qkv_bias, true);
  const read = async (name: string) => {
    const { shape, numbers } = await source.read(`model.layers.0.self_attn.${name}`);
    return [shape, Array.from(numbers)];
  };
  assertEquals(await read("q_proj.weight"), [[4, 4], [...numbers.slice(0, 16)]]);
  assertEquals(await read("k_proj.weight"), [[2, 4], [...numbers.slice(16, 24)]]);
  assertEquals(await read("v_proj.weight"), [[2, 4], [...numbers.slice(24)]]);
  assertEquals(await read("k_proj.bias"), [[2], [4, 5]]);
  assertEquals(await read("v_proj.bias"), [[2], [6, 7]]);
});

Deno.test("the norm of a single key head may be stored as a vector", async () => {
  const { source, config } = await open(tinyParts({
    keys: { "stablelm.attention.head_count_kv": u32Value(1) },
    tensors: {
      "blk.0.attn_q_norm.weight": { sizes: [2, 2], bytes: bytesOf(Float32Array.of(1, 2, 3, 4)) },
      "blk.0.attn_k_norm.weight": { sizes: [2], bytes: bytesOf(Float32Array.of(5, 6)) },
    },
  }));
  assertEquals(config.qk_layernorm, true);
  const read = async (name: string) =>
    Array.from((await source.read(`model.layers.0.self_attn.${name}.weight`)).numbers);
  assertEquals(await read("q_layernorm.norms.1"), [3, 4]);
  assertEquals(await read("k_layernorm.norms.0"), [5, 6]);
  assert(!source.tensors.has("model.layers.0.self_attn.k_layernorm.norms.1.weight"));
});

Deno.test("values of every type are read", async () => {
  const of = (type: number, values: ArrayBufferView) =>
    join(u32(type), new Uint8Array(values.buffer));
  const nested = join(
    u32(GGUF.array),
    u32(GGUF.array),
    u64(2),
    join(u32(GGUF.text), u64(1), text("in")),
    join(u32(GGUF.u8), u64(2), Uint8Array.of(1, 2)),
  );
  const { metadata } = await open(tinyParts({
    keys: {
      u8: of(GGUF.u8, Uint8Array.of(255)),
      i8: of(GGUF.i8, Int8Array.of(-1)),
      u16: of(GGUF.u16, Uint16Array.of(65_535)),
      i16: of(GGUF.i16, Int16Array.of(-2)),
      u32: of(GGUF.u32, Uint32Array.of(2 ** 32 - 1)),
      i32: of(GGUF.i32, Int32Array.of(-3)),
      f32: of(GGUF.f32, Float32Array.of(0.5)),
      bool: of(GGUF.bool, Uint8Array.of(1)),
      text: textValue("\ufeffüß\u0000"),
      u64: of(GGUF.u64, BigUint64Array.of(2n ** 64n - 1n)),
      i64: of(GGUF.i64, BigInt64Array.of(-(2n ** 63n))),
      f64: of(GGUF.f64, Float64Array.of(0.1)),
      bools: numberArray(GGUF.bool, Uint8Array.of(0, 1)),
      doubles: numberArray(GGUF.f64, Float64Array.of(0.1, NaN)),
      longs: numberArray(GGUF.i64, BigInt64Array.of(-1n)),
      empty: textArray(),
      nested,
      // A name of the prototype is an ordinary key.
      ["__proto__"]: textValue("own"),
    },
  }));
  const { u8, i8, u16, i16, i32, f32, bool, text: texts, f64, ...rest } = Object.fromEntries(
    [...metadata].filter(([key]) => !key.includes(".")),
  );
  assertEquals(
    [u8, i8, u16, i16, i32, f32, bool, texts, f64],
    [255, -1, 65_535, -2, -3, 0.5, true, "\ufeffüß\u0000", 0.1],
  );
  assertEquals(rest, {
    u32: 2 ** 32 - 1,
    u64: 2n ** 64n - 1n,
    i64: -(2n ** 63n),
    bools: Uint8Array.of(0, 1),
    doubles: Float64Array.of(0.1, NaN),
    longs: BigInt64Array.of(-1n),
    empty: [],
    nested: [["in"], Uint8Array.of(1, 2)],
    ["__proto__"]: "own",
  });
});

Deno.test("version 2 and other alignments are read", async () => {
  const values = Float32Array.of(1, 2, 3, 4);
  for (const alignment of [1, 8, 64, 65_536]) {
    const { source } = await open(tinyParts({
      version: 2,
      alignment,
      keys: { "general.alignment": u32Value(alignment) },
      tensors: { "output_norm.bias": { sizes: [4], bytes: bytesOf(values) } },
    }));
    assertEquals((await source.read("model.norm.bias")).values, values);
  }
});

Deno.test("a vocabulary of many chunks is read whole, and of the tensors nothing", async () => {
  const tokens = Array.from({ length: 50_000 }, (_, i) => i % 7 ? `Ġtoken${i}` : "x".repeat(30));
  const scores = Float32Array.from(tokens, (_, i) => -i);
  const { keys } = tinyParts({
    keys: {
      "tokenizer.ggml.tokens": textArray(...tokens),
      "tokenizer.ggml.scores": numberArray(GGUF.f32, scores),
      "tokenizer.chat_template": textValue("é".repeat(600_000)),
    },
  });
  const header = ggufFile({
    keys,
    tensors: [
      { name: "blk.0.attn_norm.weight", sizes: [4] },
      { name: "token_embd.weight", sizes: [4, 2 ** 24], bytes: new Uint8Array(0) },
    ],
  });
  const source = new MemorySource(header, header.length + 2 ** 28);
  const { metadata } = await openGguf(source);
  assertEquals(metadata.get("tokenizer.ggml.tokens"), tokens);
  assertEquals(metadata.get("tokenizer.ggml.scores"), scores);
  assertEquals(metadata.get("tokenizer.chat_template"), "é".repeat(600_000));
  // Chunks of 1 MiB, but for the template, which is longer; the last reaches beyond the header.
  assert(source.reads.length <= 5, `${source.reads.length} reads`);
  assert(source.reads.every(({ length }) => length <= 1_200_000));
  assert(source.reads.every(({ offset, length }) => offset + length <= header.length + 2 ** 20));
});

Deno.test("tensors behind 4 GiB are found, and read no further than asked", async () => {
  const rows = 2 ** 21;
  const none = new Uint8Array(0);
  const { keys } = tinyParts({ keys: { "stablelm.embedding_length": u32Value(1024) } });
  const tensors = [
    { name: "token_embd.weight", sizes: [1024, rows], bytes: none },
    { name: "output_norm.weight", sizes: [1024], offset: 2 ** 33, bytes: none },
    { name: "blk.0.attn_norm.weight", sizes: [1024], offset: 2 ** 33 + 4096, bytes: none },
  ];
  const header = ggufFile({ keys, tensors });
  const bytes = new MemorySource(header, header.length + 2 ** 33 + 2 * 4096);
  const { source } = await openGguf(bytes);
  bytes.reads.length = 0;
  await source.read("model.embed_tokens.weight", { begin: rows - 1, end: rows });
  await source.read("model.norm.weight");
  assertEquals(bytes.reads, [
    { offset: header.length + 2 ** 33 - 4096, length: 4096 },
    { offset: header.length + 2 ** 33, length: 4096 },
  ]);
});

Deno.test("a tensor of many chunks is dequantised like one", async () => {
  const rows = 30_000;
  const blocks = new Uint8Array(rows * BLOCK_BYTES.Q4_K);
  for (let i = 0; i < blocks.length; i++) blocks[i] = i * 7 % 61;
  const tensors = { "token_embd.weight": { sizes: [256, rows], type: 12, bytes: blocks } };
  const keys = { "stablelm.embedding_length": u32Value(256) };
  const bytes = new MemorySource(ggufFile(tinyParts({ keys, tensors })));
  const { source } = await openGguf(bytes);
  bytes.reads.length = 0;
  const { values } = await source.read("model.embed_tokens.weight");
  const whole = new Float32Array(rows * 256);
  dequantizeQ4_K(blocks, whole);
  assert(whole.every((value, i) => value === values[i]));
  assertEquals(bytes.reads.length, 2);
});

Deno.test("blocks are dequantised wherever a source puts them in its memory", async () => {
  const [wanted, bytes] = [await openFile("tiny_parallel.gguf"), readFile("tiny_parallel.gguf")];
  class OddSource extends MemorySource {
    override async read(offset: number, length: number): Promise<Uint8Array<ArrayBuffer>> {
      const shifted = new Uint8Array(length + 1);
      shifted.set(await super.read(offset, length), 1);
      return shifted.subarray(1);
    }
  }
  const { source } = await openGguf(new OddSource(bytes));
  for (const name of source.tensors.keys()) {
    assertEquals((await source.read(name)).values, (await wanted.source.read(name)).values);
  }
});

Deno.test("there are errors for tensors and rows that are not there", async () => {
  const { source } = await open(tinyParts());
  await assertRejects(() => source.read("lm_head.bias"), RangeError, "lm_head.bias");
  for (const [begin, end] of [[-1, 1], [2, 1], [0, 4], [0.5, 1], [0, NaN]] as const) {
    const read = () => source.read("lm_head.weight", { begin, end });
    await assertRejects(read, RangeError, "rows must lie within 0 to 3");
  }
  assertEquals((await source.read("lm_head.weight", { begin: 3, end: 3 })).shape, [0, 4]);
});

Deno.test("the bytes are disposed with the source, and when opening fails or is stopped", async () => {
  const good = new MemorySource(ggufFile(tinyParts()));
  {
    using source = (await openGguf(good)).source;
    assertEquals([source.name, good.disposals], ["f.gguf", 0]);
  }
  assertEquals(good.disposals, 1);
  const bad = new MemorySource(new Uint8Array(100));
  await assertRejects(() => openGguf(bad));
  const stopped = new MemorySource(ggufFile(tinyParts()));
  const signal = AbortSignal.abort(new Error("stopped"));
  await assertRejects(() => openGguf(stopped, { signal }), Error, "stopped");
  assertEquals([bad.disposals, stopped.disposals, stopped.reads.length], [1, 1, 0]);
  const asked = new MemorySource(ggufFile(tinyParts()));
  const options = { signals: signal } as object;
  await assertRejects(() => openGguf(asked, options), ModelInputError, "signals");
  assertEquals(asked.disposals, 1);
});

Deno.test("reading a tensor can be stopped", async () => {
  const { source } = await openFile("tiny_parallel.gguf");
  const signal = AbortSignal.abort(new Error("stopped"));
  for (const name of ["model.embed_tokens.weight", "lm_head.weight"]) {
    await assertRejects(() => source.read(name, undefined, signal), Error, "stopped");
  }
});

async function open(parts: Parameters<typeof ggufFile>[0]) {
  return await openGguf(new MemorySource(ggufFile(parts)));
}

async function openFile(file: string) {
  return await openGguf(new MemorySource(readFile(file)));
}

function readFile(file: string): Uint8Array {
  return Deno.readFileSync(new URL(file, FOLDER));
}

function bytesOf(values: Float32Array): Uint8Array {
  return new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
}

async function sha256(values: Float32Array<ArrayBuffer>): Promise<string> {
  return new Uint8Array(await crypto.subtle.digest("SHA-256", values)).toHex();
}
