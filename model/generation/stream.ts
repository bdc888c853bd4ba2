/**
 * Generated text as it comes.
 *
 * @module
 */

import type { TokenStream } from "../tokenizer/token_stream.ts";
import type { Tokenizer } from "../tokenizer/tokenizer.ts";
import type { GenerateOutput, GenerationRun, NewTokenLogprob } from "./output.ts";

/** What a step adds to one row. */
export interface GeneratedPiece {
  /** Number of the row. */
  readonly row: number;
  /** Its new tokens; none where only the rest of the text comes. */
  readonly ids: readonly number[];
  /** Their text, in whole characters; special tokens have none. Empty without a tokenizer. */
  readonly text: string;
  /** Their log-probabilities, with `outputLogprobs`. */
  readonly logprobs?: readonly NewTokenLogprob[];
}

/**
 * Generated pieces, for `for await` or as a web stream. A piece is computed when it is asked for; ending the
 * loop or cancelling the stream ends the generation and gives back what it held.
 */
export class GenerationStream extends ReadableStream<GeneratedPiece> {
  /** The whole result once the stream is read to its end; rejects if it fails or is cancelled. */
  readonly output: Promise<GenerateOutput>;

  /** Takes the steps, and what decodes their tokens. */
  constructor(run: GenerationRun, tokenizer?: Tokenizer) {
    const { promise, resolve, reject } = Promise.withResolvers<GenerateOutput>();
    // Whoever does not ask for the output need not handle its failure.
    promise.catch(() => {});
    const pieces = piecesOf(run, tokenizer);
    super(
      {
        async pull(controller): Promise<void> {
          try {
            const { done, value } = await pieces.next();
            if (!done) return controller.enqueue(value);
            controller.close();
            resolve(value);
          } catch (error) {
            reject(error);
            throw error;
          }
        },
        async cancel(reason): Promise<void> {
          reject(reason ?? new DOMException("The stream was cancelled", "AbortError"));
          await pieces.return(undefined as never);
        },
      },
      { highWaterMark: 0 },
    );
    this.output = promise;
  }
}

async function* piecesOf(
  run: GenerationRun,
  tokenizer: Tokenizer | undefined,
): AsyncGenerator<GeneratedPiece, GenerateOutput, void> {
  const decoders: (TokenStream | undefined)[] = [];
  try {
    for (;;) {
      const { done, value } = await run.next();
      if (done) {
        for (const [row, decoder] of decoders.entries()) {
          const text = decoder?.end() ?? "";
          if (text !== "") yield { row, ids: [], text };
        }
        return value;
      }
      for (const [row, ids] of value.tokens.entries()) {
        if (ids.length === 0) continue;
        const decoder = decoders[row] ??= tokenizer?.stream({ skipSpecialTokens: true });
        const text = ids.map((id) => decoder?.push(id) ?? "").join("");
        const logprobs = value.logprobs?.[row];
        yield { row, ids, text, ...(logprobs ? { logprobs } : {}) };
      }
    }
  } finally {
    await run.return(undefined as never);
  }
}
