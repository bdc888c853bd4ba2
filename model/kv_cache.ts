/**
 * Keys and values of the tokens that a model has seen.
 *
 * @module
 */

import { embedding } from "../kernels/embedding/embedding.ts";
import { kvAppend } from "../kernels/kv_append/kv_append.ts";
import type { Backend } from "../runtime/backend.ts";
import { requireInput } from "../runtime/errors.ts";
import { HostTensor, type Tensor } from "../runtime/tensor.ts";

/** What a cache has to hold. */
export interface KvCacheOptions {
  /** Layers of the model. */
  readonly layers: number;
  /** Sequences that are run together. */
  readonly batch: number;
  /** Key and value heads of a layer. */
  readonly heads: number;
  /** Elements of a head. */
  readonly headDim: number;
  /** Tokens to make room for at first; a whole bucket unless given. */
  readonly capacity?: number | undefined;
  /** Element type. */
  readonly dtype: "f32" | "f16";
  /** One room for all layers, for a call after which none of them is needed; false unless given. */
  readonly shared?: boolean;
}

/** Keys and values of one layer. */
export interface KvCacheLayer<T> {
  /** [batch, heads, capacity, headDim]; slots from the cache's length on hold anything. */
  readonly key: T;
  /** As key. */
  readonly value: T;
}

/** A cache that grows does so by multiples of this many tokens. */
const BUCKET = 256;

/** Tokens rounded up to what a cache makes room for. */
export function roomFor(tokens: number): number {
  return Math.ceil(tokens / BUCKET) * BUCKET;
}

/**
 * The keys and values of `length` tokens for every layer, with room for `capacity` of them.
 *
 * Room is made ahead of need and grows by half when it runs out, so that appending a token writes that token
 * and nothing else. If making room fails, as on a device that was lost, the cache is disposed.
 */
export class KvCache<T extends Tensor = Tensor> implements Disposable {
  /** Where it is. */
  readonly backend: Backend<T>;
  readonly #layers: KvCacheLayer<T>[] = [];
  readonly #headDim: number;
  readonly #heads: number;
  readonly #shared: boolean;
  readonly #dtype: "f32" | "f16";
  #batch: number;
  #capacity: number;
  #length = 0;

  /**
   * Allocates room for every layer, as zeros.
   *
   * @throws {ModelInputError} If a size is not a whole number from 1
   */
  constructor(backend: Backend<T>, options: KvCacheOptions) {
    const { layers, batch, heads, headDim, capacity = BUCKET, dtype, shared = false } = options;
    for (const [name, size] of Object.entries({ layers, batch, heads, headDim, capacity })) {
      const isSize = Number.isSafeInteger(size) && size >= 1;
      requireInput(isSize, "createCache", name, "must be a whole number from 1", size);
    }
    this.backend = backend;
    this.#batch = batch;
    this.#heads = heads;
    this.#headDim = headDim;
    this.#shared = shared;
    this.#capacity = capacity;
    this.#dtype = dtype;
    try {
      for (let i = 0; i < (shared ? 1 : layers); i++) {
        this.#layers.push(this.#allocate(batch, capacity));
      }
    } catch (error) {
      this[Symbol.dispose]();
      throw error;
    }
  }

  /** Keys and values per layer. */
  get layers(): readonly KvCacheLayer<T>[] {
    return this.#layers;
  }

  /** Tokens that it holds. */
  get length(): number {
    return this.#length;
  }

  /** Tokens that it has room for. */
  get capacity(): number {
    return this.#capacity;
  }

  /** Sequences that it holds. */
  get batch(): number {
    return this.#batch;
  }

  /** True once it was disposed. */
  get disposed(): boolean {
    return this.#layers.length === 0;
  }

