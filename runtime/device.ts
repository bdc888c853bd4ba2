/**
 * Asks for an adapter and a device, and says what it got.
 *
 * @module
 */

import { GpuUnavailableError, requireArgument } from "./errors.ts";
import type { WgslDialect } from "./wgsl.ts";

/** What ops may know of a device when they choose and plan a variant. */
export interface DeviceProfile {
  /** Adapter description, or "CPU". */
  readonly description: string;
  /** Vendor as the implementation gives it; Deno gives the PCI id as a number. */
  readonly vendor: string;
  /** True for a CPU behind a GPU interface: right answers, no statement about speed. */
  readonly isSoftware: boolean;
  /** Subgroup operations may be used. */
  readonly hasSubgroups: boolean;
  /** Smallest subgroup that may occur; 0 without subgroups. */
  readonly subgroupMinSize: number;
  /** Largest subgroup that may occur; 0 without subgroups. */
  readonly subgroupMaxSize: number;
  /** WGSL's f16 type may be used. */
  readonly hasF16: boolean;
  /** Passes can be timed on the device. */
  readonly hasTimestamps: boolean;
  /**
   * Iterations that one invocation may run, over all its loops together. Mesa's llvmpipe leaves every
   * loop after 65,535 without a word, and what it then stores is wrong; elsewhere there is no bound.
   */
  readonly maxLoopIterations: number;
  /** Limits that this library enforces itself. */
  readonly limits: DeviceLimits;
}

/** The limits that kernels can run into. */
export interface DeviceLimits {
  /** Largest buffer, in bytes. */
  readonly maxBufferSize: number;
  /** Largest storage binding, in bytes. */
  readonly maxStorageBufferBindingSize: number;
  /** Storage buffers per kernel. */
  readonly maxStorageBuffersPerShaderStage: number;
  /** Workgroup memory, in bytes. */
  readonly maxComputeWorkgroupStorageSize: number;
  /** Invocations per workgroup. */
  readonly maxComputeInvocationsPerWorkgroup: number;
  /** Invocations along x. */
  readonly maxComputeWorkgroupSizeX: number;
  /** Invocations along y. */
  readonly maxComputeWorkgroupSizeY: number;
  /** Invocations along z. */
  readonly maxComputeWorkgroupSizeZ: number;
  /** Workgroups along each axis. */
  readonly maxComputeWorkgroupsPerDimension: number;
  /** Alignment of a uniform binding's offset, in bytes. */
  readonly minUniformBufferOffsetAlignment: number;
  /** Alignment of a storage binding's offset, in bytes. */
  readonly minStorageBufferOffsetAlignment: number;
}

/** How to get a device. */
export interface DeviceOptions {
  /** The WebGPU implementation; `navigator.gpu` unless given. */
  readonly gpu?: GPU;
  /** Which adapter to prefer where there are several. */
  readonly powerPreference?: GPUPowerPreference;
  /** Leave features unused although the device has them, to run the kernels that do without. */
  readonly without?: readonly ("subgroups" | "shader-f16" | "timestamp-query")[];
}

/** A device, what it can do, and the dialect of WGSL that it takes. */
export interface OpenedDevice {
  /** The device; whoever opened it destroys it. */
  readonly device: GPUDevice;
  /** What it can do. */
  readonly profile: DeviceProfile;
  /** What its compiler accepts. */
  readonly dialect: WgslDialect;
}

const LIMIT_NAMES = [
  "maxBufferSize",
  "maxStorageBufferBindingSize",
  "maxStorageBuffersPerShaderStage",
  "maxComputeWorkgroupStorageSize",
  "maxComputeInvocationsPerWorkgroup",
  "maxComputeWorkgroupSizeX",
  "maxComputeWorkgroupSizeY",
  "maxComputeWorkgroupSizeZ",
  "maxComputeWorkgroupsPerDimension",
  "minUniformBufferOffsetAlignment",
  "minStorageBufferOffsetAlignment",
] as const satisfies readonly (keyof DeviceLimits)[];

