/**
 * What a model takes on a device, before any of it is loaded.
 *
 * @module
 */

import type { DeviceProfile } from "../runtime/device.ts";
import { PlanningBackend } from "../runtime/planning_backend.ts";
import { requireInput } from "../runtime/errors.ts";
import { StableLmModel } from "./base_model.ts";
import { StableLmForCausalLM } from "./causal_lm.ts";
import type { StableLmConfig } from "./config.ts";
import type { ActivationDtype } from "./layers.ts";
import { requireOptions } from "./inputs.ts";
import { type Head, type Parameter, parametersOf } from "./parameters.ts";
import { ParameterStore } from "./weights/parameter_store.ts";
import type { WeightDtype } from "./weights/weight_source.ts";

/** What is to be run. */
export interface EstimateOptions {
  /** Element type of the weights. */
  readonly dtype: WeightDtype;
  /** Element type of the residual stream, keys and values; f16 where the weights are f16, else f32. */
  readonly activationDtype?: ActivationDtype | undefined;
  /** Tokens that the cache has room for. */
  readonly contextTokens: number;
  /** Tokens that are run at a time while a prompt is read; all of the context unless given. */
  readonly promptTokens?: number | undefined;
  /** Sequences; 1 unless given. */
  readonly batch?: number | undefined;
  /** What stands on the decoder; a language model's head unless given. */
  readonly head?: Head | undefined;
  /** The parameters to hold; those that the config and the head ask for unless given. */
  readonly parameters?: readonly Parameter[] | undefined;
}

const OPTIONS: readonly string[] = [
  "dtype",
  "activationDtype",
  "contextTokens",
  "promptTokens",
  "batch",
  "head",
  "parameters",
];

/** Bytes on the device, and the work of a call. */
export interface Estimate {
  /** Parameters. */
  readonly weightBytes: number;
  /** Keys and values. */
  readonly cacheBytes: number;
  /** Everything else that is held while a prompt runs: activations, tables, logits of the last token. */
  readonly scratchBytes: number;
  /** All three. */
  readonly totalBytes: number;
  /** Launches for the next token of a full context. */
  readonly dispatchesPerToken: number;
  /** Compulsory bytes for it. */
  readonly bytesPerToken: number;
  /** Floating-point operations for it. */
  readonly flopPerToken: number;
}

/**
 * Runs a model through a backend that counts rather than computes.
 *
 * @throws {ModelInputError} If an option is unknown or out of range
 * @throws {KernelArgumentError} If an intermediate result is above the device's largest binding
 */
export async function estimate(
  profile: DeviceProfile,
  config: StableLmConfig,
  options: EstimateOptions,
): Promise<Estimate> {
  requireOptions("estimate", options, OPTIONS);
  const { dtype, contextTokens, promptTokens = contextTokens, batch = 1 } = options;
  const { head = "causal-lm", parameters = parametersOf(config, head) } = options;
  const { activationDtype = dtype === "f16" && profile.hasF16 ? "f16" : "f32" } = options;
  for (const [name, size] of Object.entries({ contextTokens, promptTokens, batch })) {
    const isSize = Number.isSafeInteger(size) && size >= 1;
    requireInput(isSize, "estimate", name, "must be a whole number from 1", size);
  }
  const rule = `must be at most contextTokens, ${contextTokens}`;
  requireInput(promptTokens <= contextTokens, "estimate", "promptTokens", rule, promptTokens);

  using backend = new PlanningBackend(profile);
  using store = new ParameterStore(backend, parameters, dtype);
  const parts = { backend, config, parameters: store, activationDtype, unexpected: [] };
  // A classifier's head is a few rows; what it computes is lost beside the decoder.
  using model = head === "causal-lm" ? new StableLmForCausalLM(parts) : new StableLmModel(parts);
  const weightBytes = backend.memory.liveBytes;
  using cache = model.createCache({ batch, capacity: contextTokens });
  const cacheBytes = backend.memory.liveBytes - weightBytes;
  const run = async (tokens: number) => {
    const inputIds = Array.from({ length: batch }, () => new Uint32Array(tokens));
    const kept = head === "causal-lm" ? { logitsToKeep: 1 } : {};
    using _output = await model.forward({ inputIds, pastKeyValues: cache, ...kept });
  };
  // The last chunk of a prompt attends to the most keys, and so may need the most scratch.
  cache.advance(contextTokens - promptTokens);
  await run(promptTokens);
  const { peakBytes: totalBytes } = backend.work;
  const scratchBytes = totalBytes - weightBytes - cacheBytes;
  cache.crop(0);
  cache.advance(contextTokens - 1);
  backend.reset();
  await run(1);
  const { dispatches, bytes, flop } = backend.work;
  return {
    weightBytes,
    cacheBytes,
    scratchBytes,
    totalBytes,
    dispatchesPerToken: dispatches,
    bytesPerToken: bytes,
    flopPerToken: flop,
  };
}
