/**
 * A model that says how it was called.
 *
 * @module
 */

import type { GenerativeModel, Tensor } from "../mod.ts";

/** A model that counts the tokens of each of its calls. */
export interface CountingModel<T extends Tensor> extends GenerativeModel<T> {
  /** Tokens of each call so far. */
  readonly calls: number[];
}

/** A model that does what another does, and counts. */
export function counting<T extends Tensor>(model: GenerativeModel<T>): CountingModel<T> {
  const { backend, config, generationConfig, activationDtype } = model;
  const calls: number[] = [];
  return {
    ...{ backend, config, generationConfig, activationDtype, calls },
    createCache: (options) => model.createCache(options),
    forward(inputs) {
      calls.push((inputs.inputIds as number[][])[0]!.length);
      return model.forward(inputs);
    },
  };
}
