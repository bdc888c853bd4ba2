/** Conversations: turns, what a turn runs, how replies end, and what is left behind. */

import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import {
  type Backend,
  CHATML_TEMPLATE,
  ChatTemplate,
  CpuBackend,
  type GenerateOptions,
  type GenerativeModel,
  type GpuTensor,
  ModelFormatError,
  ModelInputError,
  type StableLmForCausalLM,
  TemplateError,
  type Tensor,
  Tokenizer,
  ZEPHYR_TEMPLATE,
} from "../mod.ts";
import { Chat } from "../model/chat/chat.ts";
import type { ChatOptions, ReplyOptions } from "../model/chat/chat_options.ts";
import type { ChatReply } from "../model/chat/chat_reply.ts";
import { chatTokens } from "../model/chat/chat_tokens.ts";
import { StableLmConfig } from "../model/config.ts";
import { scratchFolder, writeCheckpoint } from "./checkpoint_folder.ts";
import { sharedBackend } from "./device.ts";
import { TINY, tinyModel } from "./tiny_model.ts";

const ARCADE = new URL("testdata/tokenizer/arcade.json", import.meta.url);
const END = { bos_token: "<|endoftext|>", eos_token: "<|endoftext|>" };
const tokenizerJson = JSON.parse(await Deno.readTextFile(ARCADE));
const tokenizer = await Tokenizer.fromJson(tokenizerJson, END);
const chatml = await ChatTemplate.parse(CHATML_TEMPLATE);
const zephyr = await ChatTemplate.parse(ZEPHYR_TEMPLATE);
const [EOS, START, TURN_END] = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
  .map((token) => tokenizer.tokenToId(token)!) as [number, number, number];
/** Room for the tokenizer's ids, and 64 that stand for nothing. */
const SIZES = { vocab_size: tokenizer.vocabSize + 64, max_position_embeddings: 512 };

const cpuModel = await tinyModel(new CpuBackend(), SIZES);
type CpuTensor = ReturnType<CpuBackend["upload"]>;

/** A model that counts the tokens that it runs. */
class CountingModel<T extends Tensor> implements GenerativeModel<T> {
  readonly #model: StableLmForCausalLM<T>;
  tokens = 0;

  constructor(model: StableLmForCausalLM<T>) {
    this.#model = model;
  }

  get backend() {
    return this.#model.backend;
  }
  get config() {
    return this.#model.config;
  }
  get generationConfig() {
    return this.#model.generationConfig;
  }
  get activationDtype() {
    return this.#model.activationDtype;
  }
  createCache: GenerativeModel<T>["createCache"] = (options) => this.#model.createCache(options);
  forward: GenerativeModel<T>["forward"] = (inputs) => {
    this.tokens += (inputs.inputIds as number[][])[0]!.length;
    return this.#model.forward(inputs);
  };
}

function chatOf(options: Partial<ChatOptions<CpuTensor>> = {}): Chat<CpuTensor> {
  return new Chat({ model: cpuModel, tokenizer, template: chatml, maxNewTokens: 8, ...options });
}

/** Options by which a reply has these tokens. */
function saying(...ids: readonly number[]): ReplyOptions<CpuTensor> {
  let step = 0;
  return {
    logitsProcessors: [(scores) => scores.fill(-Infinity).fill(0, ids[step], ids[step++]! + 1)],
  };
}

const idsOf = (text: string) => tokenizer.encode(text);

async function textOf(reply: ChatReply): Promise<string> {
  let text = "";
  for await (const piece of reply) text += piece.text;
  return text;
}

/** What is said, turn by turn. */
const said = ({ messages }: Chat<CpuTensor>) => messages.map(({ content }) => content);

