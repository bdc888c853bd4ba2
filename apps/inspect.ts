/**
 * `deno task inspect`: what a model is, what it takes on a device, and whether it fits this one.
 *
 * @module
 */

import {
  type DeviceProfile,
  type Estimate,
  estimate,
  findPretrained,
  GpuBackend,
  GpuLimitError,
  GpuOutOfMemoryError,
  GpuUnavailableError,
  type Head,
  headOf,
  KernelArgumentError,
  type Parameter,
  ParameterStore,
  type StableLmConfig,
  type WeightDtype,
  type WeightSource,
} from "../mod.ts";
import { parametersIn, weightDtype } from "../model/loading.ts";
import { withTensorNames } from "../model/config.ts";
import { matchTensors } from "../model/weights/match.ts";
import {
  type CommandSpec,
  EXIT,
  type OptionSpec,
  type ParsedCommand,
  runCommand,
  UsageError,
} from "./command_line.ts";
import { prepareDriver } from "./driver.ts";
import { formatInspection } from "./inspect_report.ts";

const DTYPES = ["f32", "f16", "bf16"] as const;

const TOKENS = { type: "integer", value: "N", least: 1, most: 2 ** 20 } as const;

const OPTIONS = {
  dtype: {
    type: "text",
    value: "DTYPE",
    summary: "element type to hold the weights in; the checkpoint's unless given",
    choices: DTYPES,
  },
  context: { ...TOKENS, summary: "tokens that the cache has room for; the model's own limit" },
  prompt: { ...TOKENS, summary: "tokens of a prompt that run at a time; 512" },
  batch: { ...TOKENS, summary: "sequences that run together; 1", most: 1024 },
  tensors: { type: "flag", summary: "a row for every tensor" },
  json: { type: "text", value: "FILE", summary: "write everything to FILE as JSON" },
} as const satisfies Record<string, OptionSpec>;

/** What the command takes. */
export const INSPECT_COMMAND: CommandSpec<typeof OPTIONS> = {
  name: "inspect",
  summary:
    "Shows a model's config and tensors, what it takes on a device, and whether it fits this one.",
  operands: {
    name: "model",
    summary:
      "a folder with config.json, a .gguf file, or owner/name where it was downloaded before",
    most: 1,
  },
  options: OPTIONS,
  notes: ["Exits 1 if the model does not fit, 3 if its files are bad. Nothing is downloaded."],
};

/** A tensor of the checkpoint. */
export interface InspectedTensor {
  /** Its name. */
  readonly name: string;
  /** Sizes, outermost first. */
  readonly shape: readonly number[];
  /** How the file stores it. */
  readonly storedAs: string;
  /** Bytes in the file. */
  readonly bytes: number;
}

/** What the model is run on. */
export interface InspectedDevice {
  /** Adapter, or why there is none. */
  readonly description: string;
  /** Largest tensor in bytes; larger ones are split. */
  readonly maxTensorBytes: number;
  /** Bytes that are free, where the device tells. */
  readonly freeBytes?: number;
  /** Whether the whole of it could be had; undefined without a device. */
  readonly fits?: boolean;
  /** How that was found out. */
  readonly evidence: string;
}

/** Everything that is found; written by `--json`. */
export interface Inspection {
  /** Version of this form. */
  readonly schemaVersion: 1;
  /** What was looked at. */
  readonly model: string;
  /** What stands on the decoder. */
  readonly head: Head;
  /** The config, complete. */
  readonly config: StableLmConfig;
  /** The checkpoint's tensors. */
  readonly tensors: readonly InspectedTensor[];
  /** Tensors that the model has no use for. */
  readonly unexpected: readonly string[];
  /** Elements of all parameters. */
  readonly parameters: number;
  /** What was assumed. */
  readonly assumed: {
    readonly dtype: WeightDtype;
    readonly activationDtype: "f32" | "f16";
    readonly contextTokens: number;
    readonly promptTokens: number;
    readonly batch: number;
  };
  /** Bytes on the device, and the work of a token. */
  readonly estimate: Estimate;
  /** The device. */
  readonly device: InspectedDevice;
  /** What is odd about the files. */
  readonly warnings: readonly string[];
}

/** Looks at a model. */
export async function inspect(
  where: string,
  options: ParsedCommand<typeof OPTIONS>["options"],
): Promise<Inspection> {
  using files = await findPretrained(where, { localFilesOnly: true });
  const { source } = files;
  const config = withTensorNames(files.config, source.tensors.keys());
  const dtype = weightDtype(options.dtype as WeightDtype | undefined, config, source);
  const contextTokens = options.context ?? config.max_position_embeddings;
  const promptTokens = Math.min(options.prompt ?? 512, contextTokens);
  const assumed = {
    dtype,
    activationDtype: dtype === "f16" ? "f16" : "f32",
    contextTokens,
    promptTokens,
    batch: options.batch ?? 1,
  } as const;
  const head = headOf(config, new Set(source.tensors.keys()));
  const parameters = parametersIn(source, config, head);
  const { unexpected } = matchTensors(source, parameters);
  using backend = await openDevice();
  const profile = backend?.profile ?? LEAST_DEVICE;
  const plan = await estimate(profile, config, { ...assumed, head, parameters }).catch(tooLarge);
  const warnings = [...files.warnings];
  if (contextTokens > config.max_position_embeddings) {
    warnings.push(`the model was made for ${config.max_position_embeddings} tokens`);
  }
  return {
    schemaVersion: 1,
    model: where,
    head,
    config,
    tensors: listTensors(source),
    unexpected,
    parameters: parameters.reduce((sum, { shape }) => sum + shape.reduce((a, b) => a * b, 1), 0),
    assumed,
    estimate: plan,
    device: await judge(backend, parameters, dtype, plan),
    warnings,
  };
}

