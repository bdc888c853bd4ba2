/** The GPU backend: what it checks, counts, caches and reports. */

import { assert, assertEquals, assertMatch, assertRejects, assertThrows } from "@std/assert";
import {
  CpuBackend,
  GpuBackend,
  GpuDeviceLostError,
  GpuFeatureError,
  GpuLimitError,
  GpuOutOfMemoryError,
  GpuShaderError,
  GpuUnavailableError,
  GpuValidationError,
  HostTensor,
  KernelArgumentError,
  type Op,
  type Plan,
} from "../mod.ts";
import { BufferPool, uploadBytes } from "../runtime/buffers.ts";
import type { OpenedDevice } from "../runtime/device.ts";
import { sharedBackend } from "./device.ts";

interface DoubleAttributes {
  readonly factor: number;
}

/** y = factor · x, with the WGSL left open so that tests can break it. */
function scaling(
  text = GOOD,
  constants: Record<string, number> = { WIDTH: 64 },
): Op<"x", "y", DoubleAttributes> {
  return {
    name: "scaling",
    summary: "y = factor · x",
    inputs: ["x"],
    outputs: ["y"],
    attributes: ["factor"],
    infer: ({ x }) => ({ y: { shape: x.shape, dtype: x.dtype } }),
    reference({ x }, { factor }, { y }) {
      for (let i = 0; i < y.values.length; i++) y.values[i] = factor * x.values[i]!;
    },
    variants: [{
      name: "naive",
      summary: "one element per invocation",
      supports: () => true,
      plan: ({ x }, { factor }) => ({
        dispatches: [{
          kernel: { file: `scaling/${text.length}.wgsl`, text },
          constants,
          params: { factor, count: x.shape[0]! },
          workgroups: [Math.ceil(x.shape[0]! / 64), 1, 1],
        }],
      }),
    }],
    work: () => ({ flop: 0, bytes: 0 }),
    tolerance: () => ({ units: 1 }),
    cases: [],
    benchCases: () => [],
  };
}

const GOOD = `// y = factor · x
override WIDTH: u32; // invocations
struct Params { factor: f32, count: u32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;
@compute @workgroup_size(WIDTH)
fn scaling(@builtin(global_invocation_id) id: vec3<u32>) {
  if (id.x < params.count) { y[id.x] = params.factor * x[id.x]; }
}`;

/** An op of two outputs whose shapes and plan a test makes up. */
function pair(
  shapes: { readonly y: readonly number[]; readonly z: readonly number[] },
  plan: Plan,
): Op<"x", "y" | "z", object> {
  return {
    name: "pair",
    summary: "y and z from x",
    inputs: ["x"],
    outputs: ["y", "z"],
    attributes: [],
    infer: () => ({
      y: { shape: shapes.y, dtype: "f32" },
      z: { shape: shapes.z, dtype: "f32" },
    }),
    reference() {},
    variants: [{ name: "naive", summary: "one", supports: () => true, plan: () => plan }],
    work: () => ({ flop: 0, bytes: 0 }),
    tolerance: () => "exact",
    cases: [],
    benchCases: () => [],
  };
}

/** Copies `source` to `output`, whatever they store. */
const COPY = {
  file: "pair/copy.wgsl",
  text: `// output = source
@group(0) @binding(1) var<storage, read> source: array<source_scalar>;
@group(0) @binding(2) var<storage, read_write> output: array<output_scalar>;
@compute @workgroup_size(1)
fn copy(@builtin(workgroup_id) id: vec3<u32>) { store_output(id.x, load_source(id.x)); }`,
};

const numbers = (count: number) =>
  HostTensor.from([count], Array.from({ length: count }, (_, i) => Math.sqrt(i)));

Deno.test("a chain of runs is recorded in order and read once", async () => {
  const backend = await sharedBackend();
  const op = scaling();
  using x = backend.upload(HostTensor.from([3], [1, 2, 3]));
  using a = backend.run(op, { x }, { factor: 2 }).y;
  using b = backend.run(op, { x: a }, { factor: 3 }).y;
  using c = backend.run(op, { x: b }, { factor: -1 }).y;
  assertEquals(Array.from((await backend.read(c)).numbers), [-6, -12, -18]);
});

