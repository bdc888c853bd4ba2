/**
 * Tables of cosines and sines for the rotary embedding.
 *
 * @module
 */

import { requireArgument } from "../../runtime/errors.ts";
import { HostTensor } from "../../runtime/tensor.ts";

/** What {@linkcode ropeTables} makes tables for. */
export interface RopeTableOptions {
  /** Elements of a head that are rotated; even. */
  readonly rotaryDim: number;
  /** Rows of the tables: positions 0 to one less than this. */
  readonly positions: number;
  /** Base of the frequencies, `rope_theta` in a config; 10,000 unless given. */
  readonly theta?: number;
  /** Angle per position of each pair, `rotaryDim / 2` of them, in place of those that theta gives. */
  readonly inverseFrequencies?: ArrayLike<number>;
  /** What cosine and sine are multiplied by; 1 unless given, as every scaling but YaRN's has it. */
  readonly attentionScaling?: number;
}

/** Two f32 tables of shape [positions, rotaryDim / 2]. */
export interface RopeTables {
  /** Cosines. */
  readonly cos: HostTensor;
  /** Sines. */
  readonly sin: HostTensor;
}

/**
 * cos(p · f) and sin(p · f) for every position p and pair i, with f = θ^(−2i/R).
 *
 * Exponent, power, frequency and product are each rounded to f32, as PyTorch rounds them: at position
 * 4095 an exact angle would differ in the fifth digit of the result from what the models were trained
 * with.
 *
 * @throws {KernelArgumentError} If rotaryDim is odd, a number is out of range, or the number of
 * frequencies does not fit
 */
export function ropeTables(options: RopeTableOptions): RopeTables {
  const { rotaryDim, positions, theta = 10_000, attentionScaling = 1 } = options;
  requireNumber(
    "rotaryDim",
    rotaryDim,
    Number.isSafeInteger(rotaryDim) && rotaryDim >= 2 && rotaryDim % 2 === 0,
    "must be an even number of at least 2",
  );
  requireNumber(
    "positions",
    positions,
    Number.isSafeInteger(positions) && positions >= 0,
    "must be a whole number from 0",
  );
  requireNumber("theta", theta, Number.isFinite(theta) && theta > 0, "must be above 0");
  requireNumber(
    "attentionScaling",
    attentionScaling,
    Number.isFinite(attentionScaling) && attentionScaling > 0,
    "must be above 0",
  );
  const half = rotaryDim / 2;
  const frequencies = options.inverseFrequencies ??
    Array.from({ length: half }, (_, i) => inverseFrequency(theta, i, rotaryDim));
  requireArgument(
    frequencies.length === half,
    "ropeTables",
    "inverseFrequencies",
    `must have ${half} elements, as rotaryDim is ${rotaryDim}`,
    `${frequencies.length} elements`,
  );
  const cos = new Float32Array(positions * half);
  const sin = new Float32Array(positions * half);
  for (let i = 0; i < half; i++) {
    const frequency = Math.fround(frequencies[i]!);
    requireNumber("inverseFrequencies", frequency, Number.isFinite(frequency), "must be finite");
    for (let position = 0; position < positions; position++) {
      const angle = Math.fround(position * frequency);
      cos[position * half + i] = Math.fround(Math.cos(angle)) * attentionScaling;
      sin[position * half + i] = Math.fround(Math.sin(angle)) * attentionScaling;
    }
  }
  return {
    cos: new HostTensor([positions, half], cos),
    sin: new HostTensor([positions, half], sin),
  };
}

/** θ^(−2i/R), rounded to f32 after each of the three steps that Hugging Face's code takes. */
function inverseFrequency(theta: number, i: number, rotaryDim: number): number {
  const exponent = Math.fround(2 * i / rotaryDim);
  return Math.fround(1 / Math.fround(theta ** exponent));
}

function requireNumber(argument: string, value: number, holds: boolean, rule: string): void {
  requireArgument(holds, "ropeTables", argument, rule, String(value));
}