Deno.test("chat: turns are kept, and special tokens are no part of them", async () => {
  using chat = chatOf({ system: "Be brief." });
  assertEquals(chat.messages, [{ role: "system", content: "Be brief." }]);
  const reply = chat.send("Hi", saying(...idsOf("Hello"), TURN_END));
  assertEquals(chat.messages.at(-1), { role: "user", content: "Hi" });
  assertEquals(await textOf(reply), "Hello");
  const output = await reply.output;
  assertEquals([output.text, output.finishReason], ["Hello", "eos"]);
  assertEquals(output.ids, [...idsOf("Hello"), TURN_END]);
  assertEquals(output.generation.newTokens, [output.ids]);
  assertEquals(chat.messages.at(-1), { role: "assistant", content: "Hello" });
  const { text } = await chat.ask("And?", saying(START, ...idsOf("Yes"), EOS));
  assertEquals(text, "Yes");
  assertEquals(said(chat), ["Be brief.", "Hi", "Hello", "And?", "Yes"]);
});

Deno.test("chat: a reply ends as the checkpoint says, as the format does, or as the caller says", async () => {
  const reasonOf = async (options: Partial<ChatOptions<CpuTensor>>, last: number) => {
    using chat = chatOf(options);
    const [a, b] = idsOf("ab cd");
    const { finishReason, ids } = await chat.ask("Hi", {
      ...saying(a!, last, b!),
      maxNewTokens: 3,
    });
    return `${finishReason} ${ids.length}`;
  };
  assertEquals(await reasonOf({}, TURN_END), "eos 2");
  assertEquals(await reasonOf({}, EOS), "eos 2");
  assertEquals(await reasonOf({}, START), "length 3");
  assertEquals(await reasonOf({ template: zephyr }, EOS), "eos 2");
  assertEquals(await reasonOf({ template: zephyr }, TURN_END), "length 3");
  assertEquals(await reasonOf({ eosTokenId: START }, START), "eos 2");
  assertEquals(await reasonOf({ eosTokenId: START }, TURN_END), "length 3");
  using ended = await tinyModel(new CpuBackend(), { ...SIZES, eos_token_id: START });
  assertEquals(await reasonOf({ model: ended }, START), "eos 2");
  assertEquals(await reasonOf({ model: ended }, TURN_END), "eos 2");
  assertEquals(await reasonOf({ model: ended }, EOS), "length 3");
  const refuses = await ChatTemplate.parse(
    "{{ raise_exception('no replies') if messages | length != 1 }}{{ messages[0].content }}",
  );
  assertEquals(await reasonOf({ template: refuses }, EOS), "eos 2");
});

Deno.test("chat: a token of the template is seen, though it be the one that fills rows up", async () => {
  using padding = await tinyModel(new CpuBackend(), { ...SIZES, pad_token_id: START });
  const found = [];
  for (const model of [padding, cpuModel]) {
    using chat = chatOf({ model, outputLogprobs: 1 });
    found.push((await chat.ask("Hi")).generation.logprobs);
  }
  assertEquals(found[0], found[1]);
});

/** What generation gives after a prompt without any cache. */
async function withoutCache<T extends Tensor>(
  model: StableLmForCausalLM<T>,
  prompt: readonly number[],
  tokens: number,
): Promise<readonly number[]> {
  const options: GenerateOptions<T> = {
    inputIds: [prompt],
    maxNewTokens: tokens,
    eosTokenId: [EOS, TURN_END],
    useCache: false,
  };
  return (await model.generate(options)).newTokens[0]!;
}

