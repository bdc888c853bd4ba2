/**
 * A conversation as token ids, in which nothing that is said becomes a special token.
 *
 * @module
 */

import { ModelInputError, TemplateError } from "../../runtime/errors.ts";
import { isRecord } from "../../runtime/json_text.ts";
import { requireOptions } from "../inputs.ts";
import { TokenSplitter } from "../tokenizer/token_splitter.ts";
import type { Tokenizer } from "../tokenizer/tokenizer.ts";
import type { ChatMessage, ChatTemplate } from "./chat_template.ts";

/** How a conversation is rendered. */
export interface ChatTokensOptions {
  /** Whether the text ends where the assistant is to go on; true unless given. */
  readonly addGenerationPrompt?: boolean | undefined;
  /** Other variables of the template: plain values by name. */
  readonly extra?: Readonly<Record<string, unknown>> | undefined;
}

/** A special token by its id, or the whole text between two of them. */
export type ChatPiece = number | string;

/**
 * The token ids of a conversation. Together they are the text that the template renders; the special tokens among
 * them are those that the template writes: `<|endoftext|>` in a message, or in `extra`, is thirteen letters.
 *
 * A special token's first and last character must be the template's. What stands between them may come from a
 * message, as the role does where a template writes `"<|" + role + "|>"`: roles are for the program to choose, not
 * for its users. A mark that is no special token of the tokenizer, as `<|user|>` is none of GPT-NeoX's, is text
 * whoever writes it.
 *
 * @param messages the conversation, oldest first
 * @throws {ModelInputError} If an argument breaks a rule, or the template goes by characters of special tokens that
 * messages have, so that it cannot be told who wrote what
 * @throws {TemplateError} As for {@linkcode ChatTemplate.render}
 */
export function chatTokens(
  tokenizer: Tokenizer,
  template: ChatTemplate,
  messages: readonly ChatMessage[],
  options: ChatTokensOptions = {},
): number[] {
  return chatPieces(tokenizer, template, messages, options)
    .flatMap((piece) => tokensOf(tokenizer, piece));
}

/** The ids of a piece. */
export function tokensOf(tokenizer: Tokenizer, piece: ChatPiece): number[] {
  return typeof piece === "number" ? [piece] : tokenizer.encode(piece, { addSpecialTokens: false });
}

/**
 * What {@linkcode chatTokens} makes ids of.
 *
 * Before messages are rendered, a mark takes the place of each character that a special token may begin or end
 * with: a character that occurs nowhere else. A special token in the result was then written by the template, and in
 * the text around it the marks give way again.
 *
 * Where the text differs in more than the marks, the template looks at those characters, as one does that cuts off
 * what precedes `</think>`. Then only the special tokens in messages are marked. That is enough if the same ones
 * come out as before; else the template puts together what messages hold in parts.
 */
export function chatPieces(
  tokenizer: Tokenizer,
  template: ChatTemplate,
  messages: readonly ChatMessage[],
  options: ChatTokensOptions = {},
): ChatPiece[] {
  requireOptions("chatTokens", options, ["addGenerationPrompt", "extra"]);
  const { addGenerationPrompt = true, extra = {} } = options;
  const contents = new Map(Array.from(tokenizer.specialTokens, ([content, id]) => [id, content]));
  const splitter = new TokenSplitter(
    Array.from(contents, ([id, content]) => ({ id, content, special: true, normalized: false })),
  );
  const common = { addGenerationPrompt, ...borderTokens(tokenizer) };
  const text = template.render({ ...common, messages, extra });
  const said = [...stringsIn(messages), ...stringsIn(extra)];
  const ends = endsIn(said, contents.values());
  if (ends.length === 0) return splitter.split(text);

  const marks = marksFor(ends, [...said, ...contents.values(), text]);
  const characters = new Map(Array.from(marks, ([character, mark]) => [mark, character]));
  const attempt = (mark: (text: string) => string): Attempt | undefined => {
    const marked = { messages: markedMessages(messages, mark), extra: markedFields(extra, mark) };
    try {
      const pieces = splitter.split(template.render({ ...common, ...marked })).map((piece) =>
        typeof piece === "number" ? piece : mapCharacters(piece, characters)
      );
      const ids = pieces.filter((piece) => typeof piece === "number");
      const whole = pieces.map((piece) => typeof piece === "number" ? contents.get(piece) : piece);
      return { pieces, ids, isSound: whole.join("") === text };
    } catch (error) {
      // It rendered what was said, and does not what is marked.
      if (error instanceof TemplateError) return undefined;
      throw error;
    }
  };
  const strict = attempt((text) => mapCharacters(text, marks));
  const last = strict?.isSound
    ? strict
    : attempt((text) => markTokens(text, contents.values(), marks));
  if (strict && last?.isSound && strict.ids.join() === last.ids.join()) return last.pieces;
  const rule = "must not hold characters of special tokens where the template goes by them";
  const value = ends.map((end) => JSON.stringify(end)).join(" or ");
  throw new ModelInputError({ op: "chatTokens", argument: "messages", rule, value });
}

