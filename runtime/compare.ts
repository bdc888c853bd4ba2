/**
 * Compares a kernel's output with the f64 reference.
 *
 * @module
 */

import type { ReferenceOutput, Tolerance } from "./op.ts";
import { type Dtype, fromBfloat16, type HostTensor, toBfloat16 } from "./tensor.ts";

/** How far an output is from its reference. */
export interface Comparison {
  /** Within every gate. */
  readonly passed: boolean;
  /** Elements compared. */
  readonly count: number;
  /** Largest |y − y64|. */
  readonly maxAbs: number;
  /** Largest error in units in the last place of the dtype, of errors above the absolute part. */
  readonly maxUlp: number;
  /** Σ(y − y64)² / Σ y64². */
  readonly nmse: number;
  /** Largest share of its bound that an element uses; above 1 is a miss. */
  readonly boundShare: number;
  /** NMSE over its gate; 0 where there is none. */
  readonly nmseShare: number;
  /** Elements that are NaN or infinite where the reference is not. */
  readonly nonFinite: number;
  /** Elements outside their bound. */
  readonly misses: number;
  /** Coordinates of the element that uses most of its bound. */
  readonly worstIndex: readonly number[];
  /** Its value. */
  readonly got: number;
  /** What the reference says. */
  readonly wanted: number;
}

/** Bits after the leading one, and the exponent of the smallest normal number. */
const FORMAT: Readonly<Partial<Record<Dtype, { fraction: number; minExponent: number }>>> = {
  f32: { fraction: 23, minExponent: -126 },
  f16: { fraction: 10, minExponent: -14 },
  bf16: { fraction: 7, minExponent: -126 },
};

/** NMSE that rounding to a stored dtype adds by itself, with a truncating conversion allowed for. */
const STORE_NMSE: Readonly<Partial<Record<Dtype, number>>> = { f16: 2e-7, bf16: 1.2e-5 };

/** Distance between neighbouring numbers of a dtype at `value`. */
export function ulp(dtype: Dtype, value: number): number {
  const format = FORMAT[dtype];
  if (format === undefined) return 1;
  const magnitude = Math.abs(value);
  const exponent = magnitude > 0 ? Math.floor(Math.log2(magnitude)) : -Infinity;
  return 2 ** (Math.max(exponent, format.minExponent) - format.fraction);
}

/**
 * Compares values element by element.
 *
 * @param output what the kernel wrote
 * @param reference values and error scales in f64
 * @param tolerance the gates
 * @param rows rows to compare (all axes but the last, flattened); all unless given
 */
export function compare(
  output: HostTensor,
  reference: ReferenceOutput,
  tolerance: Tolerance,
  rows?: readonly number[],
): Comparison {
  const { dtype, shape } = output;
  const numbers = output.numbers;
  const columns = Math.max(1, shape.at(-1) ?? 1);
  const rowCount = numbers.length / columns;
  const rowList = rows?.filter((row) => row < rowCount) ??
    Array.from({ length: rowCount }, (_, row) => row);
  const exact = tolerance === "exact";
  const { units, absolute = 0, nmse: nmseGate = 0 } = exact ? { units: 0 } : tolerance;
  let count = 0, maxAbs = 0, maxUlp = 0, boundShare = 0, nonFinite = 0, misses = 0;
  let squaredError = 0, squaredReference = 0, worst = -1;
  for (const row of rowList) {
    for (let i = row * columns; i < (row + 1) * columns; i++) {
      const scale = reference.scale[i]!;
      const isCopy = exact || scale === 0;
      const got = numbers[i]!;
      const wanted = isCopy ? stored(dtype, reference.values[i]!) : reference.values[i]!;
      count++;
      let share: number;
      if (Object.is(got, wanted) || (!exact && got === wanted)) {
        share = 0;
      } else if (!Number.isFinite(got) && Number.isFinite(wanted)) {
        nonFinite++;
        share = Infinity;
      } else if (Number.isNaN(wanted) && Number.isNaN(got)) {
        share = 0;
      } else {
        const error = Math.abs(got - wanted);
        const bound = isCopy ? 0 : absolute + storeRounding(dtype, wanted) +
          units * 2 ** -24 * (Number.isNaN(scale) ? Math.abs(wanted) : scale);
        share = bound > 0 ? error / bound : Infinity;
        maxAbs = Math.max(maxAbs, error);
        if (error > absolute) maxUlp = Math.max(maxUlp, error / ulp(dtype, wanted));
        squaredError += error ** 2;
      }
      if (Number.isFinite(wanted)) squaredReference += wanted ** 2;
      if (!(share <= 1)) misses++;
      if (worst < 0 || share > boundShare || Number.isNaN(share)) {
        worst = i;
        boundShare = Number.isNaN(share) ? Infinity : share;
      }
    }
  }
  const nmse = squaredReference > 0 ? squaredError / squaredReference : squaredError;
  const nmseShare = nmseGate > 0 ? nmse / (nmseGate + (STORE_NMSE[dtype] ?? 0)) : 0;
  return {
    passed: misses === 0 && nonFinite === 0 && nmseShare <= 1,
    count,
    maxAbs,
    maxUlp,
    nmse,
    boundShare,
    nmseShare,
    nonFinite,
    misses,
    worstIndex: coordinates(shape, worst),
    got: numbers[worst] ?? NaN,
    wanted: reference.values[worst] ?? NaN,
  };
}

/**
 * What storing may add to the error: one unit in the last place of a 16-bit dtype, as WGSL lets a
 * conversion round either way, and the whole of a subnormal, as WGSL lets it be flushed to zero.
 */
function storeRounding(dtype: Dtype, wanted: number): number {
  const format = FORMAT[dtype];
  if (format && Math.abs(wanted) < 2 ** format.minExponent) {
    return Math.abs(wanted) + ulp(dtype, wanted);
  }
  return dtype === "f32" ? 0 : ulp(dtype, wanted);
}

/** The value that a dtype holds for a number: the nearest, ties to even. */
function stored(dtype: Dtype, value: number): number {
  switch (dtype) {
    case "f32":
      return Math.fround(value);
    case "f16":
      return Math.f16round(value);
    case "bf16":
      return fromBfloat16(toBfloat16(value));
    default:
      return value + 0; // an integer has no negative zero
  }
}

/** Row-major coordinates of a flat index. */
export function coordinates(shape: readonly number[], flat: number): number[] {
  const result: number[] = [];
  let rest = flat;
  for (let axis = shape.length - 1; axis >= 0; axis--) {
    const size = shape[axis]!;
    result.unshift(rest % size);
    rest = Math.floor(rest / size);
  }
  return result;
}
