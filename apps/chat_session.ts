/**
 * A chat at a terminal: what a person says, and commands about the chat.
 *
 * @module
 */

import type { Chat } from "../model/chat/chat.ts";
import type { ChatReply } from "../model/chat/chat_reply.ts";
import type { ChatMessage } from "../model/chat/chat_template.ts";
import { KernelsError } from "../runtime/errors.ts";
import { decodeJson, isRecord } from "../runtime/json_text.ts";
import { EXIT, explain, type Interrupts, suggest, UsageError } from "./command_line.ts";
import type { ProgressLine } from "./progress_line.ts";
import type { TextWriter } from "./text_writer.ts";
import type { Typed } from "./typed_lines.ts";

/** What a session is made of. */
export interface SessionParts {
  /** The chat. */
  readonly chat: Chat;
  /** What the user calls its model. */
  readonly model: string;
  /** Waits for what the person types next. */
  readonly next: () => Promise<Typed>;
  /** Where replies go. */
  readonly writer: TextWriter;
  /** Where remarks go. */
  readonly progress: ProgressLine;
  /** Whether remarks are not to be dimmed. */
  readonly noColor: boolean;
  /** Ends the session. */
  readonly signal: AbortSignal;
  /** Lets Ctrl-C stop a reply. */
  readonly interrupts: Interrupts;
}

/** A conversation as `/save` writes it. */
export interface SavedChat {
  /** Version of this structure. */
  readonly schemaVersion: 1;
  /** Tells this file from others: always "chat". */
  readonly kind: "chat";
  /** What the model was called. */
  readonly model: string;
  /** What was said, oldest first. */
  readonly messages: readonly ChatMessage[];
}

/** Commands, and what they do. */
const COMMANDS: Readonly<Record<string, readonly [argument: string, summary: string]>> = {
  help: ["", "show this"],
  reset: ["", "begin anew"],
  retry: ["", "reply to the last turn once more"],
  undo: ["", "take the last turn back"],
  save: ["FILE", "write the conversation to FILE, as JSON"],
  load: ["FILE", "go on with the conversation in FILE"],
  quit: ["", "leave"],
};

const NOTES = [
  "Everything else is said to the model: a line, or lines that are pasted together. A space before",
  "a / makes it something to say. Ctrl-C stops a reply; at the prompt it leaves, as Ctrl-D does.",
];

/**
 * Lets a person chat until they leave.
 *
 * @returns the exit status
 */
export async function runSession(parts: SessionParts): Promise<number> {
  const { next, signal, writer } = parts;
  for (;;) {
    const typed = await next();
    signal.throwIfAborted();
    if (typed.kind !== "text") {
      await writer.write("\n");
      return typed.kind === "end" ? EXIT.ok : EXIT.interrupted;
    }
    const { text } = typed;
    if (text.trim() === "") continue;
    try {
      if (!text.startsWith("/")) await showReply(parts, () => parts.chat.send(text, { signal }));
      else if (!await obey(parts, text.slice(1).trim())) return EXIT.ok;
    } catch (error) {
      console.error(`error: ${explainInChat(error)}`);
    }
  }
}

/** Does what a command says; false for the one that leaves. */
async function obey(parts: SessionParts, line: string): Promise<boolean> {
  const { chat, model, signal } = parts;
  const [name = "", ...words] = line.split(" ");
  const command = Object.hasOwn(COMMANDS, name) ? COMMANDS[name]! : undefined;
  if (!command) throw new UsageError(`unknown command: ${suggest(name, Object.keys(COMMANDS))}`);
  const [argument] = command;
  const file = words.join(" ").trim();
  if ((file === "") !== (argument === "")) {
    throw new UsageError(argument ? `/${name} needs a file` : `/${name} takes nothing: ${file}`);
  }
  switch (name) {
    case "help":
      remark(parts, helpLines().join("\n"));
      break;
    case "reset":
      chat.reset();
      remark(parts, "a new conversation");
      break;
    case "retry":
      await showReply(parts, () => chat.retry({ signal }));
      break;
    case "undo":
      remark(parts, chat.undo() === undefined ? "there is no turn" : "the last turn is taken back");
      break;
    case "save": {
      const saved: SavedChat = { schemaVersion: 1, kind: "chat", model, messages: chat.messages };
      await Deno.writeTextFile(file, JSON.stringify(saved, null, 2) + "\n");
      remark(parts, `${messagesIn(chat)} in ${file}`);
      break;
    }
    case "load":
      chat.reset(readSaved(await Deno.readFile(file), file));
      remark(parts, `${messagesIn(chat)} from ${file}`);
      break;
  }
  return name !== "quit";
}

