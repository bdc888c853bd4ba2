/**
 * What a chat and its replies are asked for.
 *
 * @module
 */

import type { Tensor } from "../../runtime/tensor.ts";
import type { GenerativeModel } from "../generation/generative_model.ts";
import type { GenerateOptions } from "../generation/options.ts";
import type { Tokenizer } from "../tokenizer/tokenizer.ts";
import type { ChatMessage, ChatTemplate } from "./chat_template.ts";

/** How a reply is generated: the options of `generate`, without those that a chat sets itself. */
export type ReplyOptions<T extends Tensor = Tensor> =
  & Omit<
    GenerateOptions<T>,
    | "inputIds"
    | "attentionMask"
    | "tokenizer"
    | "promptCache"
    | "maxLength"
    | "minLength"
    | "numBeams"
    | "numReturnSequences"
    | "seed"
  >
  & {
    /**
     * What draws depend on: a whole number from 0 to 2⁶⁴ − 1. A seed of the chat counts up with its replies, so
     * that these differ, and the whole chat comes out the same each time. Random unless given.
     */
    readonly seed?: number | bigint | undefined;
  };

/** Options of `generate` that a chat sets itself. */
export const CHATS_OWN: Readonly<Record<Exclude<keyof GenerateOptions, keyof ReplyOptions>, true>> =
  {
    inputIds: true,
    attentionMask: true,
    tokenizer: true,
    promptCache: true,
    maxLength: true,
    minLength: true,
    numBeams: true,
    numReturnSequences: true,
  };

/** What a chat begins with, and how it goes on. Options of `generate` hold for every reply. */
export interface ChatSettings<T extends Tensor = Tensor> extends ReplyOptions<T> {
  /** What the system message says; there is none unless given. */
  readonly system?: string | undefined;
  /** What was said before, oldest first. */
  readonly messages?: readonly ChatMessage[] | undefined;
  /** Other variables of the template: plain values by name. */
  readonly extra?: Readonly<Record<string, unknown>> | undefined;
  /**
   * What to do with a conversation that leaves no room for a reply: `refuse` it, or `drop-oldest`, which forgets turns
   * from the first on until there is room for `maxNewTokens`, or for a quarter of the context if that is less. The
   * system message stays. `refuse` unless given.
   */
  readonly onOverflow?: "refuse" | "drop-oldest" | undefined;
}

/** What a chat is made of. */
export interface ChatOptions<T extends Tensor = Tensor> extends ChatSettings<T> {
  /** What replies. It stays the caller's, and has to outlive the chat. */
  readonly model: GenerativeModel<T>;
  /** The model's tokenizer. */
  readonly tokenizer: Tokenizer;
  /** The format that the model was trained on. */
  readonly template: ChatTemplate;
}
