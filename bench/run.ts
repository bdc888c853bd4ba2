/**
 * A run of the benchmark: every case of every op, one after the other.
 *
 * @module
 */

import type { GpuBackend } from "../runtime/gpu_backend.ts";
import type { AnyOp, BenchDtypes, ModelShape } from "../runtime/op.ts";
import { type CaseOptions, type CaseResult, CaseRun } from "./case_run.ts";
import type { Stopwatch } from "./measure.ts";

/** What to time, and how thoroughly. */
export interface RunOptions extends CaseOptions {
  /** The ops. */
  readonly ops: readonly AnyOp[];
  /** Sizes that the cases are made from. */
  readonly shape: ModelShape;
  /** Dtypes of the cases. */
  readonly dtypes: BenchDtypes;
  /** Seconds, as `performance.now()` counts them, by which to be done; none unless given. */
  readonly deadline?: number;
  /** Told what is about to be done. */
  progress?(done: number, total: number, label: string): void;
}

/** A case may take so many of its shares of the time that is left: most cases need less than one. */
const MOST_SHARES = 1.5;

/** Enough for the preferred variant of most cases. */
const LEAST_SECONDS = 0.6;

/** Runs the cases one after the other; a case that was cut short by the signal gives what it has. */
export async function* runBench(
  backend: GpuBackend,
  stopwatch: Stopwatch,
  options: RunOptions,
): AsyncGenerator<CaseResult> {
  const { ops, shape, dtypes, signal, deadline = Infinity } = options;
  const runs = ops.flatMap((op) =>
    op.benchCases(shape, dtypes).map((testCase) =>
      new CaseRun(backend, stopwatch, op, testCase, options)
    )
  );
  // Time is shared by the number of variants; what a case leaves over goes to those after it.
  let variantsLeft = runs.reduce((sum, run) => sum + run.variantCount, 0);
  for (const [done, run] of runs.entries()) {
    if (signal.aborted) return;
    options.progress?.(done, runs.length, run.label);
    const now = performance.now() / 1000;
    const shares = MOST_SHARES * run.variantCount / Math.max(variantsLeft, 1);
    const seconds = run.variantCount === 0 ? 0 : (deadline - now) * shares;
    yield await run.run(Math.min(deadline, now + Math.max(seconds, LEAST_SECONDS)));
    variantsLeft -= run.variantCount;
  }
}
