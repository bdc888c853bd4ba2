/**
 * Frequencies of the rotary embedding, for every kind that a config can name.
 *
 * Each step is rounded to f32 where PyTorch rounds it, in the order of Hugging Face's
 * modeling_rope_utils.py: a model's answers at position 4095 depend on the last bit of a frequency.
 *
 * @module
 */

import { requireArgument } from "../runtime/errors.ts";
import type {
  DynamicRope,
  Llama3Rope,
  LongRope,
  RopeParameters,
  YarnRope,
} from "./rope_parameters.ts";

/** What of a config the frequencies depend on. */
export interface RotaryConfig {
  /** Kind, base and the kind's own parameters. */
  readonly rope_parameters: RopeParameters;
  /** Elements of a head that are rotated, R; even. */
  readonly rotary_dim: number;
  /** Positions that the model was trained for. */
  readonly max_position_embeddings: number;
}

/** What a table of cosines and sines is made of. */
export interface RotaryFrequencies {
  /** Angle per position of each pair, R / 2 of them. */
  readonly inverseFrequencies: Float32Array<ArrayBuffer>;
  /** What cosine and sine are multiplied by; an f32. */
  readonly attentionScaling: number;
  /** Equal for equal frequencies and scaling: what a table may be kept under. */
  readonly key: string;
}

/**
 * The frequencies that one call of a model uses, given what it was called with before.
 *
 * Only dynamic scaling has a past: once a sequence was longer than all before it, its frequencies stay
 * until a longer one comes, or one below the model's own length, which starts afresh. Keys that were
 * cached under other frequencies keep them, as in Hugging Face's code.
 */
export class RotarySchedule {
  readonly #config: RotaryConfig;
  #grownTo: number;
  #current: { readonly length: number; readonly frequencies: RotaryFrequencies } | undefined;

  /** Starts without a past. */
  constructor(config: RotaryConfig) {
    this.#config = config;
    this.#grownTo = config.max_position_embeddings;
  }

