/**
 * Text from tokens as they come, without half characters.
 *
 * @module
 */

/**
 * Decodes one token after the other. A token may end in the midst of a character: what is incomplete is held
 * back until it is whole, or can no longer become so and is U+FFFD. All pieces together are what decoding all
 * ids at once gives. A call takes as long as its token, however many came before.
 */
export class TokenStream {
  readonly #bytesOf: (id: number) => Uint8Array<ArrayBuffer>;
  // A mark at the start is text as any other.
  readonly #decoder = new TextDecoder("utf-8", { ignoreBOM: true });

  /** Takes what gives a token's bytes, or throws if there can be no such token. */
  constructor(bytesOf: (id: number) => Uint8Array<ArrayBuffer>) {
    this.#bytesOf = bytesOf;
  }

  /**
   * The text that this token completes, which may be empty.
   *
   * @throws {ModelInputError} If the id is not a whole number from 0; the stream goes on as if it had not come
   */
  push(id: number): string {
    return this.#decoder.decode(this.#bytesOf(id), { stream: true });
  }

  /** What is held back: nothing, or U+FFFD. The next token begins a new text. */
  end(): string {
    return this.#decoder.decode();
  }
}
