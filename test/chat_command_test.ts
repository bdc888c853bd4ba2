/** The chat command, called as its task calls it: what a person sees at a terminal, and what a pipe gets. */

import {
  assert,
  assertEquals,
  assertMatch,
  assertRejects,
  assertStringIncludes,
} from "@std/assert";
import { chat, CHAT_COMMAND, type ChatSurroundings } from "../apps/chat.ts";
import { EXIT, type Interrupts, parseCommandLine, runCommand } from "../apps/command_line.ts";
import type { Typed } from "../apps/typed_lines.ts";
import { Chat } from "../model/chat/chat.ts";
import { CHATML_TEMPLATE, StableLmConfig } from "../mod.ts";
import { type ScratchFolder, scratchFolder, writeCheckpoint } from "./checkpoint_folder.ts";
import { sharedBackend } from "./device.ts";
import { TINY } from "./tiny_model.ts";

const END = { bos_token: "<|endoftext|>", eos_token: "<|endoftext|>" };
const TOKENIZER = await Deno.readTextFile(
  new URL("testdata/tokenizer/arcade.json", import.meta.url),
);
const SETTINGS = { doSample: false, maxNewTokens: 6, system: "S" };
const ARGS = ["--greedy", "--max-new-tokens", "6", "--system", "S"];

/** A model folder; its model says nothing that has a meaning. */
async function modelFolder(template = CHATML_TEMPLATE): Promise<ScratchFolder> {
  const folder = await scratchFolder();
  const sizes = { vocab_size: 1300, max_position_embeddings: 96 };
  await writeCheckpoint(folder.path, new StableLmConfig({ ...TINY, ...sizes }));
  await Deno.writeTextFile(`${folder.path}/tokenizer.json`, TOKENIZER);
  const config = { ...END, ...template === "" ? {} : { chat_template: template } };
  await Deno.writeTextFile(`${folder.path}/tokenizer_config.json`, JSON.stringify(config));
  return folder;
}

/** A terminal: what was written there, as a person sees it. */
class Screen {
  readonly #decoder = new TextDecoder();
  #text = "";
  /** Called after each piece of a reply. */
  onWrite = () => {};

  isTerminal = () => true;

  writeSync = (bytes: Uint8Array): number => {
    this.#text += this.#decoder.decode(bytes, { stream: true });
    return bytes.length;
  };

  write = (bytes: Uint8Array): Promise<number> => {
    this.writeSync(bytes);
    this.onWrite();
    return Promise.resolve(bytes.length);
  };

  /** With what was written over gone; dim text in braces. */
  get lines(): readonly string[] {
    const dimmed = this.#text.replaceAll("\x1b[2m", "{").replaceAll("\x1b[0m", "}");
    return dimmed.split("\n").map((line) => line.split("\r\x1b[K").at(-1)!);
  }
}

/** A pipe, or a file. */
function pipe(text: string | Uint8Array<ArrayBuffer> = "") {
  const written: Uint8Array[] = [];
  const decoder = new TextDecoder();
  return {
    isTerminal: () => false,
    readable: new Blob([text]).stream(),
    write: (bytes: Uint8Array) => Promise.resolve(written.push(bytes.slice()) && bytes.length),
    writeSync: (bytes: Uint8Array) => written.push(bytes.slice()) && bytes.length,
    get text() {
      return written.map((bytes) => decoder.decode(bytes, { stream: true })).join("");
    },
  };
}

/** Calls the command, and collects errors and warnings. */
async function call(
  args: readonly string[],
  surroundings: ChatSurroundings,
  onInterrupts: (interrupts: Interrupts) => void = () => {},
) {
  const err: string[] = [];
  const { error } = console;
  console.error = (...words) => err.push(words.join(" "));
  try {
    const status = await runCommand(CHAT_COMMAND, (command, signal, interrupts) => {
      onInterrupts(interrupts);
      return chat(command, signal, interrupts, surroundings);
    }, args);
    return { status, err };
  } finally {
    console.error = error;
  }
}

/** A person at a terminal who types these lines, then leaves. */
function terminal(lines: readonly string[], noColor = true, last: "end" | "interrupt" = "end") {
  const screen = new Screen();
  const left = [...lines];
  const typed = (): Promise<Typed> => {
    const text = left.shift();
    return Promise.resolve(text === undefined ? { kind: last } : { kind: "text", text });
  };
  const stdin = { isTerminal: () => true, readable: pipe().readable };
  return { screen, surroundings: { stdin, stdout: screen, stderr: screen, noColor, typed } };
}