  /**
   * Makes room for `tokens` more; what it holds stays.
   *
   * @throws {ModelInputError} If it was disposed, or tokens is not a whole number from 0
   */
  reserve(tokens: number): void {
    this.#requireUsable("reserve");
    const isCount = Number.isSafeInteger(tokens) && tokens >= 0;
    requireInput(isCount, "reserve", "tokens", "must be a whole number from 0", tokens);
    const needed = this.#length + tokens;
    if (needed <= this.#capacity) return;
    const grown = Math.max(needed, Math.ceil(1.5 * this.#capacity));
    this.#move(Array.from({ length: this.#batch }, (_, row) => row), roomFor(grown));
  }

  /**
   * Writes the keys and values of the next tokens of a layer; {@linkcode advance} counts them once every
   * layer has done so. The model calls both.
   *
   * @param keys [batch, tokens, heads, headDim]
   * @param values as keys
   */
  append(layer: number, keys: T, values: T): KvCacheLayer<T> {
    const entry = this.#layers[this.#shared ? 0 : layer]!;
    this.#write(entry, keys, values, this.#length);
    return entry;
  }

  /**
   * Counts tokens that every layer has appended.
   *
   * @throws {ModelInputError} If it has no room for them
   */
  advance(tokens: number): void {
    const most = this.#capacity - this.#length;
    const isCount = Number.isSafeInteger(tokens) && tokens >= 0 && tokens <= most;
    requireInput(isCount, "advance", "tokens", `must be a whole number from 0 to ${most}`, tokens);
    this.#length += tokens;
  }

  /**
   * Forgets all but the first `length` tokens; a negative number forgets that many of the last ones.
   *
   * @throws {ModelInputError} If it does not hold that many, or was disposed
   */
  crop(length: number): void {
    this.#requireUsable("crop");
    const kept = length < 0 ? this.#length + length : length;
    requireInput(
      Number.isSafeInteger(kept) && kept >= 0 && kept <= this.#length,
      "crop",
      "length",
      `must be a whole number from ${-this.#length} to ${this.#length}`,
      length,
    );
    this.#length = kept;
  }

  /**
   * Makes each sequence the one that `rows` names, as beam search does; a row may be named more than once or
   * not at all, and the number of sequences becomes that of the rows.
   *
   * @param shared first tokens that are the same in a sequence and in the one that takes its place, and so stay
   * where they are, unless the number of sequences changes; 0 unless given
   * @throws {ModelInputError} If a row is not one of its sequences, it does not hold as many tokens, or it was disposed
   */
  reorder(rows: readonly number[], shared = 0): void {
    this.#requireUsable("reorder");
    requireInput(rows.length > 0, "reorder", "rows", "must name at least one sequence", "[]");
    for (const row of rows) {
      const isRow = Number.isSafeInteger(row) && row >= 0 && row < this.#batch;
      requireInput(
        isRow,
        "reorder",
        "rows",
        `must be whole numbers below ${this.#batch}`,
        row,
      );
    }
    const isHeld = Number.isSafeInteger(shared) && shared >= 0 && shared <= this.#length;
    const most = `must be a whole number from 0 to ${this.#length}`;
    requireInput(isHeld, "reorder", "shared", most, shared);
    const isSameBatch = rows.length === this.#batch;
    const stays = isSameBatch && rows.every((row, i) => row === i);
    if (!stays) this.#move(rows, this.#capacity, isSameBatch ? shared : 0);
  }

  /** Gives its tensors back. */
  [Symbol.dispose](): void {
    for (const layer of this.#layers) disposeLayer(layer);
    this.#layers.length = 0;
  }

  #requireUsable(method: string): void {
    requireInput(!this.disposed, method, "cache", "must not be disposed", "disposed");
  }

  #allocate(batch: number, capacity: number): KvCacheLayer<T> {
    const spec = { shape: [batch, this.#heads, capacity, this.#headDim], dtype: this.#dtype };
    using made = new DisposableStack();
    const layer = {
      key: made.use(this.backend.zeros(spec)),
      value: made.use(this.backend.zeros(spec)),
    };
    made.move();
    return layer;
  }

  #write({ key, value }: KvCacheLayer<T>, keys: T, values: T, position: number): void {
    const inputs = { keyCache: key, valueCache: value, keys, values };
    this.backend.run(kvAppend, inputs, { position });
  }

  /** Brings the filled slots of the named sequences, from `begin` on, to the front, in layers of another size if need be. */
  #move(rows: readonly number[], capacity: number, begin = 0): void {
    const staysInPlace = rows.length === this.#batch && capacity === this.#capacity;
    using places = this.#length > begin ? this.#places(rows, begin) : undefined;
    try {
      // Layer by layer, so that no more than one is held twice.
      this.#layers.forEach((old, i) => {
        using made = new DisposableStack();
        const moved = places && {
          key: made.use(this.#filled(old.key, places, rows.length, begin)),
          value: made.use(this.#filled(old.value, places, rows.length, begin)),
        };
        if (!staysInPlace) {
          this.#layers[i] = this.#allocate(rows.length, capacity);
          disposeLayer(old);
        }
        if (moved) this.#write(this.#layers[i]!, moved.key, moved.value, begin);
      });
    } catch (error) {
      this[Symbol.dispose]();
      throw error;
    }
    this.#batch = rows.length;
    this.#capacity = capacity;
  }

  /** Numbers of the filled slots of each sequence from `begin` on, token by token: u32[batch · tokens · heads]. */
  #places(rows: readonly number[], begin: number): T {
    const ids = new Uint32Array(rows.length * (this.#length - begin) * this.#heads);
    let i = 0;
    for (const row of rows) {
      for (let token = begin; token < this.#length; token++) {
        for (let head = 0; head < this.#heads; head++) {
          ids[i++] = (row * this.#heads + head) * this.#capacity + token;
        }
      }
    }
    return this.backend.upload(new HostTensor([ids.length], ids));
  }

  /** A look-up in which each slot of a head is a row of the table: [batch, tokens, heads, headDim]. */
  #filled(cache: T, places: T, batch: number, begin: number): T {
    const slots = this.#batch * this.#heads * this.#capacity;
    using table = this.backend.reshape(cache, [slots, this.#headDim]);
    using copy = this.backend.run(embedding, { table, ids: places }, { dtype: this.#dtype }).y;
    return this.backend.reshape(copy, [batch, this.#length - begin, this.#heads, this.#headDim]);
  }
}

function disposeLayer<T extends Tensor>({ key, value }: KvCacheLayer<T>): void {
  key[Symbol.dispose]();
  value[Symbol.dispose]();
}
