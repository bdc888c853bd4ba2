/** Safetensors files as they are written, whole and in shards. */

import { assert, assertEquals, assertRejects } from "@std/assert";
import { RandomWeights } from "../apps/random_weights.ts";
import { HostTensor, KernelArgumentError } from "../mod.ts";
import { memoryBytes } from "../model/weights/byte_source.ts";
import { openCheckpointFiles } from "../model/weights/checkpoint.ts";
import { openSafetensors } from "../model/weights/safetensors_source.ts";
import {
  type NewTensor,
  type TensorBytes,
  writeSafetensorsFile,
  writeSafetensorsShards,
} from "../model/weights/safetensors_writer.ts";
import { elementCount } from "../runtime/tensor.ts";

/** A stream that keeps what is written, and what it was aborted with. */
class Kept {
  readonly chunks: Uint8Array<ArrayBuffer>[] = [];
  aborted: unknown = undefined;
  closed = false;
  readonly stream: WritableStream<Uint8Array<ArrayBuffer>> = new WritableStream({
    write: (chunk) => void this.chunks.push(chunk.slice()),
    abort: (reason) => void (this.aborted = reason),
    close: () => void (this.closed = true),
  });

  async bytes(): Promise<Uint8Array<ArrayBuffer>> {
    return new Uint8Array(await new Blob(this.chunks).arrayBuffer());
  }
}

const ones: TensorBytes = ({ shape, dtype }) => [
  HostTensor.from(shape, new Float32Array(elementCount(shape)).fill(1), dtype).bytes,
];
const w: NewTensor = { name: "w", dtype: "f32", shape: [2, 2] };

/** The tensors of a model of hidden size 96 with a norm for each head, in no special order. */
function smallModel(): NewTensor[] {
  const tensors: NewTensor[] = [];
  const add = (name: string, ...shape: number[]) => tensors.push({ name, dtype: "f32", shape });
  add("model.norm.weight", 96);
  add("model.norm.bias", 96);
  for (const layer of ["model.layers.1", "model.layers.0"]) {
    add(`${layer}.self_attn.q_proj.weight`, 96, 96);
    add(`${layer}.self_attn.o_proj.weight`, 96, 96);
    for (const part of ["k", "v"]) add(`${layer}.self_attn.${part}_proj.weight`, 48, 96);
    for (const head of [0, 1, 2, 3]) {
      add(`${layer}.self_attn.q_layernorm.norms.${head}.weight`, 24);
      if (head < 2) add(`${layer}.self_attn.k_layernorm.norms.${head}.weight`, 24);
    }
    for (const part of ["gate", "up"]) add(`${layer}.mlp.${part}_proj.weight`, 44, 96);
    add(`${layer}.mlp.down_proj.weight`, 96, 44);
    add(`${layer}.input_layernorm.weight`, 96);
    add(`${layer}.input_layernorm.bias`, 96);
  }
  add("model.embed_tokens.weight", 97, 96);
  add("lm_head.weight", 97, 96);
  return tensors;
}

Deno.test("a file is laid out byte for byte as Hugging Face lays it out", async () => {
  const file = new Kept();
  const tensors = smallModel();
  assertEquals(tensors.length, 34);
  const written = await writeSafetensorsFile(file.stream, tensors, ones);
  const bytes = await file.bytes();
  assertEquals([bytes.byteLength, file.closed], [written, true]);
  // As save_pretrained of transformers 5.18 writes this model: 34 tensors, a header of 3,544 bytes.
  assertEquals(new DataView(bytes.buffer).getBigUint64(0, true), 3544n);
  const header = new TextDecoder().decode(bytes.subarray(8, 8 + 3544));
  const start = '{"__metadata__":{"format":"pt"},"lm_head.weight":' +
    '{"dtype":"F32","shape":[97,96],"data_offsets":[0,37248]},"model.embed_tokens.weight":';
  assertEquals(header.slice(0, start.length), start);
  using source = await openSafetensors(memoryBytes(bytes, "f"));
  const offset = (name: string) => source.tensors.get(name)!.byteOffset - 8 - 3544;
  assertEquals(offset("model.embed_tokens.weight"), 37248);
  assertEquals(offset("model.layers.0.input_layernorm.bias"), 74496);
  assertEquals(offset("model.norm.weight"), 400128);
  assertEquals(written, 8 + 3544 + 400512);
});

