/** Memory of the GPU backend: uploads, reuse, views, counts, and what happens when it runs out. */

import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import {
  CpuBackend,
  GpuBackend,
  GpuLimitError,
  GpuOutOfMemoryError,
  GpuShaderError,
  HostTensor,
  KernelArgumentError,
  type Plan,
} from "../mod.ts";
import { BufferPool, sizeClass, uploadBytes } from "../runtime/buffers.ts";
import type { OpenedDevice } from "../runtime/device.ts";
import { sharedBackend } from "./device.ts";
import { COPY, numbers, pair, scaling } from "./scaling_op.ts";

Deno.test("an upload into a recycled buffer does not overtake recorded work", async () => {
  using backend = await GpuBackend.create();
  const op = scaling();
  const x = backend.upload(HostTensor.from([4], [1, 2, 3, 4]));
  using y = backend.run(op, { x }, { factor: 10 }).y;
  x[Symbol.dispose]();
  using other = backend.upload(HostTensor.from([4], [9, 9, 9, 9]));
  assertEquals(Array.from((await backend.read(y)).numbers), [10, 20, 30, 40]);
  assertEquals(Array.from((await backend.read(other)).numbers), [9, 9, 9, 9]);
});

Deno.test("bytes and tensors are counted and return to where they were", async () => {
  using backend = await GpuBackend.create();
  const op = scaling();
  for (let round = 0; round < 3; round++) {
    {
      using x = backend.upload(numbers(1000));
      using y = backend.run(op, { x }, { factor: 2 }).y;
      using z = backend.zeros({ shape: [10], dtype: "f16" });
      assertEquals(backend.memory.liveTensors, 3);
      assert(backend.memory.liveBytes >= 8000);
      await backend.read(y);
      assertEquals(Array.from((await backend.read(z)).numbers), Array(10).fill(0));
    }
    assertEquals([backend.memory.liveBytes, backend.memory.liveTensors], [0, 0]);
  }
  const { pooledBytes } = backend.memory;
  assert(pooledBytes > 0 && pooledBytes < 20_000, `${pooledBytes} bytes are pooled after 3 rounds`);
});

Deno.test("disposing twice gives a buffer back once", async () => {
  using backend = await GpuBackend.create();
  const x = backend.upload(numbers(10));
  x[Symbol.dispose]();
  x[Symbol.dispose]();
  assertEquals(backend.memory.liveTensors, 0);
});

Deno.test("uploads with a bad range or a detached source throw instead of aborting", async () => {
  const { device } = await sharedBackend();
  const buffer = device.createBuffer({ size: 16, usage: 0x8 | 0x80 });
  assertThrows(() => uploadBytes(device, buffer, 0, new Uint8Array(20)), RangeError, "16 bytes");
  assertThrows(() => uploadBytes(device, buffer, 2, new Uint8Array(4)), RangeError);
  const bytes = new Uint8Array(8);
  bytes.buffer.transfer();
  assertThrows(() => uploadBytes(device, buffer, 0, bytes), TypeError, "detached");
  buffer.destroy();
});

Deno.test("an upload is whole in every size, also past one chunk", async () => {
  const backend = await sharedBackend();
  for (const count of [1, 3, 63, 5_000_003]) {
    const bytes = HostTensor.from([count], new Float64Array(count).map((_, i) => i % 251), "f16");
    using x = backend.upload(bytes);
    const back = await backend.read(x);
    assertEquals(back.bytes.length, bytes.bytes.length);
    assert(back.bytes.every((byte, i) => byte === bytes.bytes[i]));
  }
});

Deno.test("a run that fails gives back everything that it took", async () => {
  using backend = await GpuBackend.create();
  using x = backend.upload(numbers(4));
  const { maxBufferSize, maxStorageBufferBindingSize, maxComputeWorkgroupsPerDimension } =
    backend.profile.limits;
  const dispatch = { kernel: COPY, workgroups: [1, 1, 1], bind: { source: "x", output: "y" } };
  const unbindable = { shape: [maxStorageBufferBindingSize / 4 + 1], dtype: "f32" } as const;
  const large = { shape: [maxBufferSize], dtype: "f32" } as const;
  const wide = [maxComputeWorkgroupsPerDimension + 1, 1, 1];
  const plans: object[] = [
    { scratch: { a: { shape: [4], dtype: "f32" }, b: large }, dispatches: [dispatch] },
    {
      scratch: { a: unbindable },
      dispatches: [{ ...dispatch, bind: { source: "x", output: "a" } }],
    },
    { dispatches: [dispatch, { ...dispatch, workgroups: wide }] },
    { dispatches: [dispatch, { ...dispatch, constants: { NONE: 1 } }] },
    { dispatches: [{ ...dispatch, bind: { source: "x", output: "nothing" } }] },
  ];
  const before = backend.memory;
  for (const plan of plans) {
    const error = assertThrows(() =>
      backend.run(pair({ y: [4], z: [4] }, plan as Plan), { x }, {})
    );
    assert(error instanceof GpuLimitError || error instanceof GpuShaderError, `${error}`);
    const { liveBytes, liveTensors } = backend.memory;
    assertEquals([liveBytes, liveTensors], [before.liveBytes, before.liveTensors]);
  }
  await backend.finish();
});