async function requireSameIds<T extends Tensor>(backend: Backend<T>): Promise<void> {
  using model = await tinyModel(backend, SIZES);
  const counting = new CountingModel(model);
  using chat = new Chat({ model: counting, tokenizer, template: chatml, maxNewTokens: 6 });
  let before: readonly number[] = [];
  let others = 0;
  for (const text of ["Hi", "a  b\n\n", "e\u0301 <|im_end|>", "🙂", ""]) {
    counting.tokens = 0;
    const reply = chat.send(text);
    const { promptTokens, reusedTokens } = reply;
    for await (const _ of reply);
    const { ids, generation } = await reply.output;
    const prompt = generation.sequences[0]!.slice(0, promptTokens);
    assertEquals(ids, await withoutCache(model, prompt, 6), text);
    // All but the token that ended the turn before, which has not run.
    assertEquals(prompt.slice(0, before.length), before);
    assertEquals(reusedTokens, Math.max(0, before.length - 1));
    assertEquals(counting.tokens, promptTokens - reusedTokens + ids.length - 1);
    const rendered = chatml.render({
      messages: chat.messages.slice(0, -1),
      addGenerationPrompt: true,
    });
    assertEquals(tokenizer.decode(prompt), rendered.normalize("NFC"));
    const encoded = chatTokens(tokenizer, chatml, chat.messages.slice(0, -1));
    if (encoded.join() !== prompt.join()) others++;
    before = [...prompt, ...ids.at(-1) === EOS ? ids.slice(0, -1) : ids];
  }
  // The model's own tokens are not those of its text, or nothing would have been tested.
  assert(others > 0);
  using plain = new Chat({ model: counting, tokenizer, template: chatml, useCache: false });
  assertEquals((await plain.ask("Hi", { maxNewTokens: 2 })).text.length > 0, true);
  assertEquals(plain.send("Hi").reusedTokens, 0);
}

Deno.test("chat: a turn runs its own tokens only, and replies as without the others' cache", async () => {
  await requireSameIds(new CpuBackend());
  await requireSameIds(await sharedBackend());
});

Deno.test("chat: a reply that the template changes is encoded again", async () => {
  const trims = await ChatTemplate.parse(
    CHATML_TEMPLATE.replace("turn.content", "turn.content | trim"),
  );
  const spelt = [...idsOf("H"), ...idsOf("e"), ...idsOf("llo")];
  const promptAfter = async (template: ChatTemplate, ...reply: number[]) => {
    using chat = chatOf({ template });
    await chat.ask("Hi", saying(...reply, TURN_END));
    const { generation } = await chat.ask("So?", saying(TURN_END));
    const prompt = generation.sequences[0]!.slice(0, -1);
    const conversation = chat.messages.slice(0, -1);
    const text = template.render({ messages: conversation, addGenerationPrompt: true });
    assertEquals(tokenizer.decode(prompt), text);
    return { prompt, encoded: chatTokens(tokenizer, template, conversation) };
  };
  const holds = (ids: readonly number[], part: readonly number[]) =>
    ` ${ids.join(" ")} `.includes(` ${part.join(" ")} `);
  const kept = await promptAfter(trims, ...spelt);
  assert(holds(kept.prompt, spelt) && !holds(kept.encoded, spelt));
  const trimmed = await promptAfter(trims, ...idsOf("\n"), ...spelt);
  assertEquals(trimmed.prompt, trimmed.encoded);
  // What a special token within a reply would split is encoded again, too.
  const split = await promptAfter(chatml, ...spelt, START, ...spelt);
  assertEquals(split.prompt, split.encoded);
  const untouched = await promptAfter(chatml, ...idsOf("\n"), ...spelt);
  assert(holds(untouched.prompt, spelt));
});

/** Turns after which everything has to be as if they had not been. */
const UNDONE: Readonly<Record<string, (chat: Chat<CpuTensor>) => Promise<unknown>>> = {
  "fails at once": (chat) =>
    assertRejects(
      () => chat.ask("x", { logitsProcessors: [() => fail("no scores")] }),
      RangeError,
      "no scores",
    ),
  "fails later": (chat) =>
    assertRejects(
      () =>
        chat.ask("x", {
          stoppingCriteria: [(ids) => ids.length > 40 ? fail("enough") : false],
          maxNewTokens: 50,
        }),
      RangeError,
      "enough",
    ),
  "is cancelled before it is read": (chat) => chat.send("x").cancel(),
  "is stopped before it is read": (chat) => chat.send("x").stop(),
  "is aborted before it is read": (chat) =>
    assertRejects(() => chat.ask("x", { signal: AbortSignal.abort(new Error("no")) }), Error, "no"),
  "is aborted by the chat's own signal": async () => {
    using chat = chatOf({ signal: AbortSignal.abort(new Error("no")) });
    await assertRejects(() => chat.ask("x"), Error, "no");
    assertEquals(said(chat), []);
  },
  "is refused by an option": (chat) =>
    assertRejects(() => chat.ask("x", { topq: 1 } as object), ModelInputError, "option topq"),
  "is taken back": async (chat) => {
    await chat.ask("x");
    assertEquals(chat.undo(), "x");
  },
};