Deno.test("wide elements come first, and every tensor is aligned", async () => {
  const file = new Kept();
  const tensors: NewTensor[] = [
    { name: "0", dtype: "f16", shape: [3] },
    { name: "b", dtype: "bf16", shape: [1] },
    { name: "é", dtype: "f32", shape: [1] },
    { name: "a", dtype: "f32", shape: [1] },
    { name: "empty", dtype: "f32", shape: [0, 4] },
    { name: "scalar", dtype: "bf16", shape: [] },
  ];
  await writeSafetensorsFile(file.stream, tensors, ones, { metadata: {} });
  using source = await openSafetensors(memoryBytes(await file.bytes(), "f"));
  const byPlace = [...source.tensors].sort(([, a], [, b]) => a.byteOffset - b.byteOffset);
  assertEquals(byPlace.map(([name]) => name).join(" "), "a empty é b scalar 0");
  assertEquals(source.metadata.size, 0);
  for (const [, { byteOffset, dtype }] of byPlace) {
    assertEquals(byteOffset % (dtype === "f32" ? 4 : 2), 0);
  }
});

Deno.test("pieces may come late, be of any length and share a buffer", async () => {
  const file = new Kept();
  const progress: number[] = [];
  async function* pieces() {
    const buffer = new Uint8Array(3);
    for (let i = 0; i < 16; i += 3) {
      await Promise.resolve();
      buffer.fill(i);
      yield buffer.subarray(0, Math.min(3, 16 - i));
    }
  }
  const onProgress = (bytes: number) => progress.push(bytes);
  const written = await writeSafetensorsFile(file.stream, [w], pieces, { onProgress });
  const data = (await file.bytes()).slice(-16);
  assertEquals([...data], [0, 0, 0, 3, 3, 3, 6, 6, 6, 9, 9, 9, 12, 12, 12, 15]);
  assertEquals(progress.at(-1), written);
  assertEquals(progress.length, 7);
});

Deno.test("what cannot be a file is refused, and the stream is aborted", async () => {
  const many = Array.from({ length: 65_537 }, (_, i) => ({ ...w, name: `${i}`, shape: [0] }));
  const rows: readonly (readonly [readonly NewTensor[], TensorBytes, string])[] = [
    [[w, w], ones, 'tensor "w" must be given once'],
    [[{ ...w, name: "__metadata__" }], ones, '"__metadata__"'],
    [[{ ...w, name: "n".repeat(513) }], ones, "at most 512 characters"],
    [[{ ...w, dtype: "i32" as "f32" }], ones, "must be f32, f16 or bf16: i32"],
    [[{ ...w, shape: [-1] }], ones, "whole numbers from 0"],
    [[{ ...w, shape: Array(9).fill(1) }], ones, "at most 8 axes: 9"],
    [many, ones, "at most 65536: 65537"],
    [[w], () => [new Uint8Array(15)], "must be given 16 bytes, as it is f32[2, 2]: 15"],
    [[w], () => [new Uint8Array(16), new Uint8Array(1)], "at least 17"],
    [[w], () => [], "16 bytes, as it is f32[2, 2]: 0"],
  ];
  for (const [tensors, bytesOf, words] of rows) {
    const file = new Kept();
    const write = () => writeSafetensorsFile(file.stream, tensors, bytesOf);
    const error = await assertRejects(write, KernelArgumentError, words);
    assertEquals([file.aborted, file.closed], [error, false]);
    assert(file.chunks.length <= 2, "bytes beyond the tensor's were written");
  }
});