Deno.test("more runs than one parameter arena holds are all done", async () => {
  const backend = await sharedBackend();
  const op = scaling();
  let x = backend.upload(HostTensor.from([1], [1]));
  for (let i = 0; i < 1000; i++) {
    const { y } = backend.run(op, { x }, { factor: i % 2 === 0 ? 2 : 0.5 });
    x[Symbol.dispose]();
    x = y;
  }
  assertEquals(Array.from((await backend.read(x)).numbers), [1]);
  x[Symbol.dispose]();
});

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

Deno.test("equal kernels are compiled once", async () => {
  using backend = await GpuBackend.create();
  using x = backend.upload(numbers(10));
  for (let i = 0; i < 5; i++) backend.run(scaling(), { x }, { factor: i }).y[Symbol.dispose]();
  assertEquals(backend.pipelineCount, 1);
  backend.run(scaling(GOOD, { WIDTH: 32 }), { x }, { factor: 1 }).y[Symbol.dispose]();
  assertEquals(backend.pipelineCount, 2);
});

Deno.test("bad tensors are refused before any GPU call, and the backend goes on", async () => {
  const backend = await sharedBackend();
  using other = await GpuBackend.create();
  const op = scaling();
  using x = backend.upload(numbers(4));
  using foreign = other.upload(numbers(4));
  const gone = backend.upload(numbers(4));
  gone[Symbol.dispose]();
  const before = backend.memory;
  const attributes = { factor: 1 };
  const refused = (body: () => unknown, words: string) =>
    assertThrows(body, KernelArgumentError, words);
  refused(() => backend.run(op, { x: gone }, attributes), "x must not be disposed: f32[4]");
  refused(() => backend.run(op, { x: foreign }, attributes), "must be a tensor of this backend");
  refused(() => backend.run(op, {} as { x: typeof x }, attributes), "x must be given: undefined");
  // What plain JavaScript can pass.
  const any = (value: unknown) => value as { x: typeof x };
  refused(() => backend.run(op, any(null), attributes), "inputs must be an object: null");
  refused(() => backend.run(op, any({ x: null }), attributes), "x must be a tensor: null");
  refused(() => backend.run(op, any({ x: numbers(4) }), attributes), "must be uploaded first");
  refused(() => backend.run(op, any({ x: [1] }), attributes), "of this backend: Array");
  const { run } = { run: backend.run.bind(backend) as (...args: unknown[]) => unknown };
  refused(() => run(op, { x }), "attributes must be an object: undefined");
  refused(
    () => backend.run(op, { x, z: x } as { x: typeof x }, attributes),
    "input z must be one of x: z",
  );
  refused(
    () => backend.run(op, { x }, { factor: 1, speed: 2 } as DoubleAttributes),
    "attribute speed must be one of factor: speed",
  );
  refused(() => backend.run(op, { x }, attributes, { variant: "fast" }), "one of naive: fast");
  await assertRejects(() => backend.read(gone), KernelArgumentError, "must not be disposed");
  for (const stranger of [foreign, numbers(4) as unknown as typeof x]) {
    await assertRejects(
      () => backend.read(stranger),
      KernelArgumentError,
      "must be a tensor of this backend",
    );
    refused(() => backend.run(op, { x: stranger }, attributes), "must be a tensor of this backend");
  }
  assertEquals(backend.memory, before);
  using y = backend.run(op, { x }, { factor: 2 }).y;
  assertEquals((await backend.read(y)).shape, [4]);
});

Deno.test("a shader that does not compile is reported as file:line:column", async () => {
  using backend = await GpuBackend.create();
  using x = backend.upload(numbers(4));
  const broken = GOOD.replace("params.factor * x[id.x]", "params.factor * nothing[id.x]");
  using y = backend.run(scaling(broken), { x }, { factor: 1 }).y;
  const error = await assertRejects(() => backend.read(y), GpuShaderError, "nothing");
  assertMatch(error.message, /scaling\/\d+\.wgsl:9:\d+/);
});

Deno.test("a kernel beyond the device's limits is refused, since Deno would run it", async () => {
  using backend = await GpuBackend.create();
  using x = backend.upload(numbers(4));
  const { maxComputeWorkgroupStorageSize: most } = backend.profile.limits;
  const hungry = GOOD.replace(
    "@compute",
    `var<workgroup> tile: array<f32, ${most / 4 + 1}>;\n@compute`,
  );
  assertThrows(
    () => backend.run(scaling(hungry), { x }, { factor: 1 }),
    GpuLimitError,
    `at most ${most} (maxComputeWorkgroupStorageSize): ${most + 16}`,
  );
  assertThrows(
    () => backend.run(scaling(GOOD, { WIDTH: 2048 }), { x }, { factor: 1 }),
    GpuLimitError,
    "maxComputeInvocationsPerWorkgroup",
  );
  assertThrows(
    () => backend.zeros({ shape: [2 ** 40], dtype: "f32" }),
    GpuLimitError,
    "maxBufferSize",
  );
});

