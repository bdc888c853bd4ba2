/**
 * A run of the benchmark: verify, warm up, time, for every op, case and variant.
 *
 * @module
 */

import { inferOutputs, type Named } from "../runtime/backend.ts";
import { rowsOf, runReference } from "../runtime/cpu_backend.ts";
import { GpuDeviceLostError, KernelsError } from "../runtime/errors.ts";
import type { GpuBackend } from "../runtime/gpu_backend.ts";
import type { AnyCase, AnyOp, AnyVariant, BenchDtypes, ModelShape } from "../runtime/op.ts";
import { byteLength, describe, type HostTensor, type TensorSpec } from "../runtime/tensor.ts";
import { chooseVariant } from "../runtime/variants.ts";
import { verifyTensors } from "../runtime/verify.ts";
import { Measurement, type Stopwatch, type Subject } from "./measure.ts";
import { drawBenchInputs, mostTensorBytes, WorkingSet } from "./operands.ts";
import type { LeftOut, Roof, Row } from "./schema.ts";
import { summarize } from "./statistics.ts";

/** What to time, and how thoroughly. */
export interface RunOptions {
  /** The ops. */
  readonly ops: readonly AnyOp[];
  /** Sizes that the cases are made from. */
  readonly shape: ModelShape;
  /** Dtypes of the cases. */
  readonly dtypes: BenchDtypes;
  /** The only variant to time; all unless given. */
  readonly variant?: string;
  /** Seed of the inputs. */
  readonly seed: number;
  /** Seconds, as `performance.now()` counts them, by which to be done; none unless given. */
  readonly deadline?: number;
  /** Rows of each output that are checked. */
  readonly checkedRows: number;
  /** Samples of each variant, where time allows. */
  readonly samples: number;
  /** Wall seconds that the samples of a variant may take. */
  readonly sampleSeconds: number;
  /** Limits that the results are shares of. */
  readonly roofs: readonly Roof[];
  /** Stops the run after the step in hand. */
  readonly signal: AbortSignal;
  /** Told what is about to be done. */
  progress?(done: number, total: number, label: string): void;
}

/** All that came of one case. */
export interface CaseResult {
  /** The op. */
  readonly op: AnyOp;
  /** The case. */
  readonly case: AnyCase;
  /** A row per variant, in the op's order. */
  readonly rows: readonly Row[];
  /** Variants that were not timed. */
  readonly leftOut: readonly LeftOut[];
}

/** Runs the cases one after the other; a case that was cut short by the signal gives what it has. */
export async function* runBench(
  backend: GpuBackend,
  stopwatch: Stopwatch,
  options: RunOptions,
): AsyncGenerator<CaseResult> {
  const { ops, shape, dtypes, signal } = options;
  const cases = ops.flatMap((op) =>
    op.benchCases(shape, dtypes).map((testCase) => ({ op, testCase }))
  );
  for (const [done, { op, testCase }] of cases.entries()) {
    if (signal.aborted) return;
    options.progress?.(done, cases.length, `${op.name} ${testCase.name}`);
    // What earlier cases left over is shared by those that are still to come.
    const now = performance.now() / 1000;
    const seconds = options.deadline === undefined
      ? Infinity
      : (options.deadline - now) / (cases.length - done);
    const run = new CaseRun(backend, stopwatch, op, testCase, options, now + seconds);
    yield await run.run();
  }
}

interface Contender {
  readonly variant: AnyVariant;
  readonly isPreferred: boolean;
}

/** A row that is being filled in. */
interface Draft {
  readonly row: Row;
  readonly measurement: Measurement | undefined;
}

class CaseRun {
  readonly #backend: GpuBackend;
  readonly #stopwatch: Stopwatch;
  readonly #op: AnyOp;
  readonly #case: AnyCase;
  readonly #options: RunOptions;
  readonly #deadline: number;
  readonly #leftOut: LeftOut[] = [];
  readonly #drafts = new Map<string, Draft>();

  constructor(
    backend: GpuBackend,
    stopwatch: Stopwatch,
    op: AnyOp,
    testCase: AnyCase,
    options: RunOptions,
    deadline: number,
  ) {
    this.#backend = backend;
    this.#stopwatch = stopwatch;
    this.#op = op;
    this.#case = testCase;
    this.#options = options;
    this.#deadline = deadline;
  }

  async run(): Promise<CaseResult> {
    const specs = this.#inferSpecs();
    if (specs) {
      const contenders = this.#contenders();
      if (contenders.length > 0) await this.#time(specs, contenders);
    }
    const order = this.#op.variants.map(({ name }) => name);
    return {
      op: this.#op,
      case: this.#case,
      rows: order.flatMap((name) => this.#drafts.get(name)?.row ?? []),
      leftOut: this.#leftOut,
    };
  }

  #leave(variant: string | null, reason: string): void {
    this.#leftOut.push({ op: this.#op.name, case: this.#case.name, variant, reason });
  }

