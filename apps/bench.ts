/**
 * How fast each kernel is on this machine, against the machine's own limits.
 *
 * Permissions: `--allow-read=.` for the version, the commit and `--compare`; `--allow-write` of the
 * files that `--json` and `--markdown` name; `--allow-env` of two variables settles the driver. The GPU
 * needs none.
 *
 * @module
 */

import { calibrateTimestamps, measureRoofs } from "../bench/roofs.ts";
import { compareReports, formatChange, hasRegression } from "../bench/compare_reports.ts";
import { chooseTimer, Stopwatch } from "../bench/measure.ts";
import { projectCommit, projectVersion } from "../bench/project.ts";
import {
  formatCase,
  formatHeader,
  formatLeftOut,
  formatProgress,
  formatRoof,
  formatRow,
  formatTitles,
  LEGEND,
  nameWidth,
  updateMarkdown,
} from "../bench/report.ts";
import type { CaseResult } from "../bench/case_run.ts";
import { runBench, type RunOptions } from "../bench/run.ts";
import {
  type BenchReport,
  formatJson,
  type Header,
  parseJson,
  ReportError,
  SCHEMA_VERSION,
} from "../bench/schema.ts";
import { MODEL_SHAPES } from "../kernels/mod.ts";
import { ops } from "../kernels/ops.ts";
import { GpuBackend } from "../runtime/gpu_backend.ts";
import type { AnyOp, BenchDtypes, ModelShape } from "../runtime/op.ts";
import { freshSeed } from "../runtime/verify.ts";
import {
  type CommandSpec,
  EXIT,
  type ParsedCommand,
  requireChoice,
  runCommand,
  UsageError,
} from "./command_line.ts";
import { ProgressLine } from "./progress_line.ts";
import { prepareDriver } from "./driver.ts";

/** Values of `--dtype`: one word for both, or activations and weights. */
const DTYPES: Readonly<Record<string, BenchDtypes>> = {
  "f32": { activation: "f32", weight: "f32" },
  "f16": { activation: "f16", weight: "f16" },
  "bf16": { activation: "f32", weight: "bf16" },
  "f32/f16": { activation: "f32", weight: "f16" },
  "f16/bf16": { activation: "f16", weight: "bf16" },
};

const OPTIONS = {
  quick: {
    type: "flag",
    summary: "done in a minute: fewer samples, and what takes long is left out",
  },
  shapes: {
    type: "text",
    value: "NAME",
    summary:
      "model whose sizes are timed (3b on a GPU and tiny on a software adapter unless given)",
    choices: Object.keys(MODEL_SHAPES),
  },
  dtype: {
    type: "text",
    value: "NAME",
    summary:
      "activations and weights; bf16 is f32 activations with bf16 weights (f32 unless given)",
    choices: Object.keys(DTYPES),
  },
  variant: { type: "text", value: "NAME", summary: "time this variant only" },
  json: { type: "text", value: "FILE", summary: "write the report, with every sample, as JSON" },
  markdown: {
    type: "text",
    value: "FILE",
    summary: "write a Markdown table; into the marked part of FILE where it has one",
  },
  compare: {
    type: "text",
    value: "FILE",
    summary: "compare with a report that --json wrote; exit 1 if a row became slower than noise",
  },
  seed: {
    type: "integer",
    value: "N",
    summary: "seed of the inputs (drawn anew unless given)",
    least: 0,
    most: 2 ** 32 - 1,
  },
} as const;

/** What the command takes. */
export const BENCH_COMMAND: CommandSpec<typeof OPTIONS> = {
  name: "bench",
  summary: "Verifies each kernel, times it, and holds it against this machine's measured limits.",
  operands: {
    name: "op",
    summary: "ops to time (all unless given)",
    choices: ops.map(({ name }) => name),
  },
  options: OPTIONS,
  notes: ["Columns:", ...LEGEND.map((line) => `  ${line}`)],
};

/** With this many seconds of a minute gone, `--quick` begins nothing that it would have to wait for. */
const QUICK_SECONDS = 52;

/** Measures and prints; exits 1 if a result is wrong or a row became slower. */
export async function bench(
  command: ParsedCommand<typeof OPTIONS>,
  signal: AbortSignal,
): Promise<number> {
  const { options, operands } = command;
  const before = options.compare === undefined ? undefined : readReport(options.compare);
  const selected = selectOps(operands, options.variant);
  using backend = await GpuBackend.create();
  const { isSoftware } = backend.profile;
  const shape = (MODEL_SHAPES as Readonly<Record<string, ModelShape>>)[
    options.shapes ?? (isSoftware ? "tiny" : "3b")
  ]!;
  const dtypes = DTYPES[options.dtype ?? "f32"]!;
  const seed = options.seed ?? freshSeed();
  const timer = chooseTimer(backend.profile);
  const nanosecondsPerTick = timer === "timestamp" ? await calibrateTimestamps(backend) : undefined;
  const stopwatch = new Stopwatch(backend, timer);
  const header = describeRun(backend, {
    timer,
    nanosecondsPerTick: nanosecondsPerTick ?? null,
    seed,
    shapes: shape.name,
    ...dtypes,
    arguments: Deno.args,
  });
  const report = new RunningReport(header, options.json, options.markdown);
  report.save();
  for (const line of formatHeader(header)) console.log(line);

  const rounds = options.quick ? 5 : 9;
  for await (const roof of measureRoofs(backend, stopwatch, rounds, signal)) {
    report.roofs.push(roof);
    console.log(formatRoof(roof));
  }
  const width = nameWidth(selected.flatMap(({ variants }) => variants.map(({ name }) => name)));
  const progress = new ProgressLine();
  const run: RunOptions = {
    ops: selected,
    shape,
    dtypes,
    ...options.variant === undefined ? {} : { variant: options.variant },
    seed,
    ...options.quick ? { deadline: QUICK_SECONDS } : {},
    checkedRows: 8,
    samples: options.quick ? 7 : 15,
    sampleSeconds: options.quick ? 0.2 : 4,
    roofs: report.roofs,
    signal,
    progress: (done, total, label) => progress.show(formatProgress(done, total, label)),
  };
  let lastOp: AnyOp | undefined;
  for await (const result of runBench(backend, stopwatch, run)) {
    progress.clear();
    if (result.rows.length + result.leftOut.length === 0) continue;
    if (result.op !== lastOp) {
      console.log(`\n${result.op.name}   ${result.op.summary}\n${formatTitles(width)}`);
      lastOp = result.op;
    }
    printCase(result, width);
    report.add(result);
    report.save();
  }
  progress.clear();
  report.complete = !signal.aborted;
  report.save();
  return finish(report.value, before);
}

