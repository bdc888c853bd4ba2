/** Builds GGUF files for tests from their parts, each of which a test may make wrong. */

import type { ByteSource } from "../model/weights/byte_source.ts";

/** Numbers of the value types. */
export const GGUF = {
  u8: 0,
  i8: 1,
  u16: 2,
  i16: 3,
  u32: 4,
  i32: 5,
  f32: 6,
  bool: 7,
  text: 8,
  array: 9,
  u64: 10,
  i64: 11,
  f64: 12,
} as const;

/** A tensor's entry and its bytes. */
export interface TensorPart {
  readonly name: string;
  /** Sizes, innermost first, as the file has them. */
  readonly sizes: readonly (number | bigint)[];
  /** Number of the type; F32 unless given. */
  readonly type?: number;
  /** What the entry claims; where the bytes are unless given. */
  readonly offset?: number | bigint;
  /** The tensor's bytes; zeros for an F32 tensor unless given. */
  readonly bytes?: Uint8Array;
}

/** A file in parts. */
export interface GgufParts {
  readonly magic?: string;
  readonly version?: number;
  readonly tensorCount?: number | bigint;
  readonly keyCount?: number | bigint;
  readonly keys: Readonly<Record<string, Uint8Array>>;
  readonly tensors: readonly TensorPart[];
  readonly alignment?: number;
}

/** The bytes of a file. */
export function ggufFile(parts: GgufParts): Uint8Array<ArrayBuffer> {
  const { keys, tensors, alignment = 32 } = parts;
  const entries: Uint8Array[] = [];
  const contents: Uint8Array[] = [];
  let offset = 0;
  for (const { name, sizes, type = 0, offset: claimed, bytes } of tensors) {
    const count = sizes.reduce<number>((product, size) => product * Number(size), 1);
    const own = bytes ?? new Uint8Array(count * 4);
    const place = [u32(type), u64(claimed ?? offset)];
    entries.push(text(name), u32(sizes.length), ...sizes.map(u64), ...place);
    contents.push(own, new Uint8Array(padding(own.length, alignment)));
    offset += own.length + padding(own.length, alignment);
  }
  const header = join(
    new TextEncoder().encode(parts.magic ?? "GGUF"),
    u32(parts.version ?? 3),
    u64(parts.tensorCount ?? tensors.length),
    u64(parts.keyCount ?? Object.keys(keys).length),
    ...Object.entries(keys).flatMap(([key, value]) => [text(key), value]),
    ...entries,
  );
  return join(header, new Uint8Array(padding(header.length, alignment)), ...contents);
}

/** Changes to the parts of a file; a key or a tensor that is null is left out. */
export interface PartChanges extends Omit<GgufParts, "keys" | "tensors"> {
  readonly keys?: Readonly<Record<string, Uint8Array | null>>;
  readonly tensors?: Readonly<Record<string, Omit<TensorPart, "name"> | null>>;
}