function helpLines(): string[] {
  const rows = Object.entries(COMMANDS).map(([name, [argument, summary]]) => {
    return `  ${`/${name} ${argument}`.padEnd(12)}${summary}`;
  });
  return [...rows, ...NOTES];
}

function messagesIn({ messages: { length } }: Chat): string {
  return `${length} ${length === 1 ? "message" : "messages"}`;
}

function readSaved(bytes: Uint8Array, file: string): readonly ChatMessage[] {
  const { value } = decodeJson(bytes, ({ rule, value }) => {
    throw new UsageError(`${file} must be ${rule === "utf8" ? "UTF-8" : "JSON"}: ${value}`);
  });
  if (!isRecord(value) || value["kind"] !== "chat" || value["schemaVersion"] !== 1) {
    throw new UsageError(`${file} must be a conversation that /save wrote`);
  }
  // Whether they are messages is for the chat to say.
  return value["messages"] as readonly ChatMessage[];
}

/** Writes a reply as it comes. Ctrl-C stops it, and it is kept as far as it came. */
async function showReply(parts: SessionParts, begin: () => ChatReply): Promise<void> {
  const { writer, progress, interrupts } = parts;
  const started = performance.now();
  const reply = begin();
  const { promptTokens, reusedTokens } = reply;
  const clock = new ReplyClock(started);
  let isStopped = false;
  interrupts.handler = () => {
    isStopped = true;
    // Whoever reads the reply is told of a fault.
    reply.stop().catch(() => {});
  };
  try {
    progress.show(`reading ${promptTokens - reusedTokens} tokens`);
    for await (const { ids, text } of reply) {
      if (clock.tokens === 0) progress.clear();
      clock.add(ids.length);
      await writer.write(text);
    }
  } finally {
    interrupts.handler = undefined;
    if (clock.tokens === 0) progress.clear();
    await writer.endLine();
  }
  const reason = isStopped ? "stopped" : (await reply.output).finishReason;
  remark(
    parts,
    [
      ...clock.describe(),
      `${reusedTokens} of ${promptTokens} prompt tokens reused`,
      ...reason === "eos" ? [] : [reason === "length" ? "ended by its length" : reason],
    ].join(", "),
  );
}

/** How long a reply takes. */
class ReplyClock {
  readonly #started: number;
  #firstAt: number | undefined;
  #lastAt = 0;
  #tokens = 0;
  #firstTokens = 0;

  constructor(started: number) {
    this.#started = started;
  }

  get tokens(): number {
    return this.#tokens;
  }

  add(tokens: number): void {
    this.#lastAt = performance.now();
    if (this.#firstAt === undefined) {
      this.#firstAt = this.#lastAt;
      this.#firstTokens = tokens;
    }
    this.#tokens += tokens;
  }

  /** The first token's time, and how many came how fast after it. */
  describe(): string[] {
    if (this.#firstAt === undefined) return [];
    const seconds = (this.#lastAt - this.#firstAt) / 1000;
    const later = this.#tokens - this.#firstTokens;
    return [
      `first token after ${((this.#firstAt - this.#started) / 1000).toFixed(2)} s`,
      `${this.#tokens} ${this.#tokens === 1 ? "token" : "tokens"}`,
      ...later > 0 && seconds > 0 ? [`${(later / seconds).toFixed(1)} tokens/s`] : [],
    ];
  }
}

/** Says something that is not the model's. */
export function remark(
  { progress, noColor }: Pick<SessionParts, "progress" | "noColor">,
  text: string,
): void {
  progress.end(noColor ? text : `\x1b[2m${text}\x1b[0m`);
}

/** What a person is told of an error that a chat can go on after; others end it. */
function explainInChat(error: unknown): string {
  if (error instanceof UsageError) return error.message;
  const { status, message } = explain("chat", error);
  const isTemplate = error instanceof KernelsError && error.code === "template";
  if (status !== EXIT.usage && !isTemplate) throw error;
  return message;
}
