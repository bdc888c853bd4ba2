/**
 * What the commands share that run each text once: texts from the command line or lines of a file, a result for
 * each, a report.
 *
 * @module
 */

import type { StableLmPreTrainedModel } from "../model/pretrained.ts";
import { describeJson } from "../runtime/json_text.ts";
import { ModelInputError } from "../runtime/errors.ts";
import type { Tensor } from "../runtime/tensor.ts";
import { nameOf, readObject, requireKeys, runBatch, type RunnableLine } from "./batch_run.ts";
import { EXIT, type OptionSpec, type OptionValues, UsageError } from "./command_line.ts";
import { INPUT_OPTIONS, readTexts } from "./input_texts.ts";
import { JsonLineError, type JsonRecord, type Line } from "./json_lines.ts";
import { ProgressLine, type ProgressOutput } from "./progress_line.ts";
import type { TextInput } from "./prompt_text.ts";
import { formatJson, reportFile } from "./report_file.ts";
import { type RunHeader, runHeader } from "./run_header.ts";
import type { OpenedModel, OpenOptions } from "./text_model.ts";
import { MODEL_OPTIONS } from "./text_model.ts";
import { type TextRow, textRow } from "./text_rows.ts";
import { ReaderGoneError, type TextOutput, TextWriter } from "./text_writer.ts";

/** What each of the commands takes. */
export const TEXT_OPTIONS = {
  ...MODEL_OPTIONS,
  ...INPUT_OPTIONS,
  json: { type: "text", value: "FILE", summary: "write texts, ids and results to FILE" },
  batch: {
    type: "text",
    value: "FILE",
    summary:
      'a text for each line of FILE: {"text": "…"}, with "id" if wanted; - is standard input',
  },
  out: {
    type: "text",
    value: "FILE",
    summary: "where --batch writes a line for each; those that are there already stay, errors too",
  },
  "batch-size": {
    type: "integer",
    value: "N",
    summary: "texts that run together; 8. The results do not depend on it",
    least: 1,
    most: 1024,
  },
  shard: {
    type: "text",
    value: "I/N",
    summary: "of --batch, every Nth line only, from the Ith on: 1/4, 2/4, 3/4, 4/4",
  },
} as const satisfies Record<string, OptionSpec>;

/** What a command reads and writes; a test passes its own. */
export interface TextSurroundings {
  /** Where a text may come from. */
  readonly stdin: TextInput;
  /** Where results go. */
  readonly stdout: TextOutput;
  /** Where a terminal shows how far it has come. */
  readonly stderr: ProgressOutput;
}

/** A model that makes a result of each text. */
export interface TextWork<R extends object> {
  /** The model, which the command gives back. */
  readonly opened: OpenedModel<StableLmPreTrainedModel<Tensor>>;
  /** Whether rows may have padding. */
  readonly canPad: boolean;
  /** How results are made, for the report. */
  readonly method: object;
  /** Makes results of rows of one length. */
  run(rows: readonly TextRow[]): Promise<readonly R[]>;
  /** The line or lines of a result, ended by a newline. */
  format(text: string, result: R): string;
}

/** What a command is to do. */
export interface TextTask<R extends object> {
  /** The command's name. */
  readonly kind: "classify" | "embed";
  /** Texts of the command line. */
  readonly operands: readonly string[];
  /** Its options. */
  readonly options: OptionValues<typeof TEXT_OPTIONS>;
  /** Opens the model. */
  open(options: OpenOptions): Promise<TextWork<R>>;
}

/** Everything that `--json` writes; how results are made stands beside it. */
export interface TextReport<R extends object> {
  /** Version of this structure. */
  readonly schemaVersion: 1;
  /** Tells this report from others. */
  readonly kind: "classify" | "embed";
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
    /** Element type of the residual stream. */
    readonly activationDtype: string;
    /** Seconds that opening it took. */
    readonly loadSeconds: number;
  };
  /** A result for each text, in order. */
  readonly results: readonly (Pick<TextRow, "text" | "ids"> & R)[];
}

/** A line of the output of `--batch`. */
export type TextRecord<R extends object> =
  & JsonRecord
  & {
    /** What the line called itself, if it did. */
    readonly id?: unknown;
  }
  & ({ readonly error: string } | { readonly tokenCount: number } & R);

/**
 * Makes and prints results; exits 1 if a line of a batch could not be done.
 *
 * @throws {UsageError} If options contradict each other, or a text breaks a rule
 */