/** A StableLM of one layer, four wide. */
export function tinyParts(changes: PartChanges = {}): GgufParts {
  const keys: NonNullable<PartChanges["keys"]> = {
    "general.architecture": textValue("stablelm"),
    "stablelm.context_length": u32Value(16),
    "stablelm.embedding_length": u32Value(4),
    "stablelm.block_count": u32Value(1),
    "stablelm.feed_forward_length": u32Value(8),
    "stablelm.rope.dimension_count": u32Value(2),
    "stablelm.attention.head_count": u32Value(2),
    "stablelm.attention.layer_norm_epsilon": f32Value(1e-5),
    "tokenizer.ggml.tokens": textArray("a", "b", "c"),
    "tokenizer.ggml.eos_token_id": u32Value(0),
    ...changes.keys,
  };
  const tensors: NonNullable<PartChanges["tensors"]> = {
    "token_embd.weight": { sizes: [4, 3] },
    "output_norm.weight": { sizes: [4] },
    "output_norm.bias": { sizes: [4] },
    "output.weight": { sizes: [4, 3] },
    "blk.0.attn_norm.weight": { sizes: [4] },
    "blk.0.attn_norm.bias": { sizes: [4] },
    "blk.0.attn_q.weight": { sizes: [4, 4] },
    "blk.0.attn_k.weight": { sizes: [4, 4] },
    "blk.0.attn_v.weight": { sizes: [4, 4] },
    "blk.0.attn_output.weight": { sizes: [4, 4] },
    "blk.0.ffn_norm.weight": { sizes: [4] },
    "blk.0.ffn_norm.bias": { sizes: [4] },
    "blk.0.ffn_gate.weight": { sizes: [4, 8] },
    "blk.0.ffn_up.weight": { sizes: [4, 8] },
    "blk.0.ffn_down.weight": { sizes: [8, 4] },
    ...changes.tensors,
  };
  return {
    ...changes,
    keys: Object.fromEntries(
      Object.entries(keys).flatMap(([key, value]) => value === null ? [] : [[key, value]]),
    ),
    tensors: Object.entries(tensors).flatMap(([name, part]) =>
      part === null ? [] : [{ name, ...part }]
    ),
  };
}

/** A source in memory that remembers what was read; bytes behind the given ones are zeros. */
export class MemorySource implements ByteSource {
  readonly name = "f.gguf";
  readonly size: number;
  /** Every range that was read. */
  readonly reads: { readonly offset: number; readonly length: number }[] = [];
  /** How often it was disposed. */
  disposals = 0;
  readonly #bytes: Uint8Array;

  constructor(bytes: Uint8Array, size = bytes.length) {
    this.#bytes = bytes;
    this.size = size;
  }

  // An error becomes a rejection, as with a file.
  // deno-lint-ignore require-await
  async read(
    offset: number,
    length: number,
    signal?: AbortSignal,
  ): Promise<Uint8Array<ArrayBuffer>> {
    signal?.throwIfAborted();
    if (offset < 0 || length < 0 || offset + length > this.size) {
      throw new Error(`bytes ${offset} to ${offset + length} of ${this.size} were asked for`);
    }
    this.reads.push({ offset, length });
    const copy = new Uint8Array(length);
    copy.set(this.#bytes.subarray(offset, offset + length));
    return copy;
  }

  [Symbol.dispose](): void {
    this.disposals++;
  }
}

export function u32(value: number): Uint8Array {
  return new Uint8Array(new Uint32Array([value]).buffer);
}

export function u64(value: number | bigint): Uint8Array {
  return new Uint8Array(new BigUint64Array([BigInt(value)]).buffer);
}

/** A string as keys, names and values have it. */
export function text(value: string): Uint8Array {
  const bytes = new TextEncoder().encode(value);
  return join(u64(bytes.length), bytes);
}

export function textValue(value: string): Uint8Array {
  return join(u32(GGUF.text), text(value));
}

export function u32Value(value: number): Uint8Array {
  return join(u32(GGUF.u32), u32(value));
}

export function i32Value(value: number): Uint8Array {
  return join(u32(GGUF.i32), u32(value));
}

export function f32Value(value: number): Uint8Array {
  return join(u32(GGUF.f32), new Uint8Array(new Float32Array([value]).buffer));
}

export function textArray(...values: string[]): Uint8Array {
  return concat([u32(GGUF.array), u32(GGUF.text), u64(values.length), ...values.map(text)]);
}

/** An array of numbers; `values` in the type that `type` stands for. */
export function numberArray(
  type: number,
  values: ArrayBufferView & ArrayLike<unknown>,
): Uint8Array {
  const bytes = new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
  return join(u32(GGUF.array), u32(type), u64(values.length), bytes);
}

export function join(...parts: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  return concat(parts);
}

/** As {@linkcode join}, for more parts than a call may have arguments. */
function concat(parts: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(parts.reduce((length, part) => length + part.length, 0));
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}

function padding(length: number, alignment: number): number {
  return (alignment - length % alignment) % alignment;
}