Deno.test("a buffer may be destroyed once its tensor is disposed, with work still recorded", async () => {
  using backend = await GpuBackend.create();
  const buffer = backend.device.createBuffer({ size: 16, usage: 0x4 | 0x8 | 0x80 });
  uploadBytes(backend.device, buffer, 0, HostTensor.from([4], [1, 2, 3, 4]).bytes);
  const x = backend.adopt({ shape: [4], dtype: "f32" }, { buffer, offset: 0, size: 16 });
  using y = backend.run(scaling(), { x }, { factor: 2 }).y;
  x[Symbol.dispose]();
  buffer.destroy();
  assertEquals(Array.from((await backend.read(y)).numbers), [2, 4, 6, 8]);
});

Deno.test("a buffer that the device refused is not handed out again", async () => {
  let memory = 1000;
  const destroyed: unknown[] = [];
  const device = {
    pushErrorScope() {},
    popErrorScope: () => Promise.resolve(memory < 0 ? { message: "none left" } : null),
    createBuffer({ size }: { size: number }) {
      memory -= size;
      const buffer = { size, destroy: () => destroyed.push(buffer) };
      return buffer;
    },
  };
  const profile = { limits: { maxBufferSize: 4096 } };
  const pool = new BufferPool({ device, profile } as unknown as OpenedDevice, () => {});
  const [first, second, third] = [pool.take(768), pool.take(768), pool.take(768)];
  pool.give(second);
  const waits = [pool.settle(), pool.settle()];
  for (const wait of waits) await assertRejects(() => wait, GpuOutOfMemoryError, "none left");
  pool.give(third);
  pool.give(first);
  assertEquals(destroyed, [second, third]);
  assertEquals(pool.use, { liveBytes: 0, liveTensors: 0, pooledBytes: 768 });
  assert(pool.take(768) === first);
  await pool.settle();
});

Deno.test("buffers are rounded up a little, and never past the largest", () => {
  const most = 2 ** 31 - 1;
  const rows = [[0, 256], [257, 512], [9000, 9216], [20_000_000, 20_185_088], [most - 3, most - 3]];
  for (const [bytes, size] of rows) assertEquals(sizeClass(bytes!, most), size);
  for (let bytes = 1; bytes < most; bytes = Math.ceil(1.37 * bytes)) {
    const size = sizeClass(bytes, most);
    const waste = (size - bytes) / bytes;
    assert(size >= bytes && (bytes <= 2048 || waste <= (bytes < 16 * 2 ** 20 ? 1 / 8 : 1 / 64)));
  }
});

Deno.test("a device is opened with known options only", async () => {
  const wrong = [{ witout: [] }, { without: ["shader_f16"] }];
  for (const options of wrong) {
    await assertRejects(
      () => GpuBackend.create(options as never),
      KernelArgumentError,
      "must be one of",
    );
  }
});

Deno.test("a tensor shows itself in short", async () => {
  const host = HostTensor.from([2, 4], [1, 2.5, -3, 0, 1 / 3, 6, 7, 8], "f16");
  assertEquals(Deno.inspect(host), "HostTensor f16[2, 4] { 1, 2.5, -3, 0, 0.333252, 6, … }");
  const backend = await sharedBackend();
  using gpu = backend.upload(host);
  assertEquals(Deno.inspect(gpu), "GpuTensor f16[2, 4]");
});

Deno.test("a tensor's shape is its own", async () => {
  const backend = await sharedBackend();
  const shape = [2, 2];
  using x = backend.zeros({ shape, dtype: "f32" });
  shape[0] = 100;
  assertEquals((await backend.read(x)).shape, [2, 2]);
});

Deno.test("a reshaped tensor shares its elements, and the memory lasts as long as either", async () => {
  using gpu = await GpuBackend.create();
  using cpu = new CpuBackend();
  const host = HostTensor.from([2, 3], [1, 2, 3, 4, 5, 6]);
  for (const shape of [[3, 2], [6], [1, 2, 3, 1]]) {
    const x = gpu.upload(host);
    using view = gpu.reshape(x, shape);
    x[Symbol.dispose]();
    assertEquals([gpu.memory.liveTensors, view.shape, view.disposed], [1, shape, false]);
    assertEquals(Array.from((await gpu.read(view)).numbers), [1, 2, 3, 4, 5, 6]);
    assertEquals(cpu.reshape(host, shape).shape, shape);
  }
  assertEquals(gpu.memory.liveTensors, 0);
  using x = gpu.upload(host);
  for (
    const backend of [{ reshape: gpu.reshape.bind(gpu, x) }, {
      reshape: cpu.reshape.bind(cpu, host),
    }]
  ) {
    const { reshape } = backend;
    assertThrows(
      () => reshape([7]),
      KernelArgumentError,
      "must have 6 elements, as the tensor is f32[2, 3]",
    );
    assertThrows(() => reshape([-1, -6]), KernelArgumentError, "whole numbers from 0");
  }
});

Deno.test("u32 tensors reshaped keep their bound", async () => {
  const backend = await sharedBackend();
  using ids = backend.upload(HostTensor.from([4], [0, 9, 1, 2], "u32"));
  using view = backend.reshape(ids, [2, 2]);
  assertEquals(view.below, 10);
});
