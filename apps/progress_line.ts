/**
 * Progress on a terminal.
 *
 * @module
 */

/** A line that is longer would wrap, and could not be written over. */
const WIDTH = 78;

/** Where a {@linkcode ProgressLine} is shown: standard output or standard error. */
export type ProgressOutput = Pick<typeof Deno.stdout, "isTerminal" | "writeSync">;

/** One line that is written over; nothing where the output is not a terminal. */
export class ProgressLine {
  readonly #encoder = new TextEncoder();
  readonly #output: ProgressOutput;
  readonly #isTerminal: boolean;

  /** Takes where to show it: standard output unless given. */
  constructor(output: ProgressOutput = Deno.stdout) {
    this.#output = output;
    this.#isTerminal = output.isTerminal();
  }

  /** Shows a line in place of the last one. */
  show(text: string): void {
    if (this.#isTerminal) this.#write(`\r\x1b[K${text.slice(0, WIDTH)}`);
  }

  /** Takes the line away, before something else is printed. */
  clear(): void {
    if (this.#isTerminal) this.#write("\r\x1b[K");
  }

  /** Puts a line in its place that stays; where there is no terminal, only one that `matters`. */
  end(text: string, matters = false): void {
    if (this.#isTerminal) this.#write(`\r\x1b[K${text}\n`);
    else if (matters) this.#write(`${text}\n`);
  }

  #write(text: string): void {
    this.#output.writeSync(this.#encoder.encode(text));
  }
}
