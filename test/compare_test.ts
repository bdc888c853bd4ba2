import { assert, assertAlmostEquals, assertEquals } from "@std/assert";
import { compare, HostTensor, type ReferenceOutput, ulp } from "../mod.ts";

function reference(values: number[], scale = NaN): ReferenceOutput {
  return {
    shape: [values.length],
    values: Float64Array.from(values),
    scale: new Float64Array(values.length).fill(scale),
  };
}

Deno.test("ulp() is the distance between neighbours", () => {
  assertEquals(ulp("f32", 1), 2 ** -23);
  assertEquals(ulp("f32", -2), 2 ** -22);
  assertEquals(ulp("f32", 0), 2 ** -149);
  assertEquals(ulp("f16", 1), 2 ** -10);
  assertEquals(ulp("f16", 2 ** -20), 2 ** -24);
  assertEquals(ulp("bf16", 1), 2 ** -7);
});

Deno.test("compare() measures the share of the bound against the scale of the sum", () => {
  const got = new HostTensor([2], new Float32Array([1, 2 ** -20]));
  const outcome = compare(got, reference([1, 0], 8), { units: 4 });
  assertAlmostEquals(outcome.boundShare, 2 ** -20 / (4 * 2 ** -24 * 8));
  assert(outcome.passed);
  assertEquals(outcome.worstIndex, [1]);
});

Deno.test("compare() fails an element outside its bound and says which", () => {
  const got = new HostTensor([2, 2], new Float32Array([1, 2, 3, 5]));
  const wanted = { ...reference([1, 2, 3, 4]), shape: [2, 2] };
  const outcome = compare(got, wanted, { units: 4 });
  assert(!outcome.passed);
  assertEquals([outcome.worstIndex, outcome.got, outcome.wanted], [[1, 1], 5, 4]);
  assertEquals(outcome.misses, 1);
});

Deno.test("compare() fails NaN and infinity where the reference is finite, and zeros", () => {
  for (const bad of [NaN, Infinity, -Infinity, 0]) {
    const got = new HostTensor([1], new Float32Array([bad]));
    assert(!compare(got, reference([1], 1), { units: 8 }).passed, `${bad} passed`);
  }
  const nothing = new HostTensor([1], new Float32Array([NaN]));
  assert(compare(nothing, reference([NaN]), { units: 0 }).passed);
});

Deno.test("compare() with exact takes the same value only", () => {
  const next = 1 + 2 ** -23;
  const got = new HostTensor([1], new Float32Array([next]));
  assert(compare(got, reference([next]), "exact").passed);
  assert(!compare(got, reference([1]), "exact").passed);
  const half = HostTensor.from([1], [1 + 2 ** -10], "f16");
  assert(!compare(half, reference([1]), "exact").passed);
  assert(compare(half, reference([1]), { units: 0 }).passed, "a stored f16 may round either way");
});

Deno.test("compare() holds the NMSE to its gate although every element is within bounds", () => {
  const got = new HostTensor([2], new Float32Array([1.001, 1.001]));
  const loose = { units: 1e6 };
  assert(compare(got, reference([1, 1]), loose).passed);
  const outcome = compare(got, reference([1, 1]), { ...loose, nmse: 1e-10 });
  assert(!outcome.passed && outcome.nmseShare > 1);
});

Deno.test("compare() looks at the given rows only", () => {
  const got = new HostTensor([2, 2], new Float32Array([9, 9, 3, 4]));
  const wanted = { ...reference([1, 2, 3, 4]), shape: [2, 2] };
  assert(compare(got, wanted, "exact", [1]).passed);
  assertEquals(compare(got, wanted, "exact", [1]).count, 2);
});

Deno.test("compare() counts no row that a smaller output has not", () => {
  const got = new HostTensor([1, 2], new Float32Array([1, 2]));
  const wanted = { ...reference([1, 2]), shape: [1, 2] };
  assertEquals(compare(got, wanted, "exact", [0, 3]).count, 2);
});

Deno.test("compare() with exact asks for the reference rounded to the stored dtype", () => {
  const third = HostTensor.from([1], [1 / 3], "f16");
  assert(compare(third, reference([1 / 3]), "exact").passed);
  const below = HostTensor.from([1], [third.numbers[0]! - 2 ** -12], "f16");
  assert(!compare(below, reference([1 / 3]), "exact").passed);
  const zero = new HostTensor([1], new Float32Array([0]));
  assert(!compare(zero, reference([-0]), "exact").passed);
});

Deno.test("compare() takes an element of scale 0 for a copy", () => {
  const half = HostTensor.from([2], [1, 1 + 2 ** -10], "f16");
  assert(!compare(half, reference([1, 1], 0), { units: 8 }).passed);
  assert(compare(half, reference([1, 1 + 2 ** -10], 0), { units: 8 }).passed);
  const loose = { units: 8, absolute: 1 };
  assert(!compare(half, reference([1, 1], 0), loose).passed, "a copy has no absolute part either");
});