function fail(message: string): never {
  throw new RangeError(message);
}

for (const [ends, turn] of Object.entries(UNDONE)) {
  Deno.test(`chat: a turn that ${ends} leaves nothing`, async () => {
    using chat = chatOf();
    using other = chatOf();
    for (const each of [chat, other]) await each.ask("Hi", saying(...idsOf("Hello"), TURN_END));
    await turn(chat);
    assertEquals(said(chat), ["Hi", "Hello"]);
    const [one, two] = await Promise.all([chat.ask("And?"), other.ask("And?")]);
    assertEquals(one.generation.sequences, two.generation.sequences);
    assertEquals(chat.messages, other.messages);
  });
}

/** Ways to stop a reply after its second piece, given a reader of it. */
const STOPPED: Readonly<
  Record<string, (chat: Chat<CpuTensor>, options: ReplyOptions<CpuTensor>) => Promise<ChatReply>>
> = {
  "a loop that ends": async (chat, options) => {
    const reply = chat.send("Count", options);
    let pieces = 0;
    for await (const _ of reply) if (++pieces === 2) break;
    return reply;
  },
  "a reader that cancels": async (chat, options) => {
    const reply = chat.send("Count", options);
    const reader = reply.getReader();
    for (let i = 0; i < 2; i++) await reader.read();
    await reader.cancel();
    return reply;
  },
  "a signal": async (chat, options) => {
    const controller = new AbortController();
    const reply = chat.send("Count", { ...options, signal: controller.signal });
    const read = async () => {
      let pieces = 0;
      for await (const _ of reply) if (++pieces === 2) controller.abort(new Error("enough"));
    };
    await assertRejects(read, Error, "enough");
    return reply;
  },
  "someone who is not its reader": async (chat, options) => {
    const reply = chat.send("Count", options);
    let pieces = 0;
    for await (const _ of reply) if (++pieces === 2) await reply.stop();
    return reply;
  },
  "someone while a piece is computed": async (chat, options) => {
    const reply = chat.send("Count", options);
    const reader = reply.getReader();
    for (let i = 0; i < 2; i++) await reader.read();
    const third = reader.read();
    await reply.stop();
    await third;
    return reply;
  },
};

for (const [by, stop] of Object.entries(STOPPED)) {
  Deno.test(`chat: a reply stopped by ${by} is kept as far as it came`, async () => {
    using chat = chatOf();
    const parts = [..."one", ..." two", ..." three"].map((letter) => idsOf(letter)[0]!);
    const reply = await stop(chat, saying(...parts));
    await assertRejects(() => reply.output, Error);
    const [, partial] = said(chat);
    assert("one two".startsWith(partial!) && partial!.length >= 2, partial);
    const next = chat.send("Go on", saying(TURN_END));
    assert(next.reusedTokens > 0);
    for await (const _ of next);
    const { generation } = await next.output;
    const conversation = chat.messages.slice(0, -1);
    const text = chatml.render({ messages: conversation, addGenerationPrompt: true });
    assertEquals(tokenizer.decode(generation.sequences[0]!.slice(0, -1)), text);
    assertEquals(said(chat), ["Count", partial!, "Go on", ""]);
  });
}

Deno.test("chat: a reply stopped amid a character keeps the characters before", async () => {
  using chat = chatOf();
  const parrot = idsOf("🦜");
  assert(parrot.length > 1, "it has several tokens");
  const reply = chat.send("Name one", saying(...idsOf("a"), ...parrot));
  let pieces = 0;
  for await (const _ of reply) if (++pieces === 2) break;
  assertEquals(said(chat), ["Name one", "a"]);
  const { generation } = await chat.ask("Go on", saying(TURN_END));
  const prompt = generation.sequences[0]!.slice(0, -1);
  assertEquals(prompt, chatTokens(tokenizer, chatml, chat.messages.slice(0, -1)));
});

