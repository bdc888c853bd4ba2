/**
 * What `deno task verify` prints and writes.
 *
 * @module
 */

import { projectCommit, projectVersion } from "../bench/project.ts";
import type { Comparison, GpuBackend, VerifyResult } from "../mod.ts";

/** Where and how a verification ran. */
export interface VerificationHeader {
  /** Version of this project. */
  readonly version: string;
  /** Git commit; null where it cannot be read. */
  readonly commit: string | null;
  /** Start, in ISO 8601. */
  readonly date: string;
  /** Runtime and version. */
  readonly runtime: string;
  /** Operating system and architecture. */
  readonly platform: string;
  /** Adapter description, which names the driver where the driver does. */
  readonly device: string;
  /** Vendor as the runtime gives it. */
  readonly vendor: string;
  /** True for a CPU behind a GPU interface. */
  readonly isSoftware: boolean;
  /** Features that were left unused on request. */
  readonly without: readonly string[];
  /** Seed of the inputs. */
  readonly seed: number;
}

/** Everything that `--json` writes. A number that JSON cannot hold is written as text. */
export interface Verification {
  /** Version of this structure. */
  readonly schemaVersion: 1;
  /** Tells this report from others: always "verify". */
  readonly kind: "verify";
  /** False if the run was cut short. */
  readonly complete: boolean;
  /** Where it ran. */
  readonly header: VerificationHeader;
  /** One per variant and case. */
  readonly results: readonly VerifyResult[];
}

/** Describes a run that starts now. */
export function verificationHeader(
  { profile }: GpuBackend,
  seed: number,
  without: readonly string[],
): VerificationHeader {
  return {
    version: projectVersion(),
    commit: projectCommit(),
    date: new Date().toISOString(),
    runtime: `Deno ${Deno.version.deno}`,
    platform: `${Deno.build.os} ${Deno.build.arch}`,
    device: profile.description,
    vendor: profile.vendor,
    isSoftware: profile.isSoftware,
    without,
    seed,
  };
}

const HEADINGS = ["op / variant", "cases", "max abs", "ULP", "NMSE", "bound", "worst case"];

/** A table with a row per variant, or per case, and a closing line that counts. */
export function formatVerification({ results, complete }: Verification, perCase: boolean): string {
  const rows = perCase ? results.map(caseRow) : variantRows(results);
  const widths = HEADINGS.map((heading, column) =>
    Math.max(heading.length, ...rows.map((row) => row[column]!.length))
  );
  const line = (row: readonly string[]) =>
    row.map((cell, column) =>
      column === 0 || column === 6 ? cell.padEnd(widths[column]!) : cell.padStart(widths[column]!)
    ).join("  ").trimEnd();
  const count = (status: VerifyResult["status"]) =>
    results.filter((result) => result.status === status).length;
  return [
    line(HEADINGS),
    ...rows.map(line),
    "",
    `${count("pass")} passed, ${count("fail")} failed, ` +
    `${count("unsupported")} not for this device or shape` +
    (complete ? "" : "; interrupted, the rest was not verified"),
    "bound: largest share of the error bound that an element uses; above 1 is a miss",
  ].join("\n");
}

function variantRows(results: readonly VerifyResult[]): string[][] {
  const groups = Map.groupBy(results, ({ op, variant }) => `${op}/${variant}`);
  return [...groups].map(([name, group]) => {
    const ran = group.filter(({ status }) => status !== "unsupported");
    const passed = group.filter(({ status }) => status === "pass");
    const worst = ran.flatMap((result) =>
      Object.values(result.outputs).map((comparison) => ({ comparison, name: result.case }))
    ).sort((a, b) =>
      b.comparison.boundShare - a.comparison.boundShare
    )[0];
    const cases = ran.length === 0 ? "none" : `${passed.length}/${ran.length}`;
    const words = ran.length === 0 ? group[0]!.reason : worst?.name ?? "";
    return [name, cases, ...numbers(ran.flatMap(({ outputs }) => Object.values(outputs))), words];
  });
}

function caseRow({ op, variant, status, outputs, ...result }: VerifyResult): string[] {
  const words = status === "unsupported" ? `${result.case} (${result.reason})` : result.case;
  return [`${op}/${variant}`, STATUS_WORD[status], ...numbers(Object.values(outputs)), words];
}

const STATUS_WORD = { pass: "ok", fail: "FAIL", unsupported: "-" } as const;

function numbers(comparisons: readonly Comparison[]): [string, string, string, string] {
  if (comparisons.length === 0) return ["", "", "", ""];
  const largest = (pick: (comparison: Comparison) => number) => Math.max(...comparisons.map(pick));
  return [
    largest(({ maxAbs }) => maxAbs).toExponential(1),
    short(largest(({ maxUlp }) => maxUlp)),
    largest(({ nmse }) => nmse).toExponential(1),
    largest(({ boundShare }) => boundShare).toFixed(3),
  ];
}

function short(value: number): string {
  return value < 1000 ? value.toFixed(1) : value.toExponential(1);
}
