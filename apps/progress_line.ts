/**
 * Progress on a terminal.
 *
 * @module
 */

/** A line that is longer would wrap, and could not be written over. */
const WIDTH = 78;

/** One line that is written over; nothing where the output is not a terminal. */
export class ProgressLine {
  readonly #isTerminal = Deno.stdout.isTerminal();
  readonly #encoder = new TextEncoder();

  /** Shows a line in place of the last one. */
  show(text: string): void {
    if (this.#isTerminal) this.#write(`\r\x1b[K${text.slice(0, WIDTH)}`);
  }

  /** Takes the line away, before something else is printed. */
  clear(): void {
    if (this.#isTerminal) this.#write("\r\x1b[K");
  }

  #write(text: string): void {
    Deno.stdout.writeSync(this.#encoder.encode(text));
  }
}
