/**
 * What a call of a model is given, and its checks.
 *
 * @module
 */

import { ModelInputError } from "../runtime/errors.ts";
import { describe, HostTensor, sameShape, type Tensor } from "../runtime/tensor.ts";
import { type IdMatrix, type Ids, isTensor, requireIds } from "./inputs.ts";
import { KvCache, type KvCacheLayer } from "./kv_cache.ts";
import type { StepContext } from "./step.ts";

/** What every StableLM takes. */
export interface ForwardInputs<T extends Tensor = Tensor> {
  /**
   * Token ids, [B, S]. Either these or `inputsEmbeds`. A u32 tensor of the backend may be given too, such as
   * the result of argmax, so that no id has to be read between two tokens.
   */
  readonly inputIds?: IdMatrix | T | undefined;
  /** Embeddings in place of ids, [B, S, H]. */
  readonly inputsEmbeds?: HostTensor | T | undefined;
  /** 1 for each token to be seen and 0 for padding, cached tokens included: [B, T]. All 1 unless given. */
  readonly attentionMask?: IdMatrix | undefined;
  /** Positions for RoPE, [B, S] or [1, S]; counted on from the cache's length unless given. */
  readonly positionIds?: IdMatrix | undefined;
  /** Keys and values of earlier tokens, to which these ones are added. */
  readonly pastKeyValues?: KvCache<T> | undefined;
  /** Return keys and values; what the config says unless given, and always where a cache is given. */
  readonly useCache?: boolean | undefined;
  /** Return the residual stream before each layer, and after the final norm; the config's unless given. */
  readonly outputHiddenStates?: boolean | undefined;
  /**
   * Return the attention weights of each layer, for which attention is computed without fusion; the config's
   * unless given.
   */
  readonly outputAttentions?: boolean | undefined;
  /**
   * Give each token the bits that it would have if the call were made token by token, which otherwise differ in
   * the last places. For few tokens, as the kernels are those for one. RoPE's frequencies, where they depend on
   * the length, are those of the last token. False unless given.
   */
  readonly stepwise?: boolean | undefined;
}

/** Names of {@linkcode ForwardInputs}. */
export const FORWARD_INPUTS: readonly string[] = [
  "inputIds",
  "inputsEmbeds",
  "attentionMask",
  "positionIds",
  "pastKeyValues",
  "useCache",
  "outputHiddenStates",
  "outputAttentions",
  "stepwise",
];

/** Inputs that were checked; nothing is on the backend yet. */
export interface CheckedInputs {
  /** B. */
  readonly batch: number;
  /** S. */
  readonly tokens: number;
  /** Token ids, unless there are embeddings or the ids are on the backend. */
  readonly ids?: Ids;
  /** Padding mask; absent where every token is seen. */
  readonly mask?: Ids;
  /** Positions. */
  readonly positions: Ids;
  /** Whether keys and values are to be returned. */
  readonly useCache: boolean;
}

/** Positions from here on are refused: no StableLM comes near, and tables for them would fill memory. */
const MAX_POSITIONS = 2 ** 20;

/**
 * Checks what a caller gave.
 *
 * @throws {ModelInputError} naming method, argument, rule and value
 */
export function checkInputs<T extends Tensor>(
  method: string,
  context: StepContext<T>,
  inputs: ForwardInputs<T>,
): CheckedInputs {
  const { config, dtype } = context;
  const fail = (argument: string, rule: string, value: unknown): never => {
    throw new ModelInputError({ op: method, argument, rule, value: String(value) });
  };
  const { inputIds, inputsEmbeds, attentionMask, positionIds, pastKeyValues } = inputs;
  for (const name of ["useCache", "outputHiddenStates", "outputAttentions", "stepwise"] as const) {
    const flag = inputs[name];
    if (flag !== undefined && typeof flag !== "boolean") fail(name, "must be true or false", flag);
  }
  if ((inputIds === undefined) === (inputsEmbeds === undefined)) {
    const given = inputIds === undefined ? "neither" : "both";
    fail("inputIds", "or inputsEmbeds must be given, and not both", given);
  }
  const onDevice = isTensor(inputIds) && !(inputIds instanceof HostTensor) ? inputIds : undefined;
  if (onDevice) requireDeviceIds(fail, onDevice, config.vocab_size);
  const ids = inputIds === undefined || onDevice
    ? undefined
    : requireIds(method, "inputIds", inputIds as IdMatrix, {
      below: config.vocab_size,
      bound: "vocab_size",
    });
  if (inputsEmbeds !== undefined) {
    if (!isTensor(inputsEmbeds)) fail("inputsEmbeds", "must be a tensor", typeof inputsEmbeds);
    const { shape, disposed } = inputsEmbeds;
    if (disposed) fail("inputsEmbeds", "must not be disposed", describe(inputsEmbeds));
    const fits = shape.length === 3 && shape[0]! > 0 && shape[1]! > 0 &&
      shape[2] === config.hidden_size;
    if (!fits) {
      fail("inputsEmbeds", `must be [B, S, ${config.hidden_size}]`, describe(inputsEmbeds));
    }
    if (!(inputsEmbeds instanceof HostTensor) && inputsEmbeds.dtype !== dtype) {
      fail("inputsEmbeds", `must be ${dtype}, as the model's activations are`, inputsEmbeds.dtype);
    }
  }
  const [batch, tokens] = ids
    ? [ids.batch, ids.tokens]
    : (onDevice ?? inputsEmbeds)!.shape as [number, number];
  const past = pastKeyValues?.length ?? 0;
  if (pastKeyValues !== undefined) {
    requireCache(fail, pastKeyValues, batch, context);
    if (inputs.useCache === false) {
      fail("useCache", "must not be false where pastKeyValues is given", false);
    }
  }
  const mask = attentionMask === undefined
    ? undefined
    : requireIds(method, "attentionMask", attentionMask, {
      below: 2,
      bound: "1 is a token, 0 is padding",
      batch,
      tokens: past + tokens,
    });
  const useCache = inputs.useCache ?? (pastKeyValues !== undefined || config.use_cache);
  const positions = checkPositions(method, positionIds, batch, tokens, past);
  if (positionIds !== undefined && mask === undefined && !useCache) {
    requireOneSequence(fail, positions);
  }
  return {
    batch,
    tokens,
    ...(ids ? { ids } : {}),
    ...(mask?.values.includes(0) ? { mask } : {}),
    positions,
    useCache,
  };
}

