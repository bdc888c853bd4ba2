/**
 * Verifies kernels against their reference, so that a wrong one cannot pass by luck: fresh seeds,
 * outputs poisoned with NaN bits, guard zones around every buffer, two runs that must agree bit for
 * bit, inputs re-read, and the reference computed after the kernel.
 *
 * @module
 */

import type { Named } from "./backend.ts";
import { inferOutputs, isEmptyCall, presentInputs } from "./backend.ts";
import { BUFFER_USAGE, uploadBytes } from "./buffers.ts";
import { compare, type Comparison, coordinates } from "./compare.ts";
import { rowsOf, runReference } from "./cpu_backend.ts";
import { GpuDeviceLostError, KernelsError, requireArgument } from "./errors.ts";
import type { GpuBackend } from "./gpu_backend.ts";
import type { GpuTensor } from "./gpu_tensor.ts";
import type { AnyCase, AnyOp, AnyVariant, Op, ReferenceOutput, Tolerance } from "./op.ts";
import { drawInputs, Random } from "./random.ts";
import { byteLength, elementCount, HostTensor, type TensorSpec } from "./tensor.ts";

/** Outcome of one variant on one case. */
export interface VerifyResult {
  /** Op name. */
  readonly op: string;
  /** Variant name. */
  readonly variant: string;
  /** Case name. */
  readonly case: string;
  /** `unsupported` where the variant says that it does not take the case. */
  readonly status: "pass" | "fail" | "unsupported";
  /** Why it failed or is unsupported; empty when it passed. */
  readonly reason: string;
  /** Seed of the inputs; the same seed gives the same inputs. */
  readonly seed: number;
  /** Rows compared where the reference was sampled, else undefined. */
  readonly sampledRows: number | undefined;
  /** Error statistics per output. */
  readonly outputs: Readonly<Record<string, Comparison>>;
}

/** What to verify and how. */
export interface VerifyOptions {
  /** Variants by name; all unless given. */
  readonly variants?: readonly string[];
  /** Cases; the op's own unless given. */
  readonly cases?: readonly AnyCase[];
  /** Seed of the inputs; drawn anew unless given. */
  readonly seed?: number;
  /**
   * Compare at most this many rows of each output, and at least two, spread over it; all unless given,
   * and all of an op that writes into its inputs.
   */
  readonly maxRows?: number;
}

/** Bytes before and after every buffer that must come back unchanged. */
const GUARD_BYTES = 256;
const GUARD_WORD = 0xdeadbeef;
/** Two NaNs: an element that was not written keeps both, one per run. */
const POISON_WORDS = [0x7fc0dead, 0xffc0beef] as const;

/**
 * Verifies the variants of an op, one result per variant and case.
 *
 * It takes any op object, so a kernel of one's own is verified by describing it as an
 * {@linkcode Op}: WGSL, reference, cases, tolerance.
 *
 * @param backend device to run on
 * @param op the op
 * @throws {KernelArgumentError} If `options.variants` names one that the op has not
 * @throws {GpuDeviceLostError} If the device is lost, which says nothing about the kernel
 */
export async function* verifyKernel<
  I extends string,
  O extends string,
  A extends object,
  Opt extends I = never,
>(
  backend: GpuBackend,
  op: Op<I, O, A, Opt>,
  options: VerifyOptions = {},
): AsyncGenerator<VerifyResult> {
  const untyped = op as unknown as AnyOp;
  const seed = options.seed ?? freshSeed();
  const known = untyped.variants.map(({ name }) => name);
  for (const name of options.variants ?? []) {
    const rule = `must be among ${known.join(", ")}`;
    requireArgument(known.includes(name), untyped.name, "variants", rule, name);
  }
  const { cases = untyped.cases, maxRows = Infinity } = options;
  for (const testCase of cases) {
    const inputs = drawInputs(untyped, testCase, seed);
    const references = new Map<number, Record<string, ReferenceOutput>>();
    for (const variant of untyped.variants) {
      if (options.variants && !options.variants.includes(variant.name)) continue;
      const named = { family: "normal" as const, ...testCase };
      const details = { maxRows, references };
      yield await verifyTensors(backend, untyped, variant, named, inputs, seed, details);
    }
  }
}

/** A seed that differs from run to run; it is printed, so that a run can be repeated. */
export function freshSeed(): number {
  return crypto.getRandomValues(new Uint32Array(1))[0]!;
}

/** A case whose inputs are already there. */
export interface TensorCase {
  /** Name for the report. */
  readonly name: string;
  /** The op's attributes. */
  readonly attributes: object;
  /** Distribution of the inputs. */
  readonly family: NonNullable<AnyCase["family"]>;
}

/** What else {@linkcode verifyTensors} may be told. */
export interface VerifyDetails {
  /** Compare at most this many rows of each output; all unless given. */
  readonly maxRows?: number;
  /** Outputs to compare with in place of the reference's. */
  readonly expected?: Named<HostTensor>;
  /** Keeps the reference of these inputs for the next variant, by number of rows. */
  readonly references?: Map<number, Record<string, ReferenceOutput>>;
}