Deno.test("a tensor that no binding can hold is refused with both sizes", async () => {
  using backend = await GpuBackend.create();
  const most = backend.profile.limits.maxStorageBufferBindingSize;
  if (most + 4 > backend.profile.limits.maxBufferSize) return;
  using x = backend.zeros({ shape: [most / 4 + 1], dtype: "f32" });
  const error = assertThrows(
    () => backend.run(scaling(), { x }, { factor: 1 }),
    KernelArgumentError,
    `must take at most ${most} bytes (maxStorageBufferBindingSize)`,
  );
  assertEquals(error.fault.value, `f32[${most / 4 + 1}] takes ${most + 4}`);
});

Deno.test("a kernel that needs a missing feature is refused by name", async () => {
  using backend = await GpuBackend.create({ without: ["subgroups", "shader-f16"] });
  assertEquals([backend.profile.hasSubgroups, backend.profile.hasF16], [false, false]);
  using x = backend.upload(numbers(4));
  const lanes = GOOD.replace("params.factor *", "subgroupAdd(params.factor) *");
  assertThrows(
    () => backend.run(scaling(lanes), { x }, { factor: 1 }),
    GpuFeatureError,
    "needs the feature subgroups",
  );
});

Deno.test("no adapter is a GpuUnavailableError", async () => {
  const gpu = { requestAdapter: () => Promise.resolve(null) } as unknown as GPU;
  const error = await assertRejects(() => GpuBackend.create({ gpu }), GpuUnavailableError);
  assertEquals(error.code, "gpu-unavailable");
});

Deno.test("an error that the device reports fails the next read", async () => {
  using backend = await GpuBackend.create();
  using x = backend.upload(numbers(4));
  backend.device.createBuffer({ size: 16, usage: 0x1 | 0x80 });
  await assertRejects(() => backend.read(x), GpuValidationError);
});

Deno.test("a lost device fails runs and reads as such", async () => {
  using backend = await GpuBackend.create();
  const x = backend.upload(numbers(4));
  backend.device.destroy();
  await backend.device.lost;
  await assertRejects(() => backend.read(x), GpuDeviceLostError);
  assertThrows(() => backend.run(scaling(), { x }, { factor: 1 }), GpuDeviceLostError);
});

