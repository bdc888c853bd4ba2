/**
 * Keeps the tokens that a model wrote in the prompts that follow.
 *
 * @module
 */

import type { Tokenizer } from "../tokenizer/tokenizer.ts";
import { type ChatPiece, tokensOf } from "./chat_tokens.ts";

/** A piece of a conversation, and the ids that stand for it. */
export interface PromptPiece {
  /** A special token, or the whole text between two of them. */
  readonly piece: ChatPiece;
  /** Ids that decode to it. */
  readonly ids: readonly number[];
}

/**
 * The pieces of a conversation so far. A piece that comes again in its place has the ids that it had, although those
 * of a reply may be others than the tokenizer gives the same text. A piece stands between special tokens, so it is
 * never joined from ids of both kinds.
 */
export class PromptPieces {
  readonly #tokenizer: Tokenizer;
  readonly #special: ReadonlySet<number>;
  #known: readonly PromptPiece[] = [];

  /** Takes what encodes the pieces that are new. */
  constructor(tokenizer: Tokenizer) {
    this.#tokenizer = tokenizer;
    this.#special = new Set(tokenizer.specialTokens.values());
  }

  /** Gives pieces their ids. */
  encode(pieces: readonly ChatPiece[]): PromptPiece[] {
    let isKnown = true;
    return pieces.map((piece, i) => {
      const known = this.#known[i];
      isKnown &&= known?.piece === piece;
      return isKnown ? known! : { piece, ids: tokensOf(this.#tokenizer, piece) };
    });
  }

  /**
   * Learns what was replied to a prompt. Ids are kept only if they are the reply's text and nothing else: not if it
   * was stopped amid a character, or has special tokens before its end.
   */
  learn(prompt: readonly PromptPiece[], text: string, ids: readonly number[]): void {
    this.#known = prompt;
    const hasEnd = this.#special.has(ids.at(-1)!);
    const said = hasEnd ? ids.slice(0, -1) : ids;
    if (said.some((id) => this.#special.has(id)) || this.#tokenizer.decode(said) !== text) return;
    const last = prompt.at(-1);
    const joined: PromptPiece = typeof last?.piece === "string"
      ? { piece: last.piece + text, ids: [...last.ids, ...said] }
      : { piece: text, ids: said };
    this.#known = [...typeof last?.piece === "string" ? prompt.slice(0, -1) : prompt, joined];
  }
}