Deno.test("an abort, a failing producer and a full disk end the writing with their own error", async () => {
  const reason = new Error("enough");
  const controller = new AbortController();
  const stopping: TensorBytes = function* () {
    yield new Uint8Array(8);
    controller.abort(reason);
    yield new Uint8Array(8);
  };
  const failing: TensorBytes = function* () {
    yield new Uint8Array(8);
    throw reason;
  };
  for (const [bytesOf, options] of [[stopping, controller], [failing, {}]] as const) {
    const file = new Kept();
    const write = () => writeSafetensorsFile(file.stream, [w], bytesOf, options);
    assertEquals(await assertRejects(write), reason);
    assertEquals([file.aborted, file.closed, file.chunks.length], [reason, false, 2]);
  }
  const full = new WritableStream<Uint8Array<ArrayBuffer>>({
    write: () => Promise.reject(reason),
  });
  assertEquals(await assertRejects(() => writeSafetensorsFile(full, [w], ones)), reason);
});

/** Writes shards, and opens them as a checkpoint. */
async function writeAndOpen(tensors: readonly NewTensor[], maxShardBytes?: number) {
  const files = new Map<string, Kept>();
  const create = (name: string) => {
    const kept = new Kept();
    files.set(name, kept);
    return Promise.resolve(kept.stream);
  };
  const weights = new RandomWeights(1);
  const options = maxShardBytes === undefined ? {} : { maxShardBytes };
  const bytesOf: TensorBytes = (tensor) => weights.bytesOf(tensor);
  const names = await writeSafetensorsShards(create, tensors, bytesOf, options);
  const blobs = new Map<string, Blob>([["config.json", new Blob(["{}"])]]);
  for (const [name, kept] of files) blobs.set(name, new Blob([await kept.bytes()]));
  return { names, checkpoint: await openCheckpointFiles(blobs) };
}

Deno.test("shards hold the same tensors as one file, and their index is exact", async () => {
  const tensors = smallModel();
  const one = await writeAndOpen(tensors);
  using whole = one.checkpoint;
  assertEquals(one.names, ["model.safetensors"]);
  const several = await writeAndOpen(tensors, 100_000);
  using shards = several.checkpoint;
  assertEquals(several.names.at(-1), "model.safetensors.index.json");
  const count = several.names.length - 1;
  assert(count >= 5, `${count} shards`);
  for (const [i, name] of several.names.slice(0, -1).entries()) {
    assertEquals(name, `model-0000${i + 1}-of-0000${count}.safetensors`);
    const inShard = [...shards.source.tensors.values()].filter(({ file }) => file.endsWith(name));
    const bytes = inShard.reduce((sum, { byteLength }) => sum + byteLength, 0);
    assert(bytes > 0 && bytes <= 100_000, `${name}: ${bytes} bytes`);
  }
  assertEquals(shards.warnings, []);
  assertEquals([...shards.source.tensors.keys()].sort(), tensors.map(({ name }) => name).sort());
  for (const { name, shape } of tensors) {
    const [a, b] = [await whole.source.read(name), await shards.source.read(name)];
    assertEquals([a.shape, b.shape, a.bytes], [shape, shape, b.bytes]);
  }
});

Deno.test("a shard is filled up to the limit; a tensor above it has one to itself", async () => {
  const three = ["w", "x", "y"].map((name) => ({ ...w, name }));
  for (const [limit, shards] of [[48, 1], [47, 2], [32, 2], [31, 3], [1, 3]] as const) {
    const { names, checkpoint } = await writeAndOpen(three, limit);
    using opened = checkpoint;
    assertEquals([names.length, opened.source.tensors.size], [shards + Number(shards > 1), 3]);
  }
});

Deno.test("a limit that is none, or that would make too many shards, is refused", async () => {
  for (const limit of [0, -1, 0.5, NaN]) {
    await assertRejects(() => writeAndOpen([w], limit), KernelArgumentError, "maxShardBytes");
  }
  const many = Array.from({ length: 1001 }, (_, i) => ({ ...w, name: `${i}` }));
  await assertRejects(() => writeAndOpen(many, 16), KernelArgumentError, "1000 files");
});
