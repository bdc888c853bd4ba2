/**
 * Drafts from a smaller model of the same vocabulary.
 *
 * @module
 */

import { argmax } from "../../kernels/argmax/argmax.ts";
import { ModelInputError, requireInput } from "../../runtime/errors.ts";
import type { Tensor } from "../../runtime/tensor.ts";
import { Decoding } from "./decoding.ts";
import { type Draft, type Drafter, probabilitiesOf } from "./draft.ts";
import { bestToken, drawToken } from "./draw.ts";
import type { GenerativeModel } from "./generative_model.ts";
import { type LogitsProcessor, processScores } from "./logits_processor.ts";
import { breathe } from "./pace.ts";
import { CounterRandom } from "./random.ts";
import type { GenerationRequest } from "./request.ts";

/** A drafted token, and the probabilities [V] that it was chosen by, where they matter. */
interface Drafted {
  readonly token: number;
  readonly probabilities?: Float64Array | undefined;
}

/**
 * What the schedule `heuristic` has learned about a model, for the calls that come after: how many tokens to draft,
 * if they are to begin with so many. What is drawn with it so depends on the calls before, as in transformers;
 * `heuristic_transient` forgets.
 */
const LEARNED = new WeakMap<GenerativeModel, { readonly begin: number; readonly count: number }>();

/**
 * Refuses an assistant whose tokens cannot be the model's.
 *
 * @throws {ModelInputError} If the sizes of the vocabularies differ
 */
export function requireSameVocabulary<T extends Tensor>(
  model: GenerativeModel<T>,
  assistant: GenerativeModel<T>,
): void {
  const { vocab_size: wanted } = model.config;
  const { vocab_size: found } = assistant.config;
  const rule = `must have the model's vocabulary of ${wanted} tokens`;
  requireInput(found === wanted, "generate", "assistantModel", rule, found);
}

/**
 * Lets the assistant write on, as the call's settings say, until it is not sure any more: the last token of a draft
 * is the first whose probability is below `assistant_confidence_threshold`, or an eos token.
 *
 * transformers, where scikit-learn is installed, also moves the threshold as it goes; here it stays.
 */
export class AssistantDrafter<T extends Tensor> implements Drafter {
  readonly #assistant: GenerativeModel<T>;
  readonly #request: GenerationRequest<T>;
  readonly #processors: readonly LogitsProcessor[];
  readonly #random: CounterRandom | undefined;
  /** Least probability of a token that another is drafted behind. */
  readonly #threshold: number;
  readonly #decoding: Decoding<T>;
  /** Tokens of the last row, which the assistant's begins with. */
  #known: number;
  /** Most tokens of a draft. */
  #count: number;

  /** Takes a call, its assistant and its processors. */
  constructor(
    request: GenerationRequest<T>,
    assistant: GenerativeModel<T>,
    processors: readonly LogitsProcessor[],
  ) {
    const { inputs, config, prompts, mask, promptLength, maxLength } = request;
    this.#assistant = assistant;
    this.#request = request;
    this.#processors = processors;
    this.#random = config.do_sample ? new CounterRandom(request.seed) : undefined;
    this.#threshold = config.assistant_confidence_threshold;
    const { num_assistant_tokens: begin, num_assistant_tokens_schedule: schedule } = config;
    const learned = schedule === "heuristic" ? LEARNED.get(assistant) : undefined;
    this.#count = learned?.begin === begin ? learned.count : begin;
    this.#known = promptLength;
    this.#decoding = new Decoding(assistant, prompts, {
      mask,
      chunk: inputs.prefillChunkSize ?? 512,
      capacity: Math.min(maxLength, promptLength + 256),
      signal: inputs.signal,
    });
  }

  /** Lets the assistant write on. */
  async draft(ids: readonly number[], most: number): Promise<Draft> {
    const { eos } = this.#request;
    const tokens: number[] = [];
    const probabilities: Float64Array[] = [];
    this.#follow(ids);
    while (tokens.length < Math.min(this.#count, most)) {
      await breathe();
      const next = await this.#next();
      if (!next) break;
      const { token, probabilities: q } = next;
      this.#decoding.append([[token]]);
      tokens.push(token);
      if (this.#random && q) probabilities.push(q);
      const isUnsure = q && q[token]! < this.#threshold;
      if (isUnsure || eos.includes(token)) break;
    }
    return this.#random ? { tokens, probabilities } : { tokens };
  }

  /** Drafts more where all was taken, and less where it was not, if the schedule is to learn. */
  learn(drafted: number, taken: number): void {
    const { num_assistant_tokens: begin, num_assistant_tokens_schedule: schedule } =
      this.#request.config;
    if (schedule === "constant") return;
    this.#count = taken === drafted ? this.#count + 2 : Math.max(1, this.#count - 1);
    if (schedule === "heuristic") LEARNED.set(this.#assistant, { begin, count: this.#count });
  }

  /** Gives the cache back. */
  [Symbol.dispose](): void {
    this.#decoding[Symbol.dispose]();
  }

  /** Takes over the row: of the last draft stays what was taken. */
  #follow(ids: readonly number[]): void {
    const own = this.#decoding.rows[0]!;
    let same = this.#known;
    while (same < own.length && own[same] === ids[same]) same++;
    this.#decoding.crop(same);
    this.#decoding.append([ids.slice(same)]);
    this.#known = ids.length;
  }

  /** The assistant's next token; none where the settings leave it none, as on a way that is not to be gone. */
  async #next(): Promise<Drafted | undefined> {
    const { backend } = this.#assistant;
    const matters = this.#random !== undefined || this.#threshold > 0;
    using logits = await this.#decoding.logits();
    if (!matters && this.#processors.length === 0) {
      using ids = backend.run(argmax, { x: logits }, {}).ids;
      return { token: (await backend.read(ids)).values[0]! };
    }
    const scores = (await backend.read(logits)).values as Float32Array;
    const { rows, length } = this.#decoding;
    try {
      processScores(this.#processors, [scores], rows);
      const step = length - this.#request.promptLength;
      const token = this.#random
        ? drawToken(scores, this.#random, 0, step, "draft")
        : bestToken(scores);
      return { token, probabilities: matters ? probabilitiesOf(scores) : undefined };
    } catch (error) {
      if (error instanceof ModelInputError) return undefined;
      throw error;
    }
  }
}