export async function runTexts<R extends object>(
  task: TextTask<R>,
  signal: AbortSignal,
  { stdin, stdout, stderr }: TextSurroundings,
): Promise<number> {
  const { operands, options } = task;
  requireOneTask(operands, options);
  const progress = new ProgressLine(stderr);
  if (options.batch !== undefined) {
    const open = async () => lineWork(task, await task.open({ signal, progress }));
    return await runBatch(options, open, { progress, stdin, signal });
  }
  const texts = await readTexts(operands, options.file, stdin, signal);
  await using _report = await reportFile(options.json);
  const started = performance.now();
  const work = await task.open({ signal, progress });
  using _opened = work.opened;
  const loaded = performance.now();
  const results: TextReport<R>["results"][number][] = [];
  try {
    const rows = texts.map((text) => rowOf(task, work, text));
    const writer = new TextWriter(stdout);
    for (const row of rows) {
      if (signal.aborted) break;
      progress.show(`${results.length} of ${rows.length} texts`);
      const [result] = await work.run([row]) as [R];
      const { text, ids } = row;
      results.push({ text, ids, ...result });
      progress.clear();
      await writer.write(work.format(text, result));
    }
  } catch (error) {
    if (error instanceof ReaderGoneError) return EXIT.ok;
    if (!(error instanceof ModelInputError)) throw error;
    const { argument, rule, value } = error.fault;
    throw new UsageError(`${argument} ${rule}: ${value}`);
  } finally {
    progress.clear();
  }
  if (options.json !== undefined) {
    const report = reportOf(task, work, (loaded - started) / 1000, results, signal);
    await Deno.writeTextFile(options.json, formatJson(report));
  }
  if (!signal.aborted) {
    const tokens = results.reduce((sum, { ids }) => sum + ids.length, 0);
    const seconds = (performance.now() - loaded) / 1000;
    progress.end(`texts: ${results.length}, tokens: ${tokens}, seconds: ${seconds.toFixed(2)}`);
  }
  return EXIT.ok;
}

/** Refuses options that have nothing to say in the kind of run that is asked for. */
function requireOneTask(operands: readonly string[], options: TextTask<object>["options"]): void {
  const isBatch = options.batch !== undefined;
  const single = { file: options.file, json: options.json };
  const batch = { out: options.out, "batch-size": options["batch-size"], shard: options.shard };
  for (const [name, value] of Object.entries(isBatch ? single : batch)) {
    if (value === undefined) continue;
    throw new UsageError(`--${name} must ${isBatch ? "not be given" : "be given"} with --batch`);
  }
  if (isBatch && operands.length > 0) {
    throw new UsageError("a text must not be given with --batch, which reads its own");
  }
  if (isBatch && options.out === undefined) {
    throw new UsageError("--out must name the file that --batch writes to");
  }
}

function rowOf<R extends object>(
  { kind, options }: TextTask<R>,
  { opened, canPad }: TextWork<R>,
  text: string,
): TextRow {
  const { model: { config }, tokenizer } = opened;
  return textRow(kind, { config, tokenizer, canPad }, text, options["parse-special-tokens"]);
}

/** Lines of a file, as `--batch` runs them. */
function lineWork<R extends object>(task: TextTask<R>, work: TextWork<R>) {
  type TextLine = RunnableLine & TextRow;
  return {
    read: (line: Line) =>
      readObject(line, (value) => {
        requireKeys(value, ["text", "id"], "text and id");
        const { text } = value;
        if (typeof text !== "string") {
          throw new JsonLineError(`must have a "text" of text: ${describeJson(text)}`);
        }
        const row = rowOf(task, work, text);
        return { ...row, group: work.canPad ? `${row.rowLength}` : `line ${line.index}` };
      }),
    run: async (lines: readonly TextLine[]) => {
      const results = await work.run(lines);
      const records = lines.map((line, i): TextRecord<R> => {
        return { ...nameOf(line), tokenCount: line.ids.length, ...results[i]! };
      });
      return { records, tokens: lines.reduce((sum, { ids }) => sum + ids.length, 0) };
    },
    [Symbol.dispose]: () => work.opened[Symbol.dispose](),
  };
}

function reportOf<R extends object>(
  { kind }: TextTask<R>,
  { opened: { name, backend, model }, method }: TextWork<R>,
  loadSeconds: number,
  results: TextReport<R>["results"],
  signal: AbortSignal,
): TextReport<R> {
  const { dtype, activationDtype } = model;
  return {
    schemaVersion: 1,
    kind,
    complete: !signal.aborted,
    header: runHeader(backend),
    model: { name, dtype, activationDtype, loadSeconds },
    ...method,
    results,
  };
}
