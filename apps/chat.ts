/**
 * `deno task chat`: a conversation with a model, typed at a terminal or piped in.
 *
 * Permissions: `--allow-read` of the model; `--allow-write` of what `/save` is to write; for a model of the hub see
 * {@linkcode fetchCheckpoint}.
 *
 * @module
 */

import { ZEPHYR_TEMPLATE } from "../model/chat/built_in.ts";
import { Chat } from "../model/chat/chat.ts";
import { ChatTemplate } from "../model/chat/chat_template.ts";
import { findFolder } from "../model/pretrained_files.ts";
import { freshSeed } from "../runtime/verify.ts";
import { remark, runSession } from "./chat_session.ts";
import {
  type CommandSpec,
  EXIT,
  type Interrupts,
  type OptionSpec,
  type ParsedCommand,
  runCommand,
  UsageError,
} from "./command_line.ts";
import { prepareDriver } from "./driver.ts";
import { isBlank, readLines } from "./json_lines.ts";
import { ProgressLine, type ProgressOutput } from "./progress_line.ts";
import { decodeText, InvalidTextError, piecesOf, type TextInput } from "./prompt_text.ts";
import { inFlagWords, NEW_TOKENS, SAMPLING_OPTIONS, settingsOfFlags } from "./sampling_options.ts";
import { MODEL_OPTIONS, openTextModel, type TextModel } from "./text_model.ts";
import { ReaderGoneError, type TextOutput, TextWriter } from "./text_writer.ts";
import { type Typed, TypedLines } from "./typed_lines.ts";

const { "num-beams": _beams, "num-return-sequences": _sequences, ...SAMPLING } = SAMPLING_OPTIONS;

const OPTIONS = {
  ...MODEL_OPTIONS,
  system: {
    type: "text",
    value: "TEXT",
    summary: "what the system message says; none unless given",
  },
  "drop-oldest": {
    type: "flag",
    summary: "forget the oldest turns where the conversation leaves no room for a reply",
  },
  ...SAMPLING,
} as const satisfies Record<string, OptionSpec>;

/** What the command takes. */
export const CHAT_COMMAND: CommandSpec<typeof OPTIONS> = {
  name: "chat",
  summary: "Chats with a model, in the format of its chat template.",
  options: OPTIONS,
  notes: [
    "At a terminal, /help lists what else can be done: /retry, /undo, /save FILE and so on. Ctrl-C",
    "stops a reply, and leaves at the prompt. From a pipe or a file, each line that is not blank is a",
    "turn, and the replies are all that is printed.",
    "",
    "  deno task chat",
    '  deno task chat --model stabilityai/stablelm-zephyr-3b --system "Answer in one sentence."',
    "  deno task chat --greedy < questions.txt > answers.txt",
    "",
    "Exits 3 if the model's files are bad, 4 without a GPU, 130 after Ctrl-C.",
  ],
};

/** What the command reads and writes; a test passes its own. */
export interface ChatSurroundings {
  /** Where turns come from, unless a person types them. */
  readonly stdin: TextInput;
  /** Where replies go. */
  readonly stdout: TextOutput;
  /** Where remarks go, if it is a terminal. */
  readonly stderr: ProgressOutput;
  /** Whether colours are unwanted. */
  readonly noColor: boolean;
  /** Waits for what a person types; a terminal's own line unless given. */
  readonly typed?: (signal: AbortSignal) => Promise<Typed>;
}

/** Chats until the input ends, or the person leaves. */
export async function chat(
  { options }: ParsedCommand<typeof OPTIONS>,
  signal: AbortSignal,
  interrupts: Interrupts,
  surroundings: ChatSurroundings = Deno,
): Promise<number> {
  const { stdin, stdout, stderr, noColor } = surroundings;
  const settings = settingsOfFlags(options);
  const progress = new ProgressLine(stderr);
  using opened = await openTextModel(options, { signal, progress });
  const seed = settings.seed ?? freshSeed();
  const { max_new_tokens, max_length } = opened.model.generationConfig ?? {};
  const isStated = max_new_tokens != null || max_length != null;
  const template = await templateOf(opened, signal);
  using conversation = begin(() =>
    new Chat({
      ...isStated ? {} : { maxNewTokens: NEW_TOKENS },
      ...settings,
      seed,
      model: opened.model,
      tokenizer: opened.tokenizer,
      template,
      system: options.system,
      onOverflow: options["drop-oldest"] ? "drop-oldest" : "refuse",
    })
  );
  const writer = new TextWriter(stdout);
  try {
    if (!stdin.isTerminal() || !stdout.isTerminal()) {
      await replyToLines(conversation, stdin, writer, signal);
      return EXIT.ok;
    }
    remark(
      { progress, noColor },
      `${opened.name} on ${opened.backend.description}, seed ${seed}; /help lists commands`,
    );
    const lines = new TypedLines();
    const { typed = (signal: AbortSignal) => lines.next("> ", signal) } = surroundings;
    return await runSession({
      chat: conversation,
      model: opened.name,
      next: () => typed(signal),
      writer,
      progress,
      noColor,
      signal,
      interrupts,
    });
  } catch (error) {
    if (error instanceof ReaderGoneError) return EXIT.ok;
    throw error;
  }
}

/** What is wrong with options is said in their words. */
function begin(make: () => Chat): Chat {
  try {
    return make();
  } catch (error) {
    throw inFlagWords(error);
  }
}

/** The checkpoint's template, else Zephyr's, which is said. */
async function templateOf({ folder }: TextModel, signal: AbortSignal): Promise<ChatTemplate> {
  const place = await findFolder("chat", folder, { localFilesOnly: true, signal });
  const own = await ChatTemplate.fromFolder(place);
  if (own) return own;
  console.error(`warning: ${folder} has no chat template, so Zephyr's is taken`);
  return await ChatTemplate.parse(ZEPHYR_TEMPLATE, "the Zephyr template");
}

/** Takes every line for a turn, and ends every reply with a newline. */
async function replyToLines(
  chat: Chat,
  stdin: TextInput,
  writer: TextWriter,
  signal: AbortSignal,
): Promise<void> {
  for await (const { index, bytes } of readLines(piecesOf(stdin.readable, signal))) {
    const fail = (rule: string): never => {
      throw new UsageError(`line ${index + 1} ${rule}`);
    };
    if (bytes === undefined) return fail("must be shorter");
    if (isBlank(bytes)) continue;
    const text = decodeLine(bytes, fail);
    let isSilent = true;
    for await (const piece of chat.send(text, { signal })) {
      isSilent &&= piece.text === "";
      await writer.write(piece.text);
    }
    await (isSilent ? writer.write("\n") : writer.endLine());
  }
}

function decodeLine(bytes: Uint8Array<ArrayBuffer>, fail: (rule: string) => never): string {
  try {
    return decodeText(bytes);
  } catch (error) {
    if (error instanceof InvalidTextError) return fail(error.message);
    throw error;
  }
}

if (import.meta.main) {
  prepareDriver();
  Deno.exit(await runCommand(CHAT_COMMAND, chat));
}