  /**
   * Frequencies for a call.
   *
   * @param length one more than the highest position of the call
   * @throws {KernelArgumentError} If `length` is not a whole number from 1
   */
  frequenciesFor(length: number): RotaryFrequencies {
    requireLength(length);
    const { rope_parameters, max_position_embeddings: usual } = this.#config;
    if (rope_parameters.rope_type === "dynamic") {
      // Below, not at: a call of just the model's own length keeps what a longer one has set.
      if (length < usual) this.#grownTo = usual;
      this.#grownTo = Math.max(this.#grownTo, length);
      length = this.#grownTo;
    }
    const effective = effectiveLength(this.#config, length);
    if (this.#current?.length !== effective) {
      this.#current = { length: effective, frequencies: rotaryFrequencies(this.#config, length) };
    }
    return this.#current.frequencies;
  }
}

/**
 * Frequencies for a sequence, without a past.
 *
 * @param config kind, base, width and length
 * @param length one more than the highest position
 * @throws {KernelArgumentError} If `length` is not a whole number from 1
 */
export function rotaryFrequencies(config: RotaryConfig, length: number): RotaryFrequencies {
  requireLength(length);
  const { rope_parameters: rope, rotary_dim, max_position_embeddings } = config;
  const effective = effectiveLength(config, length);
  return {
    inverseFrequencies: inverseFrequencies(config, effective),
    attentionScaling: Math.fround(attentionScaling(rope)),
    key: JSON.stringify([rope, rotary_dim, max_position_embeddings, effective]),
  };
}

/**
 * How many tokens a call may add to a sequence with the frequencies, for all of them, that each would have in a call
 * of its own.
 *
 * @param length tokens of the sequence before
 */
export function steadyTokens(
  { rope_parameters: rope, max_position_embeddings: usual }: RotaryConfig,
  length: number,
): number {
  switch (rope.rope_type) {
    case "dynamic":
      // Below the model's own length every call starts afresh; from there on each length is another case.
      return Math.max(0, usual - 1 - length);
    case "longrope": {
      const { original_max_position_embeddings: original } = rope;
      return length > original ? Infinity : original - length;
    }
    default:
      return Infinity;
  }
}

/** The shortest length with the same frequencies; what does not depend on the length has 1. */
function effectiveLength(
  { rope_parameters, max_position_embeddings }: RotaryConfig,
  length: number,
) {
  switch (rope_parameters.rope_type) {
    case "dynamic":
      return Math.max(length, max_position_embeddings);
    case "longrope": {
      const { original_max_position_embeddings: original } = rope_parameters;
      return length > original ? original + 1 : 1;
    }
    default:
      return 1;
  }
}

const { fround } = Math;

function inverseFrequencies(config: RotaryConfig, length: number): Float32Array<ArrayBuffer> {
  const { rope_parameters: rope, rotary_dim: rotaryDim } = config;
  const powers = powersOf(rope.rope_theta, rotaryDim);
  const plain = powers.map((power) => 1 / power);
  switch (rope.rope_type) {
    case "default":
      return plain;
    case "linear":
      return plain.map((frequency) => frequency / fround(rope.factor));
    case "dynamic":
      if (length <= config.max_position_embeddings) return plain;
      return powersOf(grownBase(rope, config, length), rotaryDim).map((power) => 1 / power);
    case "yarn":
      return yarnFrequencies(rope, powers, plain, rotaryDim);
    case "llama3":
      return plain.map((frequency) => llama3Frequency(rope, frequency));
    case "longrope": {
      const isLong = length > rope.original_max_position_embeddings;
      const divisors = isLong ? rope.long_factor : rope.short_factor;
      return powers.map((power, i) => 1 / fround(fround(divisors[i]!) * power));
    }
  }
}

/** θ^(2i/R) for every pair i. */
function powersOf(theta: number, rotaryDim: number): Float32Array<ArrayBuffer> {
  const base = fround(theta);
  return Float32Array.from({ length: rotaryDim / 2 }, (_, i) => base ** fround(2 * i / rotaryDim));
}

/** θ·(s·n/M − (s − 1))^(R/(R − 2)) for n positions, of which the model was trained for M. */
function grownBase(
  { rope_theta, factor }: DynamicRope,
  config: RotaryConfig,
  length: number,
): number {
  const { rotary_dim: rotaryDim, max_position_embeddings: usual } = config;
  const stretch = fround(fround(fround(factor) * length) / usual);
  const growth = fround(stretch - fround(factor - 1));
  return fround(fround(rope_theta) * fround(growth ** (rotaryDim / (rotaryDim - 2))));
}

/** Frequencies kept where a pair turns often over the original positions, divided where it does not. */
function yarnFrequencies(
  rope: YarnRope,
  powers: Float32Array,
  plain: Float32Array<ArrayBuffer>,
  rotaryDim: number,
): Float32Array<ArrayBuffer> {
  const { rope_theta, original_max_position_embeddings: positions } = rope;
  const pairTurning = (turns: number) =>
    rotaryDim * Math.log(positions / (turns * 2 * Math.PI)) / (2 * Math.log(rope_theta));
  const first = pairTurning(rope.beta_fast);
  const last = pairTurning(rope.beta_slow);
  const low = Math.max(rope.truncate ? Math.floor(first) : first, 0);
  const high = Math.min(rope.truncate ? Math.ceil(last) : last, rotaryDim - 1);
  // A ramp without a width would divide by 0.
  const width = fround((low === high ? high + 0.001 : high) - low);
  return plain.map((frequency, i) => {
    const ramp = Math.min(Math.max(fround(fround(i - fround(low)) / width), 0), 1);
    const kept = fround(1 - ramp);
    const divided = fround(1 / fround(fround(rope.factor) * powers[i]!));
    return fround(divided * fround(1 - kept)) + fround(frequency * kept);
  });
}

/** A frequency kept where its wavelength is short, divided where it is long, blended between. */
function llama3Frequency(rope: Llama3Rope, frequency: number): number {
  const { original_max_position_embeddings: positions, low_freq_factor: low } = rope;
  const { high_freq_factor: high } = rope;
  const factor = fround(rope.factor);
  const wavelength = fround(fround(1 / frequency) * fround(2 * Math.PI));
  if (wavelength > fround(positions / low)) return frequency / factor;
  if (wavelength < fround(positions / high)) return frequency;
  const turns = fround(fround(1 / wavelength) * positions);
  const kept = fround(fround(turns - fround(low)) / fround(high - low));
  const divided = fround(fround(fround(1 - kept) * frequency) / factor);
  return divided + fround(kept * frequency);
}

function attentionScaling(rope: RopeParameters): number {
  if (rope.rope_type === "yarn") return rope.attention_factor ?? yarnScaling(rope);
  if (rope.rope_type === "longrope") return rope.attention_factor ?? longRopeScaling(rope);
  return 1;
}

function yarnScaling({ factor, mscale, mscale_all_dim }: YarnRope): number {
  const scale = (weight: number) => factor > 1 ? 0.1 * weight * Math.log(factor) + 1 : 1;
  // Weights of 0 count as absent, as they do in Hugging Face's code.
  return mscale && mscale_all_dim ? scale(mscale) / scale(mscale_all_dim) : scale(1);
}

function longRopeScaling(
  { factor, original_max_position_embeddings: positions }: LongRope,
): number {
  return factor > 1 ? Math.sqrt(1 + Math.log(factor) / Math.log(positions)) : 1;
}

function requireLength(length: number): void {
  requireArgument(
    Number.isSafeInteger(length) && length >= 1,
    "rotaryFrequencies",
    "length",
    "must be a whole number from 1",
    String(length),
  );
}
