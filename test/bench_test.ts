/** The parts of the benchmark that need no clock, and one run of it. */

import { assert, assertAlmostEquals, assertEquals, assertMatch, assertThrows } from "@std/assert";
import { compareReports, formatChange, hasRegression } from "../bench/compare_reports.ts";
import { projectCommit, projectVersion } from "../bench/project.ts";
import {
  formatMarkdown,
  formatProgress,
  formatRow,
  microseconds,
  updateMarkdown,
} from "../bench/report.ts";
import { bindingRoof } from "../bench/roofs.ts";
import {
  type BenchReport,
  formatJson,
  type Header,
  parseJson,
  ReportError,
  type Roof,
  type Row,
} from "../bench/schema.ts";
import { quantile, summarize } from "../bench/statistics.ts";

const header: Header = {
  version: "1.0.0",
  commit: null,
  date: "2026-01-02T03:04:05.000Z",
  runtime: "Deno 2.9.6",
  device: "GPU of the test",
  vendor: "1",
  isSoftware: false,
  platform: "linux x86_64",
  cores: 2,
  features: [],
  subgroupSizes: null,
  timer: "timestamp",
  nanosecondsPerTick: null,
  seed: 1,
  shapes: "tiny",
  activation: "f32",
  weight: "f32",
  arguments: [],
};

function row(variant: string, samples: number[], changes: Partial<Row> = {}): Row {
  return {
    op: "op",
    case: "case",
    variant,
    preferred: false,
    status: "ok",
    reason: "",
    boundShare: 0.1,
    checkedRows: null,
    flop: 1e6,
    bytes: 1e6,
    dispatches: 1,
    firstSeconds: null,
    timer: "timestamp",
    repeats: 1,
    samples,
    seconds: samples.length > 0 ? summarize(samples) : null,
    roof: null,
    timesNaive: null,
    timesReference: null,
    copies: 1,
    workingSetBytes: 1e6,
    ...changes,
  };
}

function report(rows: Row[], changes: Partial<Header> = {}): BenchReport {
  return {
    schemaVersion: 1,
    kind: "bench",
    complete: true,
    header: { ...header, ...changes },
    roofs: [],
    rows,
    leftOut: [],
  };
}

Deno.test("quantiles are taken between neighbours", () => {
  assertEquals(quantile([3, 1, 2], 0.5), 2);
  assertEquals(quantile([4, 1], 0.5), 2.5);
  assertEquals(quantile([7], 0.9), 7);
  assertThrows(() => quantile([], 0.5), RangeError);
  assertAlmostEquals(summarize([...Array(11).keys()]).p10, 1);
  assertAlmostEquals(summarize([...Array(11).keys()]).p90, 9);
});

Deno.test("a row is slower only outside the noise of both reports", () => {
  const steady = [1.00, 1.01, 1.02], slower = [1.20, 1.21, 1.22], noisy = [0.9, 1.2, 1.6];
  const verdict = (before: number[], after: number[]) =>
    compareReports(report([row("v", before)]), report([row("v", after)])).changes[0]!.verdict;
  assertEquals(verdict(steady, slower), "slower");
  assertEquals(verdict(slower, steady), "faster");
  assertEquals(verdict(steady, noisy), "same");
  assertEquals(verdict(steady, [1.03, 1.04, 1.05]), "same", "below the margin");
  const change = compareReports(report([row("v", steady)]), report([row("v", slower)]));
  assert(hasRegression(change));
  assert(formatChange(change).some((line) => line.includes("SLOWER")));
});

Deno.test("on a software adapter a row is held against the plain kernel of the same run", () => {
  const pair = (scale: number, fast: number) =>
    report([
      row("v", [fast * scale], { timesNaive: 1 / fast }),
      row("naive", [scale], { timesNaive: 1 }),
    ], { isSoftware: true });
  const busy = compareReports(pair(1, 0.25), pair(1.6, 0.25));
  assertEquals(busy.changes.map(({ verdict }) => verdict), ["same", "baseline"]);
  const worse = compareReports(pair(1, 0.25), pair(1, 0.5));
  assertEquals(worse.changes[0]!.verdict, "slower");
});

