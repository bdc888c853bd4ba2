/**
 * The beams of one prompt: the rows that go on, and the best of those that have ended.
 *
 * @module
 */

import type { EarlyStopping } from "../generation_config.ts";
import type { FinishReason } from "./stopping.ts";

/** A row of tokens, and how a search came to it. */
export interface Beam {
  /** Its tokens, prompt and padding included. */
  readonly ids: readonly number[];
  /** For each new token, the row that it continued. */
  readonly rows: readonly number[];
  /** Sum of its tokens' scores, an f32; if it has ended, by a power of their number. */
  readonly score: number;
  /** Why it has ended; undefined if it has not. */
  readonly reason: FinishReason | undefined;
}

/** A way to go on with a beam. */
export interface Candidate {
  /** The beam's place. */
  readonly beam: number;
  /** The beam's tokens and the next one. */
  readonly ids: readonly number[];
  /** Sum of its tokens' scores, an f32. */
  readonly score: number;
  /** Why it ends with its last token; undefined if it goes on. */
  readonly reason: FinishReason | undefined;
}

/** What a search goes by. */
export interface BeamRules {
  /** Beams of a prompt. */
  readonly count: number;
  /** When the search ends. */
  readonly earlyStopping: EarlyStopping;
  /** Power of its length that the score of an ended row is divided by. */
  readonly lengthPenalty: number;
  /** Most new tokens. */
  readonly maxNewTokens: number;
}

/**
 * Added to the score of what must not be chosen. In f32 it leaves nothing of a usual score. −∞ would leave
 * no order among what is barred, which shows where there is nothing else to choose.
 */
const BARRED = -1e9;

/** The search from one prompt, as transformers has it; of equal scores the earlier one comes first. */
export class Beams {
  readonly #rules: BeamRules;
  readonly #firstRow: number;
  #running: readonly Beam[];
  #ended: readonly Beam[];
  #canImprove = true;

  /**
   * Starts with one beam; the others are barred, or all would go on alike.
   *
   * @param prompt its tokens, padding included
   * @param firstRow number of the first beam's row in the batch
   */
  constructor(prompt: readonly number[], firstRow: number, rules: BeamRules) {
    this.#rules = rules;
    this.#firstRow = firstRow;
    const barred = { ids: prompt, rows: [], score: BARRED, reason: undefined };
    this.#ended = new Array<Beam>(rules.count).fill(barred);
    this.#running = this.#ended.with(0, { ...barred, score: 0 });
  }

  /** The rows that go on, best first. */
  get running(): readonly Beam[] {
    return this.#running;
  }

  /** The best rows that have ended, best first. Places that none has taken are without a reason. */
  get ended(): readonly Beam[] {
    return this.#ended;
  }

  /** Whether as many rows have ended as there are beams. */
  get isFull(): boolean {
    return this.#ended.every(({ reason }) => reason !== undefined);
  }

  /** Whether a row that goes on may still become one of the best. */
  get canImprove(): boolean {
    return this.#canImprove;
  }

  /** Takes the next candidates, in the order in which they were chosen. There are at least as many as beams. */
  advance(candidates: readonly Candidate[]): void {
    const { count } = this.#rules;
    const next = candidates.map(({ beam, ...candidate }): Beam => {
      const rows = [...this.#running[beam]!.rows, this.#firstRow + beam];
      return { ...candidate, rows };
    });
    const goingOn = next.map((beam) => ({
      ...beam,
      score: barred(beam.score, beam.reason === undefined ? 0 : 1),
    }));
    this.#ended = best(count, [...this.#ended, ...this.#ending(next)]);
    this.#running = best(count, goingOn);
    this.#canImprove &&= this.#mayImprove();
  }

  /** The candidates as rows that have ended, with those that have not barred. */
  #ending(candidates: readonly Beam[]): Beam[] {
    const { count, earlyStopping, lengthPenalty } = this.#rules;
    const isOver = (this.#canImprove ? 0 : 1) + (earlyStopping === true && this.isFull ? 1 : 0);
    return candidates.map((candidate, place) => {
      // The candidates behind the first are there for beams to go on with when those end.
      const reason = place < count ? candidate.reason : undefined;
      const score = perLength(candidate.score, candidate.rows.length, lengthPenalty);
      return { ...candidate, reason, score: barred(score, isOver + (reason ? 0 : 1)) };
    });
  }

  /** Whether the best row that goes on would be among those that have ended if it ended with this score. */
  #mayImprove(): boolean {
    const { earlyStopping, lengthPenalty, maxNewTokens } = this.#rules;
    const [{ score, rows }] = this.#running as [Beam];
    const mayGrow = earlyStopping === "never" && lengthPenalty > 0;
    const hope = perLength(score, mayGrow ? maxNewTokens : rows.length, lengthPenalty);
    // A place that none has taken counts as barred.
    return hope > Math.min(...this.#ended.map(({ score }) => score));
  }
}

/** score / length^power, in f32. */
function perLength(score: number, length: number, power: number): number {
  return Math.fround(score / Math.fround(length ** power));
}

/** A score barred so many times. */
function barred(score: number, times: number): number {
  for (let i = 0; i < times; i++) score = Math.fround(score + BARRED);
  return score;
}

/** The so many best, best first; sorting is stable. */
function best(count: number, beams: readonly Beam[]): Beam[] {
  return beams.toSorted((a, b) => b.score - a.score).slice(0, count);
}
