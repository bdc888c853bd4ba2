/**
 * What the commands with `--batch` share: a record for each line of a file, several lines at a time.
 *
 * @module
 */

import { ModelInputError } from "../runtime/errors.ts";
import { describeJson, isRecord, quoteName } from "../runtime/json_text.ts";
import { EXIT, suggest, UsageError } from "./command_line.ts";
import {
  isBlank,
  JsonLineError,
  JsonLinesOutput,
  type JsonRecord,
  type Line,
  MAX_LINE_BYTES,
  parseJsonLine,
  readLines,
} from "./json_lines.ts";
import type { ProgressLine } from "./progress_line.ts";
import { piecesOf, type TextInput } from "./prompt_text.ts";

/** Which lines are read, and where their records go. */
export interface BatchFiles {
  /** File of lines; `-` is standard input. */
  readonly batch?: string | undefined;
  /** File of records. */
  readonly out?: string | undefined;
  /** Lines that run together. */
  readonly "batch-size"?: number | undefined;
  /** Which lines, as `I/N`. */
  readonly shard?: string | undefined;
}

/** What every line has. */
export interface LineName {
  /** Its number, from 0. */
  readonly index: number;
  /** What it calls itself, if it does; any value. */
  readonly id?: unknown;
}

/** A line that can run. */
export interface RunnableLine extends LineName {
  /** Lines of the same group can run together. */
  readonly group: string;
}

/** A line of which nothing can be made, and why. */
export interface BadLine extends LineName {
  /** What is wrong with it. */
  readonly error: string;
}

/** What is done with lines; it owns what it takes to do it. */
export interface LineWork<L extends RunnableLine, R extends JsonRecord> extends Disposable {
  /** Reads a line. */
  read(line: Line): L | BadLine;
  /** Makes a record of each line of a group. */
  run(lines: readonly L[]): Promise<LineResults<R>>;
}

/** What became of lines that ran together. */
export interface LineResults<R extends JsonRecord> {
  /** A record for each. */
  readonly records: readonly R[];
  /** Tokens that were worked on, for the rate. */
  readonly tokens: number;
}

/** What a batch runs with. */
export interface BatchSurroundings {
  /** Where a terminal shows how far it has come. */
  readonly progress: ProgressLine;
  /** What `-` reads. */
  readonly stdin: TextInput;
  /** Ends it. */
  readonly signal: AbortSignal;
}

/** Lines that are held for each one that runs: more of them fill the batches better. */
const WINDOW = 8;

/** Bytes of lines that are held, whatever their number. */
const WINDOW_BYTES = 64 * 1024 * 1024;

/** A line on its way: waiting for its turn, or done and waiting for those before it. */
interface Job<L, R> {
  readonly line: L | BadLine;
  readonly bytes: number;
  record?: R | BadLine;
}

/** A job whose line can run, and has not. */
type Waiting<L, R> = Job<L, R> & { readonly line: L };

/**
 * Runs a batch. Records are written in the order of the lines; only a run that was cut short writes those that it
 * has done and would have written later. No empty output is left by one that fails before it has any.
 *
 * @param open makes ready what lines are read and run with; not called where all is done already
 * @returns 1 if the output has errors, those of earlier runs included
 * @throws {UsageError} If a file cannot be used
 */
export async function runBatch<L extends RunnableLine, R extends JsonRecord>(
  { batch: from = "-", out = "", "batch-size": size = 8, shard }: BatchFiles,
  open: () => Promise<LineWork<L, R>>,
  { progress, stdin, signal }: BatchSurroundings,
): Promise<number> {
  const isOfShard = readShard(shard);
  using held = new DisposableStack();
  const source = from === "-" ? stdin.readable : held.use(await Deno.open(from)).readable;
  await requireTwoFiles(from, out);
  const output = held.use(await JsonLinesOutput.open(out));
  const { size: before } = output.done;
  const lines = readLines(piecesOf(source, signal));
  let work: LineWork<L, R> | undefined;
  let hasEnded = false;
  const rate = new Rate();
  const jobs: Job<L, R>[] = [];
  try {
    do {
      while (!hasEnded && jobs.length < WINDOW * size && bytesOf(jobs) < WINDOW_BYTES) {
        const { done, value: line } = await lines.next();
        if (done) hasEnded = true;
        else if (isOfShard(line.index) && !output.done.has(line.index) && !isEmpty(line)) {
          work ??= held.use(await open());
          jobs.push(jobOf(work.read(line), line));
        }
      }
      const group = nextGroup(jobs, size);
      if (group.length > 0) await runGroup(work!, group, rate);
      const waiting = jobs.findIndex(({ record }) => record === undefined);
      const ready = jobs.splice(0, waiting < 0 ? jobs.length : waiting);
      await output.append(ready.map(({ record }) => record!));
      progress.show(`${output.done.size} lines done, ${rate}`);
    } while (!hasEnded || jobs.length > 0);
  } finally {
    const done = jobs.flatMap(({ record }) => record ?? []);
    if (done.length > 0) await output.append(done);
    if (!hasEnded && output.done.size === 0) await output.removeEmpty();
    progress.clear();
  }
  const { done, errors } = output;
  const skipped = before > 0 ? `, ${before} of them before` : "";
  progress.end(`${done.size} lines done${skipped}, ${errors} with errors, ${rate}`, errors > 0);
  return errors > 0 ? EXIT.failed : EXIT.ok;
}