  /** Shapes of the outputs; undefined if the device or the op cannot take the case. */
  #inferSpecs(): Named<TensorSpec> | undefined {
    const inputs = this.#case.inputs as Named<TensorSpec>;
    let outputs: Named<TensorSpec>;
    try {
      outputs = inferOutputs(this.#op, inputs, this.#case.attributes) as Named<TensorSpec>;
    } catch (error) {
      if (!(error instanceof KernelsError)) throw error;
      this.#leave(null, error.message);
      return undefined;
    }
    const most = mostTensorBytes(this.#backend);
    for (const [name, spec] of Object.entries({ ...inputs, ...outputs })) {
      if (!spec || byteLength(spec) <= most) continue;
      this.#leave(
        null,
        `${name} is ${describe(spec)}, ${byteLength(spec)} bytes; the device binds at most ${most}`,
      );
      return undefined;
    }
    return outputs;
  }

  /** The variants to time: the preferred one first, the last one (the baseline) second. */
  #contenders(): Contender[] {
    const { profile } = this.#backend;
    const inputs = this.#case.inputs as Named<TensorSpec>;
    const { attributes } = this.#case;
    const { variants } = this.#op;
    const supported = variants.filter((variant) => {
      if (this.#options.variant !== undefined && variant.name !== this.#options.variant) {
        return false;
      }
      const verdict = variant.supports(inputs, attributes, profile);
      if (verdict !== true) this.#leave(variant.name, verdict);
      return verdict === true;
    });
    if (supported.length === 0) return [];
    const preferred = chooseVariant(this.#op, inputs, attributes, profile);
    const rank = (variant: AnyVariant) =>
      variant === preferred ? 0 : variant === variants.at(-1) ? 1 : 2;
    return supported
      .toSorted((a, b) => rank(a) - rank(b))
      .map((variant) => ({ variant, isPreferred: variant === preferred }));
  }