Deno.test("chat: one reply at a time", async () => {
  using chat = chatOf();
  const reply = chat.send("Hi", saying(...idsOf("Hello"), TURN_END));
  const fault = "chat must have ended its last reply, or have it stopped: a reply is under way";
  for (const call of ["send", "retry", "undo", "reset"] as const) {
    assertThrows(() => call === "send" ? chat.send("So?") : chat[call](), ModelInputError, fault);
  }
  assertEquals(await textOf(reply), "Hello");
  await reply.stop();
  assertEquals(said(chat), ["Hi", "Hello"]);
  assertEquals((await chat.ask("So?", saying(TURN_END))).text, "");
  chat[Symbol.dispose]();
  for (const call of ["send", "undo", "reset"] as const) {
    const rule = "chat must not be disposed";
    assertThrows(() => call === "send" ? chat.send("x") : chat[call](), ModelInputError, rule);
  }
});

Deno.test("chat: a reply that is stopped as its first piece is asked for has ended", async () => {
  using chat = chatOf();
  for (const isAskedForFirst of [true, false]) {
    const reply = chat.send("Hi");
    const reader = reply.getReader();
    const [first, stop] = isAskedForFirst
      ? [reader.read(), reply.stop()]
      : [undefined, reply.stop()];
    assert((await (first ?? reader.read())).done);
    await stop;
    assertEquals(chat.messages, []);
  }
});

Deno.test("chat: an option that is undefined is one that was not given", async () => {
  using chat = chatOf({ maxNewTokens: 2, eosTokenId: 0 });
  assertEquals((await chat.ask("Hi", { maxNewTokens: undefined })).ids.length <= 2, true);
});

Deno.test("chat: retry replies to the last turn once more", async () => {
  using chat = chatOf();
  assertThrows(() => chat.retry(), ModelInputError, "messages must have a turn to reply to: none");
  await chat.ask("Hi", saying(...idsOf("Hello"), TURN_END));
  const reply = chat.retry(saying(...idsOf("Hey"), TURN_END));
  assertEquals(said(chat), ["Hi"]);
  assertEquals(reply.reusedTokens, reply.promptTokens - 1);
  assertEquals(await textOf(reply), "Hey");
  assertEquals(said(chat), ["Hi", "Hey"]);
  await assertRejects(
    () => textOf(chat.retry({ logitsProcessors: [() => fail("no")] })),
    RangeError,
  );
  assertEquals(said(chat), ["Hi", "Hey"]);
  assertEquals([chat.undo(), chat.undo()], ["Hi", undefined]);
  chat.reset([{ role: "user", content: "Why?" }]);
  assertEquals(await textOf(chat.retry(saying(...idsOf("So"), TURN_END))), "So");
  assertEquals(said(chat), ["Why?", "So"]);
});

Deno.test("chat: a seed makes the whole chat, and replies that differ", async () => {
  const drawn = async (seed: number | bigint) => {
    using chat = chatOf({ doSample: true, seed });
    const texts = [(await chat.ask("Hi")).ids.join(), await textOf(chat.retry())];
    const { generation } = await chat.ask("So?");
    chat.reset();
    assertEquals((await chat.ask("Hi")).ids.join(), texts[0]);
    return { texts, seed: generation.seed };
  };
  const { texts, seed } = await drawn(7);
  assertEquals(seed, 9);
  assertEquals(await drawn(7n), { texts, seed: 9n });
  assert(texts[0] !== texts[1]);
  assertEquals((await drawn(2n ** 64n - 1n)).seed, 1n);
  using chat = chatOf({ doSample: true });
  assertEquals((await chat.ask("Hi", { seed: 5 })).generation.seed, 5);
  using wrong = chatOf({ doSample: true, seed: -1 });
  assertThrows(() => wrong.send("Hi"), ModelInputError, "seed must be a whole number from 0");
});

