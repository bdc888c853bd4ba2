/**
 * StableLM without a head.
 *
 * @module
 */

import type { Tensor } from "../runtime/tensor.ts";
import { requireOptions } from "./inputs.ts";
import { type LoadOptions, loadParts } from "./loading.ts";
import { BaseModelOutput } from "./output.ts";
import { StableLmPreTrainedModel } from "./pretrained.ts";
import { loadPretrained, type PretrainedOptions } from "./pretrained_files.ts";
import { FORWARD_INPUTS, type ForwardInputs } from "./step.ts";

/** The decoder: token ids to hidden states. */
export class StableLmModel<T extends Tensor = Tensor> extends StableLmPreTrainedModel<T> {
  /** Loads a model from a config and a source of weights; for errors see {@linkcode loadParts}. */
  static async load<T extends Tensor>(options: LoadOptions<T>): Promise<StableLmModel<T>> {
    return new StableLmModel(await loadParts("none", options));
  }

  /** Loads a model from a folder, a GGUF file or a repository of the hub; see {@linkcode loadPretrained}. */
  static async fromPretrained<T extends Tensor>(
    where: string,
    options: PretrainedOptions<T>,
  ): Promise<StableLmModel<T>> {
    return new StableLmModel(await loadPretrained("none", where, options));
  }

  /**
   * Runs tokens through the decoder.
   *
   * @returns the hidden state after the final norm, [B, S, H], and what was asked for besides
   * @throws {ModelInputError} If an input breaks a rule; nothing has happened then
   */
  // deno-lint-ignore require-await -- errors are to reject, as those of the other models do
  async forward(inputs: ForwardInputs<T>): Promise<BaseModelOutput<T>> {
    requireOptions("forward", inputs, FORWARD_INPUTS);
    const { lastHiddenState, parts, owned } = this.decode("forward", inputs);
    return new BaseModelOutput(lastHiddenState, parts, [lastHiddenState, ...owned]);
  }
}
