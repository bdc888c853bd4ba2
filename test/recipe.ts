/**
 * Weights without files: each element is a hash of its tensor's name and its index. The values are
 * multiples of small powers of two that f32, f16 and bf16 hold exactly, so that one set of golden outputs
 * serves weights of every dtype. `golden/weight_recipe.py` makes the same ones.
 *
 * @module
 */

import type { StableLmConfig } from "../model/config.ts";
import { type Head, parametersOf } from "../model/parameters.ts";
import type {
  RowRange,
  StoredTensor,
  WeightDtype,
  WeightSource,
} from "../model/weights/weight_source.ts";
import { bytesPerElement, elementCount, HostTensor, type Shape } from "../runtime/tensor.ts";

/** What a {@linkcode recipeSource} holds. */
export interface RecipeOptions {
  /** Head whose tensors are there; the causal one unless given. */
  readonly head?: Head;
  /** Dtype of all tensors; f32 unless given. */
  readonly dtype?: WeightDtype;
  /** False leaves `model.` out of the names, as in a checkpoint of the decoder alone. */
  readonly prefix?: boolean;
}

/** The checkpoint of a config: Hugging Face's names and shapes, the recipe's values. */
export function recipeSource(config: StableLmConfig, options: RecipeOptions = {}): WeightSource {
  const { head = "causal-lm", dtype = "f32", prefix = true } = options;
  const name = `recipe (${dtype})`;
  const tensors = new Map<string, StoredTensor>();
  let byteOffset = 0;
  for (const parameter of parametersOf(config, head)) {
    const shape = parameter.tensorShape;
    const byteLength = elementCount(shape) * bytesPerElement(dtype);
    for (const full of parameter.tensors) {
      const stored = prefix ? full : full.replace(/^model\./, "");
      const storedAs = dtype.toUpperCase();
      tensors.set(stored, { shape, dtype, storedAs, file: name, byteOffset, byteLength });
      byteOffset += byteLength;
    }
  }
  const read = async (
    tensor: string,
    rows?: RowRange,
    signal?: AbortSignal,
  ): Promise<HostTensor> => {
    await Promise.resolve(signal?.throwIfAborted());
    const { shape } = tensors.get(tensor) ?? refuse(`there is no tensor ${tensor}`);
    const [length = 1, ...row] = shape;
    const { begin, end } = rows ?? { begin: 0, end: length };
    const isRange = 0 <= begin && begin <= end && end <= length;
    if (!isRange) refuse(`${tensor} has ${length} rows: ${begin} to ${end}`);
    const rowLength = elementCount(row);
    const values = recipeValues(tensor, (end - begin) * rowLength, begin * rowLength);
    return HostTensor.from(shape.length === 0 ? [] : [end - begin, ...row], values, dtype);
  };
  return { name, tensors, read, [Symbol.dispose]() {} };
}

/** The recipe's tensor for a name. */
export function recipeTensor(name: string, shape: Shape): HostTensor {
  return HostTensor.from(shape, recipeValues(name, elementCount(shape)));
}

/** `count` values of a tensor, from its element `first` on. */
export function recipeValues(name: string, count: number, first = 0): Float64Array {
  const isNorm = name.includes("norm");
  const value = isNorm && name.endsWith("weight")
    ? (x: number) => 1 + (x >>> 26) / 64 - 0.5
    : (x: number) => scale * ((x >>> 24) / 256 - 0.5);
  const scale = isNorm ? 0.5 : name.includes("embed_tokens") ? 2 : name.endsWith("bias") ? 1 : 0.5;
  const seed = fnv1a(name);
  return new Float64Array(count).map((_, i) => value(mixed(seed, first + i)));
}

/** FNV-1a, 32 bits, of an ASCII name. */
export function fnv1a(name: string): number {
  let hash = 0x811c9dc5;
  for (let i = 0; i < name.length; i++) {
    hash = Math.imul(hash ^ name.charCodeAt(i), 0x01000193);
  }
  return hash >>> 0;
}

/** The hash of element `index` under a name's seed, 32 bits. */
export function mixed(seed: number, index: number): number {
  let x = (seed + Math.imul(index, 0x9e3779b1)) | 0;
  x = Math.imul(x ^ (x >>> 16), 0x85ebca6b);
  x = Math.imul(x ^ (x >>> 13), 0xc2b2ae35);
  return (x ^ (x >>> 16)) >>> 0;
}

function refuse(rule: string): never {
  throw new RangeError(`Cannot read the recipe: ${rule}`);
}
