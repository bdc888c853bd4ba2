/**
 * Conversations with a model.
 *
 * @module
 */

import { requireInput, TemplateError } from "../../runtime/errors.ts";
import { isRecord } from "../../runtime/json_text.ts";
import type { Tensor } from "../../runtime/tensor.ts";
import { StableLmForCausalLM } from "../causal_lm.ts";
import type { GenerationConfig } from "../generation_config.ts";
import { stream } from "../generation/generate.ts";
import type { GenerativeModel } from "../generation/generative_model.ts";
import { type GenerateOptions, resolveSettings } from "../generation/options.ts";
import { PromptCache } from "../generation/prompt_cache.ts";
import { contextLength } from "../generation/request.ts";
import { FETCH_OPTIONS, findFolder, type PretrainedOptions } from "../pretrained_files.ts";
import { Tokenizer } from "../tokenizer/tokenizer.ts";
import { ZEPHYR_TEMPLATE } from "./built_in.ts";
import {
  type ChatOptions,
  CHATS_OWN,
  type ChatSettings,
  type ReplyOptions,
} from "./chat_options.ts";
import { type ChatOutput, ChatReply, type ReplyEnding } from "./chat_reply.ts";
import { type ChatMessage, ChatTemplate } from "./chat_template.ts";
import { type ChatPiece, chatPieces, type ChatTokensOptions } from "./chat_tokens.ts";
import { type PromptPiece, PromptPieces } from "./prompt_pieces.ts";
import { lastTurn, withoutFirstTurn } from "./turns.ts";

/** Options of a call and what they come to. */
interface Settings<T extends Tensor> {
  readonly options: GenerateOptions<T>;
  readonly config: GenerationConfig;
}

/** A conversation as the model is given it. */
interface Prompt {
  readonly messages: readonly ChatMessage[];
  readonly pieces: readonly PromptPiece[];
  readonly ids: readonly number[];
  /** Tokens that may follow. */
  readonly room: number;
}

/**
 * A conversation with a model: what was said, and the keys and values of it, so that a turn runs the tokens that are
 * new and no others.
 *
 * ```ts ignore
 * using chat = await Chat.fromPretrained("stabilityai/stablelm-zephyr-3b", { backend });
 * for await (const { text } of chat.send("What is a kernel?")) show(text);
 * ```
 *
 * A reply ends with the checkpoint's eos token, or with the token that ends a turn in the template's format; these
 * and other special tokens are not part of what is said, and what users say never becomes one (see
 * {@linkcode chatTokens}). It may take all of the context unless `maxNewTokens`, or the checkpoint, says less.
 *
 * A reply that is stopped, by its signal or by its reader, is kept as far as it came; if nothing had come, or if it
 * fails, the turn is as if it had never been: the messages are those from before.
 *
 * Text that a model wrote may have other tokens than the tokenizer gives it. The model goes on from those that it
 * wrote as long as the template leaves the reply as it is; they stand between the same special tokens, and for the
 * same text. What the template changes, by trimming for one, is encoded again.
 */
export class Chat<T extends Tensor = Tensor> implements Disposable {
  readonly #model: GenerativeModel<T>;
  readonly #tokenizer: Tokenizer;
  readonly #template: ChatTemplate;
  readonly #rendering: ChatTokensOptions;
  readonly #system: readonly ChatMessage[];
  readonly #dropsOldest: boolean;
  readonly #defaults: ReplyOptions<T>;
  readonly #turnEnd: number | undefined;
  readonly #pieces: PromptPieces;
  readonly #cache: PromptCache<T>;
  #ownModel: Disposable | undefined;
  #messages: readonly ChatMessage[];
  #reply: ChatReply | undefined;
  #replies = 0n;
  #isDisposed = false;

