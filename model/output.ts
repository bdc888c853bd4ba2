/**
 * What a model returns: tensors that the caller gives back when done with them.
 *
 * @module
 */

import type { Tensor } from "../runtime/tensor.ts";
import type { KvCache } from "./kv_cache.ts";

/** What every model may return beside its result. */
export interface OutputParts<T extends Tensor> {
  /** Keys and values of all tokens so far, unless `useCache` is false. */
  readonly pastKeyValues?: KvCache<T> | undefined;
  /**
   * The residual stream before each layer, and after the final norm: layers + 1 tensors [B, S, H]. The last
   * layer's own output is not among them, as in transformers.
   */
  readonly hiddenStates?: readonly T[] | undefined;
  /** Attention weights of each layer, [B, heads, S, T]. */
  readonly attentions?: readonly T[] | undefined;
}

/**
 * Tensors of one call. Disposing of it gives back every tensor that the call made; a cache that was passed in
 * stays its owner's.
 */
export class ModelOutput<T extends Tensor> implements Disposable {
  /** Keys and values of all tokens so far, unless `useCache` is false. */
  readonly pastKeyValues: KvCache<T> | undefined;
  /** The residual stream before each layer, and after the final norm; on request. */
  readonly hiddenStates: readonly T[] | undefined;
  /** Attention weights of each layer, [B, heads, S, T]; on request. */
  readonly attentions: readonly T[] | undefined;
  readonly #owned: Set<Disposable>;

  /** Takes the parts, and what is to be given back with them. */
  constructor(parts: OutputParts<T>, owned: Iterable<Disposable>) {
    this.pastKeyValues = parts.pastKeyValues;
    this.hiddenStates = parts.hiddenStates;
    this.attentions = parts.attentions;
    this.#owned = new Set(owned);
  }

  /**
   * Takes a tensor or the cache out of the output, to outlive it.
   *
   * @throws {RangeError} If the output does not own it: it was passed in, or kept before, or is not there
   */
  keep<P extends T | KvCache<T>>(part: P | undefined): P {
    if (part === undefined || !this.#owned.delete(part)) {
      throw new RangeError("Cannot keep what this output does not own");
    }
    return part;
  }

  /** Gives back what the call made and was not kept. */
  [Symbol.dispose](): void {
    for (const part of this.#owned) part[Symbol.dispose]();
    this.#owned.clear();
  }
}

/** What {@linkcode StableLmModel} returns. */
export class BaseModelOutput<T extends Tensor> extends ModelOutput<T> {
  /** The hidden state after the final norm, [B, S, H]. */
  readonly lastHiddenState: T;

  /** Takes the parts, and what is to be given back with them. */
  constructor(lastHiddenState: T, parts: OutputParts<T>, owned: Iterable<Disposable>) {
    super(parts, owned);
    this.lastHiddenState = lastHiddenState;
  }
}

/** What a model with a head returns. */
export class HeadOutput<T extends Tensor> extends ModelOutput<T> {
  /** Scores before any softmax: f32, one row per token or per sequence. */
  readonly logits: T;
  /** Mean loss, where labels were given; NaN where all of them were to be ignored. */
  readonly loss: number | undefined;

  /** Takes the parts, and what is to be given back with them. */
  constructor(
    logits: T,
    loss: number | undefined,
    parts: OutputParts<T>,
    owned: Iterable<Disposable>,
  ) {
    super(parts, owned);
    this.logits = logits;
    this.loss = loss;
  }
}
