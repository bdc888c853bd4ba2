/**
 * Greedy decoding and sampling with drafts: several tokens a step.
 *
 * @module
 */

import type { Tensor } from "../../runtime/tensor.ts";
import { steadyTokens } from "../rotary.ts";
import { AssistantDrafter, requireSameVocabulary } from "./assistant_draft.ts";
import type { Decoding } from "./decoding.ts";
import { type Draft, type Drafter, drawGiven } from "./draft.ts";
import { bestToken, drawToken } from "./draw.ts";
import { type LogitsProcessor, processScores } from "./logits_processor.ts";
import type { GenerationRun, NewTokenLogprob } from "./output.ts";
import { breathe } from "./pace.ts";
import { PromptLookup } from "./prompt_lookup.ts";
import { CounterRandom } from "./random.ts";
import { Recorder } from "./recorder.ts";
import type { GenerationRequest } from "./request.ts";
import { Rows } from "./rows.ts";
import { decodingOf } from "./sample.ts";
import { bestOnDevice, processorsOf, readRows } from "./scorer.ts";

/** Chooses the token after a row that has as many tokens of the draft as `i` says. */
type Choose = (i: number, ids: readonly number[]) => {
  readonly token: number;
  readonly logprobs?: readonly NewTokenLogprob[] | undefined;
};

/**
 * Generates as {@linkcode sample} does, for one row, but runs drafted tokens together with the last one, and goes
 * on behind those that the model would have chosen itself.
 *
 *   row … a   draft b c d   →   one call gives what follows a, b, c and d
 *   b, c and x follow       →   b, c and x are new, and the cache forgets d
 *
 * Greedy decoding gives the same tokens, scores and log-probabilities as without drafts, to the bit: a call with
 * drafts is `stepwise`, and the prompt runs without any. So does sampling with `prompt_lookup_num_tokens`, where a
 * draft is taken if it is the token that is drawn. With an assistant, whose drafts are drawn too, the probabilities
 * are the same, and the draws are others.
 *
 * @throws {ModelInputError} If the assistant has another vocabulary; nothing has been computed then
 */
export function assisted<T extends Tensor>(request: GenerationRequest<T>): GenerationRun {
  const { assistantModel } = request.inputs;
  if (assistantModel) requireSameVocabulary(request.model, assistantModel);
  return steps(request);
}

async function* steps<T extends Tensor>(request: GenerationRequest<T>): GenerationRun {
  const { config, inputs, prompts, seed } = request;
  const processors = processorsOf(request);
  const rows = new Rows(request, 1);
  const recorder = new Recorder(config, 1, inputs.outputLogprobs);
  const scorer = new DraftScorer(request, processors, recorder);
  using held = new DisposableStack();
  const decoding = held.use(decodingOf(request, prompts, 1));
  const drafter: Drafter = held.use(
    inputs.assistantModel
      ? new AssistantDrafter(request, inputs.assistantModel, processors)
      : new PromptLookup(request),
  );
  const ids = [...prompts[0]!];
  let draft: Draft = { tokens: [] };
  for (;;) {
    await breathe();
    const begin = ids.length;
    const { tokens: drafted } = draft;
    decoding.append([drafted]);
    const choose = await scorer.score(decoding, draft);
    const logprobs: NewTokenLogprob[] = [];
    let taken = 0;
    for (let i = 0; i === taken && !rows.finished; i++) {
      const choice = choose(i, ids);
      ids.push(choice.token);
      logprobs.push(...choice.logprobs ?? []);
      rows.next([choice.token]);
      rows.stop([ids]);
      if (choice.token === drafted[i]) taken++;
    }
    decoding.crop(begin + taken);
    decoding.append([ids.slice(begin + taken)]);
    if (drafted.length > 0) drafter.learn(drafted.length, taken);
    yield {
      tokens: [ids.slice(begin)],
      ...(inputs.outputLogprobs === undefined ? {} : { logprobs: [logprobs] }),
    };
    if (rows.finished) break;
    draft = await drafter.draft(ids, roomForDraft(request, ids.length));
  }
  return { sequences: [ids], ...rows.outcome, seed, ...recorder.kept };
}

/** Scores what follows each token of a draft, and the one before it. */
class DraftScorer<T extends Tensor> {
  readonly #request: GenerationRequest<T>;
  readonly #processors: readonly LogitsProcessor[];
  readonly #recorder: Recorder;
  readonly #random: CounterRandom | undefined;

  constructor(
    request: GenerationRequest<T>,
    processors: readonly LogitsProcessor[],
    recorder: Recorder,
  ) {
    this.#request = request;
    this.#processors = processors;
    this.#recorder = recorder;
    this.#random = request.config.do_sample ? new CounterRandom(request.seed) : undefined;
  }

  /** Runs the draft, which is at the end of the row; what is chosen must be asked for in order. */
  async score(decoding: Decoding<T>, { tokens, probabilities }: Draft): Promise<Choose> {
    using logits = await decoding.logits(tokens.length + 1);
    if (!this.#random && this.#processors.length === 0 && !this.#recorder.needsLogits) {
      const best = await bestOnDevice(this.#request, logits);
      return (i) => ({ token: best[i]! });
    }
    const rows = await readRows(this.#request, logits);
    return (i, ids) => {
      const scores = [rows[i]!];
      const logprobsOf = this.#recorder.logits(scores);
      processScores(this.#processors, scores, [ids]);
      this.#recorder.scores(scores);
      const step = ids.length - this.#request.promptLength;
      const token = this.#choose(rows[i]!, step, tokens[i], probabilities?.[i]);
      return { token, logprobs: logprobsOf([[token]])?.[0] };
    };
  }

  #choose(
    scores: Float32Array,
    step: number,
    drafted: number | undefined,
    q: Float64Array | undefined,
  ): number {
    if (!this.#random) return bestToken(scores);
    if (drafted === undefined || !q) return drawToken(scores, this.#random, 0, step);
    return drawGiven(scores, drafted, q, this.#random, step);
  }
}

/**
 * Most tokens to draft behind a row: one more is chosen after them; their logits fit one tensor; and one call gives
 * all of them the RoPE frequencies that each would have in a call of its own.
 */
function roomForDraft<T extends Tensor>(
  { model, mask, maxLength }: GenerationRequest<T>,
  length: number,
): number {
  const { vocab_size: vocabulary } = model.config;
  const padding = mask ? mask[0]!.filter((isSeen) => isSeen === 0).length : 0;
  return Math.max(
    0,
    Math.min(
      maxLength - length - 1,
      Math.floor(model.backend.maxTensorBytes / (4 * vocabulary)) - 1,
      steadyTokens(model.config, length - padding),
    ),
  );
}