  /**
   * Begins a chat.
   *
   * @throws {ModelInputError} If an option is unknown, breaks a rule, or is one that a chat sets itself
   */
  constructor(options: ChatOptions<T>) {
    const rule = (isKept: boolean, name: string, text: string, value: unknown) =>
      requireInput(isKept, "Chat", name, text, value);
    rule(isRecord(options), "options", "must be an object", options);
    const { model, tokenizer, template, system, messages = [], extra, onOverflow, ...defaults } =
      options;
    rule(tokenizer instanceof Tokenizer, "tokenizer", "must be a Tokenizer", tokenizer);
    rule(template instanceof ChatTemplate, "template", "must be a ChatTemplate", template);
    const isText = system === undefined || typeof system === "string";
    rule(isText, "system", "must be a string", typeof system);
    const isKnown = ["refuse", "drop-oldest", undefined].includes(onOverflow);
    rule(isKnown, "onOverflow", 'must be "refuse" or "drop-oldest"', onOverflow);
    const { vocab_size: vocabulary } = model.config;
    const isFitting = tokenizer.vocabSize <= vocabulary;
    const most = `must have at most ${vocabulary} tokens, the model's vocab_size`;
    rule(isFitting, "tokenizer", most, tokenizer.vocabSize);
    this.#model = model;
    this.#tokenizer = tokenizer;
    this.#template = template;
    this.#rendering = { extra };
    this.#system = system === undefined ? [] : [{ role: "system", content: system }];
    this.#dropsOldest = onOverflow === "drop-oldest";
    this.#defaults = defaults;
    this.#settings("Chat", {});
    this.#messages = this.#opening(messages);
    this.#turnEnd = this.#findTurnEnd();
    this.#pieces = new PromptPieces(tokenizer);
    this.#cache = new PromptCache(model);
  }

  /**
   * Finds a model with its tokenizer and its chat template, loads them, and begins a chat. Without a template of the
   * checkpoint's own, Zephyr's is taken, and `onWarning` is told. Permissions: as for
   * {@linkcode StableLmForCausalLM.fromPretrained}.
   *
   * @param where a folder, as a path or a file URL, or a repository of the hub as `owner/name`
   * @param loading how the model is found and loaded
   * @returns a chat that owns its model
   * @throws {ModelInputError} If an option is unknown or breaks a rule
   * @throws {ModelDownloadError} If a repository could not be fetched
   * @throws {ModelConfigError | ModelFormatError | ModelUnsupportedError | TokenizerError | TemplateError} If a file
   * breaks a rule
   */
  static async fromPretrained<T extends Tensor>(
    where: string | URL,
    loading: PretrainedOptions<T>,
    settings: ChatSettings<T> = {},
  ): Promise<Chat<T>> {
    const fetching = Object.entries(loading).filter(([name]) => FETCH_OPTIONS.includes(name));
    const folder = await findFolder("Chat.fromPretrained", where, Object.fromEntries(fetching));
    const tokenizer = await Tokenizer.fromPretrained(folder, { signal: loading.signal });
    const own = await ChatTemplate.fromFolder(folder);
    if (!own) loading.onWarning?.(`${folder}: there is no chat template, so Zephyr's is taken`);
    const template = own ?? await ChatTemplate.parse(ZEPHYR_TEMPLATE, "the Zephyr template");
    using made = new DisposableStack();
    const model = made.use(await StableLmForCausalLM.fromPretrained(folder, loading));
    const chat = new Chat({ ...settings, model, tokenizer, template });
    chat.#ownModel = made.move();
    return chat;
  }

  /** What was said, oldest first, the system message included. */
  get messages(): readonly ChatMessage[] {
    return this.#messages;
  }

  /**
   * Says something, and returns the reply, which is computed as it is read. What was said is in
   * {@linkcode messages} from now on, and the reply once it has ended.
   *
   * @param options how to generate; these come before the chat's own
   * @throws {ModelInputError} If a reply is under way, an option is unknown or breaks a rule, or the conversation
   * leaves no room for a reply; nothing has happened then
   * @throws {TemplateError} If the template refuses the conversation
   */
  send(text: string, options: ReplyOptions<T> = {}): ChatReply {
    requireInput(typeof text === "string", "send", "text", "must be a string", typeof text);
    return this.#begin("send", [...this.#messages, { role: "user", content: text }], options);
  }