Deno.test("a disposed backend says so", async () => {
  const backend = await GpuBackend.create();
  backend[Symbol.dispose]();
  assertThrows(() => backend.upload(numbers(1)), GpuDeviceLostError, "after dispose");
  assertThrows(() => backend.submit(), GpuDeviceLostError, "after dispose");
  await assertRejects(() => backend.finish(), GpuDeviceLostError, "after dispose");
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

Deno.test("timing a pass reads the device's clock and grows with the work", async () => {
  const backend = await sharedBackend();
  const op = scaling();
  using x = backend.upload(numbers(1 << 18));
  const repeat = (count: number) =>
    backend.time(() => {
      for (let i = 0; i < count; i++) backend.run(op, { x }, { factor: 2 }).y[Symbol.dispose]();
    });
  await repeat(1);
  const [few, many] = [await repeat(2), await repeat(60)];
  assert(many.wallSeconds > few.wallSeconds);
  if (backend.profile.hasTimestamps) assert(many.gpuSeconds! > 5 * few.gpuSeconds!);
});

Deno.test("a pass that cannot be timed leaves the backend as it was", async () => {
  using backend = await GpuBackend.create();
  const op = scaling();
  using x = backend.upload(numbers(4));
  const runs = (count: number) => {
    for (let i = 0; i < count; i++) backend.run(op, { x }, { factor: i }).y[Symbol.dispose]();
  };
  const tooMany = 20 * backend.maxTimedDispatches;
  await assertRejects(() => backend.time(() => runs(tooMany)), RangeError, "at most");
  runs(tooMany);
  await assertRejects(
    () => backend.time(() => backend.upload(numbers(4))[Symbol.dispose]()),
    RangeError,
    "something else ended it",
  );
  assert((await backend.time(() => runs(1))).wallSeconds > 0);
  assertEquals(backend.memory.liveTensors, 1);
});

Deno.test("a lost device fails a timing as such", async () => {
  using backend = await GpuBackend.create();
  using x = backend.upload(numbers(4));
  const timing = backend.time(() => {
    backend.run(scaling(), { x }, { factor: 1 }).y[Symbol.dispose]();
    backend.device.destroy();
  });
  await assertRejects(() => timing, GpuDeviceLostError);
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

Deno.test("an empty tensor is bound like an absent one, and does not stop the others", async () => {
  using backend = await GpuBackend.create();
  using x = backend.upload(numbers(3));
  const copy = {
    kernel: COPY,
    workgroups: [3, 1, 1] as const,
    bind: { source: "x", output: "y" },
  };
  const into = { ...copy, bind: { source: "x", output: "z" }, workgroups: [0, 1, 1] as const };
  using y = backend.run(pair({ y: [3], z: [0] }, { dispatches: [copy, into] }), { x }, {}).y;
  assertEquals((await backend.read(y)).numbers, numbers(3).numbers);
});

Deno.test("a dispatch may bind tensors under each other's names", async () => {
  using backend = await GpuBackend.create();
  if (!backend.profile.hasF16) return;
  using x = backend.upload(HostTensor.from([3], [1, 2, 3], "f32"));
  const text = COPY.text.replaceAll("source", "half").replaceAll("output", "x");
  const plan = {
    scratch: { half: { shape: [3], dtype: "f16" } },
    dispatches: [
      { kernel: COPY, workgroups: [3, 1, 1], bind: { source: "x", output: "half" } },
      // `half` is now the source, by the name of the input; `x` names what is written.
      { kernel: { ...COPY, text }, workgroups: [3, 1, 1], bind: { x: "y", half: "half" } },
    ],
  } as const;
  using y = backend.run(pair({ y: [3], z: [0] }, plan), { x }, {}).y;
  assertEquals(Array.from((await backend.read(y)).numbers), [1, 2, 3]);
});

Deno.test("kernels of one file name and different text are told apart", async () => {
  const backend = await sharedBackend();
  using x = backend.upload(numbers(4));
  const negated = GOOD.replace("params.factor *", "-params.factor*");
  assertEquals(negated.length, GOOD.length);
  using y = backend.run(scaling(), { x }, { factor: 2 }).y;
  using z = backend.run(scaling(negated), { x }, { factor: 2 }).y;
  assertEquals((await backend.read(y)).numbers[1], 2);
  assertEquals((await backend.read(z)).numbers[1], -2);
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

Deno.test("a tensor's shape is its own", async () => {
  const backend = await sharedBackend();
  const shape = [2, 2];
  using x = backend.zeros({ shape, dtype: "f32" });
  shape[0] = 100;
  assertEquals((await backend.read(x)).shape, [2, 2]);
});

Deno.test("the CPU backend rounds to the dtype and refuses like the GPU backend", async () => {
  using backend = new CpuBackend();
  const x = backend.upload(HostTensor.from([1], [1 / 3]));
  const { y } = backend.run(scaling(), { x }, { factor: 3 });
  assertEquals((await backend.read(y)).numbers[0], Math.fround(3 * Math.fround(1 / 3)));
  x[Symbol.dispose]();
  assertThrows(
    () => backend.run(scaling(), { x }, { factor: 3 }),
    KernelArgumentError,
    "must not be disposed",
  );
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

Deno.test("a parameter that the kernel does not have, or not of that type, is refused by name", async () => {
  using backend = await GpuBackend.create();
  using x = backend.upload(numbers(4));
  const misspelt = GOOD.replace("count: u32", "size: u32").replace("params.count", "params.size");
  assertThrows(
    () => backend.run(scaling(misspelt), { x }, { factor: 1 }),
    GpuShaderError,
    "Cannot dispatch scaling: parameters must be factor, size: factor, count",
  );
  const whole = GOOD.replace("factor: f32", "factor: u32").replace(
    "params.factor",
    "f32(params.factor)",
  );
  assertThrows(
    () => backend.run(scaling(whole), { x }, { factor: 1.5 }),
    GpuShaderError,
    "factor must be u32: 1.5",
  );
  assertEquals(backend.memory.liveTensors, 1);
});
