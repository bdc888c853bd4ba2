/**
 * `deno task generate`: text after a prompt, or after each prompt of a file.
 *
 * Permissions: `--allow-read` of the model and of prompts; `--allow-write` of the files that `--json` and `--out`
 * name; for a model of the hub see {@linkcode fetchCheckpoint}.
 *
 * @module
 */

import type { FinishReason } from "../model/generation/stopping.ts";
import { freshSeed } from "../runtime/verify.ts";
import {
  type CommandSpec,
  EXIT,
  type OptionSpec,
  type ParsedCommand,
  runCommand,
  UsageError,
} from "./command_line.ts";
import { prepareDriver } from "./driver.ts";
import {
  comesInOrder,
  type Continuation,
  continuePrompt,
  type PreparedPrompt,
  preparePrompt,
} from "./continuation.ts";
import { ProgressLine, type ProgressOutput } from "./progress_line.ts";
import { readPrompt, type TextInput } from "./prompt_text.ts";
import { formatJson, reportFile } from "./report_file.ts";
import { type RunHeader, runHeader } from "./run_header.ts";
import {
  inFlagWords,
  SAMPLING_OPTIONS,
  settingsOfFlags,
  type TextSettings,
} from "./sampling_options.ts";
import { MODEL_OPTIONS, openTextModel, type TextModel } from "./text_model.ts";
import { ReaderGoneError, type TextOutput, TextWriter } from "./text_writer.ts";

const OPTIONS = {
  ...MODEL_OPTIONS,
  file: { type: "text", value: "FILE", summary: "read the prompt from FILE" },
  "no-echo": { type: "flag", summary: "print the new text without the prompt before it" },
  "parse-special-tokens": {
    type: "flag",
    summary: "special tokens that the prompt spells, as <|endoftext|>, are tokens, not text",
  },
  ...SAMPLING_OPTIONS,
  json: { type: "text", value: "FILE", summary: "write prompt, text, ids and times to FILE" },
  batch: {
    type: "text",
    value: "FILE",
    summary: 'a prompt for each line of FILE: {"prompt": "…"}, with "id" and settings if wanted',
  },
  out: {
    type: "text",
    value: "FILE",
    summary: "where --batch writes a line for each; those that are there already stay, errors too",
  },
  "batch-size": {
    type: "integer",
    value: "N",
    summary: "prompts that run together; 8. The texts do not depend on it",
    least: 1,
    most: 1024,
  },
  shard: {
    type: "text",
    value: "I/N",
    summary: "of --batch, every Nth line only, from the Ith on: 1/4, 2/4, 3/4, 4/4",
  },
} as const satisfies Record<string, OptionSpec>;

/** What the command takes. */
export const GENERATE_COMMAND: CommandSpec<typeof OPTIONS> = {
  name: "generate",
  summary: "Continues a text, as the checkpoint's generation_config.json or the options say.",
  operands: {
    name: "prompt",
    summary: "text to continue; - or none is standard input, and an empty one begins a new text",
    most: 1,
  },
  options: OPTIONS,
  notes: [
    "Prints the prompt and what comes after it, ended by a newline. Files and standard input are UTF-8;",
    "one newline at their end is not part of the prompt. A text ends where the model's positions do,",
    "at the latest. A line of --batch may say more than its prompt, in the words of generate:",
    '{"prompt": "ROMEO:", "id": 7, "temperature": 0.7, "maxNewTokens": 50, "stopStrings": ["\\n\\n"]}',
    "",
    '  deno task generate "ROMEO:"',
    '  deno task generate "JULIET:" --temperature 0.7 --top-p 0.9 --seed 7',
    '  deno task generate --greedy --no-echo --stop ". " --json run.json < prompt.txt',
    '  deno task generate --model ./stablelm-2-1_6b --num-beams 4 --greedy "The weather is"',
    "  deno task generate --model stabilityai/stablelm-3b-4e1t --dtype bf16 --file story.txt",
    "  deno task generate --batch prompts.jsonl --out texts.jsonl --batch-size 16 --shard 1/2",
    "",
    "Exits 1 if a line of --batch could not be done, 3 if the model's files are bad, 4 without a GPU.",
  ],
};

/** Values of the command's options. */
export type GenerateValues = ParsedCommand<typeof OPTIONS>["options"];

/** What the command reads and writes; a test passes its own. */
export interface Surroundings {
  /** Where a prompt may come from. */
  readonly stdin: TextInput;
  /** Where the text goes. */
  readonly stdout: TextOutput;
  /** Where a terminal shows how far it has come. */
  readonly stderr: ProgressOutput;
}

/** Everything that `--json` writes. */
export interface GenerationReport extends Continuation {
  /** Version of this structure. */
  readonly schemaVersion: 1;
  /** Tells this report from others: always "generate". */
  readonly kind: "generate";
  /** False if the run was cut short. */
  readonly complete: boolean;
  /** Where it ran. */
  readonly header: RunHeader;
  /** What ran. */
  readonly model: {
    /** As it was named. */
    readonly name: string;
    /** Element type of its weights. */
    readonly dtype: string;
    /** Element type of the residual stream, keys and values. */
    readonly activationDtype: string;
    /** Seconds that opening it took. */
    readonly loadSeconds: number;
  };
}

