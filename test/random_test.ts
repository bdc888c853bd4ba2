/** Random numbers: the published generator, and what is made of its bits. */

import { assert, assertEquals, assertThrows } from "@std/assert";
import {
  CounterRandom,
  gumbelOf,
  LARGEST_GUMBEL,
  philox4x32,
  uniformOf,
} from "../model/generation/random.ts";
import { ModelInputError } from "../runtime/errors.ts";

/** Counter, key and result as Random123 publishes them for philox4x32 with 10 rounds. */
const KNOWN = [
  [
    "00000000 00000000 00000000 00000000",
    "00000000 00000000",
    "6627e8d5 e169c58d bc57ac4c 9b00dbd8",
  ],
  [
    "ffffffff ffffffff ffffffff ffffffff",
    "ffffffff ffffffff",
    "408f276d 41c83b0e a20bc7c6 6d5451fd",
  ],
  [
    "243f6a88 85a308d3 13198a2e 03707344",
    "a4093822 299f31d0",
    "d16cfe09 94fdcceb 5001e420 24126ea1",
  ],
] as const;

Deno.test("Philox gives the numbers that its authors publish", () => {
  const words = (text: string) => text.split(" ").map((word) => parseInt(word, 16));
  for (const [counter, key, expected] of KNOWN) {
    const into = new Uint32Array(4);
    philox4x32(
      ...words(counter) as [number, number, number, number],
      ...words(key) as [number, number],
      into,
    );
    assertEquals([...into], words(expected));
  }
});

Deno.test("Philox multiplies as exact arithmetic does", () => {
  const exact = (counter: readonly bigint[], key: readonly bigint[]) => {
    let [[w0, w1, w2, w3], [k0, k1]] = [counter, key] as [bigint[], bigint[]];
    for (let round = 0; round < 10; round++) {
      const [p0, p1] = [w0! * 0xd2511f53n, w2! * 0xcd9e8d57n];
      [w0, w1, w2, w3] = [(p1 >> 32n) ^ w1! ^ k0!, p1, (p0 >> 32n) ^ w3! ^ k1!, p0];
      [w0, w1, w2, w3] = [w0, w1, w2, w3].map((word) => BigInt.asUintN(32, word!));
      k0 = BigInt.asUintN(32, k0! + 0x9e3779b9n);
      k1 = BigInt.asUintN(32, k1! + 0xbb67ae85n);
    }
    return [w0, w1, w2, w3].map(Number);
  };
  // Words with long runs of ones, whose partial products carry.
  const edges = [0, 1, 0xffff, 0x10000, 0x7fffffff, 0x80000000, 0xffff0000, 0xffffffff];
  const into = new Uint32Array(4);
  for (const a of edges) {
    for (const b of edges) {
      philox4x32(a, b, b ^ a, a, b, a, into);
      const counter = [a, b, (b ^ a) >>> 0, a].map(BigInt);
      assertEquals([...into], exact(counter, [b, a].map(BigInt)));
    }
  }
});

Deno.test("seed, purpose, row, step and index are where the generator's words say", () => {
  const into = new Uint32Array(4);
  philox4x32(5, 7, 3, 1, 0x89abcdef, 0x01234567, into);
  const random = new CounterRandom(0x0123456789abcdefn);
  const words = new Uint32Array(4);
  random.block("beam", 3, 7, 5, words);
  assertEquals(words, into);
  for (let lane = 0; lane < 4; lane++) {
    assertEquals(random.uniform("beam", 3, 7, 4 * 5 + lane), uniformOf(into[lane]!));
  }
});

Deno.test("numbers of other seeds, purposes, rows, steps and indices are others", () => {
  const seen = new Set<number>();
  for (const seed of [0, 1, 2n ** 32n, 2n ** 64n - 1n]) {
    const random = new CounterRandom(seed);
    assertEquals(random.seed, BigInt(seed));
    for (const purpose of ["draw", "beam", "draft", "accept"] as const) {
      for (let row = 0; row < 4; row++) {
        for (let step = 0; step < 4; step++) {
          for (let index = 0; index < 8; index++) {
            seen.add(random.uniform(purpose, row, step, index));
          }
        }
      }
    }
    assertEquals(random.uniform("accept", 2, 9), random.uniform("accept", 2, 9, 0));
  }
  assertEquals(seen.size, 4 * 4 * 4 * 4 * 8);
});

Deno.test("a seed is a whole number of 64 bits", () => {
  for (const seed of [-1, 0.5, NaN, Infinity, 2 ** 53, -1n, 2n ** 64n]) {
    const error = assertThrows(() => new CounterRandom(seed), ModelInputError, "seed must be");
    assertEquals(error.fault.argument, "seed");
  }
});

Deno.test("bits become f32 numbers above 0 and below 1, evenly", () => {
  assertEquals(uniformOf(0), 2 ** -33);
  assertEquals(uniformOf(1), 1.5 * 2 ** -32);
  assertEquals(uniformOf(0x80000000), 0.5);
  assertEquals(uniformOf(0xffffffff), 1 - 2 ** -24);
  let before = 0;
  for (let bits = 0; bits < 2 ** 32; bits += 9973 * 100) {
    const uniform = uniformOf(bits);
    assert(uniform > before && uniform < 1 && Math.fround(uniform) === uniform, `${bits}`);
    assert(Math.abs(uniform - bits / 2 ** 32) < 2 ** -24, `${bits} becomes ${uniform}`);
    before = uniform;
  }
  assertEquals(LARGEST_GUMBEL, gumbelOf(2 ** -33));
  assert(Number.isFinite(gumbelOf(1 - 2 ** -24)));
});

Deno.test("Gumbel numbers have the mean and the variance of their distribution", () => {
  const random = new CounterRandom(11);
  const count = 40_000;
  const numbers = Array.from(
    { length: count },
    (_, i) => gumbelOf(random.uniform("draw", 0, 0, i)),
  );
  const mean = numbers.reduce((sum, g) => sum + g, 0) / count;
  const variance = numbers.reduce((sum, g) => sum + (g - mean) ** 2, 0) / count;
  // Euler's constant and π²/6, within four standard errors: √(π²/6 / n) and √((5.4 − 1) / n) · π²/6.
  assert(Math.abs(mean - 0.5772157) < 4 * Math.sqrt(1.645 / count), `mean ${mean}`);
  assert(Math.abs(variance - 1.6449341) < 4 * 1.645 * Math.sqrt(4.4 / count), `${variance}`);
});
