// Verifies a WGSL kernel of one's own: RMSNorm, which is not in this library.
import { GpuBackend, type Op, verifyKernel } from "../mod.ts";

const rmsNorm: Op<"x", "y", { readonly epsilon: number }> = {
  name: "rms_norm",
  summary: "y = x / √(mean(x²) + ε)",
  inputs: ["x"],
  outputs: ["y"],
  attributes: ["epsilon"],
  infer: ({ x }) => ({ y: { shape: x.shape, dtype: "f32" } }),
  reference({ x }, { epsilon }, { y }, rows) {
    const columns = x.shape[1]!;
    for (const row of rows) {
      let sum = 0;
      for (let i = 0; i < columns; i++) sum += x.values[row * columns + i]! ** 2;
      for (let i = row * columns; i < (row + 1) * columns; i++) {
        y.values[i] = x.values[i]! / Math.sqrt(sum / columns + epsilon);
      }
    }
  },
  variants: [{
    name: "naive",
    summary: "one row per invocation",
    supports: () => true,
    plan: ({ x }, { epsilon }) => ({
      dispatches: [{
        kernel: {
          file: "rms_norm/naive.wgsl",
          text: `
struct Params { rows: u32, columns: u32, epsilon: f32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>; // [rows, columns]
@group(0) @binding(2) var<storage, read_write> y: array<f32>; // [rows, columns]

@compute @workgroup_size(64)
fn rms_norm(@builtin(global_invocation_id) id: vec3<u32>) {
  if (id.x >= params.rows) { return; }
  let first = id.x * params.columns;
  var sum = 0.0;
  for (var i = 0u; i < params.columns; i++) { sum += x[first + i] * x[first + i]; }
  let scale = inverseSqrt(sum / f32(params.columns) + params.epsilon);
  for (var i = 0u; i < params.columns; i++) { y[first + i] = scale * x[first + i]; }
}`,
        },
        params: { rows: x.shape[0]!, columns: x.shape[1]!, epsilon },
        workgroups: [Math.ceil(x.shape[0]! / 64), 1, 1],
      }],
    }),
  }],
  work: ({ x }) => ({ flop: 3 * x.shape[0]! * x.shape[1]!, bytes: 8 * x.shape[0]! * x.shape[1]! }),
  // A sum of n squares rounds n times at most; its root halves that, the rest adds a few units.
  tolerance: ({ x }) => ({ units: x.shape[1]! / 2 + 4 }),
  cases: [
    {
      name: "a row of 3B",
      inputs: { x: { shape: [1, 2560], dtype: "f32" } },
      attributes: { epsilon: 1e-5 },
    },
    {
      name: "65 rows of 33",
      inputs: { x: { shape: [65, 33], dtype: "f32" } },
      attributes: { epsilon: 1e-5 },
    },
  ],
  benchCases: () => [],
};

using backend = await GpuBackend.create();
for await (
  const { variant, case: name, status, reason, outputs } of verifyKernel(backend, rmsNorm)
) {
  console.log(
    `${status} ${variant}: ${name}: ${outputs.y?.boundShare.toFixed(3)} of its bound ${reason}`,
  );
}