/**
 * Reads the object of a line.
 *
 * @param make makes of it what the line is run with; what it throws about the line is the line's error
 */
export function readObject<L extends object>(
  { index, bytes }: Line,
  make: (value: Readonly<Record<string, unknown>>) => L,
): (L & LineName) | BadLine {
  let name: LineName = { index };
  try {
    if (bytes === undefined) {
      throw new JsonLineError(`must have at most ${MAX_LINE_BYTES} bytes`);
    }
    const value = parseJsonLine(bytes);
    if (!isRecord(value)) throw new JsonLineError(`must be an object: ${describeJson(value)}`);
    if (Object.hasOwn(value, "id")) name = { index, id: value.id };
    return { ...make(value), ...name };
  } catch (error) {
    return { ...name, error: messageOf(error) };
  }
}

/**
 * Refuses keys that a line cannot have.
 *
 * @param kinds what the known ones are, in words
 * @throws {JsonLineError} naming the key, and the nearest ones
 */
export function requireKeys(
  value: Readonly<Record<string, unknown>>,
  known: readonly string[],
  kinds: string,
): void {
  const unknown = Object.keys(value).find((key) => !known.includes(key));
  if (unknown === undefined) return;
  const near = suggest(unknown, known);
  throw new JsonLineError(`must have no other keys than ${kinds}: ${quoteName(unknown)}: ${near}`);
}

/** Number and id of a line, for its record. */
export function nameOf(line: LineName): LineName {
  const { index } = line;
  return Object.hasOwn(line, "id") ? { index, id: line.id } : { index };
}

/** Runs lines together. What a line's own content makes impossible becomes its record. */
async function runGroup<L extends RunnableLine, R extends JsonRecord>(
  work: LineWork<L, R>,
  group: readonly Waiting<L, R>[],
  rate: Rate,
): Promise<void> {
  rate.add(0);
  try {
    const { records, tokens } = await work.run(group.map(({ line }) => line));
    rate.add(tokens);
    group.forEach((job, i) => job.record = records[i]!);
  } catch (error) {
    if (!(error instanceof ModelInputError)) throw error;
    if (group.length > 1) {
      for (const job of group) await runGroup(work, [job], rate);
    } else {
      const [job] = group as [Waiting<L, R>];
      job.record = { ...nameOf(job.line), error: messageOf(error) };
    }
  }
}

/**
 * The words of an error that is a line's own fault.
 *
 * @throws the error, if it is not
 */
function messageOf(error: unknown): string {
  const isOfLine = error instanceof JsonLineError || error instanceof ModelInputError;
  if (!isOfLine) throw error;
  if (error instanceof JsonLineError) return `the line ${error.message}`;
  const { argument, rule, value } = error.fault;
  return `${argument === "inputIds" ? "the prompt" : argument} ${rule}: ${value}`;
}

/** The first line that waits, and as many behind it as can run with it. */
function nextGroup<L extends RunnableLine, R>(
  jobs: readonly Job<L, R>[],
  most: number,
): Waiting<L, R>[] {
  const isWaiting = (job: Job<L, R>): job is Waiting<L, R> => job.record === undefined;
  const waiting = jobs.filter(isWaiting);
  return waiting.filter(({ line }) => line.group === waiting[0]!.line.group).slice(0, most);
}

function jobOf<L extends RunnableLine, R>(line: L | BadLine, { bytes }: Line): Job<L, R> {
  const job = { line, bytes: bytes?.length ?? 0 };
  return "error" in line ? { ...job, record: line } : job;
}

function bytesOf(jobs: readonly Job<unknown, unknown>[]): number {
  return jobs.reduce((sum, { bytes }) => sum + bytes, 0);
}

function isEmpty({ bytes }: Line): boolean {
  return bytes !== undefined && isBlank(bytes);
}

/** `2/3` is the lines 1, 4, 7, … counted from 0. */
function readShard(shard: string | undefined): (index: number) => boolean {
  if (shard === undefined) return () => true;
  const [, part, parts] = /^(\d{1,6})\/(\d{1,6})$/.exec(shard)?.map(Number) ?? [];
  if (part === undefined || parts === undefined || part < 1 || part > parts) {
    throw new UsageError(
      `--shard must be I/N with I from 1 to N, as 1/4: ${JSON.stringify(shard)}`,
    );
  }
  return (index) => index % parts === part - 1;
}

/** The output is written to while the input is read. */
async function requireTwoFiles(from: string, out: string): Promise<void> {
  const place = (path: string) => Deno.realPath(path).catch(() => undefined);
  const [source, target] = [await place(from), await place(out)];
  if (from === "-" || source === undefined || source !== target) return;
  throw new UsageError(`--out must be another file than --batch: ${out}`);
}

/** Tokens and the time that they took. */
class Rate {
  #tokens = 0;
  #since: number | undefined;

  /** Counts tokens. The time counts from the first call, which is made before there are any. */
  add(tokens: number): void {
    this.#since ??= performance.now();
    this.#tokens += tokens;
  }

  toString(): string {
    const seconds = (performance.now() - (this.#since ?? performance.now())) / 1000;
    return seconds === 0 ? "0 tokens/s" : `${(this.#tokens / seconds).toFixed(0)} tokens/s`;
  }
}
