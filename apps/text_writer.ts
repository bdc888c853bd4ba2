/**
 * Text on standard output as it comes.
 *
 * @module
 */

/** Standard output, or what a test puts in its place. */
export type TextOutput = Pick<typeof Deno.stdout, "isTerminal" | "write">;

/** Whoever read the output is gone, as `head` is once it has its lines. */
export class ReaderGoneError extends Error {
  /** Tells it from other errors. */
  override readonly name = "ReaderGoneError";
}

/** What a terminal would obey instead of showing: control characters but tab and newline. */
// deno-lint-ignore no-control-regex
const CONTROLS = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f]/g;

/** Writes text, in full and in order. A terminal is shown control characters as U+FFFD; a file gets them. */
export class TextWriter {
  readonly #output: TextOutput;
  readonly #isTerminal: boolean;
  readonly #encoder = new TextEncoder();
  #isLineBegun = false;

  /** Takes where to write. */
  constructor(output: TextOutput) {
    this.#output = output;
    this.#isTerminal = output.isTerminal();
  }

  /**
   * Writes text.
   *
   * @throws {ReaderGoneError} If nobody reads any more
   */
  async write(text: string): Promise<void> {
    if (text === "") return;
    const shown = this.#isTerminal ? text.replace(CONTROLS, "\ufffd") : text;
    const bytes = this.#encoder.encode(shown);
    try {
      for (let at = 0; at < bytes.length;) at += await this.#output.write(bytes.subarray(at));
    } catch (error) {
      if (error instanceof Deno.errors.BrokenPipe) throw new ReaderGoneError("nobody reads on");
      throw error;
    }
    this.#isLineBegun = !text.endsWith("\n");
  }

  /** Ends the line, if there is something on it. */
  async endLine(): Promise<void> {
    if (this.#isLineBegun) await this.write("\n");
  }
}
