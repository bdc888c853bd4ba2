/**
 * Seeded random numbers, and the operands that cases are verified and timed on.
 *
 * @module
 */

import type { Named } from "./backend.ts";
import type { AnyCase, AnyOp, CaseInput, Family } from "./op.ts";
import { elementCount, HostTensor } from "./tensor.ts";

/** A generator of numbers that depends on its seed alone (sfc32 by Chris Doty-Humphrey). */
export class Random {
  #a = 0;
  #b: number;
  #c: number;
  #counter = 1;

  /** Takes a 32-bit seed, and text that tells the streams of one seed apart. */
  constructor(seed: number, stream = "") {
    let hash = 2166136261; // FNV-1a
    for (let i = 0; i < stream.length; i++) {
      hash = Math.imul(hash ^ stream.charCodeAt(i), 16777619);
    }
    this.#b = seed >>> 0;
    this.#c = hash >>> 0;
    for (let i = 0; i < 12; i++) this.bits();
  }

  /** 32 random bits. */
  bits(): number {
    const result = (this.#a + this.#b + this.#counter++) | 0;
    this.#a = this.#b ^ (this.#b >>> 9);
    this.#b = (this.#c + (this.#c << 3)) | 0;
    this.#c = (((this.#c << 21) | (this.#c >>> 11)) + result) | 0;
    return result >>> 0;
  }

  /** Uniform in [0, 1). */
  uniform(): number {
    return this.bits() / 2 ** 32;
  }

  /** Standard normal (Box and Muller). */
  normal(): number {
    return Math.sqrt(-2 * Math.log(1 - this.uniform())) * Math.cos(2 * Math.PI * this.uniform());
  }

  /** A whole number from 0 to `below` − 1. */
  integer(below: number): number {
    return Math.floor(this.uniform() * below);
  }
}

/** One element; `column` is its index on the last axis, of `columns`. */
type Draw = (random: Random, column: number, columns: number) => number;

/** Distributions that find different faults; see the tolerance that goes with each. */
const DRAW: Readonly<Record<Family, Draw>> = {
  normal: (random) => random.normal(),
  uniform: (random) => 2 * random.uniform() - 1,
  positive: (random) => random.uniform(),
  large: (random) => 100 * random.normal(),
  outlier: (random, column, columns) =>
    random.normal() * (column === Math.floor(columns / 3) ? 800 : 1),
  cancelling: (random, column) => (column % 2 === 0 ? 1000 : -1000) + random.normal(),
  offset: (random) => 10_000 + random.normal(),
  subnormal: (random) => 1e-39 * random.normal(),
  constant: () => 0.7,
  zeros: (_random, column) => column % 2 === 0 ? 0 : -0,
};

/** Fills one tensor; u32 elements are drawn below `below`, which must then be given. */
export function drawTensor(input: CaseInput, family: Family, random: Random): HostTensor {
  const { shape, dtype } = input;
  if (input.values) return HostTensor.from(shape, input.values, dtype);
  const count = elementCount(shape);
  const numbers = new Float64Array(count);
  if (dtype === "u32") {
    const below = Math.max(1, input.below ?? 1);
    for (let i = 0; i < count; i++) numbers[i] = random.integer(below);
    // The ends of the range are where an off-by-one shows.
    if (count > 1) numbers[count - 1] = below - 1;
  } else {
    const columns = shape.at(-1) ?? 1;
    const draw = DRAW[input.family ?? family];
    for (let i = 0; i < count; i++) numbers[i] = draw(random, i % columns, columns);
  }
  return HostTensor.from(shape, numbers, dtype);
}

/** Draws every input of a case; the same seed gives the same numbers. */
export function drawInputs(op: AnyOp, testCase: AnyCase, seed: number): Named<HostTensor> {
  const inputs = testCase.inputs as Named<CaseInput>;
  const drawn: Record<string, HostTensor> = {};
  for (const name of op.inputs) {
    const input = inputs[name];
    if (input === undefined) continue;
    const random = new Random(seed, `${op.name}/${testCase.name}/${name}`);
    drawn[name] = drawTensor(input, testCase.family ?? "normal", random);
  }
  return drawn;
}
