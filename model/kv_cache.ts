/**
 * Keys and values of the tokens that a model has seen.
 *
 * @module
 */

import { embedding } from "../kernels/embedding/embedding.ts";
import { kvAppend } from "../kernels/kv_append/kv_append.ts";
import type { Backend } from "../runtime/backend.ts";
import { ModelInputError } from "../runtime/errors.ts";
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

/**
 * The keys and values of `length` tokens for every layer, with room for `capacity` of them.
 *
 * Room is made ahead of need and grows by half when it runs out, so that appending a token writes that token
 * and nothing else.
 */
export class KvCache<T extends Tensor = Tensor> implements Disposable {
  readonly #backend: Backend<T>;
  readonly #layers: KvCacheLayer<T>[] = [];
  readonly #headDim: number;
  readonly #heads: number;
  readonly #shared: boolean;
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
      demand(Number.isSafeInteger(size) && size >= 1, name, "must be a whole number from 1", size);
    }
    this.#backend = backend;
    this.#batch = batch;
    this.#heads = heads;
    this.#shared = shared;
    this.#headDim = headDim;
    this.#capacity = capacity;
    const spec = { shape: [batch, heads, capacity, headDim], dtype };
    try {
      for (let i = 0; i < (shared ? 1 : layers); i++) {
        const key = backend.zeros(spec);
        const layer: { key: T; value?: T } = { key };
        this.#layers.push(layer as KvCacheLayer<T>);
        layer.value = backend.zeros(spec);
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

  /** Makes room for `tokens` more; what it holds stays. */
  reserve(tokens: number): void {
    const needed = this.#length + tokens;
    if (needed <= this.#capacity) return;
    const grown = Math.max(needed, Math.ceil(1.5 * this.#capacity));
    const capacity = Math.ceil(grown / BUCKET) * BUCKET;
    this.#gather(capacity, Array.from({ length: this.#batch }, (_, row) => row));
  }

  /**
   * Writes the keys and values of the next tokens of a layer; {@linkcode advance} counts them once every
   * layer has done so.
   *
   * @param keys [batch, tokens, heads, headDim]
   * @param values as keys
   */
  append(layer: number, keys: T, values: T): KvCacheLayer<T> {
    const entry = this.#layers[this.#shared ? 0 : layer]!;
    this.#backend.run(
      kvAppend,
      { keyCache: entry.key, valueCache: entry.value, keys, values },
      { position: this.#length },
    );
    return entry;
  }

  /** Counts tokens that every layer has appended. */
  advance(tokens: number): void {
    this.#length += tokens;
  }

  /**
   * Forgets all but the first `length` tokens; a negative number forgets that many of the last ones.
   *
   * @throws {ModelInputError} If it does not hold that many
   */
  crop(length: number): void {
    const kept = length < 0 ? this.#length + length : length;
    demand(
      Number.isSafeInteger(kept) && kept >= 0 && kept <= this.#length,
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
   * @throws {ModelInputError} If a row is not one of its sequences
   */
  reorder(rows: readonly number[]): void {
    demand(rows.length > 0, "rows", "must name at least one sequence", "[]");
    for (const row of rows) {
      const isRow = Number.isSafeInteger(row) && row >= 0 && row < this.#batch;
      demand(isRow, "rows", `must be whole numbers below ${this.#batch}`, row);
    }
    this.#gather(this.#capacity, rows);
  }

  /** Gives its tensors back. */
  [Symbol.dispose](): void {
    for (const { key, value } of this.#layers) {
      key[Symbol.dispose]();
      value?.[Symbol.dispose]();
    }
    this.#layers.length = 0;
  }

  /** Copies slots into new tensors: a look-up in which each slot of a head is a row of the table. */
  #gather(capacity: number, rows: readonly number[]): void {
    const { [0]: first } = this.#layers;
    if (!first) return;
    const ids = new Uint32Array(rows.length * this.#heads * capacity);
    rows.forEach((row, i) => {
      for (let head = 0; head < this.#heads; head++) {
        const to = (i * this.#heads + head) * capacity;
        const from = (row * this.#heads + head) * this.#capacity;
        for (let slot = 0; slot < this.#length; slot++) ids[to + slot] = from + slot;
      }
    });
    using places = this.#backend.upload(new HostTensor([ids.length], ids));
    const shape = [rows.length, this.#heads, capacity, this.#headDim];
    const look = (cache: T): T => {
      using table = this.#backend.reshape(cache, [
        this.#batch * this.#heads * this.#capacity,
        this.#headDim,
      ]);
      const { dtype } = cache as { dtype: "f32" | "f16" };
      using copy = this.#backend.run(embedding, { table, ids: places }, { dtype }).y;
      return this.#backend.reshape(copy, shape);
    };
    // Layer by layer, so that no more than one is held twice. What could be refused, a size above a limit,
    // is refused for the first.
    this.#layers.forEach((old, i) => {
      using made = new DisposableStack();
      this.#layers[i] = { key: made.use(look(old.key)), value: made.use(look(old.value)) };
      made.move();
      old.key[Symbol.dispose]();
      old.value[Symbol.dispose]();
    });
    this.#capacity = capacity;
    this.#batch = rows.length;
  }
}

function demand(condition: boolean, argument: string, rule: string, value: unknown): void {
  if (condition) return;
  throw new ModelInputError({ op: "KvCache", argument, rule, value: String(value) });
}
