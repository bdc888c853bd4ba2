/**
 * Compares two reports row by row.
 *
 * @module
 */

import { microseconds } from "./report.ts";
import type { BenchReport, Row } from "./schema.ts";
import type { Summary } from "./statistics.ts";

/** How a row changed. */
export interface RowChange {
  /** `op / case / variant`. */
  readonly row: string;
  /** Old median, in seconds. */
  readonly oldSeconds: number;
  /** New median, in seconds. */
  readonly newSeconds: number;
  /** New time over old time, by the medians. */
  readonly ratio: number;
  /** How much slower the machine itself was in the new report; 1 where that is not known. */
  readonly drift: number;
  /** `ratio / drift` at best and at worst, from the p10 and p90 of all that went into it. */
  readonly band: readonly [number, number];
  /** `same` unless the whole band, and a margin, lie on one side of 1. */
  readonly verdict: "slower" | "same" | "faster" | "baseline";
}

/** What became of a report's rows. */
export interface ReportChange {
  /** Why the times may not be held against each other; empty if they may. */
  readonly caveat: string;
  /** Rows that both have. */
  readonly changes: readonly RowChange[];
  /** Rows that only the old report has. */
  readonly onlyOld: readonly string[];
  /** Rows that only the new report has. */
  readonly onlyNew: readonly string[];
}

/** Rows of one report alone that are listed by name. */
const MOST_LISTED = 5;

/** Medians of two runs on one machine differ by this much without a cause. */
const MARGIN = { hardware: 0.05, software: 0.25 };

/**
 * Compares the timed rows of two reports.
 *
 * A software adapter runs on cores that other programs use too, and the same code takes half as long
 * again when they are busy. There each row is held against the op's plain kernel, whose samples were
 * taken in turn with its own, and that kernel is the baseline and not judged.
 */
export function compareReports(before: BenchReport, after: BenchReport): ReportChange {
  const old = timedRows(before), now = timedRows(after);
  const { isSoftware } = after.header;
  const changes: RowChange[] = [];
  for (const [name, row] of now) {
    const oldRow = old.get(name);
    if (oldRow) changes.push(compareRow(name, oldRow, row, isSoftware));
  }
  return {
    caveat: findCaveat(before, after),
    changes,
    onlyOld: [...old.keys()].filter((row) => !now.has(row)),
    onlyNew: [...now.keys()].filter((row) => !old.has(row)),
  };
}

/** True if something became slower that may be compared. */
export function hasRegression({ caveat, changes }: ReportChange): boolean {
  return caveat === "" && changes.some(({ verdict }) => verdict === "slower");
}

/** Lines for a terminal of 120 columns. */
export function formatChange({ caveat, changes, onlyOld, onlyNew }: ReportChange): string[] {
  const width = Math.max(20, ...changes.map(({ row }) => row.length));
  return [
    ...caveat ? [`not comparable, so nothing below counts as slower: ${caveat}`] : [],
    `${"row".padEnd(width)}   old µs   new µs  new/old  drift  band without drift`,
    ...changes.map(({ row, oldSeconds, newSeconds, ratio, drift, band, verdict }) =>
      row.padEnd(width) + microseconds(oldSeconds).padStart(9) +
      microseconds(newSeconds).padStart(9) + ratio.toFixed(2).padStart(9) +
      drift.toFixed(2).padStart(7) + `  ${band[0].toFixed(2)}–${band[1].toFixed(2)}` +
      (verdict === "slower" || verdict === "faster" ? `  ${verdict.toUpperCase()}` : "")
    ),
    ...listRows("old", onlyOld),
    ...listRows("new", onlyNew),
  ];
}

/** The rows that one report has alone; only their number where they would hide the result. */
function listRows(report: string, rows: readonly string[]): string[] {
  return rows.length > MOST_LISTED
    ? [`only in the ${report} report: ${rows.length} rows`]
    : rows.map((row) => `only in the ${report} report: ${row}`);
}

type TimedRow = Row & { readonly seconds: Summary };

/** A row, and the times of the plain kernel that was timed in turn with it. */
interface Pair {
  readonly row: TimedRow;
  readonly baseline: Summary | undefined;
}

function timedRows({ rows }: BenchReport): Map<string, Pair> {
  const timed = rows.filter((row): row is TimedRow => row.seconds !== null);
  return new Map(timed.map((row) => {
    const baseline = timed.find((other) =>
      other.op === row.op && other.case === row.case && other.timesNaive === 1
    )?.seconds;
    return [`${row.op} / ${row.case} / ${row.variant}`, { row, baseline }];
  }));
}

function compareRow(name: string, old: Pair, now: Pair, isSoftware: boolean): RowChange {
  const change = ratioOf(old.row.seconds, now.row.seconds);
  const isJudgedByBaseline = isSoftware && old.baseline !== undefined && now.baseline !== undefined;
  const drift = isJudgedByBaseline ? ratioOf(old.baseline, now.baseline) : NO_CHANGE;
  // The drift is as uncertain as any ratio, so its band widens the row's.
  const band = [change.least / drift.most, change.most / drift.least] as const;
  // What is gone with the drift, or came with it, may be the baseline's own bad spell: ask for both.
  const rest = change.median / drift.median;
  const [least, most] = [Math.min(rest, change.median), Math.max(rest, change.median)];
  const margin = 1 + (isSoftware ? MARGIN.software : MARGIN.hardware);
  const verdict = isJudgedByBaseline && now.row.timesNaive === 1
    ? "baseline"
    : band[0] > 1 && least > margin
    ? "slower"
    : band[1] < 1 && most < 1 / margin
    ? "faster"
    : "same";
  return {
    row: name,
    oldSeconds: old.row.seconds.median,
    newSeconds: now.row.seconds.median,
    ratio: change.median,
    drift: drift.median,
    band,
    verdict,
  };
}

interface Ratio {
  readonly least: number;
  readonly median: number;
  readonly most: number;
}

const NO_CHANGE: Ratio = { least: 1, median: 1, most: 1 };

function ratioOf(old: Summary, now: Summary): Ratio {
  return {
    least: now.p10 / old.p90,
    median: now.median / old.median,
    most: now.p90 / old.p10,
  };
}

function findCaveat({ header: old }: BenchReport, { header: now }: BenchReport): string {
  const fields = ["device", "timer", "cores", "activation", "weight"] as const;
  return fields
    .filter((field) => old[field] !== now[field])
    .map((field) => `${field} was ${old[field]} and is ${now[field]}`)
    .join("; ");
}
