/**
 * The report for people: lines for a terminal of 120 columns, and a table in Markdown.
 *
 * @module
 */

import { TIMER_SUMMARY } from "./measure.ts";
import type { BenchReport, Header, LeftOut, Roof, RoofName, Row } from "./schema.ts";

/** Columns of a terminal that the report fits into. */
export const REPORT_WIDTH = 118;

/** How a roof is called in a row. */
const ROOF_LABEL: Readonly<Record<RoofName, string>> = {
  f32Fma: "f32",
  f16Fma: "f16",
  read: "read",
  copy: "copy",
  dispatchGap: "gap",
  submitRead: "latency",
};

/** Lines that say where and how the run is measured. */
export function formatHeader(header: Header): string[] {
  const { subgroupSizes, nanosecondsPerTick, commit } = header;
  const subgroups = subgroupSizes ? ` (subgroups of ${[...new Set(subgroupSizes)].join("–")})` : "";
  const calibration = nanosecondsPerTick === null
    ? ""
    : `; ${nanosecondsPerTick.toFixed(4)} ns a tick by the wall clock, ` +
      (Math.abs(nanosecondsPerTick - 1) > 0.02 ? "corrected" : "taken as 1");
  const isChosen = header.arguments.some((argument) => argument.startsWith("--shapes"));
  const kind = header.isSoftware ? "a software adapter" : "a GPU";
  const chosen = isChosen ? "" : ` (what --shapes is on ${kind})`;
  const lines: [string, string][] = [
    ["command", ["deno task bench", ...header.arguments].join(" ")],
    ["project", `${header.version}, commit ${commit?.slice(0, 12) ?? "unknown"}, ${header.date}`],
    ["runtime", `${header.runtime}, ${header.platform}, ${header.cores} cores`],
    ["device", `${header.device}, vendor ${header.vendor || "unknown"}`],
    ["features", `${header.features.join(", ") || "none"}${subgroups}`],
    ["timer", `${header.timer}: ${TIMER_SUMMARY[header.timer]}${calibration}`],
    [
      "run",
      `shapes ${header.shapes}${chosen}, activations ${header.activation}, ` +
      `weights ${header.weight}, seed ${header.seed}`,
    ],
  ];
  if (header.isSoftware) {
    lines.push([
      "note",
      "a software adapter: it proves that kernels are right, not that they are fast",
    ]);
  }
  return lines.map(([name, text]) => `${name.padEnd(9)}${text}`);
}

/** One line on a roof. */
export function formatRoof({ name, summary, unit, value, reason }: Roof): string {
  const text = value === null
    ? `FAIL: ${reason}`
    : unit === "s"
    ? `${microseconds(value)} µs`
    : `${rate(value / 1e9)} ${unit === "FLOP/s" ? "GFLOP/s" : "GB/s"}`;
  return `${"roof".padEnd(9)}${ROOF_LABEL[name].padEnd(9)}${text.padStart(15)}  ${summary}`;
}

interface Column {
  readonly title: string;
  readonly width: number;
  cell(row: Row): string;
}

const NONE = "–";

const COLUMNS: readonly Column[] = [
  {
    title: "median µs",
    width: 11,
    cell: (row) => row.seconds ? microseconds(row.seconds.median) : NONE,
  },
  {
    title: "p10–p90 µs",
    width: 18,
    cell: ({ seconds }) =>
      seconds ? `${microseconds(seconds.p10)}–${microseconds(seconds.p90)}` : NONE,
  },
  { title: "GFLOP/s", width: 9, cell: ({ seconds, flop }) => perSecond(flop, seconds?.median) },
  { title: "GB/s", width: 8, cell: ({ seconds, bytes }) => perSecond(bytes, seconds?.median) },
  {
    title: "of roof",
    width: 12,
    cell: ({ roof }) => roof ? `${percent(roof.share)} ${ROOF_LABEL[roof.name].padEnd(4)}` : NONE,
  },
  { title: "× naive", width: 9, cell: ({ timesNaive }) => ratio(timesNaive) },
  { title: "× CPU", width: 9, cell: ({ timesReference }) => ratio(timesReference) },
  { title: "err/bound", width: 11, cell: ({ boundShare }) => share(boundShare) },
  {
    title: "1st ms",
    width: 8,
    cell: ({ firstSeconds }) => firstSeconds === null ? NONE : (firstSeconds * 1000).toFixed(0),
  },
];

/** Width of the first column for these variants. */
export function nameWidth(variants: readonly string[]): number {
  return Math.min(20, Math.max(7, ...variants.map((name) => name.length)));
}

/** The titles of the columns, with their units. */
export function formatTitles(width: number): string {
  return `  ${"variant".padEnd(width)}` +
    COLUMNS.map(({ title, width }) => title.padStart(width)).join("");
}

/** What the titles mean. */
export const LEGEND: readonly string[] = [
  "*         the variant that runs unless another is asked for",
  "of roof   share of the measured limit that the kernel is nearest to",
  "× naive   times faster than the op's plain kernel",
  "× CPU     times faster than the f64 reference on one core, which was timed on a sample of rows and scaled",
  "err/bound largest error of a checked element, as a share of its bound; above 1 fails",
  "1st ms    first launch with its compilation, wall clock; – if the kernel was compiled before",
];

/** One line on a variant. */
export function formatRow(row: Row, width: number): string {
  const name = `${row.preferred ? "*" : " "} ${row.variant.padEnd(width)}`;
  if (row.status === "fail") return `${name}  FAIL: ${row.reason}`;
  return name + COLUMNS.map(({ cell, width }) => cell(row).padStart(width)).join("");
}

