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
  /** Medians, in seconds. */
  readonly oldSeconds: number;
  /** See `oldSeconds`. */
  readonly newSeconds: number;
  /** New time over old time, by the medians. */
  readonly ratio: number;
  /** The ratio at best and at worst: p10 over p90, and p90 over p10. */
  readonly band: readonly [number, number];
  /** `same` unless the whole band and the margin lie on one side of 1. */
  readonly verdict: "slower" | "same" | "faster";
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

/**
 * Medians of two runs on one machine differ by this much without a cause: 5 % on a device of its own,
 * 15 % on cores that other programs use too.
 */
const MARGIN = { hardware: 0.05, software: 0.15 };

/** Compares the timed rows of two reports. */
export function compareReports(before: BenchReport, after: BenchReport): ReportChange {
  const old = timedRows(before), now = timedRows(after);
  const margin = after.header.isSoftware ? MARGIN.software : MARGIN.hardware;
  const changes: RowChange[] = [];
  for (const [row, newSeconds] of now) {
    const oldSeconds = old.get(row);
    if (oldSeconds) changes.push(compareRow(row, oldSeconds, newSeconds, margin));
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
    `${"row".padEnd(width)}   old µs     new µs   new/old   band`,
    ...changes.map(({ row, oldSeconds, newSeconds, ratio, band, verdict }) =>
      row.padEnd(width) + microseconds(oldSeconds).padStart(9) +
      microseconds(newSeconds).padStart(11) + ratio.toFixed(2).padStart(10) +
      `   ${band[0].toFixed(2)}–${band[1].toFixed(2)}` +
      (verdict === "same" ? "" : `  ${verdict.toUpperCase()}`)
    ),
    ...onlyOld.map((row) => `only in the old report: ${row}`),
    ...onlyNew.map((row) => `only in the new report: ${row}`),
  ];
}

function timedRows({ rows }: BenchReport): Map<string, Summary> {
  return new Map(
    rows.flatMap((row: Row) =>
      row.seconds ? [[`${row.op} / ${row.case} / ${row.variant}`, row.seconds] as const] : []
    ),
  );
}

function compareRow(row: string, old: Summary, now: Summary, margin: number): RowChange {
  const ratio = now.median / old.median;
  const band = [now.p10 / old.p90, now.p90 / old.p10] as const;
  const verdict = band[0] > 1 && ratio > 1 + margin
    ? "slower"
    : band[1] < 1 && ratio < 1 / (1 + margin)
    ? "faster"
    : "same";
  return { row, oldSeconds: old.median, newSeconds: now.median, ratio, band, verdict };
}

function findCaveat({ header: old }: BenchReport, { header: now }: BenchReport): string {
  const fields = ["device", "timer", "cores", "activation", "weight"] as const;
  return fields
    .filter((field) => old[field] !== now[field])
    .map((field) => `${field} was ${old[field]} and is ${now[field]}`)
    .join("; ");
}
