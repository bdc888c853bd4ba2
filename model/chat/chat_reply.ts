/**
 * A chat's reply as it comes.
 *
 * @module
 */

import type { GenerateOutput } from "../generation/output.ts";
import type { FinishReason } from "../generation/stopping.ts";
import type { GeneratedPiece, GenerationStream } from "../generation/stream.ts";

/** A whole reply. */
export interface ChatOutput {
  /** What was said, without special tokens. */
  readonly text: string;
  /** The generated tokens, with the one that ended the turn. */
  readonly ids: readonly number[];
  /** Why it has ended. */
  readonly finishReason: FinishReason;
  /** Everything else that generation gives; of one row. */
  readonly generation: GenerateOutput;
}

/** How a reply came to its end: by itself, because whoever asked for it had enough, or by an error. */
export type ReplyEnding = "complete" | "stopped" | "failed";

/** What a reply is made of. */
export interface ReplyParts {
  /** Its tokens as they come. */
  readonly generation: GenerationStream;
  /** Tokens of the conversation that it replies to. */
  readonly promptTokens: number;
  /** How many of them need not run again. */
  readonly reusedTokens: number;
  /** What stops it, besides {@linkcode ReplyParts.controller}. */
  readonly signal: AbortSignal | undefined;
  /** Stops the generation in the midst of a step. */
  readonly controller: AbortController;
  /** Told once how it has ended, with what had come by then; nothing is held any more. */
  readonly onEnd: (ending: ReplyEnding, text: string, ids: readonly number[]) => void;
}

/**
 * Pieces of a reply, for `for await` or as a web stream. A piece is computed when it is asked for. Ending the loop,
 * cancelling the stream, or {@linkcode ChatReply.stop} stops the reply; see {@linkcode Chat} for what becomes of it.
 */
export class ChatReply extends ReadableStream<GeneratedPiece> {
  /** The whole reply once it is read to its end; rejects if it fails or is stopped. */
  readonly output: Promise<ChatOutput>;
  /** Tokens of the conversation that it replies to. */
  readonly promptTokens: number;
  /** How many of these are not run again, as keys and values of theirs are left from an earlier turn. */
  readonly reusedTokens: number;
  readonly #stop: (reason: unknown) => Promise<void>;

  /** Takes its parts. */
  constructor(parts: ReplyParts) {
    const { promise, resolve, reject } = Promise.withResolvers<ChatOutput>();
    // Whoever does not ask for the output need not handle its failure.
    promise.catch(() => {});
    let hasEnded = false;
    const onEnd: ReplyParts["onEnd"] = (...end) => {
      if (hasEnded) return;
      hasEnded = true;
      parts.onEnd(...end);
    };
    const pieces = piecesOf({ ...parts, onEnd });
    const stop = async (reason: unknown): Promise<void> => {
      reject(reason);
      parts.controller.abort(reason);
      await pieces.return(undefined as never);
      // Pieces that were stopped before the first of them was asked for tell nobody.
      onEnd("stopped", "", []);
    };
    super(
      {
        async pull(controller): Promise<void> {
          try {
            const { done, value } = await pieces.next();
            if (!done) return controller.enqueue(value);
            controller.close();
            resolve(value);
          } catch (error) {
            if (parts.controller.signal.aborted) return controller.close();
            reject(error);
            throw error;
          }
        },
        cancel: (reason) => stop(reason ?? stopped()),
      },
      { highWaterMark: 0 },
    );
    this.output = promise;
    this.promptTokens = parts.promptTokens;
    this.reusedTokens = parts.reusedTokens;
    this.#stop = stop;
  }

  /** Stops the reply, whether or not someone is reading it; the pieces end. Does nothing once they have. */
  async stop(): Promise<void> {
    await this.#stop(stopped());
  }
}

function stopped(): DOMException {
  return new DOMException("The reply was stopped", "AbortError");
}

async function* piecesOf(
  { generation, signal, controller, onEnd }: ReplyParts,
): AsyncGenerator<GeneratedPiece, ChatOutput, void> {
  let ending: ReplyEnding = "stopped";
  let text = "";
  const ids: number[] = [];
  try {
    for await (const piece of generation) {
      text += piece.text;
      ids.push(...piece.ids);
      yield piece;
    }
    const output = await generation.output;
    ending = "complete";
    return { text, ids, finishReason: output.finishReasons[0]!, generation: output };
  } catch (error) {
    if (!signal?.aborted && !controller.signal.aborted) ending = "failed";
    throw error;
  } finally {
    onEnd(ending, text, ids);
  }
}
