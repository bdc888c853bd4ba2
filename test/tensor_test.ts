import { assert, assertEquals, assertThrows } from "@std/assert";
import { Buffer } from "node:buffer";
import { byteLength, CpuBackend, HostTensor, KernelArgumentError } from "../mod.ts";
import { fromBfloat16, toBfloat16 } from "../mod.ts";
import fc from "fast-check";

Deno.test("byteLength() packs two 16-bit elements a word and rounds up", () => {
  assertEquals(byteLength({ shape: [3], dtype: "f16" }), 8);
  assertEquals(byteLength({ shape: [2, 2], dtype: "bf16" }), 8);
  assertEquals(byteLength({ shape: [], dtype: "f32" }), 4);
  assertEquals(byteLength({ shape: [0, 7], dtype: "f32" }), 0);
});

Deno.test("reserved and unknown dtypes are refused by name", () => {
  for (const dtype of ["q8", "q4", "f64"]) {
    const error = assertThrows(
      () => HostTensor.from([1], [1], dtype as "f32"),
      KernelArgumentError,
      dtype,
    );
    assertEquals(error.code, "kernel-argument");
  }
});

Deno.test("HostTensor refuses shapes and values that do not fit", () => {
  for (const shape of [[-1], [1.5], [NaN], [2 ** 53]]) {
    assertThrows(() => new HostTensor(shape, new Float32Array(1)), KernelArgumentError, "shape");
  }
  assertThrows(
    () => new HostTensor([2, 2], new Float32Array(3)),
    KernelArgumentError,
    "must have 4 elements, as shape is [2, 2]: 3 elements",
  );
  assertThrows(
    () => new HostTensor([1], new Uint16Array(1), "f16"),
    KernelArgumentError,
    "stored as f16",
  );
});

Deno.test("an integer tensor takes whole numbers that it can hold, and no other", () => {
  for (const value of [-1, 1.5, NaN, 2 ** 32]) {
    assertThrows(
      () => HostTensor.from([2], [0, value], "u32"),
      KernelArgumentError,
      `element 1 must be a whole u32: ${value}`,
    );
  }
  assertEquals(Array.from(HostTensor.from([2], [-1, 2 ** 31 - 1], "i32").numbers), [
    -1,
    2 ** 31 - 1,
  ]);
});

Deno.test("HostTensor.below bounds u32 values from above", () => {
  assertEquals(HostTensor.from([3], [0, 7, 2], "u32").below, 8);
  assertEquals(HostTensor.from([1], [0], "u32").below, 1);
  assertEquals(HostTensor.from([0], [], "u32").below, 0);
  assertEquals(HostTensor.from([1], [1], "f32").below, undefined);
});

Deno.test("HostTensor.below follows elements that are set later", () => {
  const ids = HostTensor.from([2], [0, 1], "u32");
  ids.values[0] = 99;
  assertEquals(ids.below, 100);
  using cpu = new CpuBackend();
  assertEquals(cpu.upload(ids).below, 100);
});

Deno.test("HostTensor refuses arrays that stand for no dtype", () => {
  for (const values of [new Float64Array(1), new Uint8Array(1), new BigUint64Array(1), [1], null]) {
    assertThrows(
      () => new HostTensor([1], values as unknown as Float32Array<ArrayBuffer>),
      KernelArgumentError,
      "values must be a Float32Array",
    );
  }
});

Deno.test("HostTensor.fromBytes() copies a part of Node's Buffer", () => {
  const file = Buffer.concat([new Uint8Array(4), HostTensor.from([2], [1, 2]).bytes]);
  const tensor = HostTensor.fromBytes({ shape: [2], dtype: "f32" }, file.subarray(4));
  file.fill(0);
  assertEquals(Array.from(tensor.numbers), [1, 2]);
});

Deno.test("CpuBackend.zeros() refuses a bad shape as GpuBackend does", () => {
  using cpu = new CpuBackend();
  for (const shape of [[-1], [1.5], [NaN]]) {
    assertThrows(() => cpu.zeros({ shape, dtype: "f32" }), KernelArgumentError, "shape");
  }
});

Deno.test("bf16 rounds to nearest even and keeps NaN", () => {
  assertEquals(toBfloat16(1), 0x3f80);
  assertEquals(toBfloat16(1 + 2 ** -8), 0x3f80, "a tie goes to the even neighbour");
  assertEquals(toBfloat16(1 + 3 * 2 ** -8), 0x3f82, "a tie goes to the even neighbour");
  assertEquals(toBfloat16(Infinity), 0x7f80);
  assertEquals(toBfloat16(3.4e38), 0x7f80, "above the largest it becomes infinite");
  assert(Number.isNaN(fromBfloat16(toBfloat16(NaN))));
});

Deno.test("bf16 is the nearest of all bf16 numbers", () => {
  fc.assert(
    fc.property(
      fc.float({ noNaN: true, min: Math.fround(-1e30), max: Math.fround(1e30) }),
      (value) => {
        const bits = toBfloat16(value);
        const error = Math.abs(fromBfloat16(bits) - value);
        for (const other of [bits - 1, bits + 1]) {
          const neighbour = fromBfloat16(other & 0xffff);
          if (Number.isFinite(neighbour)) assert(error <= Math.abs(neighbour - value));
        }
      },
    ),
  );
});

Deno.test("bytes and values survive a round trip in every dtype", () => {
  for (const dtype of ["f32", "f16", "bf16", "i32", "u32"] as const) {
    const tensor = HostTensor.from([2, 3], [1, 2, 3, 4, 5, 6], dtype);
    const copy = HostTensor.fromBytes(tensor, tensor.bytes);
    assertEquals(Array.from(copy.numbers), [1, 2, 3, 4, 5, 6]);
    assert(copy.values.buffer !== tensor.values.buffer);
  }
});

Deno.test("a disposed tensor cannot be read", () => {
  const tensor = HostTensor.from([1], [1]);
  tensor[Symbol.dispose]();
  assert(tensor.disposed);
  assertThrows(() => tensor.values, KernelArgumentError, "must not be disposed");
});
