/**
 * The decoder of StableLM.
 *
 * B sequences, S tokens of each in this call, T = past + S tokens in all, hidden size H, heads h of size D,
 * key and value heads g, intermediate size I.
 *
 * @module
 */

import { add } from "../kernels/add/add.ts";
import { attentionValues } from "../kernels/attention_values/attention_values.ts";
import { attentionWeights } from "../kernels/attention_weights/attention_weights.ts";
import { flashAttention } from "../kernels/flash_attention/flash_attention.ts";
import { rope } from "../kernels/rope/rope.ts";
import { swiglu } from "../kernels/swiglu/swiglu.ts";
import type { Backend } from "../runtime/backend.ts";
import type { Tensor } from "../runtime/tensor.ts";
import type { StableLmConfig } from "./config.ts";
import { Embedding, LayerNorm, Linear } from "./layers.ts";
import type { Step } from "./step.ts";
import type { ParameterStore } from "./weights/parameter_store.ts";

/** Self-attention: partial RoPE, grouped keys and values, and a LayerNorm per head where the config says so. */
class Attention<T extends Tensor> {
  readonly #backend: Backend<T>;
  readonly #config: StableLmConfig;
  readonly #layer: number;
  readonly #qProj: Linear<T>;
  readonly #kProj: Linear<T>;
  readonly #vProj: Linear<T>;
  readonly #oProj: Linear<T>;
  readonly #qNorm: LayerNorm<T> | undefined;
  readonly #kNorm: LayerNorm<T> | undefined;

  constructor(
    backend: Backend<T>,
    parameters: ParameterStore<T>,
    config: StableLmConfig,
    layer: number,
  ) {
    const name = `model.layers.${layer}.self_attn`;
    const linear = (projection: string) => new Linear(backend, parameters, `${name}.${projection}`);
    const norm = (projection: string) =>
      config.qk_layernorm
        ? new LayerNorm(backend, parameters, `${name}.${projection}`, config.layer_norm_eps)
        : undefined;
    this.#backend = backend;
    this.#config = config;
    this.#layer = layer;
    this.#qProj = linear("q_proj");
    this.#kProj = linear("k_proj");
    this.#vProj = linear("v_proj");
    this.#oProj = linear("o_proj");
    this.#qNorm = norm("q_layernorm");
    this.#kNorm = norm("k_layernorm");
  }

  forward(x: T, step: Step<T>): T {
    const { num_attention_heads: heads, num_key_value_heads: groups } = this.#config;
    using q = this.#rotated(x, this.#qProj, this.#qNorm, heads, step); //     [B, S, h, D]
    using k = this.#rotated(x, this.#kProj, this.#kNorm, groups, step); //    [B, S, g, D]
    using v = this.#project(x, this.#vProj, groups, step); //                 [B, S, g, D]
    const { key, value } = step.cache.append(this.#layer, k, v); //           [B, g, T, D]
    using y = this.#attend(q, key, value, step); //                           [B, S, h, D]
    using flat = this.#backend.reshape(y, [...x.shape.slice(0, -1), heads * this.#config.head_dim]);
    return this.#oProj.forward(flat, step.order); //                          [B, S, H]
  }

  /** A projection, split into heads: [B, S, H] → [B, S, heads, D]. */
  #project(x: T, projection: Linear<T>, heads: number, step: Step<T>): T {
    using flat = projection.forward(x, step.order);
    return this.#backend.reshape(flat, [step.batch, step.tokens, heads, this.#config.head_dim]);
  }

  /** A projection, normalised and rotated by the tokens' positions: [B, S, H] → [B, S, heads, D]. */
  #rotated(
    x: T,
    projection: Linear<T>,
    norm: LayerNorm<T> | undefined,
    heads: number,
    step: Step<T>,
  ): T {
    const { cos, sin, positions } = step;
    const attributes = { rotaryDim: this.#config.rotary_dim, pairing: "halves" } as const;
    using projected = this.#project(x, projection, heads, step);
    using normed = norm?.forward(projected);
    return this.#backend.run(rope, { x: normed ?? projected, cos, sin, positions }, attributes).y;
  }

  /** softmax(q · kᵀ / √D) · v over the tokens up to each query's own. */
  #attend(q: T, k: T, v: T, { mask, keyLength, stepwise, attentions }: Step<T>): T {
    const attributes = { keyLength, causal: true };
    if (!attentions) {
      const inputs = { q, k, v, mask };
      return this.#backend.run(flashAttention, inputs, { ...attributes, stepwise }).y;
    }
    const { weights } = this.#backend.run(attentionWeights, { q, k, mask }, attributes);
    attentions.push(weights); //                                              [B, h, S, T]
    return this.#backend.run(attentionValues, { weights, v }, { keyLength }).y;
  }
}

/** down(act(gate(x)) · up(x)). */
class Mlp<T extends Tensor> {
  readonly #backend: Backend<T>;
  readonly #config: StableLmConfig;
  readonly #gateProj: Linear<T>;
  readonly #upProj: Linear<T>;
  readonly #downProj: Linear<T>;