async function openDevice(): Promise<GpuBackend | undefined> {
  try {
    return await GpuBackend.create();
  } catch (error) {
    if (error instanceof GpuUnavailableError) return undefined;
    throw error;
  }
}

function listTensors({ tensors }: WeightSource): InspectedTensor[] {
  return Array.from(tensors, ([name, { shape, storedAs, byteLength }]) => ({
    name,
    shape,
    storedAs,
    bytes: byteLength,
  }));
}

/** Says whether the estimate can be had. Only a device that is told to allocate knows that for sure. */
async function judge(
  backend: GpuBackend | undefined,
  parameters: readonly Parameter[],
  dtype: WeightDtype,
  { totalBytes, weightBytes }: Estimate,
): Promise<InspectedDevice> {
  if (!backend) {
    return {
      description: "no adapter",
      maxTensorBytes: LEAST_DEVICE.limits.maxStorageBufferBindingSize,
      evidence: "estimated for the limits that every WebGPU device has",
    };
  }
  const { description, maxTensorBytes } = backend;
  if (backend.profile.isSoftware) {
    const { state } = Deno.permissions.querySync({ name: "sys", kind: "systemMemoryInfo" });
    if (state !== "granted") {
      return { description, maxTensorBytes, evidence: "not permitted to look at free memory" };
    }
    const freeBytes = Deno.systemMemoryInfo().available;
    const evidence = "this adapter's memory is the computer's own";
    return { description, maxTensorBytes, freeBytes, fits: totalBytes <= freeBytes, evidence };
  }
  try {
    using _weights = new ParameterStore(backend, parameters, dtype);
    using rest = new DisposableStack();
    for (let left = totalBytes - weightBytes; left > 0; left -= PROBE_BYTES) {
      const shape = [Math.ceil(Math.min(left, PROBE_BYTES) / 4)];
      rest.use(backend.zeros({ shape, dtype: "f32" }));
    }
    await backend.finish();
    return { description, maxTensorBytes, fits: true, evidence: "allocated and given back" };
  } catch (error) {
    const isTooMuch = error instanceof GpuOutOfMemoryError || error instanceof GpuLimitError;
    if (!isTooMuch) throw error;
    return { description, maxTensorBytes, fits: false, evidence: error.message };
  }
}

/** What is allocated at a time to find out whether it can be. */
const PROBE_BYTES = 128 * 1024 ** 2;

/** What does not even fit one tensor is a matter of the options. */
function tooLarge(error: unknown): never {
  if (!(error instanceof KernelArgumentError)) throw error;
  throw new UsageError(
    `--context, --prompt or --batch is too large for this device: ${error.fault.value}: ` +
      `${error.fault.argument} ${error.fault.rule}`,
  );
}

/** What every WebGPU device has. */
const LEAST_DEVICE: DeviceProfile = {
  description: "any WebGPU device",
  vendor: "",
  isSoftware: false,
  hasSubgroups: false,
  subgroupMinSize: 0,
  subgroupMaxSize: 0,
  hasF16: true,
  hasTimestamps: false,
  maxLoopIterations: Infinity,
  limits: {
    maxBufferSize: 256 * 1024 ** 2,
    maxStorageBufferBindingSize: 128 * 1024 ** 2,
    maxStorageBuffersPerShaderStage: 8,
    maxComputeWorkgroupStorageSize: 16_384,
    maxComputeInvocationsPerWorkgroup: 256,
    maxComputeWorkgroupSizeX: 256,
    maxComputeWorkgroupSizeY: 256,
    maxComputeWorkgroupSizeZ: 64,
    maxComputeWorkgroupsPerDimension: 65_535,
    minUniformBufferOffsetAlignment: 256,
    minStorageBufferOffsetAlignment: 256,
  },
};

/** Prints what is found; exits 1 if the model does not fit. */
export async function printInspection(
  { operands, options }: ParsedCommand<typeof OPTIONS>,
): Promise<number> {
  const [where] = operands;
  if (where === undefined) throw new UsageError("inspect needs a folder or a .gguf file");
  const inspection = await inspect(where, options);
  console.log(formatInspection(inspection, options.tensors));
  if (options.json !== undefined) {
    await Deno.writeTextFile(options.json, JSON.stringify(inspection, null, 2) + "\n");
  }
  return inspection.device.fits === false ? EXIT.failed : EXIT.ok;
}

if (import.meta.main) {
  prepareDriver();
  Deno.exit(await runCommand(INSPECT_COMMAND, printInspection));
}
