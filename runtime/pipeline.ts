/**
 * Turns specialised kernels into pipelines, once each.
 *
 * Compilation is synchronous in Deno and its errors arrive asynchronously: a pipeline is returned at
 * once and its verdict is awaited before any result is handed out.
 *
 * @module
 */

import type { DeviceLimits, OpenedDevice } from "./device.ts";
import { GpuFeatureError, GpuLimitError, GpuShaderError } from "./errors.ts";
import type { Dtype } from "./tensor.ts";
import { specialize, type SpecializedKernel, type WgslFile } from "./wgsl.ts";

/** A compiled kernel. */
export interface Pipeline {
  /** The kernel it was made from. */
  readonly kernel: SpecializedKernel;
  /** The compiled pipeline. */
  readonly compute: GPUComputePipeline;
  /** Layout of group 0. */
  readonly layout: GPUBindGroupLayout;
  /** Small number that names the layout in cache keys. */
  readonly layoutId: number;
}

/** Pipelines by text, constants and dtypes; layouts by signature. */
export class PipelineCache {
  readonly #opened: OpenedDevice;
  readonly #pipelines = new Map<string, Pipeline>();
  readonly #textIds = new Map<string, number>();
  readonly #layouts = new Map<string, { layout: GPUBindGroupLayout; id: number }>();
  readonly #verdicts = new Map<string, Promise<GpuShaderError | null>>();

  /** @param opened the device to compile for */
  constructor(opened: OpenedDevice) {
    this.#opened = opened;
  }

  /** Number of pipelines compiled so far. */
  get size(): number {
    return this.#pipelines.size;
  }

  /**
   * The pipeline of a kernel with these constants and dtypes, compiled at its first use.
   *
   * @throws {GpuLimitError} If the kernel needs more than the device has; Deno itself would not say
   * @throws {GpuFeatureError} If it needs a feature that the device lacks
   */
  get(
    file: WgslFile,
    constants: Readonly<Record<string, number>>,
    dtypes: Readonly<Record<string, Dtype>>,
  ): Pipeline {
    const key = cacheKey(this.#textId(file.text), constants, dtypes);
    let pipeline = this.#pipelines.get(key);
    if (pipeline === undefined) {
      const kernel = specialize(file, constants, dtypes, this.#opened.dialect);
      pipeline = this.#compile(file, kernel, key);
      this.#pipelines.set(key, pipeline);
    }
    return pipeline;
  }

  /**
   * Waits for the compiler's verdict on every pipeline made since the last call. One that failed is
   * forgotten, so that its next use fails in the same way.
   *
   * @throws {GpuShaderError} If one did not compile
   */
  async settle(): Promise<void> {
    for (const [key, verdict] of [...this.#verdicts]) {
      const error = await verdict;
      this.#verdicts.delete(key);
      if (error) {
        this.#pipelines.delete(key);
        throw error;
      }
    }
  }

  /** Small number that names a text in cache keys: two kernels may go by one file name. */
  #textId(text: string): number {
    let id = this.#textIds.get(text);
    if (id === undefined) {
      id = this.#textIds.size;
      this.#textIds.set(text, id);
    }
    return id;
  }

  #compile(file: WgslFile, kernel: SpecializedKernel, key: string): Pipeline {
    const { device, profile } = this.#opened;
    checkLimits(file, kernel, profile.limits);
    const missing = kernel.usesSubgroups && !profile.hasSubgroups
      ? "subgroups"
      : kernel.usesF16 && !profile.hasF16
      ? "shader-f16"
      : undefined;
    if (missing) {
      throw new GpuFeatureError(
        `Cannot compile ${file.file}: it needs the feature ${missing}: ${profile.description} lacks it`,
      );
    }
    const { layout, id } = this.#layout(kernel);
    device.pushErrorScope("validation");
    const module = device.createShaderModule({ label: file.file, code: kernel.code });
    const compute = device.createComputePipeline({
      label: file.file,
      layout: device.createPipelineLayout({ bindGroupLayouts: [layout] }),
      compute: { module, entryPoint: kernel.entryPoint },
    });
    this.#verdicts.set(key, verdict(file, module, device.popErrorScope()));
    return { kernel, compute, layout, layoutId: id };
  }

  #layout(kernel: SpecializedKernel): { layout: GPUBindGroupLayout; id: number } {
    const hasParams = kernel.params.length > 0;
    const signature = `${hasParams ? "p" : ""}${
      kernel.bindings.map(({ index, access }) => `${index}${access}`).join()
    }`;
    let entry = this.#layouts.get(signature);
    if (entry === undefined) {
      const entries: GPUBindGroupLayoutEntry[] = kernel.bindings.map(({ index, access }) => ({
        binding: index,
        visibility: COMPUTE_STAGE,
        buffer: { type: access === "read" ? "read-only-storage" : "storage" },
      }));
      if (hasParams) {
        entries.unshift({
          binding: 0,
          visibility: COMPUTE_STAGE,
          buffer: { type: "uniform", hasDynamicOffset: true },
        });
      }
      const layout = this.#opened.device.createBindGroupLayout({ label: signature, entries });
      entry = { layout, id: this.#layouts.size };
      this.#layouts.set(signature, entry);
    }
    return entry;
  }
}

/** `GPUShaderStage.COMPUTE`, spelled out because the global is missing where a GPU is injected. */
const COMPUTE_STAGE = 4;

function cacheKey(
  textId: number,
  constants: Readonly<Record<string, number>>,
  dtypes: Readonly<Record<string, Dtype>>,
): string {
  let key = `${textId}`;
  for (const name in constants) key += `|${name}=${constants[name]}`;
  for (const name in dtypes) key += `|${name}:${dtypes[name]}`;
  return key;
}

/** Deno runs kernels that break these limits, with garbage for a result. */
function checkLimits(file: WgslFile, kernel: SpecializedKernel, limits: DeviceLimits): void {
  const [x, y, z] = kernel.workgroupSize;
  const rules: readonly [what: string, got: number, limit: keyof DeviceLimits][] = [
    ["invocations per workgroup", x * y * z, "maxComputeInvocationsPerWorkgroup"],
    ["invocations along x", x, "maxComputeWorkgroupSizeX"],
    ["invocations along y", y, "maxComputeWorkgroupSizeY"],
    ["invocations along z", z, "maxComputeWorkgroupSizeZ"],
    ["bytes of workgroup memory", kernel.workgroupBytes, "maxComputeWorkgroupStorageSize"],
    ["storage bindings", kernel.bindings.length, "maxStorageBuffersPerShaderStage"],
  ];
  for (const [what, got, limit] of rules) {
    if (got > limits[limit]) {
      throw new GpuLimitError(
        `Cannot compile ${file.file}: ${what} must be at most ${limits[limit]} (${limit}): ${got}`,
      );
    }
  }
}

async function verdict(
  file: WgslFile,
  module: GPUShaderModule,
  scope: Promise<GPUError | null>,
): Promise<GpuShaderError | null> {
  const error = await scope;
  if (error === null) return null;
  const { messages } = await module.getCompilationInfo();
  const message = messages.find(({ type }) => type === "error");
  const words = (message?.message || error.message).split("\n").map((line) => line.trim());
  const place = message ? `${file.file}:${message.lineNum}:${message.linePos}` : file.file;
  return new GpuShaderError(
    `Cannot compile ${place}: ${words.filter((line) => line !== "").slice(0, 2).join(" ")}`,
  );
}