  async #time(specs: Named<TensorSpec>, contenders: readonly Contender[]): Promise<void> {
    const { signal } = this.#options;
    const hurried = contenders.filter(({ variant }) => this.#secondsLeft() < this.#guess(variant));
    if (hurried.length === contenders.length) {
      this.#leave(null, this.#noTime(contenders[0]!.variant));
      return;
    }
    const inputs = drawBenchInputs(this.#op, this.#case, this.#options.seed);
    let set: WorkingSet;
    try {
      set = await WorkingSet.create(this.#backend, this.#op, inputs, specs);
    } catch (error) {
      if (!(error instanceof KernelsError)) throw error;
      this.#leave(null, error.message);
      return;
    }
    using workingSet = set;
    for (const { variant, isPreferred } of contenders) {
      if (signal.aborted) break;
      if (this.#secondsLeft() < this.#guess(variant)) {
        this.#leave(variant.name, this.#noTime(variant));
        continue;
      }
      this.#drafts.set(variant.name, await this.#prepare(variant, isPreferred, inputs, workingSet));
    }
    await this.#takeSamples();
    this.#finishRows(signal.aborted ? undefined : this.#timeReference(inputs, specs));
  }

  #secondsLeft(): number {
    return this.#deadline - performance.now() / 1000;
  }

  /**
   * Seconds that a variant will take at least: the launches of its check, its warm-up and its samples,
   * at a hundredth of the roof for the last variant and a tenth for the others.
   */
  #guess(variant: AnyVariant): number {
    if (this.#deadline === Infinity) return 0;
    const { flop } = this.#op.work(this.#case.inputs as Named<TensorSpec>, this.#case.attributes);
    const roof = this.#options.roofs.find(({ name }) => name === "f32Fma")?.value ?? Infinity;
    const share = variant === this.#op.variants.at(-1) ? 0.01 : 0.1;
    return 6 * flop / (share * roof) + 0.15;
  }

  #noTime(variant: AnyVariant): string {
    const left = Math.max(0, this.#secondsLeft());
    const needed = this.#guess(variant).toFixed(1);
    return `needs about ${needed} s, and ${left.toFixed(1)} s are left of what --quick allows it`;
  }

  /** First launch, check, warm-up. */
  async #prepare(
    variant: AnyVariant,
    isPreferred: boolean,
    inputs: Named<HostTensor>,
    workingSet: WorkingSet,
  ): Promise<Draft> {
    const backend = this.#backend;
    const op = this.#op;
    const { attributes, name, family = "normal" } = this.#case;
    const { flop, bytes } = op.work(inputs, attributes);
    let row: Row = {
      op: op.name,
      case: name,
      variant: variant.name,
      preferred: isPreferred,
      status: "ok",
      reason: "",
      boundShare: null,
      checkedRows: null,
      flop,
      bytes,
      dispatches: 0,
      firstSeconds: null,
      timer: this.#stopwatch.timer,
      repeats: 0,
      samples: [],
      seconds: null,
      roof: null,
      timesNaive: null,
      timesReference: null,
      copies: workingSet.copies,
      workingSetBytes: workingSet.bytes,
    };
    try {
      const plan = variant.plan(inputs, attributes, backend.profile);
      const subject: Subject = {
        dispatches: Math.max(1, plan.dispatches.length),
        launch() {
          const operands = workingSet.next();
          backend.launch(op, variant, operands.inputs, attributes, operands.outputs);
        },
      };
      const compiled = backend.pipelineCount;
      const start = performance.now();
      await this.#stopwatch.pass(subject, 1);
      const firstSeconds = (performance.now() - start) / 1000;
      row = {
        ...row,
        dispatches: plan.dispatches.length,
        firstSeconds: backend.pipelineCount > compiled ? firstSeconds : null,
      };
      const { seed, checkedRows } = this.#options;
      const testCase = { name, attributes, family };
      const check = await verifyTensors(backend, op, variant, testCase, inputs, seed, {
        maxRows: checkedRows,
      });
      const shares = Object.values(check.outputs).map(({ boundShare }) => boundShare);
      const boundShare = shares.length > 0 ? Math.max(...shares) : null;
      row = { ...row, boundShare, checkedRows: check.sampledRows ?? null };
      if (check.status !== "pass") throw new CheckFailure(check.reason);
      const measurement = await Measurement.start(this.#stopwatch, subject);
      return { row: { ...row, repeats: measurement.repeats }, measurement };
    } catch (error) {
      const isFailure = error instanceof CheckFailure || error instanceof KernelsError;
      if (!isFailure || error instanceof GpuDeviceLostError) throw error;
      return { row: { ...row, status: "fail", reason: error.message }, measurement: undefined };
    }
  }

  /** Takes the samples round by round, so that a slow spell of the machine meets every variant. */
  async #takeSamples(): Promise<void> {
    const { samples, sampleSeconds, signal } = this.#options;
    const running = [...this.#drafts.values()].flatMap(({ measurement }) => measurement ?? []);
    for (let round = 0; round < samples; round++) {
      for (const measurement of running) {
        if (signal.aborted) return;
        const isAffordable = round * measurement.wallSeconds < sampleSeconds;
        if (round === 0 || isAffordable) await measurement.sample();
      }
    }
  }

  /**
   * Seconds of the CPU reference over the whole case, from a sample of rows. Reserving the results
   * takes part of the time whatever the number of rows, so a call without rows is subtracted.
   */
  #timeReference(inputs: Named<HostTensor>, specs: Named<TensorSpec>): number | undefined {
    const rowCount = Math.max(
      ...Object.values(specs).map((spec) => spec ? rowsOf(spec.shape) : 0),
    );
    const count = Math.min(rowCount, this.#options.checkedRows);
    if (count === 0) return undefined;
    const rows = Array.from({ length: count }, (_, i) => Math.floor((i + 0.5) * rowCount / count));
    const time = (rows: readonly number[]) => {
      const start = performance.now();
      runReference(this.#op, inputs, this.#case.attributes, specs, rows);
      return (performance.now() - start) / 1000;
    };
    // The best of several, since the first ones are interpreted; a long call is its own warm-up.
    const best = (rows: readonly number[]) => {
      let seconds = time(rows);
      for (let spent = seconds, i = 0; spent < 0.02 && i < 20; i++) {
        const again = time(rows);
        spent += again;
        seconds = Math.min(seconds, again);
      }
      return seconds;
    };
    const empty = best([]);
    return Math.max(best(rows) - empty, 1e-7) * rowCount / count;
  }

  #finishRows(referenceSeconds: number | undefined): void {
    const naive = this.#drafts.get(this.#op.variants.at(-1)!.name)?.measurement?.samples ?? [];
    const naiveSeconds = naive.length > 0 ? summarize(naive).median : undefined;
    for (const [name, { row, measurement }] of this.#drafts) {
      if (measurement === undefined) continue;
      const { samples } = measurement;
      if (samples.length === 0) {
        // Stopped between the check and the first sample: half a row would pass for a whole one.
        this.#drafts.delete(name);
        continue;
      }
      const seconds = summarize(samples);
      const over = (other: number | undefined) =>
        other === undefined ? null : other / seconds.median;
      const finished: Row = {
        ...row,
        samples,
        seconds,
        roof: bindingRoof(row, seconds.median, this.#options.roofs),
        timesNaive: over(naiveSeconds),
        timesReference: over(referenceSeconds),
      };
      this.#drafts.set(name, { row: finished, measurement });
    }
  }
}

/** The kernel's result is wrong. */
class CheckFailure extends Error {}

/**
 * The roof that a launch comes nearest to: multiply-adds in f32, since every kernel accumulates in it,
 * or memory.
 */
export function bindingRoof(
  { flop, bytes }: { readonly flop: number; readonly bytes: number },
  seconds: number,
  roofs: readonly Roof[],
): Row["roof"] {
  const value = (name: Roof["name"]) => roofs.find((roof) => roof.name === name)?.value ?? 0;
  const memory = value("read") >= value("copy") ? "read" as const : "copy" as const;
  const shares = ([["f32Fma", flop], [memory, bytes]] as const).flatMap(([name, work]) =>
    value(name) > 0 ? { name, share: work / seconds / value(name) } : []
  );
  return shares.toSorted((a, b) => b.share - a.share)[0] ?? null;
}
