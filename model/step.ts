/**
 * One call of the decoder: its inputs checked and brought to the backend.
 *
 * @module
 */

import type { Backend } from "../runtime/backend.ts";
import { ModelInputError } from "../runtime/errors.ts";
import { describe, HostTensor, sameShape, type Tensor } from "../runtime/tensor.ts";
import type { StableLmConfig } from "./config.ts";
import { type IdMatrix, type Ids, idTensor, requireIds } from "./inputs.ts";
import { KvCache } from "./kv_cache.ts";
import type { ActivationDtype, SumOrder } from "./layers.ts";
import type { RotaryTables } from "./rotary_tables.ts";

/** What every StableLM takes. */
export interface ForwardInputs<T extends Tensor = Tensor> {
  /** Token ids, [B, S]. Either these or `inputsEmbeds`. */
  readonly inputIds?: IdMatrix | undefined;
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
];

/** What the layers need to know of a call. */
export interface Step<T extends Tensor> {
  /** B: sequences. */
  readonly batch: number;
  /** S: tokens of each sequence in this call. */
  readonly tokens: number;
  /** T: tokens in all, those of the cache included. */
  readonly keyLength: number;
  /** Element type of the residual stream. */
  readonly dtype: ActivationDtype;
  /** Order of the sums of products. */
  readonly order: SumOrder;
  /** Token ids u32[B, S], unless there are embeddings. */
  readonly ids?: T | undefined;
  /** Embeddings [B, S, H], which the decoder gives back. */
  readonly embeddings?: T | undefined;
  /** Positions u32[B, S]. */
  readonly positions: T;
  /** Which tokens may be seen, u32[B, T]; all if absent. */
  readonly mask?: T | undefined;
  /** RoPE tables, [positions, R/2]. */
  readonly cos: T;
  /** As cos. */
  readonly sin: T;
  /** Keys and values. */
  readonly cache: KvCache<T>;
  /** Collects the residual stream, if asked for. */
  readonly hiddenStates?: T[] | undefined;
  /** Collects attention weights, if asked for. */
  readonly attentions?: T[] | undefined;
}

/** What a step is made with. */
export interface StepContext<T extends Tensor> {
  /** Where it runs. */
  readonly backend: Backend<T>;
  /** The model's config. */
  readonly config: StableLmConfig;
  /** Element type of the residual stream. */
  readonly dtype: ActivationDtype;
  /** RoPE tables. */
  readonly rotary: RotaryTables<T>;
}

/** Inputs that were checked; nothing is on the backend yet. */
export interface CheckedInputs {
  /** B. */
  readonly batch: number;
  /** S. */
  readonly tokens: number;
  /** Token ids, unless there are embeddings. */
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
  { config, dtype }: StepContext<T>,
  inputs: ForwardInputs<T>,
): CheckedInputs {
  const fail = (argument: string, rule: string, value: unknown): never => {
    throw new ModelInputError({ op: method, argument, rule, value: String(value) });
  };
  const { inputIds, inputsEmbeds, attentionMask, positionIds, pastKeyValues } = inputs;
  for (const name of ["useCache", "outputHiddenStates", "outputAttentions"] as const) {
    const flag = inputs[name];
    if (flag !== undefined && typeof flag !== "boolean") fail(name, "must be true or false", flag);
  }
  if ((inputIds === undefined) === (inputsEmbeds === undefined)) {
    const given = inputIds === undefined ? "neither" : "both";
    fail("inputIds", "or inputsEmbeds must be given, and not both", given);
  }
  const ids = inputIds === undefined ? undefined : requireIds(method, "inputIds", inputIds, {
    below: config.vocab_size,
    bound: "vocab_size",
  });
  if (inputsEmbeds !== undefined) {
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
  const [batch, tokens] = ids ? [ids.batch, ids.tokens] : inputsEmbeds!.shape as [number, number];
  const past = pastKeyValues?.length ?? 0;
  if (pastKeyValues !== undefined) {
    const isCache = pastKeyValues instanceof KvCache;
    if (!isCache) fail("pastKeyValues", "must be a KvCache", typeof pastKeyValues);
    if (pastKeyValues.disposed) fail("pastKeyValues", "must not be disposed", "disposed");
    if (pastKeyValues.batch !== batch) {
      fail("pastKeyValues", `must hold ${batch} sequences`, pastKeyValues.batch);
    }
    const { layers, capacity } = pastKeyValues;
    const shape = [batch, config.num_key_value_heads, capacity, config.head_dim];
    const fits = layers.length === config.num_hidden_layers &&
      sameShape(layers[0]!.key.shape, shape) && layers[0]!.key.dtype === dtype;
    if (!fits) {
      fail(
        "pastKeyValues",
        `must hold ${config.num_hidden_layers} layers of ${dtype}[${
          shape.join(", ")
        }], as createCache makes`,
        `${layers.length} of ${describe(layers[0]!.key)}`,
      );
    }
    if (inputs.useCache === false) {
      fail("useCache", "must not be false where pastKeyValues is given", false);
    }
  }
  const mask = attentionMask === undefined
    ? undefined
    : requireIds(method, "attentionMask", attentionMask, {
      below: 2,
      bound: "1 is a token, 0 is padding",
      shape: [batch, past + tokens],
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
    shape: [NaN, tokens],
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
  fail: (argument: string, rule: string, value: unknown) => never,
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

/**
 * Brings a call's inputs to the backend, runs `work` with them, and gives them back. What `work` collects is
 * its own, unless it throws.
 */
export function withStep<T extends Tensor, R>(
  { backend, dtype, rotary }: StepContext<T>,
  inputs: ForwardInputs<T>,
  { batch, tokens, ids, mask, positions }: CheckedInputs,
  cache: KvCache<T>,
  work: (step: Step<T>) => R,
): R {
  const highest = positions.values.reduce((most, position) => Math.max(most, position), 0);
  const { cos, sin } = rotary.upTo(highest + 1);
  cache.reserve(tokens);
  using uploads = new DisposableStack();
  const upload = (ids: Ids | undefined) => ids && uploads.use(backend.upload(idTensor(ids)));
  const hiddenStates: T[] | undefined = inputs.outputHiddenStates ? [] : undefined;
  const attentions: T[] | undefined = inputs.outputAttentions ? [] : undefined;
  const step = {
    batch,
    tokens,
    keyLength: cache.length + tokens,
    dtype,
    order: tokens === 1 ? "vector" : "tile",
    ids: upload(ids),
    positions: upload(positions)!,
    mask: upload(mask),
    embeddings: inputs.inputsEmbeds && bring(backend, inputs.inputsEmbeds, dtype),
    cos,
    sin,
    cache,
    hiddenStates,
    attentions,
  } as const;
  try {
    return work(step);
  } catch (error) {
    for (const tensor of [...hiddenStates ?? [], ...attentions ?? []]) tensor[Symbol.dispose]();
    throw error;
  }
}

/** Embeddings as a tensor of the backend that the decoder may give back. */
function bring<T extends Tensor>(
  backend: Backend<T>,
  embeddings: HostTensor | T,
  dtype: ActivationDtype,
): T {
  if (!(embeddings instanceof HostTensor)) return backend.reshape(embeddings, embeddings.shape);
  if (embeddings.dtype === dtype) return backend.upload(embeddings);
  return backend.upload(HostTensor.from(embeddings.shape, embeddings.numbers, dtype));
}