const OPTIONAL_FEATURES = ["subgroups", "shader-f16", "timestamp-query"] as const;

/** The one driver known to cut loops short. */
const CUTS_LOOPS = /llvmpipe|lavapipe/i;

/** Software rasterisers name themselves; only some set `isFallbackAdapter`. */
const SOFTWARE = /llvmpipe|lavapipe|swiftshader|softpipe|microsoft basic render/i;

/**
 * Requests an adapter, then a device with the adapter's own maxima and every optional feature that it
 * grants. `subgroups` is tried and not looked up, since Deno grants it without listing it.
 *
 * @throws {GpuUnavailableError} If there is no WebGPU, no adapter or no device
 */
export async function openDevice(options: DeviceOptions = {}): Promise<OpenedDevice> {
  requireKnown("option", Object.keys(options), ["gpu", "powerPreference", "without"]);
  requireKnown("without", options.without ?? [], OPTIONAL_FEATURES);
  const gpu = options.gpu ?? globalThis.navigator?.gpu;
  if (!gpu) {
    throw new GpuUnavailableError("Cannot open a device: this runtime has no navigator.gpu");
  }
  const { powerPreference = "high-performance" } = options;
  const adapter = await gpu.requestAdapter({ powerPreference });
  if (!adapter) {
    throw new GpuUnavailableError(
      "Cannot open a device: no WebGPU adapter was found; `deno task doctor` says why",
    );
  }
  const requiredLimits: Record<string, number> = {};
  for (const name of LIMIT_NAMES) requiredLimits[name] = Number(adapter.limits[name]);
  const features = OPTIONAL_FEATURES.filter((feature) =>
    !options.without?.includes(feature) &&
    (feature === "subgroups" || adapter.features.has(feature))
  );
  const device = await requestWithFeatures(adapter, features, requiredLimits);
  const info = adapter.info as GPUAdapterInfo & { isFallbackAdapter?: boolean };
  const hasSubgroups = device.features.has("subgroups");
  const limits = Object.fromEntries(
    LIMIT_NAMES.map((name) => [name, Number(device.limits[name])]),
  ) as unknown as DeviceLimits;
  return {
    device,
    dialect: { enableSubgroups: gpu !== globalThis.navigator?.gpu || !("Deno" in globalThis) },
    profile: {
      description: info.description || info.device || "unnamed adapter",
      vendor: info.vendor,
      isSoftware: info.isFallbackAdapter === true || SOFTWARE.test(info.description),
      hasSubgroups,
      subgroupMinSize: hasSubgroups ? info.subgroupMinSize ?? 4 : 0,
      subgroupMaxSize: hasSubgroups ? info.subgroupMaxSize ?? 128 : 0,
      hasF16: device.features.has("shader-f16"),
      hasTimestamps: device.features.has("timestamp-query"),
      maxLoopIterations: CUTS_LOOPS.test(info.description) ? 65_535 : Infinity,
      limits,
    },
  };
}

function requireKnown(argument: string, names: readonly string[], known: readonly string[]): void {
  for (const name of names) {
    const rule = `must be one of ${known.join(", ")}`;
    requireArgument(known.includes(name), "create", argument, rule, String(name));
  }
}

async function requestWithFeatures(
  adapter: GPUAdapter,
  features: readonly string[],
  requiredLimits: Record<string, number>,
): Promise<GPUDevice> {
  const request = (names: readonly string[]) =>
    adapter.requestDevice({ requiredFeatures: names as GPUFeatureName[], requiredLimits });
  try {
    return await request(features);
  } catch (refusal) {
    if (!features.includes("subgroups")) {
      throw new GpuUnavailableError(`Cannot open a device: the adapter refused: ${refusal}`);
    }
    return await requestWithFeatures(
      adapter,
      features.filter((feature) => feature !== "subgroups"),
      requiredLimits,
    );
  }
}