Deno.test("chat: a conversation beyond the context is refused, with both numbers", async () => {
  using model = await tinyModel(new CpuBackend(), { ...SIZES, max_position_embeddings: 64 });
  using chat = chatOf({ model, system: "S" });
  await chat.ask("Hi", { ...saying(...idsOf("Hello"), TURN_END) });
  const long = "ab ".repeat(40);
  const tokens = chatTokens(tokenizer, chatml, [...chat.messages, { role: "user", content: long }]);
  const fault =
    `the conversation must be fewer tokens than the model has room for, 64: ${tokens.length}`;
  assertThrows(() => chat.send(long), ModelInputError, fault);
  assertEquals(said(chat), ["S", "Hi", "Hello"]);
  const { generation, finishReason } = await chat.ask("Hi", { maxNewTokens: 999, eosTokenId: 5 });
  assertEquals([generation.sequences[0]!.length, finishReason], [64, "length"]);
  assertThrows(() => chat.send("x"), ModelInputError, "the model has room for, 64");
});

Deno.test("chat: the oldest turns go where that is asked for", async () => {
  using model = await tinyModel(new CpuBackend(), { ...SIZES, max_position_embeddings: 64 });
  using chat = chatOf({ model, system: "S", onOverflow: "drop-oldest", maxNewTokens: 4 });
  for (const turn of ["one", "two", "three", "four", "five"]) {
    await chat.ask(turn, saying(...idsOf("yes"), TURN_END));
    assertEquals([said(chat)[0], ...said(chat).slice(-2)], ["S", turn, "yes"]);
  }
  assert(said(chat).length < 11 && said(chat).length >= 5, `${said(chat)}`);
  assertEquals(chat.messages[1]!.role, "user");
  const kept = chat.messages;
  await assertRejects(
    () => chat.ask("six", { logitsProcessors: [() => fail("no")] }),
    RangeError,
  );
  assertEquals(chat.messages, kept);
  assertThrows(() => chat.send("ab ".repeat(80)), ModelInputError, "room for, 64");
  assertEquals(chat.messages, kept);
});

Deno.test("chat: 20 turns leave live bytes flat, and a chat gives back all, amid a reply too", async () => {
  const backend = await sharedBackend();
  using model = await tinyModel(backend, SIZES);
  const options = { model, tokenizer, template: chatml, maxNewTokens: 4 };
  const held = () => {
    const { liveBytes, liveTensors } = backend.memory;
    return { liveBytes, liveTensors };
  };
  const fiveTurns = async (chat: Chat<GpuTensor>) => {
    for (let i = 0; i < 5; i++) await chat.ask("Hi");
    chat.reset();
  };
  // The model keeps tables of positions, and a chat's cache has more room the longer the chat.
  const first = new Chat(options);
  await fiveTurns(first);
  first[Symbol.dispose]();
  const none = held();
  {
    using chat = new Chat(options);
    await fiveTurns(chat);
    const before = held();
    assert(before.liveBytes > none.liveBytes);
    for (let i = 0; i < 4; i++) {
      await fiveTurns(chat);
      assertEquals(held(), before);
    }
  }
  assertEquals(held(), none);
  for (const pieces of [0, 2]) {
    const chat = new Chat(options);
    const reader = chat.send("Hi").getReader();
    for (let i = 0; i < pieces; i++) await reader.read();
    chat[Symbol.dispose]();
    while (!(await reader.read()).done);
    assertEquals(held(), none);
    chat[Symbol.dispose]();
  }
  const failing = new Chat(options);
  await assertRejects(
    () => failing.ask("Hi", { stoppingCriteria: [() => fail("no")] }),
    RangeError,
  );
  failing[Symbol.dispose]();
  assertEquals(held(), none);
});