/**
 * Verifies one variant on given inputs, against the op's reference or against given outputs.
 *
 * @throws {GpuDeviceLostError} If the device is lost, which says nothing about the kernel
 */
export async function verifyTensors(
  backend: GpuBackend,
  op: AnyOp,
  variant: AnyVariant,
  testCase: TensorCase,
  inputs: Named<HostTensor>,
  seed: number,
  { maxRows = Infinity, expected, references }: VerifyDetails = {},
): Promise<VerifyResult> {
  const { attributes, family } = testCase;
  const result = (
    status: VerifyResult["status"],
    reason: string,
    outputs: Record<string, Comparison> = {},
    sampledRows?: number,
  ): VerifyResult => ({
    op: op.name,
    variant: variant.name,
    case: testCase.name,
    status,
    reason,
    seed,
    sampledRows,
    outputs,
  });
  const specs = inferOutputs(op, inputs, attributes) as Named<TensorSpec>;
  const supported = variant.supports(inputs, attributes, backend.profile);
  if (supported !== true) return result("unsupported", supported);

  const runs: GuardedRun[] = [];
  try {
    for (const poison of POISON_WORDS) {
      runs.push(await runGuarded(backend, op, variant, inputs, attributes, specs, poison));
    }
  } catch (error) {
    if (!(error instanceof KernelsError) || error instanceof GpuDeviceLostError) throw error;
    return result("fail", error.message);
  }
  const [first, second] = runs as [GuardedRun, GuardedRun];
  const fault = first.fault || second.fault;
  if (fault) return result("fail", fault);

  const names = Object.keys(first.outputs);
  const rowCount = Math.max(...names.map((name) => rowsOf(specs[name]!.shape)));
  // What is updated in place may be wrong anywhere, and most of it is not written at all.
  const rows = op.aliases ? undefined : sampleRows(rowCount, maxRows, new Random(seed, "rows"));
  const reference = references?.get(maxRows) ??
    runReference(op, inputs, attributes, specs, rows);
  references?.set(maxRows, reference);
  const tolerance = op.tolerance(inputs, attributes, family);
  const comparisons: Record<string, Comparison> = {};
  let reason = "";
  for (const name of names) {
    const output = first.outputs[name]!;
    const given = expected?.[name];
    const comparison = given
      ? compareWithGiven(output, given, reference[name]!, tolerance, rows)
      : compare(output, reference[name]!, tolerance, rows);
    comparisons[name] = comparison;
    const unwritten = firstUnwritten(output, second.outputs[name]!);
    const unequal = firstDifference(output, second.outputs[name]!);
    const at = (index: number) => `${name}[${coordinates(output.shape, index).join(", ")}]`;
    if (unwritten >= 0) reason ||= `${at(unwritten)} was never written`;
    else if (!comparison.passed) reason ||= describeMiss(name, comparison);
    else if (unequal >= 0) reason ||= `${at(unequal)} differs between two runs`;
  }
  const sampled = rows === undefined ? undefined : rows.length;
  return result(reason === "" ? "pass" : "fail", reason, comparisons, sampled);
}

/**
 * Compares with outputs that some other system computed. They are rounded too, so each side may use
 * the whole bound.
 */
function compareWithGiven(
  output: HostTensor,
  given: HostTensor,
  reference: ReferenceOutput,
  tolerance: Tolerance,
  rows?: readonly number[],
): Comparison {
  const both = tolerance === "exact" ? tolerance : {
    units: 2 * tolerance.units,
    absolute: 2 * (tolerance.absolute ?? 0),
    nmse: 4 * (tolerance.nmse ?? 0),
  };
  return compare(output, { ...reference, values: Float64Array.from(given.numbers) }, both, rows);
}

/** A miss in words: where, what was got, what was wanted, by how much. */
export function describeMiss(name: string, miss: Comparison): string {
  const place = `${name}[${miss.worstIndex.join(", ")}]`;
  if (miss.misses === 0) return `${name}: NMSE is ${miss.nmseShare.toFixed(2)} of its gate`;
  return `${place} is ${miss.got}, wanted ${miss.wanted}: ` +
    `${miss.boundShare.toPrecision(3)} of its bound; ${miss.misses} of ${miss.count} miss`;
}

interface GuardedRun {
  readonly outputs: Record<string, HostTensor>;
  /** A broken guard or a changed input; empty if there is none. */
  readonly fault: string;
}

