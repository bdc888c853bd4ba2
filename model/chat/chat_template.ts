/**
 * Chat templates: a conversation as the text that a model was trained on.
 *
 * @module
 */

import { ModelFormatError, requireInput, TemplateError } from "../../runtime/errors.ts";
import { decodeJson, isRecord } from "../../runtime/json_text.ts";
import { blobFolder, diskFolder, type ModelFolder } from "../weights/model_folder.ts";
import { MOST_MESSAGES, MOST_NESTING, MOST_SOURCE, MOST_WHITESPACE } from "./limits.ts";
import { GLOBALS, type Prepared, runMetered } from "./metered_run.ts";
import { examine, type SyntaxNode } from "./syntax_tree.ts";

/** One turn of a conversation; fields beside these two reach the template as plain values. */
export interface ChatMessage {
  /** Who speaks: `system`, `user` or `assistant` in StableLM's formats. */
  readonly role: string;
  /** What is said. */
  readonly content: string;
  /** What else a template may ask for. */
  readonly [field: string]: unknown;
}

/** What a template is rendered with. */
export interface ChatRenderOptions {
  /** The conversation, oldest first; at most 2,048 messages. */
  readonly messages: readonly ChatMessage[];
  /** Whether the text ends where the assistant is to go on; false unless given. */
  readonly addGenerationPrompt?: boolean;
  /** Text of the token that begins a text. */
  readonly bosToken?: string;
  /** Text of the token that ends a turn. */
  readonly eosToken?: string;
  /** Other variables of the template: plain values by name. */
  readonly extra?: Readonly<Record<string, unknown>>;
}

const TEMPLATE_FILE = "chat_template.jinja";
const CONFIG_FILE = "tokenizer_config.json";
/** A tokenizer_config.json lists the added tokens too. */
const MOST_CONFIG = 16 * 2 ** 20;
const OPTIONS = ["messages", "addGenerationPrompt", "bosToken", "eosToken", "extra"];

/**
 * A chat template in Jinja, as checkpoints ship them. Rendering takes a bounded amount of work and of
 * text, whatever the template says, and reaches nothing but the values that it is given.
 */
export class ChatTemplate {
  readonly #prepared: Prepared;

  private constructor(prepared: Prepared) {
    this.#prepared = prepared;
  }

  /**
   * Parses a template. Its `{% … %}` lines leave no white space behind, as in transformers.
   *
   * @param source at most 262,144 UTF-16 code units
   * @param file what messages call it
   * @throws {TemplateError} reason `template-syntax`, or `template-budget` if it is too long or too deep
   */
  static async parse(source: string, file: string = TEMPLATE_FILE): Promise<ChatTemplate> {
    requireInput(
      typeof source === "string",
      "ChatTemplate.parse",
      "source",
      "must be a string",
      source,
    );
    const refuse = (limit: string, value: string): never => {
      const rule = `must keep within its budget: ${limit}`;
      throw new TemplateError({ file, reason: "template-budget", rule, value });
    };
    if (source.length > MOST_SOURCE) {
      refuse(`at most ${MOST_SOURCE} UTF-16 code units`, String(source.length));
    }
    let run = 0;
    for (const character of source) {
      run = /\s/.test(character) ? run + 1 : 0;
      if (run > MOST_WHITESPACE) refuse(`at most ${MOST_WHITESPACE} white space in a row`, "more");
    }
    const jinja = await import("@huggingface/jinja");
    try {
      const tokens = jinja.tokenize(source, { lstrip_blocks: true, trim_blocks: true });
      if (nesting(tokens) > MOST_NESTING) refuse(`at most ${MOST_NESTING} open blocks`, "more");
      const program = jinja.parse(tokens) as unknown as SyntaxNode;
      return new ChatTemplate({ file, jinja, program, facts: examine(program) });
    } catch (error) {
      if (error instanceof TemplateError) throw error;
      if (error instanceof RangeError) return refuse("what the stack can hold", "more");
      const rule = "must be a template that can be read";
      const value = error instanceof SyntaxError || !(error instanceof TypeError)
        ? String((error as Error).message)
        : "it ends within a tag or a block";
      throw new TemplateError({ file, reason: "template-syntax", rule, value });
    }
  }

  /**
   * Reads the template of a checkpoint: chat_template.jinja, else `chat_template` of
   * tokenizer_config.json, of which the one called "default" if there are several.
   *
   * Permissions: `--allow-read` of the folder.
   *
   * @param folder a path, or files by name
   * @returns the template, or undefined if there is none
   * @throws {TemplateError} As for {@linkcode ChatTemplate.parse}
   * @throws {ModelFormatError} If a file cannot be read, or is not what it is called
   */
  static async fromFolder(
    folder: string | ReadonlyMap<string, Blob>,
  ): Promise<ChatTemplate | undefined> {
    const where = typeof folder === "string"
      ? diskFolder(folder)
      : blobFolder(folder, "the chosen files");
    const bytes = await readWhole(where, TEMPLATE_FILE, 4 * MOST_SOURCE);
    const file = `${where.name}/${TEMPLATE_FILE}`;
    if (bytes !== undefined) return await ChatTemplate.parse(decodeText(bytes, file), file);
    const config = await readWhole(where, CONFIG_FILE, MOST_CONFIG);
    if (config === undefined) return undefined;
    const configFile = `${where.name}/${CONFIG_FILE}`;
    const source = templateIn(config, configFile);
    return source === undefined ? undefined : await ChatTemplate.parse(source, configFile);
  }

