/**
 * Turns of a conversation: what a user says, and everything up to what a user says next.
 *
 * @module
 */

import type { ChatMessage } from "./chat_template.ts";

/** Where the last turn begins; −1 if no user has said anything. */
export function lastTurn(messages: readonly ChatMessage[]): number {
  return messages.findLastIndex(({ role }) => role === "user");
}

/** The conversation without its first turn, or undefined if that is the last one too. What precedes turns stays. */
export function withoutFirstTurn(
  messages: readonly ChatMessage[],
): readonly ChatMessage[] | undefined {
  const isUser = ({ role }: ChatMessage) => role === "user";
  const first = messages.findIndex(isUser);
  const second = messages.findIndex((message, i) => i > first && isUser(message));
  return second < 0 ? undefined : messages.toSpliced(first, second - first);
}
