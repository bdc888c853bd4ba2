/**
 * What all StableLM models share: the decoder with its parameters, and one call of it.
 *
 * @module
 */

import type { Backend } from "../runtime/backend.ts";
import { requireInput } from "../runtime/errors.ts";
import type { Tensor } from "../runtime/tensor.ts";
import type { StableLmConfig } from "./config.ts";
import { checkInputs, type ForwardInputs } from "./forward_inputs.ts";
import type { GenerationConfig } from "./generation_config.ts";
import { requireOptions } from "./inputs.ts";
import { KvCache, roomFor } from "./kv_cache.ts";
import type { ActivationDtype } from "./layers.ts";
import type { OutputParts } from "./output.ts";
import { RotaryTables } from "./rotary_tables.ts";
import { Decoder } from "./stablelm.ts";
import { withStep } from "./step.ts";
import type { ParameterStore } from "./weights/parameter_store.ts";

/** What a model is made of. */
export interface ModelParts<T extends Tensor> {
  /** Where it runs; whoever made it disposes of it, after the model. */
  readonly backend: Backend<T>;
  /** Its config. */
  readonly config: StableLmConfig;
  /** Its parameters, which the model gives back when it is disposed. */
  readonly parameters: ParameterStore<T>;
  /** Element type of the residual stream. */
  readonly activationDtype: ActivationDtype;
  /** Names in the checkpoint that the model has no use for. */
  readonly unexpected: readonly string[];
  /** How the checkpoint is meant to generate, where it says so. */
  readonly generationConfig?: GenerationConfig | undefined;
}

/** What one call of the decoder, and of the head on it, gives. */
export interface DecoderRun<T extends Tensor> {
  /** What the head made of the hidden state. */
  readonly result: T;
  /** What else was asked for. */
  readonly parts: OutputParts<T>;
  /** What the call made, the result included. */
  readonly owned: readonly Disposable[];
}

/** How to run the decoder. */
export interface DecodeOptions<T extends Tensor> {
  /** Further checks, once it is known how many sequences and tokens there are. */
  check?(batch: number, tokens: number): void;
  /** Whether keys and values are returned; as the inputs and the config say unless given. */
  readonly returnsCache?: boolean;
  /** Makes the result of the hidden state after the final norm, [B, S, H], which it does not keep. */
  head(hidden: T): T;
}

/** Base of the models: a decoder and the parameters of decoder and head. */
export abstract class StableLmPreTrainedModel<T extends Tensor> implements Disposable {
  /** Where it runs. */
  readonly backend: Backend<T>;
  /** Its config. */
  readonly config: StableLmConfig;
  /** Element type of the residual stream, of keys and of values. */
  readonly activationDtype: ActivationDtype;
  /** Names in the checkpoint that the model had no use for. */
  readonly unexpected: readonly string[];
  /** How the checkpoint is meant to generate, where it says so. */
  readonly generationConfig: GenerationConfig | undefined;
  /** Its parameters. */
  protected readonly parameters: ParameterStore<T>;
  readonly #decoder: Decoder<T>;
  readonly #rotary: RotaryTables<T>;
  #disposed = false;

  /** Takes parts whose parameters are loaded. */
  constructor(parts: ModelParts<T>) {
    const { backend, config, parameters, activationDtype, unexpected, generationConfig } = parts;
    this.backend = backend;
    this.config = config;
    this.parameters = parameters;
    this.activationDtype = activationDtype;
    this.unexpected = unexpected;
    this.generationConfig = generationConfig;
    this.#decoder = new Decoder(backend, parameters, config);
    this.#rotary = new RotaryTables(backend, config);
  }

  /** Element type that the parameters are held in. */
  get dtype(): "f32" | "f16" | "bf16" {
    return this.parameters.dtype;
  }

  /**
   * An empty cache for `batch` sequences with room for `capacity` tokens each; it grows if that is not enough.
   * The caller disposes of it.
   *
   * @throws {ModelInputError} If an option is unknown or a size is not a whole number from 1
   */
  createCache(options: { batch?: number; capacity?: number } = {}): KvCache<T> {
    this.#requireUsable("createCache");
    requireOptions("createCache", options, ["batch", "capacity"]);
    return this.#cache(options.batch ?? 1, options.capacity, false);
  }

  /** Gives parameters and tables back. */
  [Symbol.dispose](): void {
    if (this.#disposed) return;
    this.#disposed = true;
    this.#rotary[Symbol.dispose]();
    this.parameters[Symbol.dispose]();
  }

  /**
   * Checks the inputs, runs the decoder and the head on them, and only then counts the tokens into the cache:
   * a call that throws leaves it as long as it was.
   */
  protected decode(
    method: string,
    inputs: ForwardInputs<T>,
    { check, returnsCache, head }: DecodeOptions<T>,
  ): DecoderRun<T> {
    this.#requireUsable(method);
    const { output_hidden_states: hidden, output_attentions: weights } = this.config;
    const given = {
      ...inputs,
      outputHiddenStates: inputs.outputHiddenStates ?? hidden,
      outputAttentions: inputs.outputAttentions ?? weights,
    };
    const context = {
      backend: this.backend,
      config: this.config,
      dtype: this.activationDtype,
      rotary: this.#rotary,
    };
    const checked = checkInputs(method, context, given);
    const { batch, tokens } = checked;
    const useCache = returnsCache ?? checked.useCache;
    check?.(batch, tokens);
    using made = new DisposableStack();
    const cache = inputs.pastKeyValues ??
      made.use(this.#cache(batch, useCache ? roomFor(tokens) : tokens, !useCache));
    const { result, hiddenStates, attentions } = withStep(
      context,
      given,
      checked,
      cache,
      (step) => {
        using hidden = this.#decoder.forward(step);
        const { hiddenStates, attentions } = step;
        return { result: head(hidden), hiddenStates, attentions };
      },
    );
    cache.advance(tokens);
    const owned: Disposable[] = [result, ...hiddenStates ?? [], ...attentions ?? []];
    if (useCache && inputs.pastKeyValues === undefined) {
      made.move();
      owned.push(cache);
    }
    const pastKeyValues = useCache ? cache : undefined;
    return { result, parts: { pastKeyValues, hiddenStates, attentions }, owned };
  }

  #cache(batch: number, capacity: number | undefined, shared: boolean): KvCache<T> {
    return new KvCache(this.backend, {
      layers: this.config.num_hidden_layers,
      batch,
      heads: this.config.num_key_value_heads,
      headDim: this.config.head_dim,
      capacity,
      dtype: this.activationDtype,
      shared,
    });
  }

  #requireUsable(method: string): void {
    requireInput(!this.#disposed, method, "model", "must not be disposed", "disposed");
  }
}
