/**
 * From a config and a source of weights to the parts of a model.
 *
 * @module
 */

import type { Backend } from "../runtime/backend.ts";
import { requireInput } from "../runtime/errors.ts";
import type { Tensor } from "../runtime/tensor.ts";
import { StableLmConfig, withTensorNames } from "./config.ts";
import { requireOptions } from "./inputs.ts";
import type { ActivationDtype } from "./layers.ts";
import { type Head, type Parameter, parametersOf } from "./parameters.ts";
import type { ModelParts } from "./pretrained.ts";
import { findTensor } from "./weights/match.ts";
import { type LoadProgress, ParameterStore } from "./weights/parameter_store.ts";
import type { WeightDtype, WeightSource } from "./weights/weight_source.ts";

/** How weights are brought to the backend. */
export interface WeightOptions {
  /**
   * Element type to hold the weights in; "auto", the default, is what the config says or else what the
   * checkpoint stores, and f32 for quantised ones.
   */
  readonly dtype?: WeightDtype | "auto" | undefined;
  /**
   * Element type of the residual stream, keys and values: f16 where the weights are f16 and the device can
   * store it, else f32.
   */
  readonly activationDtype?: ActivationDtype | undefined;
  /** Accept weights that are NaN or infinite; false unless given. */
  readonly allowNonFinite?: boolean | undefined;
  /** Stops loading between two reads. */
  readonly signal?: AbortSignal | undefined;
  /** Told how far loading has come. */
  readonly onProgress?: ((progress: LoadProgress) => void) | undefined;
}

/** What a model is loaded from. */
export interface LoadOptions<T extends Tensor> extends WeightOptions {
  /** Where the model is to run. */
  readonly backend: Backend<T>;
  /** The model's config. */
  readonly config: StableLmConfig;
  /** Its weights, which stay the caller's to dispose of. */
  readonly source: WeightSource;
}

/** Names of {@linkcode WeightOptions}. */
export const WEIGHT_OPTIONS: readonly string[] = [
  "dtype",
  "activationDtype",
  "allowNonFinite",
  "signal",
  "onProgress",
];

/** What a config's `dtype` is called here. */
const DTYPES: Readonly<Record<string, WeightDtype>> = {
  float32: "f32",
  float16: "f16",
  bfloat16: "bf16",
};

/** Tables of embeddings that a checkpoint may store once for both. */
const EMBEDDING = "model.embed_tokens.weight";
const LM_HEAD = "lm_head.weight";

/**
 * Loads the parameters of a model.
 *
 * @throws {ModelInputError} If an option is unknown or not one of its values
 * @throws {ModelConfigError} If the config contradicts the tensors' names
 * @throws {ModelFormatError} If a tensor is missing, damaged, of another shape, or not finite
 * @throws {ModelUnsupportedError} If a weight does not fit the dtype
 */
export async function loadParts<T extends Tensor>(
  head: Head,
  options: LoadOptions<T>,
): Promise<ModelParts<T>> {
  requireOptions("load", options, ["backend", "config", "source", ...WEIGHT_OPTIONS]);
  requireWeightOptions("load", options);
  const { backend, source, signal, onProgress, allowNonFinite } = options;
  const isConfig = options.config instanceof StableLmConfig;
  requireInput(isConfig, "load", "config", "must be a StableLmConfig", typeof options.config);
  signal?.throwIfAborted();
  const config = withTensorNames(options.config, source.tensors.keys());
  const dtype = weightDtype(options.dtype, config, source);
  const { activationDtype = dtype === "f16" && backend.hasF16 ? "f16" : "f32" } = options;
  using made = new DisposableStack();
  const wanted = parametersIn(source, config, head);
  const parameters = made.use(new ParameterStore(backend, wanted, dtype));
  const unexpected = await parameters.fill(source, { signal, onProgress, allowNonFinite });
  made.move();
  return { backend, config, parameters, activationDtype, unexpected };
}

/**
 * The parameters that a source has to fill. Tied tables may be stored under either name; where both are
 * stored, both are loaded, as they may differ.
 */
export function parametersIn(
  source: WeightSource,
  config: StableLmConfig,
  head: Head,
): Parameter[] {
  const has = (name: string) => findTensor(source, name) !== undefined;
  const tied = config.tie_word_embeddings && !(has(EMBEDDING) && has(LM_HEAD));
  const parameters = parametersOf(config, head, tied);
  if (!tied || has(EMBEDDING) || !has(LM_HEAD)) return parameters;
  return parameters.map((parameter) =>
    parameter.name === EMBEDDING ? { ...parameter, tensors: [LM_HEAD] } : parameter
  );
}

/** The dtype that weights are held in. */
export function weightDtype(
  asked: WeightDtype | "auto" | undefined,
  config: StableLmConfig,
  source: WeightSource,
): WeightDtype {
  if (asked !== undefined && asked !== "auto") return asked;
  if (config.dtype !== null) return DTYPES[config.dtype]!;
  const table = findTensor(source, EMBEDDING) ?? findTensor(source, LM_HEAD);
  return table === undefined ? "f32" : source.tensors.get(table)!.dtype;
}

/**
 * Checks what can be checked before any file is looked for.
 *
 * @throws {ModelInputError} If there is no backend, or an option is not one of its values
 */
export function requireWeightOptions<T extends Tensor>(
  method: string,
  { backend, dtype = "auto", activationDtype = "f32" }: WeightOptions & { backend: Backend<T> },
): void {
  const isBackend = typeof backend === "object" && backend !== null && "maxTensorBytes" in backend;
  requireInput(isBackend, method, "backend", "must be a backend", typeof backend);
  const oneOf = (argument: string, value: string, known: readonly string[]) =>
    requireInput(
      known.includes(value),
      method,
      argument,
      `must be one of ${known.join(", ")}`,
      value,
    );
  oneOf("dtype", dtype, ["f32", "f16", "bf16", "auto"]);
  oneOf("activationDtype", activationDtype, ["f32", "f16"]);
  requireInput(
    backend.hasF16 || activationDtype === "f32",
    method,
    "activationDtype",
    "must be f32, as the device cannot store f16 (shader-f16)",
    activationDtype,
  );
}
