/**
 * The machine-readable report of a run.
 *
 * @module
 */

import type { TimerName } from "../runtime/timing.ts";
import type { Summary } from "./statistics.ts";

/** Raised when a field changes its meaning or goes away. */
export const SCHEMA_VERSION = 1;

/** What `--json` writes. Times are in seconds; a number that cannot be written is null. */
export interface BenchReport {
  /** Version of this structure. */
  readonly schemaVersion: number;
  /** Tells this report from others: always "bench". */
  readonly kind: "bench";
  /** False if the run was cut short: what is there is right, the rest is missing. */
  readonly complete: boolean;
  /** Where and how it was measured. */
  readonly header: Header;
  /** The device's own limits. */
  readonly roofs: readonly Roof[];
  /** One per op, case and variant. */
  readonly rows: readonly Row[];
  /** What was not timed, and why. */
  readonly leftOut: readonly LeftOut[];
}

/** Where and how a report was measured. */
export interface Header {
  /** Version of this project. */
  readonly version: string;
  /** Git commit, null where it cannot be read. */
  readonly commit: string | null;
  /** Start, in ISO 8601. */
  readonly date: string;
  /** Runtime and version. */
  readonly runtime: string;
  /** Adapter description, which names the driver where the driver does. */
  readonly device: string;
  /** Vendor as the runtime gives it. */
  readonly vendor: string;
  /** True for a CPU behind a GPU interface: its times say nothing about GPUs. */
  readonly isSoftware: boolean;
  /** Operating system and architecture. */
  readonly platform: string;
  /** Logical cores, which CPU time is divided by. */
  readonly cores: number;
  /** WebGPU features in use. */
  readonly features: readonly string[];
  /** Subgroup sizes that may occur; null without subgroups. */
  readonly subgroupSizes: readonly [number, number] | null;
  /** The clock of all rows. */
  readonly timer: TimerName;
  /** True nanoseconds per timestamp tick by the wall clock; null where it was not calibrated. */
  readonly nanosecondsPerTick: number | null;
  /** Seed of the inputs. */
  readonly seed: number;
  /** Model whose shapes are timed. */
  readonly shapes: string;
  /** Dtype of activations. */
  readonly activation: string;
  /** Dtype of weights. */
  readonly weight: string;
  /** The command's arguments. */
  readonly arguments: readonly string[];
}

/** Names of the measured limits. */
export type RoofName = "f32Fma" | "f16Fma" | "read" | "copy" | "dispatchGap" | "submitRead";

/** One measured limit. */
export interface Roof {
  /** Which. */
  readonly name: RoofName;
  /** What was done, for people. */
  readonly summary: string;
  /** Unit of `value`. */
  readonly unit: "FLOP/s" | "byte/s" | "s";
  /** `fail` if the probe computed something wrong; its value is then null. */
  readonly status: "ok" | "fail";
  /** Why it failed, else empty. */
  readonly reason: string;
  /** Median rate, or median seconds. */
  readonly value: number | null;
  /** Seconds per launch. */
  readonly samples: readonly number[];
}

/** One variant on one case. */
export interface Row {
  /** Op. */
  readonly op: string;
  /** Case. */
  readonly case: string;
  /** Variant. */
  readonly variant: string;
  /** The one that runs unless another is asked for. */
  readonly preferred: boolean;
  /** `fail` if its result was wrong or it did not run; it was not timed then. */
  readonly status: "ok" | "fail";
  /** Why it failed, else empty. */
  readonly reason: string;
  /** Largest share of its error bound that a checked element uses. */
  readonly boundShare: number | null;
  /** Rows that were checked; null for all. */
  readonly checkedRows: number | null;
  /** Compulsory floating-point operations of a launch. */
  readonly flop: number;
  /** Compulsory bytes of a launch. */
  readonly bytes: number;
  /** Dispatches of a launch. */
  readonly dispatches: number;
  /** Wall seconds of the first launch, compilation included; null if it was compiled before. */
  readonly firstSeconds: number | null;
  /** The clock of the samples. */
  readonly timer: TimerName;
  /** Launches in a sample. */
  readonly repeats: number;
  /** Seconds per launch. */
  readonly samples: readonly number[];
  /** Of the samples; null if there are none. */
  readonly seconds: Summary | null;
  /** Share of the binding roof; null without a time or a roof. */
  readonly roof: { readonly name: RoofName; readonly share: number } | null;
  /** How many times faster than the op's last variant; null where that was not timed. */
  readonly timesNaive: number | null;
  /** How many times faster than the CPU reference, which was timed on a sample of rows and scaled. */
  readonly timesReference: number | null;
  /** Copies of the operands that launches take in turn. */
  readonly copies: number;
  /** Bytes of all copies. */
  readonly workingSetBytes: number;
}

/** Something that was not timed. */
export interface LeftOut {
  /** Op. */
  readonly op: string;
  /** Case; null for all. */
  readonly case: string | null;
  /** Variant; null for all. */
  readonly variant: string | null;
  /** Why. */
  readonly reason: string;
}

/** A file is not a report of this version. */
export class ReportError extends Error {
  /** Tells it from other errors. */
  override readonly name = "ReportError";
}

/** A report as JSON text. */
export function formatJson(report: BenchReport): string {
  return JSON.stringify(report, null, 1) + "\n";
}

/**
 * Reads a report.
 *
 * @param file its name, for the message
 * @throws {ReportError} If it is not a report of this version
 */
export function parseJson(text: string, file: string): BenchReport {
  let report: Partial<BenchReport> | null;
  try {
    report = JSON.parse(text);
  } catch (error) {
    throw new ReportError(`Cannot read ${file}: it must be JSON: ${(error as Error).message}`);
  }
  const require = (condition: boolean, rule: string, value: unknown) => {
    if (condition) return;
    const shown = JSON.stringify(value) ?? "undefined";
    throw new ReportError(`Cannot read ${file}: ${rule}: ${shown.slice(0, 60)}`);
  };
  require(
    typeof report === "object" && report !== null && report.kind === "bench",
    "kind must be bench",
    report?.kind,
  );
  const { schemaVersion, header, rows } = report as Partial<BenchReport>;
  require(
    schemaVersion === SCHEMA_VERSION,
    `schemaVersion must be ${SCHEMA_VERSION}`,
    schemaVersion,
  );
  require(typeof header === "object" && header !== null, "header must be an object", header);
  require(Array.isArray(rows), "rows must be a list", rows);
  for (const row of rows!) {
    const { seconds } = row ?? {};
    const isTimed = seconds &&
      [seconds.median, seconds.p10, seconds.p90].every((value) =>
        typeof value === "number" && value > 0
      );
    require(
      [row?.op, row?.case, row?.variant].every((name) => typeof name === "string") &&
        (seconds === null || isTimed === true),
      "each row must have op, case, variant and seconds",
      row,
    );
  }
  return report as BenchReport;
}
