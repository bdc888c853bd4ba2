/**
 * Keys and values of a text that the next prompts begin with.
 *
 * @module
 */

import { requireInput } from "../../runtime/errors.ts";
import type { Tensor } from "../../runtime/tensor.ts";
import type { KvCache } from "../kv_cache.ts";
import { steadyTokens } from "../rotary.ts";
import type { GenerativeModel } from "./generative_model.ts";

/**
 * Keeps what was computed for one text, so that a prompt that begins with the same tokens, as the next turn
 * of a chat does, runs only those that follow. Tokens are compared one by one, and nothing is reused
 * behind the first that differs. For one sequence at a time.
 */
export class PromptCache<T extends Tensor = Tensor> implements Disposable {
  readonly #model: GenerativeModel<T>;
  #tokens: readonly number[] = [];
  #cache: KvCache<T> | undefined;
  #state: "free" | "in use" | "disposed" = "free";

  /** An empty cache for texts of a model, which it has to be disposed before. */
  constructor(model: GenerativeModel<T>) {
    this.#model = model;
  }

  /** The tokens that it holds keys and values of. */
  get tokens(): readonly number[] {
    return this.#tokens;
  }

  /** How many of a prompt's tokens it holds. The last one always has to run, as its logits are asked for. */
  reusable(prompt: readonly number[]): number {
    // Where RoPE's frequencies depend on the length, keys of a longer text are not those of a shorter one.
    const longest = Math.max(this.#tokens.length, prompt.length);
    if (longest > steadyTokens(this.#model.config, 0)) return 0;
    const most = Math.min(this.#tokens.length, prompt.length - 1);
    let same = 0;
    while (same < most && this.#tokens[same] === prompt[same]) same++;
    return Math.max(0, same);
  }

  /** Gives its tensors back; a generation that uses it does so when it ends. */
  [Symbol.dispose](): void {
    if (this.#state === "free") this.#drop();
    this.#state = "disposed";
  }

  /**
   * Lends keys and values for a prompt.
   *
   * @returns the cache, and how many of the prompt's tokens it holds
   * @throws {ModelInputError} If it is disposed, in use, or another model's
   */
  borrow(
    model: GenerativeModel<T>,
    prompt: readonly number[],
    capacity: number,
  ): { readonly cache: KvCache<T>; readonly reused: number } {
    const rule = (condition: boolean, text: string, value: string) =>
      requireInput(condition, "generate", "promptCache", text, value);
    rule(this.#state === "free", "must be free", this.#state);
    rule(this.#model === model, "must be of this model", "another model's");
    const reused = this.reusable(prompt);
    this.#cache ??= model.createCache({ capacity });
    this.#cache.crop(reused);
    this.#tokens = this.#tokens.slice(0, reused);
    this.#state = "in use";
    return { cache: this.#cache, reused };
  }

  /** Takes back what was lent, and learns what it holds now; does nothing where nothing is lent. */
  giveBack(tokens: readonly number[]): void {
    if (!this.#cache || this.#state === "free") return;
    const { length, disposed } = this.#cache;
    this.#tokens = disposed ? [] : tokens.slice(0, length);
    if (disposed || this.#state === "disposed") this.#drop();
    if (this.#state === "in use") this.#state = "free";
  }

  #drop(): void {
    this.#cache?.[Symbol.dispose]();
    this.#cache = undefined;
    this.#tokens = [];
  }
}
