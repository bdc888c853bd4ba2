/**
 * The losses of the heads, as transformers defines them; sums in f64.
 *
 * @module
 */

import { crossEntropy } from "../kernels/cross_entropy/cross_entropy.ts";
import type { Backend } from "../runtime/backend.ts";
import { HostTensor, type Tensor } from "../runtime/tensor.ts";

/** A label that is not scored. */
export const IGNORED = -100;

/**
 * Mean of −log softmax(logits)[label] over the rows whose label is not −100; NaN where there is none.
 *
 * @param logits [..., classes]
 * @param labels one for each row
 * @param count what the sum is divided by, in place of the number of scored rows
 */
export async function crossEntropyLoss<T extends Tensor>(
  backend: Backend<T>,
  logits: T,
  labels: ArrayLike<number>,
  count?: number,
): Promise<number> {
  const shape = logits.shape.slice(0, -1);
  const isIgnored = Uint32Array.from(labels, (label) => label === IGNORED ? 1 : 0);
  const ids = Uint32Array.from(labels, (label) => label === IGNORED ? 0 : label);
  using classes = backend.upload(new HostTensor(shape, ids));
  using ignored = backend.upload(new HostTensor(shape, isIgnored));
  using rows = backend.run(crossEntropy, { logits, labels: classes, ignored }, {}).loss;
  const { numbers } = await backend.read(rows);
  let sum = 0;
  for (let i = 0; i < numbers.length; i++) sum += numbers[i]!;
  return sum / (count ?? isIgnored.reduce((scored, flag) => scored + 1 - flag, 0));
}

/** Mean of (logit − target)². */
export function meanSquaredError(logits: ArrayLike<number>, targets: ArrayLike<number>): number {
  return mean(logits, targets, (logit, target) => (logit - target) ** 2);
}

/** Mean of −[target · log σ(logit) + (1 − target) · log(1 − σ(logit))], without overflow. */
export function binaryCrossEntropy(logits: ArrayLike<number>, targets: ArrayLike<number>): number {
  return mean(
    logits,
    targets,
    (logit, target) => Math.max(logit, 0) - logit * target + Math.log1p(Math.exp(-Math.abs(logit))),
  );
}

function mean(
  logits: ArrayLike<number>,
  targets: ArrayLike<number>,
  term: (logit: number, target: number) => number,
): number {
  let sum = 0;
  for (let i = 0; i < logits.length; i++) sum += term(logits[i]!, targets[i]!);
  return sum / logits.length;
}
