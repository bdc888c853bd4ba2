/**
 * The device's own limits, measured by kernels that do nothing else. What an op reaches is a share of
 * these, never of a data sheet.
 *
 * @module
 */

import type { Named } from "../runtime/backend.ts";
import type { GpuBackend } from "../runtime/gpu_backend.ts";
import type { GpuTensor } from "../runtime/gpu_tensor.ts";
import type { Plan } from "../runtime/op.ts";
import { elementCount, HostTensor } from "../runtime/tensor.ts";
import type { WgslFile } from "../runtime/wgsl.ts";
import { Measurement, type Stopwatch, type Subject } from "./measure.ts";
import chain from "./roofs/chain.wgsl" with { type: "text" };
import copy from "./roofs/copy.wgsl" with { type: "text" };
import fmaF16 from "./roofs/fma_f16.wgsl" with { type: "text" };
import fmaF32 from "./roofs/fma_f32.wgsl" with { type: "text" };
import read from "./roofs/read.wgsl" with { type: "text" };
import type { Roof, RoofName, Row } from "./schema.ts";
import { summarize } from "./statistics.ts";

/** A kernel that runs into one limit, with what it must have computed in the end. */
interface Probe {
  readonly name: RoofName;
  readonly summary: string;
  readonly unit: Roof["unit"];
  readonly kernel: WgslFile;
  readonly constants: Readonly<Record<string, number>>;
  readonly params: Readonly<Record<string, number>>;
  readonly workgroups: number;
  /** Elements of the input `x`, if it has one: 0, 1, 2, 3, 0, 1 … */
  readonly inputElements: number;
  readonly outputElements: number;
  /** FLOP, bytes or dispatches of one launch. */
  readonly work: number;
  /** True if `y` at an index is right; `launches` were made before. */
  isRight(value: number, index: number, launches: number): boolean;
}

const WORKGROUP_SIZE = 256;
/** Subgroups of current software rasterisers have eight lanes. */
const SOFTWARE_LANES = 8;

const MIB = 1024 * 1024;

/** Multiply-adds of one invocation in a round of either FMA probe, times two operations. */
const FMA_FLOP = 16 * 8 * 2;

function probes({ profile }: GpuBackend): Probe[] {
  const { isSoftware, hasF16, limits } = profile;
  const fmaWorkgroups = isSoftware ? 16 : 2048;
  const rounds = isSoftware ? 128 : 512;
  const fma = (scalar: "f32" | "f16", text: string): Probe => {
    // The result counts from the flipped lanes: 1 − start each.
    const lanes = scalar === "f32" ? 8 : 16;
    const starts = (lanes - 1) * lanes / 2 / 64;
    return {
      name: `${scalar}Fma`,
      summary: `${scalar} multiply-add`,
      unit: "FLOP/s",
      kernel: { file: `roofs/fma_${scalar}.wgsl`, text },
      constants: { WORKGROUP_SIZE },
      params: { rounds, k: -1, b: 1 },
      workgroups: fmaWorkgroups,
      inputElements: 0,
      outputElements: fmaWorkgroups * WORKGROUP_SIZE,
      work: fmaWorkgroups * WORKGROUP_SIZE * rounds * FMA_FLOP,
      isRight: (value, index) => value === lanes - starts - lanes * (index % 16) / 32,
    };
  };
  const room = Math.min(limits.maxStorageBufferBindingSize, limits.maxBufferSize);
  const bytes = largestPowerOfTwo(Math.min(room, (isSoftware ? 32 : 256) * MIB));
  const elements = bytes / 4;
  const lanes = isSoftware ? SOFTWARE_LANES : WORKGROUP_SIZE;
  const workgroups = isSoftware ? 4096 : 2048;
  const invocations = workgroups * lanes;
  const memory = {
    unit: "byte/s" as const,
    constants: { WORKGROUP_SIZE: lanes },
    // Four loads of four elements a round.
    params: { rounds: elements / 16 / invocations },
    workgroups,
    inputElements: elements,
  };
  return [
    fma("f32", fmaF32),
    ...hasF16 ? [fma("f16", fmaF16)] : [],
    {
      ...memory,
      name: "read",
      summary: `read of ${bytes / MIB} MiB`,
      kernel: { file: "roofs/read.wgsl", text: read },
      outputElements: invocations,
      work: bytes,
      isRight: (value) => value === 6 * elements / 4 / invocations,
    },
    {
      ...memory,
      name: "copy",
      summary: `copy of ${bytes / MIB} MiB, read and written bytes`,
      kernel: { file: "roofs/copy.wgsl", text: copy },
      outputElements: elements,
      work: 2 * bytes,
      isRight: (value, index) => value === index % 4,
    },
    {
      name: "dispatchGap",
      summary: "dispatch that waits for the one before it",
      unit: "s",
      kernel: { file: "roofs/chain.wgsl", text: chain },
      constants: {},
      params: {},
      workgroups: 1,
      inputElements: 0,
      outputElements: 1,
      work: 1,
      isRight: (value, _index, launches) => value === launches,
    },
  ];
}