/** The line above the variants of a case. */
export function formatCase(name: string, rows: readonly Row[]): string {
  const [row] = rows;
  if (row === undefined) return name;
  const { flop, bytes, checkedRows, copies, workingSetBytes } = row;
  const checked = checkedRows === null ? "all rows checked" : `${checkedRows} rows checked`;
  const set = copies === 1 ? "1 copy" : `${copies} copies`;
  return `${name}: ${quantity(flop)}FLOP, ${quantity(bytes)}B, ${checked}, ` +
    `${set} of ${quantity(workingSetBytes / copies)}B in turn`;
}

/** Lines on what was not timed. */
export function formatLeftOut({ case: name, variant, reason }: LeftOut): string {
  const what = [name, variant].filter((part) => part !== null).join(", ");
  return `left out${what ? ` ${what}` : ""}: ${reason}`;
}

/** A line of progress that fits a terminal: a bar, the count, what is being done. */
export function formatProgress(done: number, total: number, label: string): string {
  const filled = total === 0 ? 0 : Math.round(20 * done / total);
  const bar = "#".repeat(filled) + ".".repeat(20 - filled);
  return `[${bar}] ${done}/${total} ${label}`.slice(0, 78);
}

const MARKS = { begin: "<!-- bench:begin -->", end: "<!-- bench:end -->" } as const;

/**
 * What a Markdown file becomes: where it has a part between `<!-- bench:begin -->` and
 * `<!-- bench:end -->`, as a README has, that part gets the preferred variants; any other file gets
 * the whole report.
 *
 * @param existing what the file holds now; empty for a new one
 */
export function updateMarkdown(existing: string, report: BenchReport): string {
  const begin = existing.indexOf(MARKS.begin), end = existing.indexOf(MARKS.end);
  if (begin < 0 || end < begin) return formatMarkdown(report);
  const rows = report.rows.filter(({ preferred, status }) => preferred || status === "fail");
  const table = formatMarkdown({ ...report, rows, leftOut: [] });
  return existing.slice(0, begin) + MARKS.begin +
    `\n<!-- deno-fmt-ignore-start -->\n\n${table}\n<!-- deno-fmt-ignore-end -->\n` +
    existing.slice(end);
}

/** The report as Markdown. */
export function formatMarkdown({ header, roofs, rows, leftOut, complete }: BenchReport): string {
  const roofText = roofs.filter(({ value }) => value !== null).map(({ unit, value, summary }) =>
    unit === "s"
      ? `${summary}: ${microseconds(value!)} µs`
      : `${summary}: ${rate(value! / 1e9)} ${unit === "FLOP/s" ? "GFLOP/s" : "GB/s"}`
  );
  const titles = [
    "op",
    "case",
    "variant",
    ...COLUMNS.filter(({ title }) => title !== "1st ms").map(({ title }) => title),
  ];
  const cells = rows.map((row) => [
    row.op,
    row.case,
    row.preferred ? `**${row.variant}**` : row.variant,
    ...row.status === "fail"
      ? ["FAIL", ...titles.slice(4).map(() => "")]
      : COLUMNS.filter(({ title }) => title !== "1st ms").map(({ cell }) => cell(row).trim()),
  ]);
  return [
    `Measured ${header.date.slice(0, 10)} at commit ${header.commit?.slice(0, 12) ?? "unknown"} ` +
    `with ${header.runtime} on ${header.device}; shapes ${header.shapes}, ` +
    `activations ${header.activation}, weights ${header.weight}.`,
    ...header.isSoftware
      ? [
        "",
        "This is a software adapter: it proves that kernels are right, not that they are fast.",
      ]
      : [],
    ...complete ? [] : ["", "The run was cut short."],
    "",
    `Time by ${TIMER_SUMMARY[header.timer]}. Roofs: ${roofText.join("; ")}.`,
    "",
    `| ${titles.join(" | ")} |`,
    `|${titles.map((_, i) => i < 3 ? " --- " : " ---: ").join("|")}|`,
    ...cells.map((row) => `| ${row.map((cell) => cell.replaceAll("|", "\\|")).join(" | ")} |`),
    ...leftOut.length > 0
      ? ["", ...leftOut.map((entry) => `- ${entry.op}: ${formatLeftOut(entry)}`)]
      : [],
    "",
  ].join("\n");
}

/** Microseconds to three or four digits. */
export function microseconds(seconds: number): string {
  const value = seconds * 1e6;
  return value.toFixed(value < 10 ? 2 : value < 1000 ? 1 : 0);
}

function perSecond(work: number, seconds: number | undefined): string {
  return seconds === undefined ? NONE : work === 0 ? "0" : rate(work / seconds / 1e9);
}

function rate(value: number): string {
  return value.toFixed(value < 1 ? 3 : value < 10 ? 2 : value < 100 ? 1 : 0);
}

function percent(value: number): string {
  return `${(100 * value).toFixed(value < 0.0995 ? 1 : 0)} %`;
}

function ratio(value: number | null): string {
  return value === null ? NONE : value.toFixed(value < 10 ? 2 : value < 100 ? 1 : 0);
}

function share(value: number | null): string {
  return value === null ? NONE : value === 0 ? "0" : value < 0.001 ? "<0.001" : value.toFixed(3);
}

/** 1,234,567 → "1.23 M", ready for a unit. */
function quantity(value: number): string {
  const step = value < 1e3 ? 0 : Math.min(4, Math.floor(Math.log10(value) / 3));
  const scaled = value / 1000 ** step;
  const digits = step === 0 ? 0 : scaled < 10 ? 2 : scaled < 100 ? 1 : 0;
  return `${scaled.toFixed(digits)} ${["", "k", "M", "G", "T"][step]}`;
}
