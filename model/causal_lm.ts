/**
 * StableLM with a language-model head.
 *
 * @module
 */

import { embedding } from "../kernels/embedding/embedding.ts";
import { requireInput } from "../runtime/errors.ts";
import { HostTensor, type Tensor } from "../runtime/tensor.ts";
import { generate, stream } from "./generation/generate.ts";
import type { GenerateOptions } from "./generation/options.ts";
import type { GenerateOutput } from "./generation/output.ts";
import type { GenerationStream } from "./generation/stream.ts";
import { FORWARD_INPUTS, type ForwardInputs } from "./forward_inputs.ts";
import {
  type IdMatrix,
  type Ids,
  requireIds,
  requireLabelShape,
  requireOptions,
} from "./inputs.ts";
import { Linear, orderOf, type SumOrder } from "./layers.ts";
import { type LoadOptions, loadParts } from "./loading.ts";
import { crossEntropyLoss, IGNORED } from "./losses.ts";
import { HeadOutput } from "./output.ts";
import { type ModelParts, StableLmPreTrainedModel } from "./pretrained.ts";
import { loadPretrained, type PretrainedOptions } from "./pretrained_files.ts";

/** What {@linkcode StableLmForCausalLM.forward} takes. */
export interface CausalLmInputs<T extends Tensor = Tensor> extends ForwardInputs<T> {
  /**
   * Token ids to be predicted, [B, S]: those of the input, as each position is scored against the next one's.
   * −100 is not scored.
   */
  readonly labels?: IdMatrix | undefined;
  /** As labels, but each position is scored against its own. */
  readonly shiftLabels?: IdMatrix | undefined;
  /** What the summed loss is divided by, in place of the number of scored tokens. */
  readonly numItemsInBatch?: number | undefined;
  /** Positions to compute logits for: the last so many, all for 0, or those listed. 0 unless given. */
  readonly logitsToKeep?: number | readonly number[] | undefined;
}

/** Next-token logits from token ids. */
export class StableLmForCausalLM<T extends Tensor = Tensor> extends StableLmPreTrainedModel<T> {
  readonly #lmHead: Linear<T>;

  /** Takes parts whose parameters are loaded; {@linkcode load} is the usual way. */
  constructor(parts: ModelParts<T>) {
    super(parts);
    const name = this.parameters.has("lm_head.weight") ? "lm_head" : "model.embed_tokens";
    this.#lmHead = new Linear(this.backend, this.parameters, name);
  }

  /**
   * Loads a model from a config and a source of weights.
   *
   * @throws {ModelInputError} If an option is unknown or not one of its values
   * @throws {ModelConfigError} If the config contradicts the tensors' names
   * @throws {ModelFormatError} If a tensor is missing, damaged, of another shape, or not finite
   * @throws {ModelUnsupportedError} If a weight does not fit the dtype
   */
  static async load<T extends Tensor>(options: LoadOptions<T>): Promise<StableLmForCausalLM<T>> {
    return new StableLmForCausalLM(await loadParts("causal-lm", options));
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
  ): Promise<StableLmForCausalLM<T>> {
    return new StableLmForCausalLM(await loadPretrained("causal-lm", where, options));
  }

  /**
   * Runs tokens through the model.
   *
   * @returns logits f32[B, kept, V], the loss where there are labels, and what was asked for besides
   * @throws {ModelInputError} If an input breaks a rule; nothing has happened then
   */
  async forward(inputs: CausalLmInputs<T>): Promise<HeadOutput<T>> {
    const names = ["labels", "shiftLabels", "numItemsInBatch", "logitsToKeep"];
    requireOptions("forward", inputs, [...FORWARD_INPUTS, ...names]);
    const { labels, shiftLabels, numItemsInBatch, logitsToKeep = 0, ...rest } = inputs;
    const targets = this.#targets(labels, shiftLabels);
    demand(
      targets === undefined || logitsToKeep === 0,
      "logitsToKeep",
      "must be 0 where labels are given",
      logitsToKeep,
    );
    const kept = keptPositions(logitsToKeep);
    demand(
      numItemsInBatch === undefined || (Number.isFinite(numItemsInBatch) && numItemsInBatch > 0),
      "numItemsInBatch",
      "must be above 0",
      numItemsInBatch,
    );
    const { result: logits, parts, owned } = this.decode("forward", rest, {
      check: (batch, tokens) => {
        requireLabelShape(shiftLabels ? "shiftLabels" : "labels", targets, batch, tokens);
        this.#requireRoom(batch, tokens, kept(tokens));
      },
      head: (hidden) => {
        const tokens = hidden.shape[1]!;
        return this.#logits(hidden, kept(tokens), orderOf(tokens, rest.stepwise));
      },
    });
    using made = new DisposableStack();
    for (const part of owned) made.use(part);
    const loss = targets &&
      await crossEntropyLoss(this.backend, logits, targets.values, numItemsInBatch);
    made.move();
    return new HeadOutput(logits, loss, parts, owned);
  }