/** Generates and prints; exits 1 if a line of a batch could not be done. */
export async function generate(
  { operands, options }: ParsedCommand<typeof OPTIONS>,
  signal: AbortSignal,
  surroundings: Surroundings = Deno,
): Promise<number> {
  requireOneTask(operands, options);
  const settings = settingsOfFlags(options);
  const progress = new ProgressLine(surroundings.stderr);
  if (options.batch !== undefined) {
    const { generateBatch } = await import("./generate_batch.ts");
    const { stdin } = surroundings;
    return await generateBatch(options, settings, { progress, stdin, signal });
  }
  const text = await readPrompt(operands[0], options.file, surroundings.stdin, signal);
  await using _report = await reportFile(options.json);
  const started = performance.now();
  using opened = await openTextModel(options, { signal, progress });
  const loadSeconds = (performance.now() - started) / 1000;
  try {
    const seeded = { ...settings, seed: settings.seed ?? freshSeed() };
    const special = options["parse-special-tokens"];
    const prepared = preparePrompt(opened, text, seeded, special);
    warnOfEnd(settings, prepared);
    const writer = new TextWriter(surroundings.stdout);
    const run = await print(opened, prepared, writer, progress, options["no-echo"], signal);
    if (options.json !== undefined) {
      await Deno.writeTextFile(options.json, formatReport(opened, loadSeconds, run, signal));
    }
    if (!signal.aborted) progress.end(describeRun(run));
    return EXIT.ok;
  } catch (error) {
    if (error instanceof ReaderGoneError) return EXIT.ok;
    throw inFlagWords(error);
  }
}

/** Refuses options that have nothing to say in the kind of run that is asked for. */
function requireOneTask(operands: readonly string[], options: GenerateValues): void {
  const isBatch = options.batch !== undefined;
  const single = { file: options.file, json: options.json, "no-echo": options["no-echo"] };
  const batch = { out: options.out, "batch-size": options["batch-size"], shard: options.shard };
  for (const [name, value] of Object.entries(isBatch ? single : batch)) {
    if (value === undefined || value === false) continue;
    throw new UsageError(`--${name} must ${isBatch ? "not be given" : "be given"} with --batch`);
  }
  if (isBatch && operands.length > 0) {
    throw new UsageError("a prompt must not be given with --batch, which reads its own");
  }
  if (isBatch && options.out === undefined) {
    throw new UsageError("--out must name the file that --batch writes to");
  }
}

/** Prints the prompt, and the text as it comes, or several texts one after the other. */
async function print(
  opened: TextModel,
  prepared: PreparedPrompt,
  writer: TextWriter,
  progress: ProgressLine,
  noEcho: boolean,
  signal: AbortSignal,
): Promise<Continuation> {
  const echo = noEcho ? "" : prepared.text;
  if (comesInOrder(prepared)) {
    await writer.write(echo);
    const run = await continuePrompt(opened, prepared, signal, (text) => writer.write(text));
    await writer.endLine();
    return run;
  }
  const { num_beams: beams, num_return_sequences: count } = prepared.config;
  progress.show(beams > 1 ? `searching with ${beams} beams` : `generating ${count} texts`);
  const run = await continuePrompt(opened, prepared, signal);
  progress.clear();
  for (const [i, { text }] of run.sequences.entries()) {
    if (count > 1) await writer.write(`--- ${i + 1} of ${count} ---\n`);
    await writer.write(echo + text);
    await writer.endLine();
  }
  return run;
}

/** Who asks for more tokens than there is room for is told so. */
function warnOfEnd({ maxNewTokens: asked }: TextSettings, { config }: PreparedPrompt): void {
  const { max_new_tokens: most } = config;
  if (asked == null || most === null || asked <= most) return;
  console.error(`warning: the model has positions for ${most} more tokens: the text ends there`);
}

const ENDS: Readonly<Record<FinishReason, string>> = {
  length: "its length",
  time: "its time",
  stop: "a stop text",
  eos: "the end of the text",
  criterion: "a criterion",
  exhausted: "a lack of tokens that may follow",
};

/** What a person is told of a run. */
function describeRun({ timings, sequences, seed }: Continuation): string {
  const { firstTokenSeconds: first, newTokens, tokensPerSecond: rate } = timings;
  const [one] = sequences;
  return [
    ...first === null ? [] : [`first token after ${first.toFixed(2)} s`],
    `${newTokens} ${newTokens === 1 ? "token" : "tokens"}`,
    ...rate === null ? [] : [`${rate.toFixed(1)} tokens/s`],
    ...sequences.length === 1 && one?.finishReason ? [`ended by ${ENDS[one.finishReason]}`] : [],
    ...seed === null ? [] : [`seed ${seed}`],
  ].join(", ");
}

function formatReport(
  { name, backend, model }: TextModel,
  loadSeconds: number,
  run: Continuation,
  signal: AbortSignal,
): string {
  const report: GenerationReport = {
    schemaVersion: 1,
    kind: "generate",
    complete: !signal.aborted,
    header: runHeader(backend),
    model: { name, dtype: model.dtype, activationDtype: model.activationDtype, loadSeconds },
    ...run,
  };
  return formatJson(report);
}

if (import.meta.main) {
  prepareDriver();
  Deno.exit(await runCommand(GENERATE_COMMAND, (command, signal) => generate(command, signal)));
}
