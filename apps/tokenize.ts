/**
 * `deno task tokenize`: the token ids of a text, and the text of token ids.
 *
 * Permissions: `--allow-read` of the tokenizer and of texts; `--allow-write` of the file that `--json` names; for a
 * tokenizer of the hub see {@linkcode fetchCheckpoint}.
 *
 * @module
 */

import type { Tokenizer } from "../model/tokenizer/tokenizer.ts";
import {
  type CommandSpec,
  EXIT,
  type OptionSpec,
  type ParsedCommand,
  runCommand,
  UsageError,
} from "./command_line.ts";
import { INPUT_OPTIONS, readTexts } from "./input_texts.ts";
import { ProgressLine, type ProgressOutput } from "./progress_line.ts";
import { readPrompt, type TextInput } from "./prompt_text.ts";
import { formatJson, reportFile } from "./report_file.ts";
import { type ProgramHeader, programHeader } from "./run_header.ts";
import { MODEL_OPTIONS, openTokenizer } from "./text_model.ts";
import { ReaderGoneError, type TextOutput, TextWriter } from "./text_writer.ts";
import { visibleBytes } from "./visible_bytes.ts";

const OPTIONS = {
  model: {
    ...MODEL_OPTIONS.model,
    summary: "the model whose tokenizer it is: " + MODEL_OPTIONS.model.summary,
  },
  tokenizer: MODEL_OPTIONS.tokenizer,
  ...INPUT_OPTIONS,
  tokens: { type: "flag", summary: "print a line for each token: its id and what it stands for" },
  count: { type: "flag", summary: "print how many tokens there are, and nothing else" },
  decode: {
    type: "text",
    value: "IDS",
    summary: 'print the text of ids, as "1 2 3"; - is standard input',
  },
  json: { type: "text", value: "FILE", summary: "write text, ids and tokens to FILE" },
} as const satisfies Record<string, OptionSpec>;

/** What the command takes. */
export const TOKENIZE_COMMAND: CommandSpec<typeof OPTIONS> = {
  name: "tokenize",
  summary: "Prints the token ids of a text, or the text of token ids; no weights are read.",
  operands: { name: "text", summary: "text; - or none is standard input", most: 1 },
  options: OPTIONS,
  notes: [
    "Prints the ids on one line, or with --decode the text. Files and standard input are UTF-8; one newline at",
    "their end is not part of the text. In the lines of --tokens, \\xe2 is a byte that is a part of a character.",
    "A model of the hub is fetched whole, unless it is here already.",
    "",
    '  deno task tokenize "To be, or not to be"',
    '  deno task tokenize --tokens "naïve 😀"',
    "  deno task tokenize --count --file story.txt --model ./stablelm-2-1_6b",
    '  deno task tokenize --parse-special-tokens "<|user|>Hello<|endoftext|>"',
    '  deno task tokenize --decode "52 71 12"',
    "",
    "Exits 3 if the tokenizer's files are bad.",
  ],
};

/** What the command reads and writes; a test passes its own. */
export interface TokenizeSurroundings {
  /** Where a text may come from. */
  readonly stdin: TextInput;
  /** Where the result goes. */
  readonly stdout: TextOutput;
  /** Where a terminal shows a download. */
  readonly stderr: ProgressOutput;
}

/** Everything that `--json` writes. */
export interface TokenizeReport {
  /** Version of this structure. */
  readonly schemaVersion: 1;
  /** Tells this report from others: always "tokenize". */
  readonly kind: "tokenize";
  /** What ran, and when. */
  readonly header: ProgramHeader;
  /** The tokenizer, as it or its model was named. */
  readonly tokenizer: string;
  /** The text; of ids, what they decode to. */
  readonly text: string;
  /** Number of tokens. */
  readonly count: number;
  /** Their ids. */
  readonly ids: readonly number[];
  /** Each token. */
  readonly tokens: readonly TokenLine[];
}

/** A token, for a person to read. */
export interface TokenLine {
  /** Its id. */
  readonly id: number;
  /** The bytes that it stands for, with escapes. */
  readonly token: string;
  /** Whether it is a special one. */
  readonly special: boolean;
}