  /**
   * Renders a conversation. Encode the text without adding special tokens: it has them already.
   *
   * @throws {ModelInputError} If an option is unknown or breaks a rule
   * @throws {TemplateError} reason `template-raised` if the template refuses the messages, with its own
   * words; `template-budget` if it takes more than 1,000,000 steps or 8 MiB; `template-failed`
   */
  render(options: ChatRenderOptions): string {
    const method = "ChatTemplate.render";
    requireInput(isRecord(options), method, "options", "must be an object", options);
    for (const name of Object.keys(options)) {
      const rule = `must be one of ${OPTIONS.join(", ")}`;
      requireInput(OPTIONS.includes(name), method, `option ${name}`, rule, name);
    }
    const { messages, addGenerationPrompt = false, bosToken, eosToken, extra = {} } = options;
    requireInput(Array.isArray(messages), method, "messages", "must be a list", messages);
    const count = messages.length;
    const rule = `must be at most ${MOST_MESSAGES}`;
    requireInput(count <= MOST_MESSAGES, method, "messages", rule, count);
    for (const [index, message] of Array.from(messages).entries()) {
      const place = `messages[${index}]`;
      requireInput(isRecord(message), method, place, "must be an object", typeof message);
      for (const key of ["role", "content"]) {
        const isText = Object.hasOwn(message, key) && typeof message[key] === "string";
        requireInput(isText, method, `${place}.${key}`, "must be a string", typeof message[key]);
      }
    }
    const isFlag = typeof addGenerationPrompt === "boolean";
    requireInput(isFlag, method, "addGenerationPrompt", "must be a boolean", addGenerationPrompt);
    for (const [name, token] of Object.entries({ bosToken, eosToken })) {
      const isText = token === undefined || typeof token === "string";
      requireInput(isText, method, name, "must be a string", token);
    }
    requireInput(isRecord(extra), method, "extra", "must be an object", extra);
    const taken = [...GLOBALS, "messages", "add_generation_prompt", "bos_token", "eos_token"];
    for (const name of Object.keys(extra)) {
      const rule = "must be a name that is not taken";
      requireInput(!taken.includes(name), method, `extra.${name}`, rule, name);
    }
    return runMetered(this.#prepared, {
      ...plainValue(extra, "extra") as Record<string, unknown>,
      messages: plainValue(messages, "messages"),
      add_generation_prompt: addGenerationPrompt,
      ...(bosToken !== undefined && { bos_token: bosToken }),
      ...(eosToken !== undefined && { eos_token: eosToken }),
    });
  }
}

/** A copy of a value of JSON's kinds, which shares nothing with the caller's. */
function plainValue(value: unknown, place: string, depth = 0, count = { left: 1e6 }): unknown {
  const method = "ChatTemplate.render";
  requireInput(
    depth < MOST_NESTING,
    method,
    place,
    `must have at most ${MOST_NESTING} levels`,
    "more",
  );
  requireInput(count.left-- > 0, method, place, "must hold at most 1000000 values", "more");
  if (value === null || ["string", "number", "boolean", "undefined"].includes(typeof value)) {
    return value;
  }
  if (Array.isArray(value)) {
    return Array.from(value, (each, i) => plainValue(each, `${place}[${i}]`, depth + 1, count));
  }
  const prototype = typeof value === "object" ? Object.getPrototypeOf(value) : undefined;
  const isPlain = prototype === null || prototype === Object.prototype;
  requireInput(isPlain, method, place, "must be a plain value", typeof value);
  return Object.fromEntries(
    Object.entries(value as object).map(([key, each]) => {
      return [key, plainValue(each, `${place}.${key}`, depth + 1, count)];
    }),
  );
}

/** The most brackets and blocks that are open at a time. */
function nesting(tokens: readonly { readonly type: string; readonly value: string }[]): number {
  let open = 0;
  let most = 0;
  for (const [index, { type }] of tokens.entries()) {
    const word = type === "OpenStatement" ? tokens[index + 1]?.value ?? "" : "";
    const isOpening = /^Open(Paren|SquareBracket|CurlyBracket)$/.test(type);
    if (isOpening || ["if", "for", "macro", "call", "filter"].includes(word)) {
      most = Math.max(most, ++open);
    } else if (/^Close(Paren|SquareBracket|CurlyBracket)$/.test(type)) open--;
    else if (["endif", "endfor", "endmacro", "endcall", "endfilter"].includes(word)) open--;
  }
  return most;
}

async function readWhole(
  folder: ModelFolder,
  name: string,
  most: number,
): Promise<Uint8Array | undefined> {
  using bytes = await folder.open(name);
  if (bytes === undefined) return undefined;
  if (bytes.size > most) {
    const rule = `must be at most ${most} bytes`;
    const [file, value] = [`${folder.name}/${name}`, String(bytes.size)];
    throw new ModelFormatError({ file, reason: "file-too-long", rule, value });
  }
  return await bytes.read(0, bytes.size);
}

function decodeText(bytes: Uint8Array, file: string): string {
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    const [rule, value] = ["must be UTF-8", "it is not"];
    throw new ModelFormatError({ file, reason: "utf8", rule, value });
  }
}

function templateIn(bytes: Uint8Array, file: string): string | undefined {
  const { value } = decodeJson(bytes, ({ rule, value }) => {
    const must = rule === "utf8" ? "must be UTF-8" : "must be JSON";
    throw new ModelFormatError({ file, reason: rule, rule: must, value });
  });
  const stated = isRecord(value) && Object.hasOwn(value, "chat_template")
    ? value["chat_template"] ?? undefined
    : undefined;
  if (stated === undefined || typeof stated === "string") return stated;
  const named = Array.isArray(stated) ? stated.filter(isRecord) : [];
  const source = named.find(({ name }) => name === "default")?.["template"];
  if (typeof source === "string") return source;
  const place = 'key "chat_template"';
  const rule = 'must be a template, or a list with one called "default"';
  throw new TemplateError({ file, place, reason: "no-template", rule, value: typeof stated });
}