/**
 * Measures every roof of a device.
 *
 * @param rounds samples of each
 */
export async function* measureRoofs(
  backend: GpuBackend,
  stopwatch: Stopwatch,
  rounds: number,
  signal: AbortSignal,
): AsyncGenerator<Roof> {
  for (const probe of probes(backend)) {
    if (signal.aborted) return;
    yield await measureProbe(backend, stopwatch, probe, rounds);
  }
  if (signal.aborted) return;
  yield await measureRead(backend, rounds);
}

/**
 * Compares the device's timestamps with the wall clock.
 *
 * @returns true nanoseconds per tick; undefined without timestamps
 */
export async function calibrateTimestamps(backend: GpuBackend): Promise<number | undefined> {
  const probe = probes(backend).find(({ name }) => name === "dispatchGap")!;
  using bench = new ProbeBench(backend, probe);
  return await backend.calibrate(() => bench.launch());
}

/** The tensors of a probe, and its launch. */
class ProbeBench implements Subject, Disposable {
  readonly dispatches = 1;
  readonly output: GpuTensor;
  launches = 0;
  readonly #backend: GpuBackend;
  readonly #inputs: Named<GpuTensor>;
  readonly #plan: Plan;

  constructor(backend: GpuBackend, probe: Probe) {
    this.#backend = backend;
    const { kernel, constants, params, workgroups } = probe;
    this.#plan = { dispatches: [{ kernel, constants, params, workgroups: [workgroups, 1, 1] }] };
    this.#inputs = probe.inputElements > 0
      ? { x: backend.upload(new HostTensor([probe.inputElements], pattern(probe.inputElements))) }
      : {};
    this.output = backend.zeros({ shape: [probe.outputElements], dtype: "f32" });
  }

  launch(): void {
    this.launches++;
    const names = { inputs: Object.keys(this.#inputs), outputs: ["y"] };
    const plan = () => this.#plan;
    this.#backend.launch(names, { plan }, this.#inputs, {}, { y: this.output });
  }

  [Symbol.dispose](): void {
    this.output[Symbol.dispose]();
    this.#inputs.x?.[Symbol.dispose]();
  }
}

async function measureProbe(
  backend: GpuBackend,
  stopwatch: Stopwatch,
  probe: Probe,
  rounds: number,
): Promise<Roof> {
  const { name, summary, unit, work } = probe;
  using bench = new ProbeBench(backend, probe);
  // The first launch compiles, and the others wait for the clocks of a sleeping GPU to rise.
  for (let i = 0; i < 3; i++) await stopwatch.pass(bench, 1);
  const measurement = await Measurement.start(stopwatch, bench);
  for (let i = 0; i < rounds; i++) await measurement.sample();
  const { numbers } = await backend.read(bench.output);
  for (let i = 0; i < elementCount(bench.output.shape); i++) {
    if (probe.isRight(numbers[i]!, i, bench.launches)) continue;
    const reason = `element ${i} of the probe is wrong: ${numbers[i]}`;
    return { name, summary, unit, status: "fail", reason, value: null, samples: [] };
  }
  const seconds = summarize(measurement.samples).median;
  const value = unit === "s" ? seconds : work / seconds;
  return { name, summary, unit, status: "ok", reason: "", value, samples: measurement.samples };
}

/** One dispatch, submitted, and four bytes read back: what a step costs that must see a result. */
async function measureRead(backend: GpuBackend, rounds: number): Promise<Roof> {
  const probe = probes(backend).find(({ name }) => name === "dispatchGap")!;
  using bench = new ProbeBench(backend, probe);
  const samples: number[] = [];
  for (let i = 0; i < rounds; i++) {
    const start = performance.now();
    bench.launch();
    await backend.read(bench.output);
    samples.push((performance.now() - start) / 1000);
  }
  return {
    name: "submitRead",
    summary: "one dispatch submitted and 4 bytes read back, wall clock",
    unit: "s",
    status: "ok",
    reason: "",
    value: summarize(samples).median,
    samples,
  };
}

function pattern(count: number): Float32Array<ArrayBuffer> {
  const values = new Float32Array(count);
  for (let i = 0; i < count; i++) values[i] = i % 4;
  return values;
}

function largestPowerOfTwo(most: number): number {
  return 2 ** Math.floor(Math.log2(most));
}

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