  constructor(
    backend: Backend<T>,
    parameters: ParameterStore<T>,
    config: StableLmConfig,
    layer: number,
  ) {
    const linear = (name: string) =>
      new Linear(backend, parameters, `model.layers.${layer}.mlp.${name}`);
    this.#backend = backend;
    this.#config = config;
    this.#gateProj = linear("gate_proj");
    this.#upProj = linear("up_proj");
    this.#downProj = linear("down_proj");
  }

  forward(x: T, { order }: Step<T>): T {
    const { activation } = this.#config;
    using gate = this.#gateProj.forward(x, order); //                         [B, S, I]
    using up = this.#upProj.forward(x, order); //                             [B, S, I]
    using inner = this.#backend.run(swiglu, { gate, up }, { activation }).y; // [B, S, I]
    return this.#downProj.forward(inner, order); //                           [B, S, H]
  }
}

/** A layer: attention and MLP, one after the other or side by side. */
class DecoderLayer<T extends Tensor> {
  readonly #backend: Backend<T>;
  readonly #attention: Attention<T>;
  readonly #mlp: Mlp<T>;
  readonly #inputNorm: LayerNorm<T>;
  readonly #postAttentionNorm: LayerNorm<T> | undefined;

  constructor(
    backend: Backend<T>,
    parameters: ParameterStore<T>,
    config: StableLmConfig,
    layer: number,
  ) {
    const norm = (name: string) =>
      new LayerNorm(backend, parameters, `model.layers.${layer}.${name}`, config.layer_norm_eps);
    this.#backend = backend;
    this.#attention = new Attention(backend, parameters, config, layer);
    this.#mlp = new Mlp(backend, parameters, config, layer);
    this.#inputNorm = norm("input_layernorm");
    if (!config.use_parallel_residual) this.#postAttentionNorm = norm("post_attention_layernorm");
  }

  forward(x: T, step: Step<T>): T {
    using h = this.#inputNorm.forward(x); //                                  [B, S, H]
    using attended = this.#attention.forward(h, step); //                     [B, S, H]
    if (!this.#postAttentionNorm) { // parallel: x + attention(h) + mlp(h)
      using r = this.#backend.run(add, { a: x, b: attended }, {}).y; //       [B, S, H]
      using m = this.#mlp.forward(h, step); //                                [B, S, H]
      return this.#backend.run(add, { a: r, b: m }, {}).y; //                 [B, S, H]
    }
    // sequential: r = x + attention(h), r + mlp(norm(r))
    const { y, sum } = this.#postAttentionNorm.forwardSum(attended, x); //    [B, S, H] each
    using normed = y;
    using r = sum;
    using m = this.#mlp.forward(normed, step); //                             [B, S, H]
    return this.#backend.run(add, { a: r, b: m }, {}).y; //                   [B, S, H]
  }
}

/** Embedding, layers and the last norm. */
export class Decoder<T extends Tensor> {
  readonly #backend: Backend<T>;
  readonly #embedTokens: Embedding<T>;
  readonly #layers: readonly DecoderLayer<T>[];
  readonly #norm: LayerNorm<T>;

  /** Takes the parameters that start with `model.`. */
  constructor(backend: Backend<T>, parameters: ParameterStore<T>, config: StableLmConfig) {
    this.#backend = backend;
    this.#embedTokens = new Embedding(backend, parameters, "model.embed_tokens");
    this.#layers = Array.from(
      { length: config.num_hidden_layers },
      (_, layer) => new DecoderLayer(backend, parameters, config, layer),
    );
    this.#norm = new LayerNorm(backend, parameters, "model.norm", config.layer_norm_eps);
  }

  /**
   * Runs the tokens of a step through all layers, which write into its cache without counting them.
   *
   * @returns the last hidden state after the final norm, [B, S, H]
   */
  forward(step: Step<T>): T {
    const { hiddenStates } = step;
    const embedded = step.embeddings ??
      this.#embedTokens.forward(step.ids!, step.dtype); //                    [B, S, H]
    using residual = new Held(embedded);
    for (const layer of this.#layers) {
      hiddenStates?.push(this.#backend.reshape(residual.tensor, residual.tensor.shape));
      residual.replace(layer.forward(residual.tensor, step)); //              [B, S, H]
    }
    using made = new DisposableStack();
    const last = made.use(this.#norm.forward(residual.tensor)); //            [B, S, H]
    hiddenStates?.push(this.#backend.reshape(last, last.shape));
    made.move();
    return last;
  }
}

/** A tensor that is replaced as the work goes on, and given back with the scope that it is held in. */
class Held<T extends Tensor> implements Disposable {
  tensor: T;

  constructor(tensor: T) {
    this.tensor = tensor;
  }

  replace(tensor: T): void {
    this.tensor[Symbol.dispose]();
    this.tensor = tensor;
  }

  [Symbol.dispose](): void {
    this.tensor[Symbol.dispose]();
  }
}
