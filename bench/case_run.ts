/**
 * One case of an op: verify, warm up and time each variant.
 *
 * @module
 */

import { inferOutputs, type Named } from "../runtime/backend.ts";
import { prepareReference, rowsOf } from "../runtime/cpu_backend.ts";
import { GpuDeviceLostError, KernelsError } from "../runtime/errors.ts";
import type { GpuBackend } from "../runtime/gpu_backend.ts";
import type { AnyCase, AnyOp, AnyVariant } from "../runtime/op.ts";
import { byteLength, describe, type HostTensor, type TensorSpec } from "../runtime/tensor.ts";
import { chooseVariant } from "../runtime/variants.ts";
import { verifyTensors } from "../runtime/verify.ts";
import { Measurement, type Stopwatch, type Subject } from "./measure.ts";
import { drawBenchInputs, mostTensorBytes, WorkingSet } from "./operands.ts";
import { bindingRoof } from "./roofs.ts";
import type { LeftOut, Roof, Row } from "./schema.ts";
import { summarize } from "./statistics.ts";

/** How thoroughly to time a case. */
export interface CaseOptions {
  /** The only variant to time; all unless given. */
  readonly variant?: string;
  /** Seed of the inputs. */
  readonly seed: number;
  /** Rows of each output that are checked. */
  readonly checkedRows: number;
  /** Samples of each variant, where time allows. */
  readonly samples: number;
  /** Wall seconds that the samples of a variant may take. */
  readonly sampleSeconds: number;
  /** Limits that the results are shares of. */
  readonly roofs: readonly Roof[];
  /** Stops after the step in hand. */
  readonly signal: AbortSignal;
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

/** The reference is called again for this many seconds. */
const REFERENCE_SECONDS = 0.06;

/** What launches, waits and reads take together, however small the kernel is. */
const LEAST_ROW_SECONDS = 0.25;

interface Contender {
  readonly variant: AnyVariant;
  readonly isPreferred: boolean;
}

/** A row that is being filled in. */
interface Draft {
  readonly row: Row;
  readonly measurement: Measurement | undefined;
}

/** A case on a device, ready to be run. */
export class CaseRun {
  readonly #backend: GpuBackend;
  readonly #stopwatch: Stopwatch;
  readonly #op: AnyOp;
  readonly #case: AnyCase;
  readonly #options: CaseOptions;
  readonly #leftOut: LeftOut[] = [];
  readonly #drafts = new Map<string, Draft>();
  readonly #specs: Named<TensorSpec> | undefined;
  readonly #contenders: readonly Contender[];
  #deadline = Infinity;

  /** Finds out which variants can run; nothing is launched yet. */
  constructor(
    backend: GpuBackend,
    stopwatch: Stopwatch,
    op: AnyOp,
    testCase: AnyCase,
    options: CaseOptions,
  ) {
    this.#backend = backend;
    this.#stopwatch = stopwatch;
    this.#op = op;
    this.#case = testCase;
    this.#options = options;
    this.#specs = this.#inferSpecs();
    this.#contenders = this.#specs ? this.#findContenders() : [];
  }

  /** Variants to time. */
  get variantCount(): number {
    return this.#contenders.length;
  }

  /** Op and case, for a line of progress. */
  get label(): string {
    return `${this.#op.name} ${this.#case.name}`;
  }

  /**
   * Runs the case.
   *
   * @param deadline seconds, as `performance.now()` counts them; what would end later is left out
   */
  async run(deadline: number): Promise<CaseResult> {
    this.#deadline = deadline;
    if (this.#specs && this.#contenders.length > 0) await this.#time(this.#specs);
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
  #findContenders(): Contender[] {
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

  async #time(specs: Named<TensorSpec>): Promise<void> {
    const { signal } = this.#options;
    const contenders = this.#contenders;
    if (contenders.every(({ variant }) => this.#secondsLeft() < this.#guess(variant))) {
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

  /** Seconds until the deadline, less what the samples of the prepared variants will take. */
  #secondsLeft(): number {
    const { samples, sampleSeconds } = this.#options;
    let left = this.#deadline - performance.now() / 1000;
    for (const { measurement } of this.#drafts.values()) {
      if (measurement) left -= Math.min(samples * measurement.wallSeconds, sampleSeconds);
    }
    return left;
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
    return 6 * flop / (share * roof) + LEAST_ROW_SECONDS;
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

  /** Seconds of the CPU reference over the whole case, from a sample of rows. */
  #timeReference(inputs: Named<HostTensor>, specs: Named<TensorSpec>): number | undefined {
    const rowCount = Math.max(
      ...Object.values(specs).map((spec) => spec ? rowsOf(spec.shape) : 0),
    );
    const count = Math.min(rowCount, this.#options.checkedRows);
    if (count === 0) return undefined;
    const rows = Array.from({ length: count }, (_, i) => Math.floor((i + 0.5) * rowCount / count));
    const { compute } = prepareReference(this.#op, inputs, this.#case.attributes, specs);
    // The best of several calls, since the first ones are interpreted.
    let best = Infinity;
    const end = performance.now() + 1000 * REFERENCE_SECONDS;
    for (let calls = 1; best === Infinity || performance.now() < end; calls *= 2) {
      const start = performance.now();
      for (let i = 0; i < calls; i++) compute(rows);
      best = Math.min(best, (performance.now() - start) / 1000 / calls);
    }
    return best * rowCount / count;
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
