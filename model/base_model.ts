/**
 * StableLM without a head.
 *
 * @module
 */

import type { Tensor } from "../runtime/tensor.ts";
import { FORWARD_INPUTS, type ForwardInputs } from "./forward_inputs.ts";
import { requireOptions } from "./inputs.ts";
import { type LoadOptions, loadParts } from "./loading.ts";
import { BaseModelOutput } from "./output.ts";
import { StableLmPreTrainedModel } from "./pretrained.ts";
import { loadPretrained, type PretrainedOptions } from "./pretrained_files.ts";

/** The decoder: token ids to hidden states. */
export class StableLmModel<T extends Tensor = Tensor> extends StableLmPreTrainedModel<T> {
  /**
   * Loads a model from a config and a source of weights.
   *
   * @throws {ModelInputError} If an option is unknown or not one of its values
   * @throws {ModelConfigError} If the config contradicts the tensors' names
   * @throws {ModelFormatError} If a tensor is missing, damaged, of another shape, or not finite
   * @throws {ModelUnsupportedError} If a weight does not fit the dtype
   */
  static async load<T extends Tensor>(options: LoadOptions<T>): Promise<StableLmModel<T>> {
    return new StableLmModel(await loadParts("none", options));
  }

  /**
   * Finds a model and loads it. Permissions: `--allow-read` of its files; for the hub see
   * {@linkcode fetchCheckpoint}.
   *
   * @param where a folder with `config.json` and safetensors files, a `.gguf` file, either as a path or a file
   * URL, or a repository of the hub as `owner/name`; a folder of that name comes first
   * @throws {ModelInputError} If an option is unknown or not one of its values
   * @throws {ModelDownloadError} If a repository could not be fetched
   * @throws {ModelConfigError | ModelFormatError | ModelUnsupportedError} If a file breaks a rule
   */
  static async fromPretrained<T extends Tensor>(
    where: string | URL,
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
    const head = (hidden: T) => this.backend.reshape(hidden, hidden.shape);
    const { result, parts, owned } = this.decode("forward", inputs, { head });
    return new BaseModelOutput(result, parts, owned);
  }
}
