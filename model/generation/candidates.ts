/**
 * Which tokens the beams of a prompt may go on with.
 *
 * @module
 */

import { requireInput } from "../../runtime/errors.ts";
import type { Tensor } from "../../runtime/tensor.ts";
import type { Beam, Beams, Candidate } from "./beams.ts";
import { drawTokens, Leaders } from "./draw.ts";
import { CounterRandom } from "./random.ts";
import type { GenerationRequest } from "./request.ts";

/** Chooses candidates: the best ones, or with `do_sample` some by chance. */
export class CandidateChooser {
  readonly #request: GenerationRequest<Tensor>;
  readonly #random: CounterRandom | undefined;
  readonly #count: number;
  // Scores of a prompt's beams with each next token: f32[beams · V].
  readonly #sums: Float32Array;

  /** Takes a call. */
  constructor(request: GenerationRequest<Tensor>) {
    const { model, config, eos, seed } = request;
    const { num_beams: beams, do_sample: isRandom } = config;
    const { vocab_size: vocabulary } = model.config;
    this.#request = request;
    this.#random = isRandom ? new CounterRandom(seed) : undefined;
    // However many of the best end with an eos token, there are enough to go on with.
    this.#count = Math.min(Math.max(2, 1 + eos.length), vocabulary) * beams;
    this.#sums = new Float32Array(beams * vocabulary);
  }

  /**
   * Chooses a prompt's next candidates. Where too little is possible, the last of them have −∞.
   *
   * @param scores [V] of each of its beams
   * @param prompt the prompt's number
   * @returns them in the order in which they are chosen
   * @throws {ModelInputError} If a score is NaN, or +∞ where candidates are drawn, or all are −∞ before any
   * row has ended
   */
  choose({ running, ended }: Beams, scores: readonly Float32Array[], prompt: number): Candidate[] {
    const vocabulary = this.#request.model.config.vocab_size;
    const firstRow = prompt * running.length;
    const isPossible = this.#add(running, scores, firstRow);
    const isNeeded = ended.every(({ reason }) => reason === undefined);
    const rule = "must leave a token to choose";
    const value = `prompt ${prompt} has −∞ for all`;
    requireInput(isPossible || !isNeeded, "generate", "scores", rule, value);
    const places = isPossible ? this.#places(prompt, running[0]!.rows.length) : [];
    fillUp(places, this.#count);
    return places.map((place) => {
      const beam = Math.floor(place / vocabulary);
      const ids = [...running[beam]!.ids, place % vocabulary];
      const reason = this.#request.stopping.reason(ids, firstRow + beam);
      return { beam, ids, score: this.#sums[place]!, reason };
    });
  }

  /** Adds each beam's score to those of its next tokens; says whether any of them is possible. */
  #add(running: readonly Beam[], scores: readonly Float32Array[], firstRow: number): boolean {
    const sums = this.#sums;
    let largest = -Infinity;
    let place = 0;
    for (const [beam, { score }] of running.entries()) {
      const next = scores[beam]!;
      for (let token = 0; token < next.length; token++) {
        const sum = Math.fround(score + next[token]!);
        sums[place++] = sum;
        // True for NaN, too.
        if (!(sum <= largest)) {
          const value = `token ${token} of row ${firstRow + beam} is`;
          requireInput(!Number.isNaN(sum), "generate", "scores", "must not be NaN", value);
          largest = sum;
        }
      }
    }
    return largest > -Infinity;
  }

  #places(prompt: number, step: number): number[] {
    const [sums, count] = [this.#sums, this.#count];
    return this.#random
      ? drawTokens(sums, count, this.#random, prompt, step)
      : greatest(sums, count);
  }
}

/** The places of so many of the greatest scores, in descending order; on ties the first. None of them has −∞. */
function greatest(scores: Float32Array, count: number): number[] {
  const leaders = new Leaders(count);
  let bar = -Infinity;
  for (let place = 0; place < scores.length; place++) {
    const score = scores[place]!;
    if (score > bar) {
      leaders.offer(place, score);
      bar = leaders.bar;
    }
  }
  return leaders.tokens;
}

/** Where too few tokens are possible, as after a forced one, the first of the others take the places. */
function fillUp(places: number[], count: number): void {
  const taken = new Set(places);
  for (let place = 0; places.length < count; place++) {
    if (!taken.has(place)) places.push(place);
  }
}