  /**
   * Generates tokens after prompts, as the settings of the call, else of the checkpoint, say: greedy decoding,
   * sampling (`doSample`), beam search (`numBeams`), or either of the first two checked against drafts
   * (`assistantModel`, `promptLookupNumTokens`). Gives what transformers' `generate` gives, but for draws, which
   * depend on `seed`, row and position alone (with an assistant, on how much it drafts too).
   *
   * @throws {ModelInputError} If an option is unknown, breaks a rule, or would have no effect; nothing has happened
   * then
   */
  async generate(options: GenerateOptions<T>): Promise<GenerateOutput> {
    return await generate(this, options);
  }

  /**
   * Generates as {@linkcode generate} does, and hands tokens out as they come; with `tokenizer` as text.
   *
   * @throws {ModelInputError} As for {@linkcode generate}, and for beams
   */
  stream(options: GenerateOptions<T>): GenerationStream {
    return stream(this, options);
  }

  /** Checks the positions that are kept, and that their logits fit one tensor. */
  #requireRoom(batch: number, tokens: number, kept: readonly number[] | undefined): void {
    const beyond = kept?.find((t) => t >= tokens);
    demand(beyond === undefined, "logitsToKeep", `must list numbers below ${tokens}`, beyond);
    const { vocab_size: vocabulary } = this.config;
    const most = Math.floor(this.backend.maxTensorBytes / (4 * vocabulary));
    const rows = batch * (kept?.length ?? tokens);
    demand(
      rows <= most,
      "logitsToKeep",
      `must leave at most ${most} rows of logits, as the device's largest tensor has no room for more`,
      `${rows} rows of ${vocabulary}`,
    );
  }

  /** [B, S, H] → [B, kept, V]. */
  #logits(hidden: T, kept: readonly number[] | undefined, order: SumOrder): T {
    const [batch, tokens, size] = hidden.shape as [number, number, number];
    if (kept === undefined) return this.#lmHead.forward(hidden, order, "f32");
    const rows = Array.from({ length: batch }, (_, row) => kept.map((t) => row * tokens + t))
      .flat();
    using ids = this.backend.upload(new HostTensor([batch, kept.length], Uint32Array.from(rows)));
    using table = this.backend.reshape(hidden, [batch * tokens, size]);
    using chosen = this.backend.run(embedding, { table, ids }, { dtype: this.activationDtype }).y;
    return this.#lmHead.forward(chosen, order, "f32");
  }

  /** The label of each position. */
  #targets(labels: IdMatrix | undefined, shiftLabels: IdMatrix | undefined): Ids | undefined {
    demand(
      labels === undefined || shiftLabels === undefined,
      "labels",
      "must not be given with shiftLabels",
      "both",
    );
    const rule = { below: this.config.vocab_size, bound: "vocab_size", ignored: IGNORED };
    if (labels === undefined) {
      return shiftLabels && requireIds("forward", "shiftLabels", shiftLabels, rule);
    }
    const { batch, tokens, values } = requireIds("forward", "labels", labels, rule);
    const next = values.map((_, i) => (i + 1) % tokens === 0 ? IGNORED : values[i + 1]!);
    return { batch, tokens, values: next };
  }
}

/** Checks `logitsToKeep`, and says which of so many tokens it stands for; undefined for all. */
function keptPositions(
  keep: number | readonly number[],
): (tokens: number) => readonly number[] | undefined {
  const isCount = (value: unknown) => Number.isSafeInteger(value) && (value as number) >= 0;
  if (typeof keep === "number") {
    demand(isCount(keep), "logitsToKeep", "must be a whole number from 0", keep);
    return (tokens) =>
      keep === 0 || keep >= tokens
        ? undefined
        : Array.from({ length: keep }, (_, i) => tokens - keep + i);
  }
  const isList = Array.isArray(keep) && keep.length > 0 && keep.every(isCount);
  demand(isList, "logitsToKeep", "must be a number, or list whole numbers from 0", keep);
  return () => keep;
}

function demand(condition: boolean, argument: string, rule: string, value: unknown): void {
  requireInput(condition, "forward", argument, rule, value);
}
