/**
 * Lines that a person types.
 *
 * @module
 */

import process from "node:process";
import { createInterface } from "node:readline";

/** What a person did at a prompt: typed text, ended the input with Ctrl-D, or pressed Ctrl-C. */
export type Typed =
  | { readonly kind: "text"; readonly text: string }
  | { readonly kind: "end" | "interrupt" };

/** How long the next line of a pasted text takes to come. */
const PASTE_MS = 20;

/**
 * Reads lines from a terminal, with editing keys and the lines before. Between two lines the terminal is as it was, so
 * that Ctrl-C is a signal then.
 */
export class TypedLines {
  #history: string[] = [];
  #begun = "";

  /**
   * Waits for a line. Lines that are pasted together are one text, and what has no end yet is there to go on
   * with at the next prompt.
   *
   * @param signal ends the wait, which then is an interrupt
   */
  async next(prompt: string, signal: AbortSignal): Promise<Typed> {
    const { promise, resolve } = Promise.withResolvers<Typed>();
    const terminal = createInterface({
      input: process.stdin,
      output: process.stdout,
      terminal: true,
      prompt,
      history: this.#history,
    });
    const lines: string[] = [];
    terminal.on("line", (line) => {
      lines.push(line);
      const take = () => resolve({ kind: "text", text: lines.join("\n") });
      if (lines.length === 1) setTimeout(take, PASTE_MS);
    });
    terminal.on("history", (history) => this.#history = history);
    terminal.on("SIGINT", () => resolve({ kind: "interrupt" }));
    terminal.on("close", () => resolve({ kind: "end" }));
    const interrupt = () => resolve({ kind: "interrupt" });
    signal.addEventListener("abort", interrupt);
    if (signal.aborted) interrupt();
    try {
      terminal.prompt();
      terminal.write(this.#begun);
      const typed = await promise;
      this.#begun = typed.kind === "text" ? terminal.line : "";
      return typed;
    } finally {
      signal.removeEventListener("abort", interrupt);
      terminal.close();
    }
  }
}