async function runGuarded(
  backend: GpuBackend,
  op: AnyOp,
  variant: AnyVariant,
  inputs: Named<HostTensor>,
  attributes: object,
  specs: Named<TensorSpec>,
  poison: number,
): Promise<GuardedRun> {
  const guarded = new Map<string, GuardedTensor>();
  try {
    const operands: Record<string, GpuTensor> = {};
    for (const [name, tensor] of presentInputs(op, inputs)) {
      const made = new GuardedTensor(backend, tensor, tensor.bytes);
      guarded.set(name, made);
      operands[name] = made.tensor;
    }
    const outputs: Record<string, GpuTensor> = {};
    for (const [name, spec] of Object.entries(specs)) {
      if (spec === undefined) continue;
      const alias = op.aliases?.[name];
      if (alias !== undefined) {
        outputs[name] = operands[alias]!;
        continue;
      }
      const made = new GuardedTensor(backend, spec, poisonBytes(spec, poison));
      guarded.set(`output ${name}`, made);
      outputs[name] = made.tensor;
    }
    if (!isEmptyCall(specs)) backend.launch(op, variant, operands, attributes, outputs);
    const read = new Map(
      await Promise.all(
        [...guarded].map(async ([name, made]) => [name, await made.read()] as const),
      ),
    );
    let fault = "";
    for (const [name, { guardsIntact, value }] of read) {
      if (!guardsIntact) fault ||= `memory around ${name} was written`;
      const source = inputs[name];
      const written = Object.values(op.aliases ?? {}).includes(name);
      if (source && !written && firstDifference(value, source) >= 0) {
        fault ||= `input ${name} was changed`;
      }
    }
    const values: Record<string, HostTensor> = {};
    for (const name of Object.keys(outputs)) {
      values[name] = read.get(op.aliases?.[name] ?? `output ${name}`)!.value;
    }
    return { outputs: values, fault };
  } finally {
    for (const made of guarded.values()) made.destroy();
  }
}

/** A tensor of exactly its size inside a buffer whose other bytes are known. */
class GuardedTensor {
  readonly tensor: GpuTensor;
  readonly #backend: GpuBackend;
  readonly #buffer: GPUBuffer;
  readonly #spec: TensorSpec;

  constructor(backend: GpuBackend, spec: TensorSpec, contents: Uint8Array<ArrayBuffer>) {
    const size = Math.max(4, byteLength(spec));
    this.#backend = backend;
    this.#spec = spec;
    this.#buffer = backend.device.createBuffer({
      size: size + 2 * GUARD_BYTES,
      usage: BUFFER_USAGE.storage | BUFFER_USAGE.copySource | BUFFER_USAGE.copyTarget,
    });
    const bytes = new Uint8Array(size + 2 * GUARD_BYTES);
    new Uint32Array(bytes.buffer).fill(GUARD_WORD);
    bytes.fill(0, GUARD_BYTES, GUARD_BYTES + size);
    bytes.set(contents, GUARD_BYTES);
    uploadBytes(backend.device, this.#buffer, 0, bytes);
    this.tensor = backend.adopt(spec, { buffer: this.#buffer, offset: GUARD_BYTES, size });
  }

  async read(): Promise<{ guardsIntact: boolean; value: HostTensor }> {
    const { size } = this.#buffer;
    const bytes = await this.#backend.readBytes({ buffer: this.#buffer, offset: 0, size });
    const words = new Uint32Array(bytes.buffer);
    const guardWords = GUARD_BYTES / 4;
    let guardsIntact = true;
    for (let i = 0; i < guardWords; i++) {
      if (words[i] !== GUARD_WORD || words[words.length - 1 - i] !== GUARD_WORD) {
        guardsIntact = false;
      }
    }
    return { guardsIntact, value: HostTensor.fromBytes(this.#spec, bytes.subarray(GUARD_BYTES)) };
  }

  destroy(): void {
    this.tensor[Symbol.dispose]();
    this.#buffer.destroy();
  }
}

function poisonBytes(spec: TensorSpec, word: number): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(byteLength(spec));
  new Uint32Array(bytes.buffer).fill(word);
  return bytes;
}

/** Index of the first element that holds the first poison in one run and the second in the other. */
function firstUnwritten(first: HostTensor, second: HostTensor): number {
  const width = first.bytes.byteLength / Math.max(1, elementCount(first.shape));
  const [a, b] = POISON_WORDS.map((word) => new Uint8Array(new Uint32Array([word]).buffer));
  for (let start = 0; start < first.bytes.byteLength; start += width) {
    let same = true;
    for (let i = start; i < start + width && same; i++) {
      same = first.bytes[i] === a![i % 4] && second.bytes[i] === b![i % 4];
    }
    if (same) return start / width;
  }
  return -1;
}

/** Index of the first element whose bits differ, or −1. */
function firstDifference(first: HostTensor, second: HostTensor): number {
  const a = first.bytes, b = second.bytes;
  for (let i = 0; i < a.byteLength; i++) {
    if (a[i] !== b[i]) {
      return Math.floor(i / (a.byteLength / Math.max(1, elementCount(first.shape))));
    }
  }
  return -1;
}

/** Rows spread over the whole output, first and last always among them; undefined for all of them. */
function sampleRows(rowCount: number, maxRows: number, random: Random): number[] | undefined {
  if (rowCount <= maxRows) return undefined;
  const rows = new Set([0, rowCount - 1]);
  while (rows.size < maxRows) rows.add(random.integer(rowCount));
  return [...rows].sort((a, b) => a - b);
}