/** Prints what the run came to, and gives its exit status. */
function finish(report: BenchReport, before: BenchReport | undefined): number {
  const { rows, roofs, leftOut, complete } = report;
  const failures = [...rows, ...roofs].filter(({ status }) => status === "fail").length;
  console.log(
    `\n${rows.length} rows, ${failures} failed, ${leftOut.length} left out, ` +
      `${(performance.now() / 1000).toFixed(0)} s${complete ? "" : "; interrupted"}` +
      "   (deno task bench --help explains the columns)",
  );
  let isSlower = false;
  if (before) {
    const change = compareReports(before, report);
    console.log("");
    for (const line of formatChange(change)) console.log(line);
    isSlower = hasRegression(change);
  }
  return failures > 0 || isSlower ? EXIT.failed : EXIT.ok;
}

function selectOps(names: readonly string[], variant: string | undefined): readonly AnyOp[] {
  const named = names.length === 0 ? ops : ops.filter(({ name }) => names.includes(name));
  if (variant === undefined) return named;
  const variants = named.flatMap((op) => op.variants.map(({ name }) => name));
  requireChoice("--variant", variant, [...new Set(variants)]);
  return named.filter((op) => op.variants.some(({ name }) => name === variant));
}

function readReport(file: string): BenchReport {
  try {
    return parseJson(Deno.readTextFileSync(file), file);
  } catch (error) {
    if (error instanceof ReportError) throw new UsageError(error.message);
    throw error;
  }
}

function describeRun(
  { profile }: GpuBackend,
  run: Pick<
    Header,
    "timer" | "nanosecondsPerTick" | "seed" | "shapes" | "activation" | "weight" | "arguments"
  >,
): Header {
  const { description, vendor, isSoftware, subgroupMinSize, subgroupMaxSize } = profile;
  const features = [
    profile.hasSubgroups ? "subgroups" : "",
    profile.hasF16 ? "shader-f16" : "",
    profile.hasTimestamps ? "timestamp-query" : "",
  ];
  return {
    version: projectVersion(),
    commit: projectCommit(),
    date: new Date().toISOString(),
    runtime: `Deno ${Deno.version.deno}`,
    device: description,
    vendor,
    isSoftware,
    platform: `${Deno.build.os} ${Deno.build.arch}`,
    cores: navigator.hardwareConcurrency,
    features: features.filter((name) => name !== ""),
    subgroupSizes: profile.hasSubgroups ? [subgroupMinSize, subgroupMaxSize] : null,
    ...run,
  };
}

function printCase({ case: { name }, rows, leftOut }: CaseResult, width: number): void {
  console.log(`  ${formatCase(name, rows)}`);
  for (const row of rows) console.log(formatRow(row, width));
  for (const entry of leftOut) {
    console.log(`  ${formatLeftOut({ ...entry, case: null })}`);
  }
}

/** The report as far as the run has come, and the files that it is kept in. */
class RunningReport {
  readonly roofs: BenchReport["roofs"][number][] = [];
  complete = false;
  readonly #header: Header;
  readonly #json: string | undefined;
  readonly #markdown: string | undefined;
  readonly #rows: BenchReport["rows"][number][] = [];
  readonly #leftOut: BenchReport["leftOut"][number][] = [];

  constructor(header: Header, json: string | undefined, markdown: string | undefined) {
    this.#header = header;
    this.#json = json;
    this.#markdown = markdown;
  }

  get value(): BenchReport {
    return {
      schemaVersion: SCHEMA_VERSION,
      kind: "bench",
      complete: this.complete,
      header: this.#header,
      roofs: this.roofs,
      rows: this.#rows,
      leftOut: this.#leftOut,
    };
  }

  add({ rows, leftOut }: CaseResult): void {
    this.#rows.push(...rows);
    this.#leftOut.push(...leftOut);
  }

  /** Called as the run goes on, so that a crash of the driver costs one case and not the run. */
  save(): void {
    if (this.#json !== undefined) Deno.writeTextFileSync(this.#json, formatJson(this.value));
    if (this.#markdown !== undefined) {
      const text = updateMarkdown(readOrEmpty(this.#markdown), this.value);
      Deno.writeTextFileSync(this.#markdown, text);
    }
  }
}

function readOrEmpty(file: string): string {
  try {
    return Deno.readTextFileSync(file);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return "";
    throw error;
  }
}

if (import.meta.main) {
  prepareDriver();
  Deno.exit(await runCommand(BENCH_COMMAND, bench));
}