Deno.test("chat: a folder is a chat that owns its model", async () => {
  await using folder = await scratchFolder();
  const config = new StableLmConfig({ ...TINY, ...SIZES });
  await writeCheckpoint(folder.path, config);
  const write = (name: string, value: unknown) =>
    Deno.writeTextFile(`${folder.path}/${name}`, JSON.stringify(value));
  const backend = await sharedBackend();
  const before = backend.memory.liveBytes;
  const open = (settings = {}, loading = {}) =>
    Chat.fromPretrained(folder.path, { backend, ...loading }, { maxNewTokens: 2, ...settings });
  await assertRejects(() => open(), Error, "tokenizer.json");
  await write("tokenizer.json", tokenizerJson);
  await write("tokenizer_config.json", END);
  const warnings: string[] = [];
  {
    using chat = await open({}, { onWarning: (text: string) => warnings.push(text) });
    const { generation } = await chat.ask("Hi");
    assertEquals(
      tokenizer.decode(generation.sequences[0]!.slice(0, -2)),
      zephyr.render({
        messages: [{ role: "user", content: "Hi" }],
        addGenerationPrompt: true,
        eosToken: END.eos_token,
      }),
    );
  }
  assertEquals(warnings.map((text) => /there is no chat template.*/.exec(text)?.[0]), [
    "there is no chat template, so Zephyr's is taken",
  ]);
  await write("tokenizer_config.json", { ...END, chat_template: CHATML_TEMPLATE });
  {
    using chat = await open({ system: "S" });
    const { generation } = await chat.ask("Hi");
    assertEquals(generation.sequences[0]![0], START);
  }
  await assertRejects(() => open({ temprature: 1 }), ModelInputError, "option temprature");
  await assertRejects(() => open({}, { dtpye: "f16" }), ModelInputError, "option dtpye");
  await Deno.writeTextFile(`${folder.path}/chat_template.jinja`, "{% for");
  await assertRejects(() => open(), TemplateError, "chat_template.jinja");
  await Deno.writeTextFile(`${folder.path}/model.safetensors`, "damaged");
  await Deno.remove(`${folder.path}/chat_template.jinja`);
  await assertRejects(() => open(), ModelFormatError);
  assertEquals(backend.memory.liveBytes, before);
});

/** Options that are refused when a chat begins, and why. */
const REFUSED: readonly (readonly [object, string])[] = [
  [{ system: 3 }, "system must be a string: number"],
  [{ template: "{{ messages }}" }, "template must be a ChatTemplate"],
  [{ tokenizer: {} }, "tokenizer must be a Tokenizer"],
  [{ onOverflow: "ignore" }, 'onOverflow must be "refuse" or "drop-oldest": ignore'],
  [{ messages: "Hi" }, "messages must be a list: string"],
  [{ messages: [{ role: "user" }] }, "messages[0].content must be a string"],
  [{ inputIds: [[1]] }, "option inputIds must be left to the chat"],
  [{ numBeams: 2 }, "option numBeams must be left to the chat"],
  [{ maxNewTokns: 2 }, "option maxNewTokns must be one of"],
  [{ maxNewTokens: -1 }, "maxNewTokens must be"],
  [{ extra: { messages: [] } }, "extra.messages must be a name that is not taken"],
];

Deno.test("chat: what is wrong is refused by name", async () => {
  for (const [options, message] of REFUSED) {
    assertThrows(() => chatOf(options), ModelInputError, message);
  }
  using small = await tinyModel(new CpuBackend());
  const fault = "tokenizer must have at most 97 tokens, the model's vocab_size: 1261";
  assertThrows(() => chatOf({ model: small }), ModelInputError, fault);
  using chat = chatOf();
  assertThrows(() => chat.send(3 as unknown as string), ModelInputError, "text must be a string");
  assertThrows(
    () => chat.send("x", { promptCache: 1 } as object),
    ModelInputError,
    "left to the chat",
  );
  const alternating = await ChatTemplate.parse(
    "{% for m in messages %}{{ raise_exception('roles must alternate') if m.role != ('user' if loop.index0 % 2 == 0 else 'assistant') }}{{ m.content }}{% endfor %}",
  );
  const messages = [{ role: "user", content: "a" }];
  using strict = chatOf({ template: alternating, messages });
  assertThrows(() => strict.send("b"), TemplateError, "roles must alternate");
  assertEquals(strict.messages, messages);
});
