/**
 * The layers that StableLM is built from, over parameters that may be split into several tensors.
 *
 * @module
 */

import { embedding } from "../kernels/embedding/embedding.ts";
import { embeddingPiece } from "../kernels/embedding_piece/embedding_piece.ts";
import { layerNorm } from "../kernels/layer_norm/layer_norm.ts";
import { matmul } from "../kernels/matmul/matmul.ts";
import { writeColumns } from "../kernels/write_columns/write_columns.ts";
import type { Backend } from "../runtime/backend.ts";
import type { Tensor } from "../runtime/tensor.ts";
import type { ParameterStore } from "./weights/parameter_store.ts";

/** Element type of the residual stream and of what is computed from it. */
export type ActivationDtype = "f32" | "f16";

/**
 * Which of the kernels' orders a sum of products is taken in. It follows from the call and never from the number of
 * sequences, so that a row has the same bits whatever other sequences are run with it.
 */
export type SumOrder = "vector" | "tile";

/** The order of the sums in a call with so many tokens per sequence, which may be run as if one by one. */
export function orderOf(tokens: number, stepwise: boolean | undefined): SumOrder {
  return tokens === 1 || stepwise ? "vector" : "tile";
}

/** y = x · Wᵀ + b. */
export class Linear<T extends Tensor> {
  readonly #backend: Backend<T>;
  readonly #pieces: readonly T[];
  readonly #biases: readonly T[];

  /** Takes the parameters `{name}.weight` and, if there is one, `{name}.bias`. */
  constructor(backend: Backend<T>, parameters: ParameterStore<T>, name: string) {
    this.#backend = backend;
    this.#pieces = parameters.pieces(`${name}.weight`);
    const bias = `${name}.bias`;
    this.#biases = parameters.has(bias) ? parameters.pieces(bias) : [];
  }

  /** x [..., in] → y [..., out]. */
  forward(x: T, order: SumOrder, dtype: ActivationDtype = x.dtype as ActivationDtype): T {
    const attributes = { layout: "linear", order, dtype } as const;
    const [weight] = this.#pieces as [T];
    const [bias] = this.#biases;
    if (this.#pieces.length === 1) {
      return this.#backend.run(matmul, { x, weight, bias }, attributes).y;
    }
    // A weight above the largest binding: each piece makes some of the columns.
    const columns = this.#pieces.reduce((sum, { shape }) => sum + shape[0]!, 0);
    using made = new DisposableStack();
    const shape = [...x.shape.slice(0, -1), columns];
    const y = made.use(this.#backend.zeros({ shape, dtype }));
    let column = 0;
    this.#pieces.forEach((weight, i) => {
      const bias = this.#biases[i];
      using part = this.#backend.run(matmul, { x, weight, bias }, attributes).y;
      this.#backend.run(writeColumns, { y, x: part }, { column });
      column += weight.shape[0]!;
    });
    made.move();
    return y;
  }
}

/** y = (x − mean x) / √(var x + ε) · w + b. */
export class LayerNorm<T extends Tensor> {
  readonly #backend: Backend<T>;
  readonly #weight: T;
  readonly #bias: T | undefined;
  readonly #epsilon: number;

  /** Takes the parameters `{name}.weight` and, if there is one, `{name}.bias`. */
  constructor(backend: Backend<T>, parameters: ParameterStore<T>, name: string, epsilon: number) {
    this.#backend = backend;
    this.#weight = parameters.tensor(`${name}.weight`);
    const bias = `${name}.bias`;
    this.#bias = parameters.has(bias) ? parameters.tensor(bias) : undefined;
    this.#epsilon = epsilon;
  }

  /** x [..., C] → y [..., C]. */
  forward(x: T): T {
    return this.#run(x).y;
  }

  /** x, residual [..., C] → sum = x + residual, and y [..., C], which is the sum normalised. */
  forwardSum(x: T, residual: T): { readonly y: T; readonly sum: T } {
    return this.#run(x, residual);
  }

  #run(x: T, residual?: T) {
    const inputs = { x, residual, weight: this.#weight, bias: this.#bias };
    return this.#backend.run(layerNorm, inputs, { epsilon: this.#epsilon });
  }
}

/** Rows of a table, by id. */
export class Embedding<T extends Tensor> {
  readonly #backend: Backend<T>;
  readonly #pieces: readonly T[];

  /** Takes the parameter `{name}.weight`. */
  constructor(backend: Backend<T>, parameters: ParameterStore<T>, name: string) {
    this.#backend = backend;
    this.#pieces = parameters.pieces(`${name}.weight`);
  }

  /** ids [...] → rows [..., C]. */
  forward(ids: T, dtype: ActivationDtype): T {
    const [table] = this.#pieces as [T];
    if (this.#pieces.length === 1) return this.#backend.run(embedding, { table, ids }, { dtype }).y;
    using made = new DisposableStack();
    const y = made.use(this.#backend.zeros({ shape: [...ids.shape, table.shape[1]!], dtype }));
    let firstRow = 0;
    for (const table of this.#pieces) {
      this.#backend.run(embeddingPiece, { table, ids, y }, { firstRow });
      firstRow += table.shape[0]!;
    }
    made.move();
    return y;
  }
}
