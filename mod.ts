/**
 * WebGPU compute kernels for StableLM, with the references that they are verified against, and the models
 * that are assembled from them.
 *
 * Importing this module compiles nothing and touches no GPU; `GpuBackend.create()` does the first, and
 * the first run of an op compiles its kernel.
 *
 * @module
 */

export * from "./kernels/mod.ts";
export { ops } from "./kernels/ops.ts";
export * from "./model/mod.ts";
export type { Backend, Named } from "./runtime/backend.ts";
export type { MemoryUse } from "./runtime/buffers.ts";
export { compare, type Comparison, coordinates, ulp } from "./runtime/compare.ts";
export { CpuBackend } from "./runtime/cpu_backend.ts";
export type { DeviceLimits, DeviceOptions, DeviceProfile } from "./runtime/device.ts";
export * from "./runtime/errors.ts";
export { GpuBackend, type RunOptions } from "./runtime/gpu_backend.ts";
export { GpuStorage, GpuTensor } from "./runtime/gpu_tensor.ts";
export * from "./runtime/op.ts";
export { PlannedTensor, type PlannedWork, PlanningBackend } from "./runtime/planning_backend.ts";
export { drawInputs, drawTensor, Random } from "./runtime/random.ts";
export type { BufferRange } from "./runtime/recorder.ts";
export * from "./runtime/tensor.ts";
export type { TimerName, Timing, TimingOptions } from "./runtime/timing.ts";
export { judgeVariants, type VariantVerdict } from "./runtime/variants.ts";
export {
  freshSeed,
  verifyKernel,
  type VerifyOptions,
  type VerifyResult,
} from "./runtime/verify.ts";
export type { WgslFile } from "./runtime/wgsl.ts";
