/**
 * Finds tokens in text as it was given.
 *
 * @module
 */

import type { AddedToken } from "./tokenizer_json.ts";

/** Cuts text at tokens: from the left, and the longest of those that begin at one place. */
export class TokenSplitter {
  readonly #ids: ReadonlyMap<string, number>;
  readonly #pattern: RegExp | undefined;

  /** Takes the tokens to look for. */
  constructor(tokens: readonly AddedToken[]) {
    this.#ids = new Map(tokens.map(({ content, id }) => [content, id]));
    if (tokens.length === 0) return;
    const contents = [...this.#ids.keys()].sort((a, b) => b.length - a.length);
    const literal = (text: string) => text.replace(/[\\^$.*+?()[\]{}|/]/g, "\\$&");
    this.#pattern = new RegExp(`(${contents.map(literal).join("|")})`, "u");
  }

  /** The text's pieces in order: an id for each token, and the text between them. */
  split(text: string): (string | number)[] {
    if (this.#pattern === undefined) return text === "" ? [] : [text];
    return text.split(this.#pattern)
      // Every second piece is what the pattern caught.
      .map((piece, i) => i % 2 === 1 ? this.#ids.get(piece)! : piece)
      .filter((piece) => piece !== "");
  }
}