Deno.test("reports of different devices are not held against each other", () => {
  const change = compareReports(
    report([row("v", [1])]),
    report([row("v", [2]), row("w", [1])], { device: "another" }),
  );
  assert(change.caveat.includes("device was GPU of the test and is another"));
  assert(!hasRegression(change));
  assertEquals(change.onlyNew, ["op / case / w"]);
});

Deno.test("a report survives JSON, and damaged ones are refused by rule", () => {
  const whole = report([row("v", [1, 2, 3])]);
  assertEquals(parseJson(formatJson(whole), "f"), whole);
  const damaged = [
    "{",
    "null",
    "[]",
    `{"kind":"verify"}`,
    `{"kind":"bench","schemaVersion":99}`,
    `{"kind":"bench","schemaVersion":1}`,
    `{"kind":"bench","schemaVersion":1,"header":{},"rows":[{}]}`,
    formatJson(report([row("v", [1], { seconds: { median: -1, p10: 1, p90: 1 } })])),
  ];
  for (const text of damaged) {
    const error = assertThrows(() => parseJson(text, "file.json"), ReportError);
    assertMatch(error.message, /^Cannot read file\.json: /);
  }
});

Deno.test("a row is a share of the roof that it is nearest to", () => {
  const roof = (name: Roof["name"], value: number): Roof => ({
    name,
    summary: "",
    unit: "byte/s",
    status: "ok",
    reason: "",
    value,
    samples: [],
  });
  const roofs = [roof("f32Fma", 1000), roof("read", 100)];
  assertEquals(bindingRoof({ flop: 500, bytes: 10 }, 1, roofs), { name: "f32Fma", share: 0.5 });
  assertEquals(bindingRoof({ flop: 100, bytes: 50 }, 1, roofs), { name: "read", share: 0.5 });
  assertEquals(bindingRoof({ flop: 1, bytes: 1 }, 1, []), null);
});

Deno.test("tables show failures and keep to their columns", () => {
  const rows = [
    row("fast", [1e-3], { preferred: true, roof: { name: "read", share: 0.5 }, timesNaive: 2 }),
    row("wrong", [], { status: "fail", reason: "y[0] is 1, wanted 2" }),
  ];
  assert(formatRow(rows[1]!, 10).includes("FAIL: y[0] is 1, wanted 2"));
  const markdown = formatMarkdown(report(rows, { isSoftware: true }));
  assert(markdown.includes("**fast**") && markdown.includes("software adapter"));
  const table = markdown.split("\n").filter((line) => line.startsWith("|"));
  const columns = table.map((line) => line.replaceAll("\\|", "").split("|").length);
  assertEquals(new Set(columns).size, 1);
  assertEquals(formatProgress(1, 2, "x".repeat(200)).length, 78);
  assertEquals(microseconds(1.5e-6), "1.50");
});

Deno.test("a README keeps its text and gets the preferred variants between the marks", () => {
  const readme = "# Title\n\n<!-- bench:begin -->\nstale\n<!-- bench:end -->\n\nEnd\n";
  const rows = [row("fast", [1], { preferred: true }), row("naive", [2])];
  const updated = updateMarkdown(readme, report(rows));
  assert(updated.startsWith("# Title\n\n<!-- bench:begin -->\n"));
  assert(updated.endsWith("<!-- bench:end -->\n\nEnd\n"));
  assert(
    updated.includes("**fast**") && !updated.includes("| naive |") && !updated.includes("stale"),
  );
  assertEquals(updateMarkdown(updated, report(rows)), updated);
  assertEquals(updateMarkdown("something else", report(rows)), formatMarkdown(report(rows)));
});

Deno.test("the project's version and commit are read from its own files", () => {
  assertMatch(projectVersion(), /^\d+\.\d+\.\d+$/);
  assertMatch(projectCommit() ?? "0".repeat(40), /^[0-9a-f]{40,64}$/);
});
