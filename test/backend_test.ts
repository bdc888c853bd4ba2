/** The GPU backend: what it checks, caches, times and reports. */

import { assert, assertEquals, assertMatch, assertRejects, assertThrows } from "@std/assert";
import {
  CpuBackend,
  GpuBackend,
  GpuDeviceLostError,
  GpuFeatureError,
  GpuLimitError,
  GpuShaderError,
  GpuUnavailableError,
  GpuValidationError,
  HostTensor,
  KernelArgumentError,
} from "../mod.ts";
import { sharedBackend } from "./device.ts";
import { COPY, GOOD, numbers, pair, scaling, type ScalingAttributes } from "./scaling_op.ts";

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
    () => backend.run(op, { x }, { factor: 1, speed: 2 } as ScalingAttributes),
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
