/**
 * StableLM with one score per class and token.
 *
 * @module
 */

import type { Tensor } from "../runtime/tensor.ts";
import { FORWARD_INPUTS, type ForwardInputs } from "./forward_inputs.ts";
import { type IdMatrix, requireIds, requireLabelShape, requireOptions } from "./inputs.ts";
import { Linear, orderOf } from "./layers.ts";
import { type LoadOptions, loadParts } from "./loading.ts";
import { crossEntropyLoss, IGNORED } from "./losses.ts";
import { HeadOutput } from "./output.ts";
import { type ModelParts, StableLmPreTrainedModel } from "./pretrained.ts";
import { loadPretrained, type PretrainedOptions } from "./pretrained_files.ts";

/** What {@linkcode StableLmForTokenClassification.forward} takes. */
export interface TokenClassificationInputs<T extends Tensor = Tensor>
  extends Omit<ForwardInputs<T>, "pastKeyValues" | "useCache"> {
  /** The class of each token, [B, S]; −100 is not scored. */
  readonly labels?: IdMatrix | undefined;
}

/** Class scores of every token. */
export class StableLmForTokenClassification<T extends Tensor = Tensor>
  extends StableLmPreTrainedModel<T> {
  readonly #score: Linear<T>;

  /** Takes parts whose parameters are loaded; {@linkcode load} is the usual way. */
  constructor(parts: ModelParts<T>) {
    super(parts);
    this.#score = new Linear(this.backend, this.parameters, "score");
  }

  /**
   * Loads a model from a config and a source of weights.
   *
   * @throws {ModelInputError} If an option is unknown or not one of its values
   * @throws {ModelConfigError} If the config contradicts the tensors' names
   * @throws {ModelFormatError} If a tensor is missing, damaged, of another shape, or not finite
   * @throws {ModelUnsupportedError} If a weight does not fit the dtype
   */
  static async load<T extends Tensor>(
    options: LoadOptions<T>,
  ): Promise<StableLmForTokenClassification<T>> {
    return new StableLmForTokenClassification(await loadParts("token-classification", options));
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
  ): Promise<StableLmForTokenClassification<T>> {
    const parts = await loadPretrained("token-classification", where, options);
    return new StableLmForTokenClassification(parts);
  }

  /**
   * Scores tokens.
   *
   * @returns logits f32[B, S, num_labels], the loss where there are labels, and what was asked for besides
   * @throws {ModelInputError} If an input breaks a rule; nothing has happened then
   */
  async forward(inputs: TokenClassificationInputs<T>): Promise<HeadOutput<T>> {
    const known = FORWARD_INPUTS.filter((name) => name !== "pastKeyValues" && name !== "useCache");
    requireOptions("forward", inputs, [...known, "labels"]);
    const { labels, ...rest } = inputs;
    const targets = labels && requireIds("forward", "labels", labels, {
      below: this.config.num_labels,
      bound: "num_labels",
      ignored: IGNORED,
    });
    const { result: logits, parts, owned } = this.decode(
      "forward",
      rest,
      {
        returnsCache: false,
        check: (batch, tokens) => requireLabelShape("labels", targets, batch, tokens),
        head: (hidden) =>
          this.#score.forward(hidden, orderOf(hidden.shape[1]!, inputs.stepwise), "f32"),
      },
    );
    using made = new DisposableStack();
    for (const part of owned) made.use(part);
    const loss = targets && await crossEntropyLoss(this.backend, logits, targets.values);
    made.move();
    return new HeadOutput(logits, loss, parts, owned);
  }
}