/** Prints ids, or tokens, or a text. */
export async function tokenize(
  { operands, options }: ParsedCommand<typeof OPTIONS>,
  signal: AbortSignal,
  { stdin, stdout, stderr }: TokenizeSurroundings = Deno,
): Promise<number> {
  requireOneTask(operands, options);
  const { decode } = options;
  const isDecoding = decode !== undefined;
  const input = isDecoding
    ? decode === "-" ? await readPrompt("-", undefined, stdin, signal) : decode
    : (await readTexts(operands, options.file, stdin, signal))[0]!;
  await using _report = await reportFile(options.json);
  const progress = new ProgressLine(stderr);
  const { name, tokenizer } = await openTokenizer(options, { signal, progress });
  const parseSpecialTokens = options["parse-special-tokens"];
  const ids = isDecoding
    ? readIds(tokenizer, input)
    : tokenizer.encode(input, { parseSpecialTokens });
  const text = isDecoding ? tokenizer.decode(ids) : input;
  const writer = new TextWriter(stdout);
  try {
    if (options.count) await writer.write(`${ids.length}\n`);
    else if (options.tokens) await writer.write(formatTokens(tokensOf(tokenizer, ids)));
    else await writer.write(isDecoding ? text : `${ids.join(" ")}\n`);
    await writer.endLine();
  } catch (error) {
    if (!(error instanceof ReaderGoneError)) throw error;
  }
  if (options.json !== undefined) {
    const report: TokenizeReport = {
      schemaVersion: 1,
      kind: "tokenize",
      header: programHeader(),
      tokenizer: name,
      text,
      count: ids.length,
      ids,
      tokens: tokensOf(tokenizer, ids),
    };
    await Deno.writeTextFile(options.json, formatJson(report));
  }
  return EXIT.ok;
}

/** Refuses options that have nothing to say in the kind of run that is asked for. */
function requireOneTask(
  operands: readonly string[],
  options: ParsedCommand<typeof OPTIONS>["options"],
): void {
  if (options.count && options.tokens) {
    throw new UsageError("--count must not be given with --tokens");
  }
  if (options.decode === undefined) return;
  if (operands.length > 0) throw new UsageError("a text must not be given with --decode");
  for (const name of ["file", "count", "parse-special-tokens"] as const) {
    if (options[name] === undefined || options[name] === false) continue;
    throw new UsageError(`--${name} must not be given with --decode`);
  }
}

/** Ids between spaces or commas; the brackets of a list in JSON are passed over. */
function readIds(tokenizer: Tokenizer, text: string): number[] {
  const words = text.replace(/^\s*\[|\]\s*$/g, "").split(/[\s,]+/).filter((word) => word !== "");
  return words.map((word) => {
    const id = /^\d{1,9}$/.test(word) ? Number(word) : undefined;
    if (id !== undefined && tokenizer.idToToken(id) !== null) return id;
    const value = JSON.stringify(word.length > 40 ? `${word.slice(0, 40)}…` : word);
    const last = tokenizer.vocabSize - 1;
    throw new UsageError(
      `--decode must have ids of tokens, which are whole numbers to ${last}: ${value}`,
    );
  });
}

function tokensOf(tokenizer: Tokenizer, ids: readonly number[]): TokenLine[] {
  const special = new Set(tokenizer.specialTokens.values());
  return ids.map((id) => {
    return { id, token: visibleBytes(tokenizer.tokenBytes(id)), special: special.has(id) };
  });
}

function formatTokens(tokens: readonly TokenLine[]): string {
  const width = tokens.reduce((most, { id }) => Math.max(most, `${id}`.length), 0);
  return tokens.map(({ id, token, special }) =>
    `${`${id}`.padStart(width)}  "${token}"${special ? "  special" : ""}\n`
  ).join("");
}

if (import.meta.main) {
  Deno.exit(await runCommand(TOKENIZE_COMMAND, (command, signal) => tokenize(command, signal)));
}
