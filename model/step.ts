/**
 * One call of the decoder: its inputs brought to the backend.
 *
 * @module
 */

import type { Backend } from "../runtime/backend.ts";
import { HostTensor, type Tensor } from "../runtime/tensor.ts";
import type { StableLmConfig } from "./config.ts";
import type { CheckedInputs, ForwardInputs } from "./forward_inputs.ts";
import { type Ids, idTensor, isTensor } from "./inputs.ts";
import type { KvCache } from "./kv_cache.ts";
import { type ActivationDtype, orderOf, type SumOrder } from "./layers.ts";
import type { RotaryTables } from "./rotary_tables.ts";

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
  /** Whether each token has the bits that it would have alone. */
  readonly stepwise: boolean;
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
    order: orderOf(tokens, inputs.stepwise),
    stepwise: inputs.stepwise ?? false,
    ids: upload(ids) ?? deviceIds(inputs),
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

/** Ids that are on the backend already. */
function deviceIds<T extends Tensor>({ inputIds }: ForwardInputs<T>): T | undefined {
  return isTensor(inputIds) && !(inputIds instanceof HostTensor) ? inputIds as T : undefined;
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
