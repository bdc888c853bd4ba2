/**
 * Drafts from a row itself: what followed its last tokens where they came up before.
 *
 * Source: Saxena, "Prompt lookup decoding", 2023
 *
 * @module
 */

import type { Draft, Drafter } from "./draft.ts";
import { logitsProcessors } from "./logits_processor.ts";
import type { GenerationRequest } from "./request.ts";

/** How a row is searched. */
export interface LookupRules {
  /** Most tokens of a draft. */
  readonly tokens: number;
  /** Most tokens at the end of the row that are looked for. */
  readonly ngram: number;
  /** Tokens that end a row; a draft ends before the first of them. */
  readonly eos: readonly number[];
  /** Says which tokens may follow a row; all may unless given. */
  readonly allowedAfter?: ((ids: readonly number[]) => (token: number) => boolean) | undefined;
}

/**
 * What followed the row's last tokens where they came up first: as many of them as are found, up to `ngram`.
 *
 *   ids = 7 1 2 3 4 9 1 2,   ngram = 2, tokens = 3   →   3 4 9
 *
 * A draft ends before a token that may not come there; where that is its first, the next place is tried.
 *
 * @param ids the row
 * @returns the draft; no token where the last one is new, or what followed it is an eos token
 */
export function lookUp(ids: readonly number[], rules: LookupRules): readonly number[] {
  const { tokens, ngram, eos, allowedAfter } = rules;
  let mayFollow: ((token: number) => boolean) | undefined;
  for (let size = Math.min(ngram, ids.length - 1); size > 0; size--) {
    const tail = ids.length - size;
    for (let start = 0; start < tail; start++) {
      if (!sameTokens(ids, start, tail, size)) continue;
      const found = ids.slice(start + size, start + size + tokens);
      const allowed = allowedAfter
        ? takeWhile(found, (token, i) => {
          if (i > 0) return allowedAfter([...ids, ...found.slice(0, i)])(token);
          // The same for every place.
          return (mayFollow ??= allowedAfter(ids))(token);
        })
        : found;
      if (allowed.length > 0) return takeWhile(allowed, (token) => !eos.includes(token));
    }
  }
  return [];
}

/** What of a call the drafts depend on. */
export interface LookupRequest
  extends Pick<GenerationRequest, "config" | "eos" | "prompts" | "promptLength" | "maxLength"> {
  /** The model; no more of it than how many tokens it knows. */
  readonly model: { readonly config: { readonly vocab_size: number } };
}

/** Drafts what followed the last tokens before. */
export class PromptLookup implements Drafter {
  readonly #rules: LookupRules;

  /** Takes a call with `prompt_lookup_num_tokens`. */
  constructor(request: LookupRequest) {
    const { config, eos } = request;
    this.#rules = {
      tokens: config.prompt_lookup_num_tokens!,
      ngram: config.max_matching_ngram_size,
      eos,
      allowedAfter: settingsOf(request),
    };
  }

  /** Looks the row's end up. */
  draft(ids: readonly number[], most: number): Promise<Draft> {
    const tokens = Math.min(this.#rules.tokens, most);
    return Promise.resolve({ tokens: lookUp(ids, { ...this.#rules, tokens }) });
  }

  /** There is nothing to learn. */
  learn(): void {}

  /** There is nothing to give back. */
  [Symbol.dispose](): void {}
}

/** What −∞ becomes where invalid scores are removed. */
const LOWEST = -(2 - 2 ** -23) * 2 ** 127;

/**
 * Says which tokens the settings allow, if they forbid any. The caller's own functions are not asked: they see
 * rows that were chosen, and none that were guessed.
 */
function settingsOf(
  { config, model, prompts, promptLength, maxLength, eos }: LookupRequest,
): LookupRules["allowedAfter"] {
  const vocabSize = model.config.vocab_size;
  const context = { vocabSize, promptLength, maxLength, eos, prompts, sampling: false, beams: 1 };
  const processors = logitsProcessors(config, context);
  if (processors.length === 0) return undefined;
  return (ids) => {
    const scores = new Float32Array(vocabSize).fill(1);
    for (const processor of processors) processor(scores, ids, 0);
    return (token) => scores[token]! > LOWEST;
  };
}

function sameTokens(ids: readonly number[], a: number, b: number, count: number): boolean {
  for (let i = 0; i < count; i++) {
    if (ids[a + i] !== ids[b + i]) return false;
  }
  return true;
}

/** The tokens before the first for which something does not hold. */
function takeWhile(
  tokens: readonly number[],
  holds: (token: number, i: number) => boolean,
): readonly number[] {
  const end = tokens.findIndex((token, i) => !holds(token, i));
  return end < 0 ? tokens : tokens.slice(0, end);
}
