/** The harness itself: a right kernel passes, and each kind of wrong one fails with a telling reason. */

import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import {
  GpuBackend,
  GpuDeviceLostError,
  KernelArgumentError,
  type Op,
  verifyKernel,
} from "../mod.ts";
import { sharedBackend } from "./device.ts";

/** y[r, c] = Σⱼ≤c x[r, j]: a sum with a shape, so that all the usual mistakes can be made. */
function runningSum(body: string, inputAccess = "read"): Op<"x", "y", object> {
  return {
    name: "running_sum",
    summary: "y[r, c] = Σⱼ≤c x[r, j]",
    inputs: ["x"],
    outputs: ["y"],
    attributes: [],
    infer: ({ x }) => ({ y: { shape: x.shape, dtype: "f32" } }),
    reference({ x }, _attributes, { y }, rows) {
      const columns = x.shape[1]!;
      for (const row of rows) {
        let sum = 0, scale = 0;
        for (let i = row * columns; i < (row + 1) * columns; i++) {
          sum += x.values[i]!;
          scale += Math.abs(x.values[i]!);
          y.values[i] = sum;
          y.scale[i] = scale;
        }
      }
    },
    variants: [{
      name: "naive",
      summary: "one row per invocation",
      supports: () => true,
      plan: ({ x }) => ({
        dispatches: [{
          kernel: {
            file: `running_sum/${hash(body)}.wgsl`,
            text: `struct Params { rows: u32, columns: u32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, ${inputAccess}> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;
@compute @workgroup_size(1)
fn running_sum(@builtin(workgroup_id) id: vec3<u32>) {
  let first = id.x * params.columns;
  let end = first + params.columns;
  var sum = 0.0;
  ${body}
}`,
          },
          params: { rows: x.shape[0]!, columns: x.shape[1]! },
          workgroups: [x.shape[0]!, 1, 1],
        }],
      }),
    }],
    work: () => ({ flop: 0, bytes: 0 }),
    tolerance: () => ({ units: 8, nmse: 1e-10 }),
    cases: [{
      name: "3 rows of 50",
      inputs: { x: { shape: [3, 50], dtype: "f32" } },
      attributes: {},
    }],
    benchCases: () => [],
  };
}

function hash(text: string): string {
  let value = 0;
  for (const letter of text) value = (Math.imul(value, 31) + letter.charCodeAt(0)) >>> 0;
  return value.toString(36);
}

const RIGHT = "for (var i = first; i < end; i++) { sum += x[i]; y[i] = sum; }";

async function verdict(op: Op<"x", "y", object>, maxRows?: number) {
  const options = maxRows === undefined ? { seed: 1 } : { seed: 1, maxRows };
  const [result] = await Array.fromAsync(verifyKernel(await sharedBackend(), op, options));
  return result!;
}

Deno.test("a right kernel passes, with its error statistics", async () => {
  const result = await verdict(runningSum(RIGHT));
  assertEquals([result.status, result.reason], ["pass", ""]);
  const { y } = result.outputs;
  assertEquals(y!.count, 150);
  assert(y!.boundShare > 0 && y!.boundShare < 1 && y!.nmse < 1e-10);
});

Deno.test("a large case is compared on a sample of its rows", async () => {
  const result = await verdict(runningSum(RIGHT), 2);
  assertEquals([result.status, result.sampledRows], ["pass", 2]);
  assertEquals(result.outputs.y!.count, 100);
});

const wrong: Readonly<Record<string, readonly [body: string, reason: string]>> = {
  "returns zeros": ["for (var i = first; i < end; i++) { y[i] = 0.0; }", "is 0, wanted"],
  "writes nothing": ["sum = x[0];", "y[0, 0] was never written"],
  "skips the last column": [RIGHT.replace("i < end", "i + 1u < end"), "y[0, 49] was never written"],
  "skips the last row": [`if (id.x + 1u < params.rows) { ${RIGHT} }`, "y[2, 0] was never written"],
  "is off by one": [RIGHT.replace("x[i]", "x[i + 1u]"), "of its bound"],
  "sums in f16": [RIGHT.replace("sum += x[i]", "sum = f32(f16(sum) + f16(x[i]))"), "of its bound"],
  "gives NaN in one place": [
    `${RIGHT} if (id.x == 1u) { y[first + 7u] = bitcast<f32>(0x7fc00000u | (first & 1u)); }`,
    "y[1, 7] is NaN",
  ],
};

for (const [name, [body, reason]] of Object.entries(wrong)) {
  Deno.test(`a kernel that ${name} fails`, async () => {
    const result = await verdict(runningSum(body));
    assertEquals(result.status, "fail");
    assertStringIncludes(result.reason, reason);
  });
}

Deno.test("a variant that does not exist is refused, rather than nothing verified", async () => {
  const backend = await sharedBackend();
  const options = { variants: ["fast"] };
  await assertRejects(
    () => Array.fromAsync(verifyKernel(backend, runningSum(RIGHT), options)),
    KernelArgumentError,
    "variants must be among naive: fast",
  );
});

Deno.test("a lost device ends the verification, and fails no kernel", async () => {
  using backend = await GpuBackend.create();
  backend.device.destroy();
  await assertRejects(
    () => Array.fromAsync(verifyKernel(backend, runningSum(RIGHT))),
    GpuDeviceLostError,
  );
});

Deno.test("a kernel that changes its input fails", async () => {
  const result = await verdict(runningSum(`${RIGHT} x[first] = 1.0;`, "read_write"));
  assertStringIncludes(result.reason, "input x was changed");
});

Deno.test("a kernel that changes its input in the second run only fails", async () => {
  const body = `let old = bitcast<u32>(y[first]);
  ${RIGHT}
  if (old == 0xffc0beefu) { x[first] = 1.0; }`;
  assertStringIncludes(
    (await verdict(runningSum(body, "read_write"))).reason,
    "input x was changed",
  );
});

Deno.test("a kernel that builds on what is in its output fails", async () => {
  const result = await verdict(runningSum(`${RIGHT} y[first] = y[end - 1u] + y[first] * 0.0;`));
  assertEquals(result.status, "fail");
  const replay = "for (var i = first; i < end; i++) { y[i] = y[i]; }";
  assertStringIncludes((await verdict(runningSum(replay))).reason, "was never written");
});

Deno.test("a kernel that does not compile fails with its place", async () => {
  const result = await verdict(runningSum("sum = nothing;"));
  assertEquals(result.status, "fail");
  assertStringIncludes(result.reason, ".wgsl:10:");
});