type Fail = (argument: string, rule: string, value: unknown) => never;

/** Ids that an op has made are known by their bound, which saves reading them. */
function requireDeviceIds(fail: Fail, ids: Tensor, vocabulary: number): void {
  if (ids.disposed) fail("inputIds", "must not be disposed", describe(ids));
  const isMatrix = ids.dtype === "u32" && ids.shape.length === 2 && !ids.shape.includes(0);
  if (!isMatrix) fail("inputIds", "must be u32[batch, tokens], or rows of numbers", describe(ids));
  const isBounded = ids.below !== undefined && ids.below <= vocabulary;
  if (!isBounded) {
    const value = ids.below === undefined ? "of unknown size" : ids.below - 1;
    fail("inputIds", `must be known to be below ${vocabulary} (vocab_size)`, value);
  }
}

function requireCache<T extends Tensor>(
  fail: Fail,
  cache: KvCache<T>,
  batch: number,
  { backend, config, dtype }: StepContext<T>,
): void {
  const argument = "pastKeyValues";
  if (!(cache instanceof KvCache)) fail(argument, "must be a KvCache", typeof cache);
  if (cache.disposed) {
    fail(argument, "must not be disposed: createCache makes one that outlives outputs", "disposed");
  }
  if (cache.backend !== backend) fail(argument, "must be of the model's backend", "another's");
  if (cache.batch !== batch) fail(argument, `must hold ${batch} sequences`, cache.batch);
  const [first] = cache.layers as [KvCacheLayer<T>];
  const { num_hidden_layers: layers, num_key_value_heads: heads, head_dim: headDim } = config;
  const shape = [batch, heads, cache.capacity, headDim];
  const fits = cache.layers.length === layers && sameShape(first.key.shape, shape) &&
    first.key.dtype === dtype;
  if (!fits) {
    const wanted = `${layers} layers of ${describe({ shape, dtype })}`;
    const value = `${cache.layers.length} of ${describe(first.key)}`;
    fail(argument, `must hold ${wanted}, as createCache makes`, value);
  }
}

function checkPositions(
  method: string,
  positionIds: IdMatrix | undefined,
  batch: number,
  tokens: number,
  past: number,
): Ids {
  const values = new Int32Array(batch * tokens);
  if (positionIds === undefined) {
    for (let i = 0; i < values.length; i++) values[i] = past + i % tokens;
    return { batch, tokens, values };
  }
  const given = requireIds(method, "positionIds", positionIds, {
    below: MAX_POSITIONS,
    bound: "the positions that tables are made for",
    tokens,
  });
  if (given.batch !== batch && given.batch !== 1) {
    throw new ModelInputError({
      op: method,
      argument: "positionIds",
      rule: `must have ${batch === 1 ? "1 row" : `${batch} rows, or 1 for all`}`,
      value: String(given.batch),
    });
  }
  for (let i = 0; i < values.length; i++) values[i] = given.values[i % given.values.length]!;
  return { batch, tokens, values };
}

/**
 * Without a mask and a cache, transformers takes positions that do not rise one by one for several sequences
 * packed into one row, which this model does not do.
 */
function requireOneSequence(
  fail: Fail,
  { tokens, values }: Ids,
): void {
  for (let i = 0; i < values.length; i++) {
    if (i % tokens === 0 || values[i] === values[i - 1]! + 1) continue;
    fail(
      "positionIds",
      "must rise by 1 where neither attentionMask nor a cache is given (packed sequences)",
      `${values[i - 1]} then ${values[i]}`,
    );
  }
}