/** What came of marked messages. */
interface Attempt {
  /** Special tokens, and the texts between them without marks. */
  readonly pieces: ChatPiece[];
  /** The special tokens. */
  readonly ids: readonly number[];
  /** Whether the whole is what the template renders without marks. */
  readonly isSound: boolean;
}

/** The texts of the tokens that begin and end texts, where there are such tokens. */
function borderTokens(tokenizer: Tokenizer): { bosToken?: string; eosToken?: string } {
  const { bosToken: bos, eosToken: eos } = tokenizer;
  return {
    ...(bos === null ? {} : { bosToken: tokenizer.idToToken(bos)! }),
    ...(eos === null ? {} : { eosToken: tokenizer.idToToken(eos)! }),
  };
}

/**
 * The characters of texts that a token may begin or end with, also once a template has changed their case. The
 * ends are looked for in upper and in lower case, as of some letters only one of the two leads to another one.
 */
function endsIn(texts: readonly string[], tokens: Iterable<string>): readonly string[] {
  const ends = new Set(
    Array.from(tokens, (token) => [...token])
      .flatMap((all) => [all[0]!, all.at(-1)!])
      // Two halves of a character may come together.
      .flatMap((end) => [end, ...end.split("")]),
  );
  const said = new Set<string>();
  for (const text of texts) for (const character of text) said.add(character);
  return [...said].filter((character) => {
    const forms = [character, character.toLowerCase(), character.toUpperCase()];
    return forms.some((form) => [...form].some((each) => ends.has(each)));
  });
}

/** All strings in a plain value, names of fields included. */
function* stringsIn(value: unknown): Generator<string> {
  if (typeof value === "string") yield value;
  else if (Array.isArray(value)) { for (const each of value) yield* stringsIn(each); }
  else if (isRecord(value)) {
    for (const [name, each] of Object.entries(value)) {
      yield name;
      yield* stringsIn(each);
    }
  }
}

/** Where marks come from, by the length of what they stand for. Noncharacters are a program's own, and come first. */
const MARKS = { 1: [[0xfdd0, 0xfdef], [0xe000, 0xf8ff]], 2: [[0xf0000, 0xffffd]] } as const;

/**
 * A mark for each character, as long as that is: a template that counts or cuts finds no difference.
 *
 * @param texts none of which has the marks
 */
function marksFor(characters: readonly string[], texts: readonly string[]): Map<string, string> {
  const isFree = (mark: string) => !texts.some((text) => text.includes(mark));
  const free = { 1: codePoints(MARKS[1]).filter(isFree), 2: codePoints(MARKS[2]).filter(isFree) };
  return new Map(characters.map((character) => {
    const { value: mark, done } = free[character.length as 1 | 2].next();
    if (done) {
      const rule = "must leave a character of U+FDD0 to U+FDEF or U+E000 to U+F8FF unused";
      const [op, argument] = ["chatTokens", "messages"];
      throw new ModelInputError({ op, argument, rule, value: "all are used" });
    }
    return [character, mark];
  }));
}

function* codePoints(ranges: Iterable<readonly [first: number, last: number]>): Generator<string> {
  for (const [first, last] of ranges) {
    for (let code = first; code <= last; code++) yield String.fromCodePoint(code);
  }
}

function mapCharacters(text: string, others: ReadonlyMap<string, string>): string {
  return Array.from(text, (character) => others.get(character) ?? character).join("");
}

/** Marks where a token begins, whether or not another one covers it. */
function markTokens(
  text: string,
  tokens: Iterable<string>,
  marks: ReadonlyMap<string, string>,
): string {
  const units = text.split("");
  for (const token of tokens) {
    for (let at = text.indexOf(token); at >= 0; at = text.indexOf(token, at + 1)) {
      const mark = marks.get(String.fromCodePoint(token.codePointAt(0)!))!;
      for (let i = 0; i < mark.length; i++) units[at + i] = mark[i]!;
    }
  }
  return units.join("");
}

/** Roles that are words, and the names of a message's fields, are what templates look for. */
function markedMessages(
  messages: readonly ChatMessage[],
  mark: (text: string) => string,
): ChatMessage[] {
  return messages.map((message) => {
    const { role } = message;
    const marked = markedFields(message, mark) as ChatMessage;
    return { ...marked, role: /^\w+$/.test(role) ? role : mark(role) };
  });
}

function markedFields(
  fields: Readonly<Record<string, unknown>>,
  mark: (text: string) => string,
): Record<string, unknown> {
  const entries = Object.entries(fields);
  return Object.fromEntries(entries.map(([name, value]) => [name, markedValue(value, mark)]));
}

function markedValue(value: unknown, mark: (text: string) => string): unknown {
  if (typeof value === "string") return mark(value);
  if (Array.isArray(value)) return value.map((each) => markedValue(each, mark));
  if (!isRecord(value)) return value;
  const entries = Object.entries(markedFields(value, mark));
  return Object.fromEntries(entries.map(([name, each]) => [mark(name), each]));
}
