/**
 * Which rows have ended, and why.
 *
 * @module
 */

import type { Tensor } from "../../runtime/tensor.ts";
import type { GenerateOutput } from "./output.ts";
import type { GenerationRequest } from "./request.ts";
import type { FinishReason, Stopping } from "./stopping.ts";

/** Follows each row to its end; behind it, the row is filled up. */
export class Rows {
  readonly #stopping: Stopping;
  readonly #pad: number;
  readonly #reasons: (FinishReason | undefined)[];
  readonly #tokens: number[][];

  /** Takes a call, and how many rows it has. */
  constructor(
    { stopping, pad }: Pick<GenerationRequest<Tensor>, "stopping" | "pad">,
    count: number,
  ) {
    this.#stopping = stopping;
    // Where nothing fills rows up, there is one row only.
    this.#pad = pad ?? 0;
    this.#reasons = new Array<FinishReason | undefined>(count).fill(undefined);
    this.#tokens = this.#reasons.map(() => []);
  }

  /** Whether all rows have ended. */
  get finished(): boolean {
    return this.#reasons.every((reason) => reason !== undefined);
  }

  /** Whether a row has ended. */
  hasEnded(row: number): boolean {
    return this.#reasons[row] !== undefined;
  }

  /** Gives each row its next token: what is written, and what of it is new. */
  next(chosen: readonly number[]): { written: number[][]; fresh: number[][] } {
    const fresh = chosen.map((id, row) => this.#reasons[row] === undefined ? [id] : []);
    const written = fresh.map((ids) => ids.length > 0 ? ids : [this.#pad]);
    fresh.forEach((ids, row) => this.#tokens[row]!.push(...ids));
    return { written, fresh };
  }

  /** Ends the rows whose last token ends them. */
  stop(rows: readonly (readonly number[])[]): void {
    rows.forEach((ids, row) => this.#reasons[row] ??= this.#stopping.reason(ids, row));
  }

  /** New tokens and why each row has ended. */
  get outcome(): Pick<GenerateOutput, "newTokens" | "finishReasons"> {
    return { newTokens: this.#tokens, finishReasons: this.#reasons.map((reason) => reason!) };
  }
}
