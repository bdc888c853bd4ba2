/**
 * RoPE's tables on a backend.
 *
 * @module
 */

import { ropeTables } from "../kernels/rope/rope.ts";
import type { Backend } from "../runtime/backend.ts";
import { requireInput } from "../runtime/errors.ts";
import type { Tensor } from "../runtime/tensor.ts";
import type { StableLmConfig } from "./config.ts";
import { RotarySchedule } from "./rotary.ts";

/** Tables for the positions 0 to rows − 1. */
interface Tables<T> {
  readonly key: string;
  readonly rows: number;
  readonly cos: T;
  readonly sin: T;
}

/** Tables have at least this many rows, unless the model was made for fewer positions. */
const FEWEST_ROWS = 256;

/**
 * Rows of a table that is to have `length`: the next power of two, so that growing is rare, but not past the
 * context that the model was made for; beyond that, the next multiple of it.
 */
function rowsFor(length: number, usual: number): number {
  if (length > usual) return Math.ceil(length / usual) * usual;
  return Math.min(2 ** Math.ceil(Math.log2(Math.max(length, FEWEST_ROWS))), usual);
}

/** Cosines and sines of a config's frequencies, made again when they change or do not reach far enough. */
export class RotaryTables<T extends Tensor> implements Disposable {
  readonly #backend: Backend<T>;
  readonly #config: StableLmConfig;
  readonly #schedule: RotarySchedule;
  #tables: Tables<T> | undefined;

  /** Makes no table yet. */
  constructor(backend: Backend<T>, config: StableLmConfig) {
    this.#backend = backend;
    this.#config = config;
    this.#schedule = new RotarySchedule(config);
  }

  /**
   * Tables of at least `length` positions, for a call whose highest position is `length − 1`.
   *
   * @throws {ModelInputError} If they would be larger than the device's largest tensor
   */
  upTo(length: number): { readonly cos: T; readonly sin: T } {
    const { max_position_embeddings: usual, rotary_dim: rotaryDim } = this.#config;
    const most = Math.floor(this.#backend.maxTensorBytes / (2 * rotaryDim));
    requireInput(
      length <= most,
      "forward",
      "positionIds",
      `must be below ${most}, as a table for more does not fit the device's largest tensor`,
      length - 1,
    );
    const { key, inverseFrequencies, attentionScaling } = this.#schedule.frequenciesFor(length);
    if (this.#tables?.key === key && this.#tables.rows >= length) return this.#tables;
    const rows = Math.min(rowsFor(length, usual), most);
    const host = ropeTables({ rotaryDim, positions: rows, inverseFrequencies, attentionScaling });
    using made = new DisposableStack();
    const cos = made.use(this.#backend.upload(host.cos));
    const sin = made.use(this.#backend.upload(host.sin));
    made.move();
    this[Symbol.dispose]();
    this.#tables = { key, rows, cos, sin };
    return this.#tables;
  }

  /** Gives the tables back. */
  [Symbol.dispose](): void {
    this.#tables?.cos[Symbol.dispose]();
    this.#tables?.sin[Symbol.dispose]();
    this.#tables = undefined;
  }
}
