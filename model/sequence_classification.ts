/**
 * StableLM with one score per class and sequence.
 *
 * @module
 */

import { embedding } from "../kernels/embedding/embedding.ts";
import { requireInput } from "../runtime/errors.ts";
import { HostTensor, type Tensor } from "../runtime/tensor.ts";
import type { ProblemType } from "./config.ts";
import { FORWARD_INPUTS, type ForwardInputs } from "./forward_inputs.ts";
import { type IdMatrix, type Ids, requireIds, requireOptions } from "./inputs.ts";
import { Linear } from "./layers.ts";
import { type LoadOptions, loadParts } from "./loading.ts";
import { binaryCrossEntropy, crossEntropyLoss, IGNORED, meanSquaredError } from "./losses.ts";
import { HeadOutput } from "./output.ts";
import { type ModelParts, StableLmPreTrainedModel } from "./pretrained.ts";
import { loadPretrained, type PretrainedOptions } from "./pretrained_files.ts";

/** What {@linkcode StableLmForSequenceClassification.forward} takes. */
export interface SequenceClassificationInputs<T extends Tensor = Tensor> extends ForwardInputs<T> {
  /**
   * One class per sequence; or one row of numbers per sequence, with one for each class: 0 or 1 where several
   * classes may hold, any number for regression. Regression to one number takes that number per sequence.
   */
  readonly labels?: ArrayLike<number> | readonly ArrayLike<number>[] | undefined;
}

/** Class scores of whole sequences, read off each one's last token. */
export class StableLmForSequenceClassification<T extends Tensor = Tensor>
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
  ): Promise<StableLmForSequenceClassification<T>> {
    const parts = await loadParts("sequence-classification", options);
    return new StableLmForSequenceClassification(parts);
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
  ): Promise<StableLmForSequenceClassification<T>> {
    const parts = await loadPretrained("sequence-classification", where, options);
    return new StableLmForSequenceClassification(parts);
  }

  /**
   * Scores sequences.
   *
   * The score of a sequence is that of its last token that is not `pad_token_id`, wherever padding stands; the
   * mask is not asked. Without a pad id, or with embeddings for input, it is that of the last position. Where
   * the pad id is the end-of-text id too, an end-of-text at the end counts as padding, as in transformers.
   * Keys and values are returned where `useCache` asks for them, and not because the config does.
   *
   * @returns logits f32[B, num_labels], the loss where there are labels, and what was asked for besides
   * @throws {ModelInputError} If an input breaks a rule, or there is no pad id for more than one sequence;
   * nothing has happened then
   */
  async forward(inputs: SequenceClassificationInputs<T>): Promise<HeadOutput<T>> {
    requireOptions("forward", inputs, [...FORWARD_INPUTS, "labels"]);
    const { labels, ...rest } = inputs;
    const rows = this.#lastTokens(inputs);
    const loss = labels && this.#loss(labels, rows.length);
    const { result: logits, parts, owned } = this.decode("forward", rest, {
      returnsCache: rest.useCache ?? rest.pastKeyValues !== undefined,
      head: (hidden) => this.#scores(hidden, rows),
    });
    using made = new DisposableStack();
    for (const part of owned) made.use(part);
    const value = await loss?.(logits);
    made.move();
    return new HeadOutput(logits, value, parts, owned);
  }

  /** [B, S, H] → [B, num_labels]. */
  #scores(hidden: T, rows: readonly number[]): T {
    const [batch, tokens, size] = hidden.shape as [number, number, number];
    const places = Uint32Array.from(rows, (t, row) => row * tokens + t);
    using ids = this.backend.upload(new HostTensor([batch], places));
    using table = this.backend.reshape(hidden, [batch * tokens, size]);
    using last = this.backend.run(embedding, { table, ids }, { dtype: this.activationDtype }).y;
    return this.#score.forward(last, "vector", "f32");
  }

  /** The position of each sequence that is scored. */
  #lastTokens({ inputIds, inputsEmbeds }: ForwardInputs<T>): number[] {
    const { pad_token_id: pad, vocab_size: below } = this.config;
    let ids: Ids | undefined;
    if (inputIds !== undefined) {
      // Where padding stands is seen on the host.
      ids = requireIds("forward", "inputIds", inputIds as IdMatrix, { below, bound: "vocab_size" });
    }
    // What is wrong with the embeddings, or with having neither, is said when all inputs are checked.
    const { batch, tokens } = ids ?? {
      batch: inputsEmbeds?.shape[0] ?? 1,
      tokens: inputsEmbeds?.shape[1] ?? 1,
    };
    demand(
      pad !== null || batch === 1,
      "inputIds",
      "must have one row, as the config has no pad_token_id",
      `${batch} rows`,
    );
    return Array.from({ length: batch }, (_, row) => {
      if (ids === undefined || pad === null) return tokens - 1;
      let last = tokens - 1;
      while (last > 0 && ids.values[row * tokens + last] === pad) last--;
      return last;
    });
  }

  /** Checks labels, and says how their loss is computed. */
  #loss(
    labels: NonNullable<SequenceClassificationInputs["labels"]>,
    batch: number,
  ): (logits: T) => Promise<number> {
    const { num_labels: classes } = this.config;
    const entries: unknown[] = isList(labels) ? Array.from<unknown>(labels) : [];
    const isFlat = entries.length > 0 && entries.every((label) => typeof label === "number");
    const isRows = entries.length > 0 && entries.every(isList);
    demand(isRows || isFlat, "labels", "must be numbers, or rows of numbers", typeof labels);
    demand(entries.length === batch, "labels", `must have ${batch} entries`, entries.length);
    const rows = entries.map((entry) => isList(entry) ? Array.from(entry) : [entry]) as number[][];
    const flat = rows.flat();
    const bad = flat.find((label) => !Number.isFinite(label));
    demand(bad === undefined, "labels", "must be finite", bad);
    const problem = this.#problemType(isFlat ? flat : undefined);
    if (problem === "single_label_classification") {
      demand(isFlat, "labels", "must be one class per sequence", "rows");
      const isClass = (label: number) =>
        label === IGNORED || (Number.isInteger(label) && label >= 0 && label < classes);
      const wrong = flat.find((label) => !isClass(label));
      demand(wrong === undefined, "labels", `must be classes below ${classes}`, wrong);
      return (logits) => crossEntropyLoss(this.backend, logits, flat);
    }
    const isShaped = rows.every(({ length }) => length === classes);
    demand(isShaped, "labels", `must have ${classes} numbers per sequence`, rows[0]!.length);
    const loss = problem === "regression" ? meanSquaredError : binaryCrossEntropy;
    return async (logits) => loss((await this.backend.read(logits)).numbers, flat);
  }

  /** As in transformers: what the config says, else by the number and kind of labels. */
  #problemType(flat: readonly number[] | undefined): ProblemType {
    const { problem_type: stated, num_labels: classes } = this.config;
    if (stated !== null) return stated;
    if (classes === 1) return "regression";
    return flat?.every(Number.isInteger)
      ? "single_label_classification"
      : "multi_label_classification";
  }
}

function isList(value: unknown): value is ArrayLike<unknown> {
  return Array.isArray(value) || (ArrayBuffer.isView(value) && !(value instanceof DataView));
}

function demand(
  condition: boolean,
  argument: string,
  rule: string,
  value: unknown,
): asserts condition {
  requireInput(condition, "forward", argument, rule, value);
}