/** What the model replies to these turns. */
async function repliesOf(folder: string, ...turns: string[]): Promise<string[]> {
  using chat = await Chat.fromPretrained(folder, { backend: await sharedBackend() }, SETTINGS);
  const replies: string[] = [];
  for (const turn of turns) replies.push((await chat.ask(turn)).text);
  return replies;
}

const asLine = (reply: string) => reply.endsWith("\n") ? reply : `${reply}\n`;

Deno.test("chat: each line of a pipe is a turn, and replies are all that is printed", async () => {
  await using folder = await modelFolder();
  const stdout = pipe(), stderr = pipe();
  const stdin = pipe("Hi\n\n  \t\r\nAnd /help?\r\n/help");
  const surroundings = { stdin, stdout, stderr, noColor: false };
  const { status, err } = await call(["--model", folder.path, ...ARGS], surroundings);
  assertEquals([status, err, stderr.text], [EXIT.ok, [], ""]);
  const replies = await repliesOf(folder.path, "Hi", "And /help?", "/help");
  assertEquals(stdout.text, replies.map(asLine).join(""));
});

Deno.test("chat: what a pipe must not hold ends it", async () => {
  await using folder = await modelFolder();
  for (
    const [input, words] of [
      [Uint8Array.of(0x61, 0x0a, 0xff, 0x0a), "line 2 must be UTF-8: 0xff at byte 0"],
      ["a ".repeat(300), "the conversation must be fewer tokens than the model has room for, 96: "],
    ] as const
  ) {
    const surroundings = { stdin: pipe(input), stdout: pipe(), stderr: pipe(), noColor: false };
    const { status, err } = await call(["--model", folder.path, ...ARGS], surroundings);
    assertEquals(status, EXIT.usage);
    assertStringIncludes(err.join(), words);
  }
});

Deno.test("chat: a reply and how it came about stand on the screen", async () => {
  await using folder = await modelFolder();
  const [first, second] = await repliesOf(folder.path, "Hi", "So?");
  for (const noColor of [true, false]) {
    const { screen, surroundings } = terminal(["Hi", "  ", "So?"], noColor);
    const { status, err } = await call(["--model", folder.path, ...ARGS], surroundings);
    assertEquals([status, err], [EXIT.ok, []]);
    const text = screen.lines.join("\n");
    assertStringIncludes(text, `\n${first}`);
    assertStringIncludes(text, `\n${second}`);
    const remarks = screen.lines.filter((line) => line.includes("first token after"));
    const counts = remarks.map((line) =>
      /(\d+) of (\d+) prompt tokens reused/.exec(line)!.slice(1)
    );
    assertEquals(counts[0]![0], "0");
    // The prompt before and the reply to it, but for the reply's last token.
    assertEquals(Number(counts[1]![0]), Number(counts[0]![1]) + 6 - 1);
    for (const remark of remarks) {
      assertMatch(remark, /first token after \d+\.\d\d s, 6 tokens, \d+\.\d tokens\/s, /);
      assertEquals(remark.startsWith("{"), !noColor);
    }
    assert(!text.includes("reading"), text);
  }
});

Deno.test("chat: commands do what they say", async () => {
  await using folder = await modelFolder();
  const [first, second] = await repliesOf(folder.path, "Hi", "So?");
  const file = `${folder.path}/saved.json`;
  const { screen, surroundings } = terminal([
    ...["Hi", "So?", `/save ${file}`, "/undo", "/undo", "/undo", `/load ${file}`, "/retry"],
    ...["/reset", "Hi", "/help", " /help", "/save", "/reset now", "/sav x", "/", "a ".repeat(300)],
    ...[`/load ${folder.path}/tokenizer.json`, `/load ${folder.path}/none.json`, "/load README.md"],
    ...["/save /not/here.json", "/quit", "never said"],
  ]);
  const { status, err } = await call(["--model", folder.path, ...ARGS], surroundings);
  assertEquals(status, EXIT.ok);
  assertEquals(err.map((line) => line.replaceAll(folder.path, "FOLDER")), [
    "error: /save needs a file",
    "error: /reset takes nothing: now",
    "error: unknown command: did you mean save?",
    "error: unknown command: must be one of help, reset, retry, undo, save, load, quit",
    err[4]!,
    "error: FOLDER/tokenizer.json must be a conversation that /save wrote",
    err[6]!.replaceAll(folder.path, "FOLDER"),
    err[7]!,
    err[8]!,
  ]);
  assertStringIncludes(err[4]!, "fewer tokens than the model has room for, 96");
  assertStringIncludes(err[6]!, "No such file");
  assertStringIncludes(err[7]!, "README.md must be JSON");
  assertStringIncludes(err[8]!, "write access");
  const remarks = screen.lines.filter((line) => /message|taken|no turn|new conv/.test(line));
  assertEquals(remarks.map((line) => line.replace(folder.path, "FOLDER")), [
    "5 messages in FOLDER/saved.json",
    "the last turn is taken back",
    "the last turn is taken back",
    "there is no turn",
    "5 messages from FOLDER/saved.json",
    "a new conversation",
  ]);
  const { messages, ...rest } = JSON.parse(await Deno.readTextFile(file));
  assertEquals(rest, { schemaVersion: 1, kind: "chat", model: folder.path });
  const said = ["S", "Hi", first, "So?", second];
  assertEquals(messages.map(({ content }: { content: string }) => content), said);
  const shown = screen.lines.join("\n");
  assertEquals(shown.split("/retry").length, 2, "/help was shown once");
  assert(shown.split(`\n${second}`).length >= 3, "the turn that was loaded has the same reply");
  assert(!shown.includes("never said"));
});