  /** As {@linkcode send}, but gives the whole reply. */
  async ask(text: string, options: ReplyOptions<T> = {}): Promise<ChatOutput> {
    const reply = this.send(text, options);
    for await (const _ of reply);
    return await reply.output;
  }

  /**
   * Has the last turn replied to once more, in place of its reply.
   *
   * @throws {ModelInputError} As for {@linkcode send}, and if there is no turn
   * @throws {TemplateError} As for {@linkcode send}
   */
  retry(options: ReplyOptions<T> = {}): ChatReply {
    const last = lastTurn(this.#messages);
    requireInput(last >= 0, "retry", "messages", "must have a turn to reply to", "none");
    return this.#begin("retry", this.#messages.slice(0, last + 1), options);
  }

  /**
   * Takes the last turn back.
   *
   * @returns what the user had said, or undefined if there was no turn
   * @throws {ModelInputError} If a reply is under way, or the chat is disposed
   */
  undo(): string | undefined {
    this.#requireFree("undo");
    const last = lastTurn(this.#messages);
    if (last < 0) return undefined;
    const { content } = this.#messages[last]!;
    this.#messages = this.#messages.slice(0, last);
    return content;
  }

  /**
   * Begins anew.
   *
   * @param messages what was said before, oldest first; nothing unless given. The chat's system message comes before
   * them, unless they have one.
   * @throws {ModelInputError} If a reply is under way, the chat is disposed, or a message is not one
   */
  reset(messages: readonly ChatMessage[] = []): void {
    this.#requireFree("reset");
    this.#messages = this.#opening(messages);
    this.#replies = 0n;
  }

  /** Stops a reply that is under way, and gives back what the chat holds, its model too if it loaded that. */
  [Symbol.dispose](): void {
    if (this.#isDisposed) return;
    this.#isDisposed = true;
    if (!this.#reply) return this.#release();
    // A fault of the device is the reader's to see.
    this.#reply.stop().catch(() => {});
  }

  #release(): void {
    this.#cache[Symbol.dispose]();
    this.#ownModel?.[Symbol.dispose]();
  }

  #requireFree(method: string): void {
    requireInput(!this.#isDisposed, method, "chat", "must not be disposed", "disposed");
    const rule = "must have ended its last reply, or have it stopped";
    requireInput(this.#reply === undefined, method, "chat", rule, "a reply is under way");
  }

  #opening(messages: readonly ChatMessage[]): readonly ChatMessage[] {
    requireInput(Array.isArray(messages), "Chat", "messages", "must be a list", typeof messages);
    const hasSystem = messages[0]?.role === "system";
    const all = [...hasSystem ? [] : this.#system, ...messages];
    try {
      this.#piecesOf(all);
    } catch (error) {
      // A template may want more than there is yet.
      if (!(error instanceof TemplateError)) throw error;
    }
    return structuredClone(all);
  }

  #piecesOf(messages: readonly ChatMessage[], addGenerationPrompt = true): ChatPiece[] {
    const options = { ...this.#rendering, addGenerationPrompt };
    return chatPieces(this.#tokenizer, this.#template, messages, options);
  }

  /** The special token that the template writes after what the assistant says. */
  #findTurnEnd(): number | undefined {
    const before = [...this.#system, { role: "user", content: "x" }];
    const after = [...before, { role: "assistant", content: "x" }];
    try {
      const prompt = this.#piecesOf(before);
      return this.#piecesOf(after, false).slice(prompt.length)
        .find((piece) => typeof piece === "number");
    } catch (error) {
      // A template may want another conversation than this.
      if (error instanceof TemplateError) return undefined;
      throw error;
    }
  }

  #settings(method: string, options: ReplyOptions<T>): Settings<T> {
    requireInput(isRecord(options), method, "options", "must be an object", options);
    // An option that is undefined is one that was not given.
    const stated = Object.entries(options).filter(([, value]) => value !== undefined);
    const given: ReplyOptions<T> = { ...this.#defaults, ...Object.fromEntries(stated) };
    for (const name of Object.keys(given)) {
      const isFree = !Object.hasOwn(CHATS_OWN, name);
      requireInput(isFree, method, `option ${name}`, "must be left to the chat", name);
    }
    const all = { ...given, tokenizer: this.#tokenizer, numBeams: 1, numReturnSequences: 1 };
    return { options: all, config: resolveSettings(this.#model, all) };
  }

  #begin(
    method: string,
    conversation: readonly ChatMessage[],
    options: ReplyOptions<T>,
  ): ChatReply {
    this.#requireFree(method);
    const { options: given, config } = this.#settings(method, options);
    const prompt = this.#prompt(method, conversation, config);
    const { max_new_tokens: most, use_cache: isKept } = config;
    const controller = new AbortController();
    const { signal } = given;
    const generation = stream(this.#model, {
      ...given,
      inputIds: [prompt.ids],
      // A token that elsewhere fills rows up may be a part of the template.
      attentionMask: [prompt.ids.map(() => 1)],
      maxNewTokens: Math.min(most ?? Infinity, prompt.room),
      eosTokenId: given.eosTokenId ?? this.#ends(config),
      seed: options.seed ?? this.#nextSeed(),
      promptCache: isKept ? this.#cache : undefined,
      signal: signal ? AbortSignal.any([signal, controller.signal]) : controller.signal,
    });
    const before = this.#messages;
    this.#messages = prompt.messages;
    this.#replies++;
    return this.#reply = new ChatReply({
      generation,
      controller,
      signal,
      promptTokens: prompt.ids.length,
      reusedTokens: isKept ? this.#cache.reusable(prompt.ids) : 0,
      onEnd: (...end) => this.#end(before, prompt.pieces, ...end),
    });
  }

  #end(
    before: readonly ChatMessage[],
    prompt: readonly PromptPiece[],
    ending: ReplyEnding,
    text: string,
    ids: readonly number[],
  ): void {
    this.#reply = undefined;
    const isKept = ending === "complete" || (ending === "stopped" && text !== "");
    if (isKept) {
      this.#messages = [...this.#messages, { role: "assistant", content: text }];
      this.#pieces.learn(prompt, text, ids);
    } else this.#messages = before;
    if (this.#isDisposed) this.#release();
  }

  /** The conversation, or as much of it as leaves room for a reply. */
  #prompt(method: string, conversation: readonly ChatMessage[], config: GenerationConfig): Prompt {
    const { max_new_tokens: wanted, max_length: inAll } = config;
    const context = contextLength(this.#model.config);
    const most = wanted === null ? Math.min(context, inAll ?? Infinity) : context;
    const reply = this.#dropsOldest ? Math.min(wanted ?? Infinity, Math.ceil(most / 4)) : 1;
    let messages = conversation;
    for (;;) {
      const pieces = this.#pieces.encode(this.#piecesOf(messages));
      const ids = pieces.flatMap((piece) => piece.ids);
      const room = most - ids.length;
      const fewer = this.#dropsOldest && room < reply ? withoutFirstTurn(messages) : undefined;
      if (fewer === undefined) {
        const rule = `must be fewer tokens than the model has room for, ${most}`;
        requireInput(room > 0, method, "the conversation", rule, ids.length);
        return { messages, pieces, ids, room };
      }
      messages = fewer;
    }
  }

  #ends({ eos_token_id: eos }: GenerationConfig): readonly number[] | undefined {
    const stated = [eos ?? this.#tokenizer.eosToken ?? []].flat();
    const ends = [...new Set([...stated, ...this.#turnEnd === undefined ? [] : [this.#turnEnd]])];
    return ends.length > 0 ? ends : undefined;
  }

  #nextSeed(): number | bigint | undefined {
    const { seed } = this.#defaults;
    const isSeed = typeof seed === "bigint" || Number.isSafeInteger(seed);
    // What is no seed is refused by the generation.
    if (!isSeed || seed! < 0) return seed;
    const next = BigInt(seed!) + this.#replies;
    return typeof seed === "number" ? Number(next) : BigInt.asUintN(64, next);
  }
}
