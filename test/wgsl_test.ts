import { assert, assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { GpuShaderError, HostTensor, type Op } from "../mod.ts";
import { specialize, withoutComments } from "../runtime/wgsl.ts";
import { sharedBackend } from "./device.ts";

const NAGA = { enableSubgroups: false };
const TINT = { enableSubgroups: true };

const kernel = {
  file: "example/copy.wgsl",
  text: `// y = x
override WIDTH: u32; // invocations
const TILE = WIDTH * (2u + 1u);
struct Params {
  count: u32, // elements
  scale: f32,
}
// @group(0) @binding(9) var<storage, read> no: array<u32>;
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(2) var<storage, read_write> y: array<y_scalar>; // [count]
@group(0) @binding(1) var<storage, read> x: array<x_vec4>; // [count]
var<workgroup> tile: array<vec4<f32>, TILE>;
var<workgroup> total: f32;
@compute @workgroup_size(WIDTH, 2)
fn example(@builtin(local_invocation_index) i: u32) {
  store_y(i, params.scale * load_x4(i).x);
}
`,
};

Deno.test("specialize() reads bindings, parameters, sizes and workgroup memory from the file", () => {
  const made = specialize(kernel, { WIDTH: 8 }, { x: "f32", y: "f32" }, NAGA);
  assertEquals(
    made.bindings.map(({ name, index, access, flexible }) => [
      name,
      index,
      access,
      flexible,
    ]),
    [["x", 1, "read", "vec4"], ["y", 2, "read_write", "scalar"]],
  );
  assertEquals(made.params.map(({ name, type }) => `${name}: ${type}`), [
    "count: u32",
    "scale: f32",
  ]);
  assertEquals(made.workgroupSize, [8, 2, 1]);
  assertEquals(made.workgroupBytes, 8 * 3 * 16 + 16);
  assertEquals([made.entryPoint, made.usesF16, made.usesSubgroups], ["example", false, false]);
});

Deno.test("specialize() keeps every line where it is in the file", () => {
  const made = specialize(kernel, { WIDTH: 8 }, { x: "f32", y: "f16" }, NAGA);
  const lines = made.code.split("\n"), own = kernel.text.split("\n");
  assertStringIncludes(lines[0]!, "enable f16; ");
  assertEquals(lines[1], "const WIDTH: u32 = 8u; // invocations");
  for (let i = 2; i < own.length - 1; i++) assertEquals(lines[i], own[i]);
});

Deno.test("specialize() refuses unknown and missing constants and unfit dtypes", () => {
  const dtypes = { x: "f32", y: "f32" } as const;
  assertThrows(() => specialize(kernel, {}, dtypes, NAGA), GpuShaderError, "WIDTH needs a value");
  assertThrows(
    () => specialize(kernel, { WIDTH: 8, HEIGHT: 1 }, dtypes, NAGA),
    GpuShaderError,
    "no override is named HEIGHT",
  );
  assertThrows(
    () => specialize(kernel, { WIDTH: 8 }, { x: "f32" }, NAGA),
    GpuShaderError,
    "binding y has no tensor",
  );
  assertThrows(
    () => specialize(kernel, { WIDTH: 8 }, { x: "f32", y: "bf16" }, NAGA),
    GpuShaderError,
    "cannot hold bf16",
  );
});

Deno.test("specialize() refuses what it cannot size, and a fixed binding without a tensor", () => {
  const dtypes = { x: "f32", y: "f32" } as const;
  const shifted = { ...kernel, text: kernel.text.replace("vec4<f32>, TILE>", "f32, TILE << 3u>") };
  assertThrows(
    () => specialize(shifted, { WIDTH: 8 }, dtypes, NAGA),
    GpuShaderError,
    "cannot evaluate TILE << 3u",
  );
  const fixed = { ...kernel, text: kernel.text.replace("array<x_vec4>", "array<vec4<f32>>") };
  assertThrows(
    () => specialize(fixed, { WIDTH: 8 }, { y: "f32" }, NAGA),
    GpuShaderError,
    "binding x has no tensor",
  );
});

Deno.test("specialize() writes every finite f32 constant as WGSL", () => {
  const text = "override LEAST: f32;\n" + kernel.text;
  const code = (value: number) =>
    specialize(
      { ...kernel, text },
      { WIDTH: 8, LEAST: value },
      { x: "f32", y: "f32" },
      NAGA,
    ).code.split("\n")[0];
  assertEquals(code(2), "const LEAST: f32 = 2.0;");
  assertEquals(code(1e-7), "const LEAST: f32 = 1e-7;");
  assertEquals(code(-1e38), "const LEAST: f32 = -1e+38;");
});

Deno.test("subgroups are enabled by name for Tint only", () => {
  const text = kernel.text.replace("load_x4(i).x", "subgroupAdd(load_x4(i).x)");
  const file = { file: kernel.file, text };
  const dtypes = { x: "f32", y: "f32" } as const;
  const tint = specialize(file, { WIDTH: 8 }, dtypes, TINT);
  const naga = specialize(file, { WIDTH: 8 }, dtypes, NAGA);
  assert(tint.usesSubgroups && naga.usesSubgroups);
  assert(tint.code.startsWith("enable subgroups; "));
  assert(!naga.code.includes("enable"));
});

Deno.test("withoutComments() keeps every character in its place", () => {
  assertEquals(withoutComments("a // b\n/* c\n d */ e"), "a     \n    \n      e");
});

const storage: Op<"x", "y", object> = {
  name: "widen",
  summary: "y = x",
  inputs: ["x"],
  outputs: ["y"],
  attributes: [],
  infer: ({ x }) => ({ y: { shape: x.shape, dtype: "f32" } }),
  reference({ x }, _attributes, { y }) {
    y.values.set(Array.from(x.values));
  },
  variants: [{
    name: "naive",
    summary: "one element per invocation",
    supports: () => true,
    plan: ({ x }) => ({
      dispatches: [{
        kernel: {
          file: "widen/naive.wgsl",
          text: `@group(0) @binding(1) var<storage, read> x: array<x_scalar>;
            @group(0) @binding(2) var<storage, read_write> y: array<y_scalar>;
            @compute @workgroup_size(1)
            fn widen(@builtin(workgroup_id) id: vec3<u32>) { store_y(id.x, load_x(id.x)); }`,
        },
        workgroups: [x.shape[0]!, 1, 1],
      }],
    }),
  }],
  work: () => ({ flop: 0, bytes: 0 }),
  tolerance: () => "exact",
  cases: [],
  benchCases: () => [],
};

Deno.test("every f16 and bf16 number is read exactly", async () => {
  const backend = await sharedBackend();
  const bits = new Uint16Array(65536).map((_, i) => i);
  const tensors: HostTensor[] = [
    new HostTensor([65535], new Float16Array(bits.slice(0, 65535).buffer), "f16"),
    new HostTensor([65535], bits.slice(0, 65535), "bf16"),
  ];
  for (const tensor of tensors) {
    using x = backend.upload(tensor);
    using y = backend.run(storage, { x }, {}).y;
    const got = (await backend.read(y)).numbers, wanted = tensor.numbers;
    for (let i = 0; i < wanted.length; i++) {
      // WGSL lets an implementation flush subnormals and do as it likes with NaN and infinities.
      const isOrdinary = Number.isFinite(wanted[i]) && Math.abs(wanted[i]!) >= 2 ** -126;
      if (isOrdinary) assertEquals(got[i], wanted[i], `${tensor.dtype} bits ${i}`);
    }
  }
});
