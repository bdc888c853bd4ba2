/**
 * What a model takes on a device, before any of it is loaded.
 *
 * @module
 */

import type { DeviceProfile } from "../runtime/device.ts";
import { PlanningBackend } from "../runtime/planning_backend.ts";
import { StableLmForCausalLM } from "./causal_lm.ts";
import type { StableLmConfig } from "./config.ts";
import type { ActivationDtype } from "./layers.ts";
import { parametersOf } from "./parameters.ts";
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
}

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
 * Runs a causal LM through a backend that counts rather than computes.
 *
 * @throws {KernelArgumentError} If an intermediate result is above the device's largest binding
 */
export async function estimate(
  profile: DeviceProfile,
  config: StableLmConfig,
  options: EstimateOptions,
): Promise<Estimate> {
  const { dtype, contextTokens, promptTokens = contextTokens, batch = 1 } = options;
  const { activationDtype = dtype === "f16" ? "f16" : "f32" } = options;
  using backend = new PlanningBackend(profile);
  const parameters = new ParameterStore(backend, parametersOf(config, "causal-lm"), dtype);
  const parts = { backend, config, parameters, activationDtype, unexpected: [] };
  using model = new StableLmForCausalLM(parts);
  const weightBytes = backend.memory.liveBytes;
  using cache = model.createCache({ batch, capacity: contextTokens });
  const cacheBytes = backend.memory.liveBytes - weightBytes;
  const run = async (tokens: number) => {
    const inputIds = Array.from({ length: batch }, () => new Uint32Array(tokens));
    using _output = await model.forward({ inputIds, pastKeyValues: cache, logitsToKeep: 1 });
  };
  // The last chunk of a prompt attends to the most keys, and so may need the most scratch.
  cache.advance(contextTokens - promptTokens);
  await run(promptTokens);
  const { peakBytes: totalBytes } = backend.work;
  const scratchBytes = totalBytes - weightBytes - cacheBytes;
  cache.crop(contextTokens - 1);
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
