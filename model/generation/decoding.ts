/**
 * Rows of tokens that grow together, and the logits that follow them.
 *
 * @module
 */

import type { Tensor } from "../../runtime/tensor.ts";
import type { KvCache } from "../kv_cache.ts";
import { steadyTokens } from "../rotary.ts";
import type { GenerativeModel } from "./generative_model.ts";
import type { PromptCache } from "./prompt_cache.ts";

/** How rows are run. */
export interface DecodingOptions<T extends Tensor> {
  /** 1 for each token of the prompts that is seen and 0 for padding; all are seen unless given. */
  readonly mask?: readonly (readonly number[])[] | undefined;
  /** Tokens to make room for at first. */
  readonly capacity?: number | undefined;
  /** Whether keys and values are kept; without, every call runs all tokens again. True unless given. */
  readonly useCache?: boolean | undefined;
  /** Most tokens of a row that run at a time, where RoPE does not depend on the length; all unless given. */
  readonly chunk?: number | undefined;
  /** Keys and values of an earlier text; for one row. */
  readonly promptCache?: PromptCache<T> | undefined;
  /** Ends it between two chunks. */
  readonly signal?: AbortSignal | undefined;
}

/** Rows of tokens of one length and their cache. Tokens run when logits are asked for, each of them once. */
export class Decoding<T extends Tensor> implements Disposable {
  readonly #model: GenerativeModel<T>;
  readonly #options: DecodingOptions<T>;
  readonly #cache: KvCache<T> | undefined;
  #rows: number[][];
  // Absent where every token is seen.
  #mask: number[][] | undefined;

  /**
   * Takes the prompts.
   *
   * @param rows tokens of each row, of one length
   */
  constructor(
    model: GenerativeModel<T>,
    rows: readonly (readonly number[])[],
    options: DecodingOptions<T> = {},
  ) {
    this.#model = model;
    this.#options = options;
    this.#rows = rows.map((row) => [...row]);
    this.#mask = options.mask?.map((row) => [...row]);
    const { promptCache, useCache = true, capacity } = options;
    if (promptCache) {
      this.#cache = promptCache.borrow(model, this.#rows[0]!, capacity ?? this.length).cache;
    } else if (useCache) {
      this.#cache = model.createCache({ batch: rows.length, capacity: capacity ?? this.length });
    }
  }

  /** Tokens of each row so far, prompt and padding included. */
  get rows(): readonly (readonly number[])[] {
    return this.#rows;
  }

  /** Tokens of a row. */
  get length(): number {
    return this.#rows[0]!.length;
  }

  /** Adds tokens to every row, as many to each. */
  append(tokens: readonly (readonly number[])[]): void {
    this.#rows.forEach((row, i) => row.push(...tokens[i]!));
    this.#mask?.forEach((row, i) => row.push(...tokens[i]!.map(() => 1)));
  }

  /** Forgets all but the first tokens of every row. */
  crop(length: number): void {
    for (const row of [...this.#rows, ...this.#mask ?? []]) row.length = length;
    if (this.#cache && this.#cache.length > length) this.#cache.crop(length);
  }

  /** Makes each row the one that `from` names; the first `shared` tokens of both are the same. */
  reorder(from: readonly number[], shared = 0): void {
    this.#rows = from.map((row) => [...this.#rows[row]!]);
    this.#mask = this.#mask && from.map((row) => [...this.#mask![row]!]);
    this.#cache?.reorder(from, shared);
  }

  /**
   * Runs the tokens that have not run yet.
   *
   * @param kept for how many of the last tokens; they must not have run, or there is no cache. What follows several
   * tokens has the bits that it would have if they were run one by one
   * @returns what follows each of them: f32[rows, kept, V], which the caller disposes of
   */
  async logits(kept = 1): Promise<T> {
    const { chunk = Infinity, signal } = this.#options;
    // Several tokens run without those before them, which need no care for their bits.
    const most = kept > 1 ? kept : chunk;
    for (;;) {
      signal?.throwIfAborted();
      const begin = this.#cache?.length ?? 0;
      const left = this.length - begin;
      // Tokens that RoPE's frequencies would differ for in calls of their own run together, however many.
      const isSteady = left <= steadyTokens(this.#model.config, begin);
      const isLast = !this.#cache || left <= most || !isSteady;
      const end = isLast ? this.length : Math.min(begin + chunk, this.length - kept);
      using output = await this.#model.forward({
        inputIds: this.#rows.map((row) => row.slice(begin, end)),
        logitsToKeep: isLast ? kept : 1,
        useCache: this.#cache !== undefined,
        stepwise: isLast && kept > 1,
        ...(this.#cache ? { pastKeyValues: this.#cache } : {}),
        ...this.#masked(begin, end),
      });
      if (isLast) return output.keep(output.logits);
    }
  }

  /** Gives the cache back, or returns it to who lent it. */
  [Symbol.dispose](): void {
    const { promptCache } = this.#options;
    if (promptCache) promptCache.giveBack(this.#rows[0]!);
    else this.#cache?.[Symbol.dispose]();
  }

  /** Mask and positions, where there is padding: a token's position counts the tokens before it that are seen. */
  #masked(begin: number, end: number): { attentionMask?: number[][]; positionIds?: number[][] } {
    if (!this.#mask) return {};
    const positionIds = this.#mask.map((row) => {
      let seen = 0;
      // Every step comes by here with every token so far: it counts them, and copies none.
      for (let i = 0; i < begin; i++) seen += row[i]!;
      return row.slice(begin, end).map((isSeen) => isSeen ? seen++ : 0);
    });
    const isWhole = end === this.length;
    return {
      attentionMask: isWhole ? this.#mask : this.#mask.map((row) => row.slice(0, end)),
      positionIds,
    };
  }
}