Deno.test("chat: Ctrl-C stops a reply and keeps it, and leaves at the prompt", async () => {
  await using folder = await modelFolder();
  const file = `${folder.path}/saved.json`;
  const { screen, surroundings } = terminal(["Hi", `/save ${file}`], true, "interrupt");
  let interrupts: Interrupts = {};
  let pieces = 0;
  screen.onWrite = () => {
    if (++pieces === 3) interrupts.handler!();
  };
  const args = ["--model", folder.path, ...ARGS.with(2, "50")];
  const { status, err } = await call(args, surroundings, (given) => interrupts = given);
  assertEquals([status, err, interrupts.handler], [EXIT.interrupted, [], undefined]);
  const remark = screen.lines.find((line) => line.includes("first token"))!;
  assertMatch(remark, / [34] tokens, .*, stopped$/);
  const { messages } = JSON.parse(await Deno.readTextFile(file));
  const [whole] = await repliesOf(folder.path, "Hi");
  const partial = messages.at(-1).content;
  assert(partial.length > 0 && whole!.startsWith(partial), `${partial} of ${whole}`);
});

Deno.test("chat: a request to end is met, at the prompt and amid a reply", async () => {
  await using folder = await modelFolder();
  const command = parseCommandLine(CHAT_COMMAND, ["--model", folder.path, ...ARGS]);
  for (const where of ["prompt", "reply"]) {
    const controller = new AbortController();
    const end = () => controller.abort(new Error("enough"));
    const { screen, surroundings } = terminal(["Hi"]);
    const typed = (): Promise<Typed> => {
      if (where === "prompt") end();
      return surroundings.typed();
    };
    if (where === "reply") screen.onWrite = end;
    const run = chat(command, controller.signal, {}, { ...surroundings, typed });
    await assertRejects(() => run, Error, "enough");
  }
});

Deno.test("chat: a model without a template is spoken to in Zephyr's format, and that is said", async () => {
  await using folder = await modelFolder("");
  const { screen, surroundings } = terminal(["Hi"]);
  const { status, err } = await call(["--model", folder.path, ...ARGS], surroundings);
  const warning = `warning: ${folder.path} has no chat template, so Zephyr's is taken`;
  assertEquals([status, err], [EXIT.ok, [warning]]);
  assert(screen.lines.some((line) => line.includes("first token")));
});

Deno.test("chat: a bad template or option ends it before anything is said", async () => {
  await using folder = await modelFolder("{% for");
  const { surroundings } = terminal(["Hi"]);
  const run = async (...args: string[]) => {
    const { status, err } = await call(["--model", folder.path, ...args], surroundings);
    return `${status} ${err.join("\n")}`;
  };
  assertMatch(await run(), /^3 error: Cannot read .*tokenizer_config.json: /);
  assertMatch(await run("--num-beams", "2"), /^2 error: unknown option "--num-beams"/);
  assertMatch(await run("--greedy", "--top-p", "0.5"), /^2 error: --top-p must not be given/);
  assertMatch(await run("--tokenizer", "test"), /^3 error: .*tokenizer.json/);
  await Deno.writeTextFile(`${folder.path}/chat_template.jinja`, CHATML_TEMPLATE);
  assertMatch(await run("--no-repeat-ngram-size", "0", "--min-p", "1.5"), /^2 error: --min-p must/);
});
