import { assert, assertEquals, assertStrictEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import { ropeTables } from "../kernels/rope/rope.ts";
import { StableLmConfig } from "../model/config.ts";
import { rotaryFrequencies, RotarySchedule } from "../model/rotary.ts";
import { KernelArgumentError } from "../runtime/errors.ts";
import golden from "./testdata/rotary_frequencies.json" with { type: "json" };

/**
 * Where PyTorch's vectorised power is rounded the other way: it is exact to a little more than half a ULP,
 * ours to half of one. Everything else is the same to the last bit.
 */
const ROUNDED_OTHERWISE: Readonly<Record<string, readonly string[]>> = {
  "default, 0.6 of 160": ["length 1, pair 20"],
  "dynamic, theta 1000000, head of 80": ["length 8192, pair 3"],
  "dynamic, theta 10000, head of 160": ["length 4097, pair 7"],
};

for (const { name, config, calls } of golden.cases) {
  Deno.test(`frequencies are Hugging Face's: ${name}`, () => {
    const schedule = new RotarySchedule(StableLmConfig.fromJson(config));
    const otherwise: string[] = [];
    for (const { length, ...expected } of calls) {
      const { inverseFrequencies, attentionScaling } = schedule.frequenciesFor(length);
      assertEquals(bitsOf([attentionScaling]), readBits(expected.attentionScaling));
      const bits = bitsOf(inverseFrequencies);
      readBits(expected.inverseFrequencies).forEach((wanted, pair, all) => {
        assertEquals(bits.length, all.length);
        // Of positive numbers, neighbours' bits are neighbours.
        const distance = Math.abs(bits[pair]! - wanted);
        if (distance !== 0) otherwise.push(`length ${length}, pair ${pair}`);
        assert(distance <= 1, `length ${length}, pair ${pair}: ${distance} ULP`);
      });
    }
    assertEquals(otherwise, ROUNDED_OTHERWISE[name] ?? []);
  });
}

Deno.test("frequencies of the plain kind make the tables that the op makes from theta", () => {
  for (const { config } of golden.cases.slice(0, 4)) {
    const parsed = StableLmConfig.fromJson(config);
    const { rotary_dim: rotaryDim, rope_parameters: { rope_theta: theta } } = parsed;
    const { inverseFrequencies, attentionScaling } = rotaryFrequencies(parsed, 1);
    const of = { rotaryDim, positions: 100, inverseFrequencies, attentionScaling };
    const { cos, sin } = ropeTables(of);
    const plain = ropeTables({ rotaryDim, positions: 100, theta });
    assertEquals([cos.values, sin.values], [plain.cos.values, plain.sin.values]);
  }
});

const DYNAMIC = StableLmConfig.fromJson({
  max_position_embeddings: 16,
  rope_scaling: { type: "dynamic", factor: 2 },
});
const LONG = StableLmConfig.fromJson({
  rope_scaling: {
    type: "longrope",
    short_factor: Array(10).fill(1),
    long_factor: Array(10).fill(2),
    original_max_position_embeddings: 8,
  },
});
const PLAIN = new StableLmConfig();

Deno.test("a dynamic base keeps its growth until a call below the model's length", () => {
  const lengths = fc.array(fc.integer({ min: 1, max: 40 }), { minLength: 1, maxLength: 30 });
  fc.assert(
    fc.property(lengths, (calls) => {
      const schedule = new RotarySchedule(DYNAMIC);
      // The rule as two steps over two states, which is how Hugging Face's code has it.
      let cached = 16;
      let current = 16;
      for (const length of calls) {
        const before = cached;
        if (length > cached) cached = current = length;
        if (length < 16 && before > 16) cached = current = 16;
        assertEquals(schedule.frequenciesFor(length), rotaryFrequencies(DYNAMIC, current));
      }
    }),
    { numRuns: 200 },
  );
});

Deno.test("without a past, frequencies depend on the length alone", () => {
  const of = (config: StableLmConfig, length: number) =>
    Array.from(rotaryFrequencies(config, length).inverseFrequencies);
  const plain = of(PLAIN, 1);
  assertEquals(of(DYNAMIC, 16), plain);
  assert(of(DYNAMIC, 17)[1]! < plain[1]!);
  assertEquals(of(LONG, 8), plain);
  assertEquals(of(LONG, 9), plain.map((frequency) => frequency / 2));
});

Deno.test("calls of equal frequencies share them, and their key", () => {
  for (
    const [config, calls, kinds] of [
      [PLAIN, [1, 4096, 5000], 1],
      [DYNAMIC, [1, 16, 20, 18, 30, 30, 3], 3],
      [LONG, [8, 9, 4096, 1], 2],
    ] as const
  ) {
    const schedule = new RotarySchedule(config);
    const seen = new Map<string, readonly number[]>();
    for (const length of calls) {
      const frequencies = schedule.frequenciesFor(length);
      assertStrictEquals(schedule.frequenciesFor(length), frequencies);
      const values = Array.from(frequencies.inverseFrequencies);
      assertEquals(seen.get(frequencies.key) ?? values, values);
      seen.set(frequencies.key, values);
    }
    assertEquals(seen.size, kinds);
    assertEquals(new Set(Array.from(seen.values(), String)).size, kinds);
  }
});

Deno.test("configs of other frequencies or scaling have other keys", () => {
  const keys = golden.cases.flatMap(({ config }) => {
    const { key, ...rest } = rotaryFrequencies(StableLmConfig.fromJson(config), 1);
    return [[key, JSON.stringify([Array.from(rest.inverseFrequencies), rest.attentionScaling])]];
  });
  const byKey = new Map<string, string>();
  for (const [key, values] of keys) {
    assertEquals(byKey.get(key!) ?? values, values);
    byKey.set(key!, values!);
  }
  assert(byKey.size > 40, `${byKey.size} keys`);
});

Deno.test("a length that is no whole number from 1 is refused, and leaves the past as it was", () => {
  const schedule = new RotarySchedule(DYNAMIC);
  const grown = schedule.frequenciesFor(30);
  for (const length of [0, -1, 1.5, NaN, Infinity, 2 ** 53]) {
    assertThrows(() => schedule.frequenciesFor(length), KernelArgumentError, String(length));
    assertThrows(() => rotaryFrequencies(DYNAMIC, length), KernelArgumentError, String(length));
  }
  assertStrictEquals(schedule.frequenciesFor(16), grown);
});

function bitsOf(numbers: Iterable<number>): number[] {
  return Array.from(new Uint32Array(Float32Array.from(numbers).buffer));
}

function readBits(text: string): number[] {
  return text.split(" ").map((word) => parseInt(word, 16));
}
