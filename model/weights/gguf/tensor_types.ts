/**
 * How a GGUF file may store a tensor's elements.
 *
 * @module
 */

import type { WeightDtype } from "../weight_source.ts";
import {
  BLOCK_BYTES,
  type Dequantize,
  dequantizeQ2_K,
  dequantizeQ3_K,
  dequantizeQ4_0,
  dequantizeQ4_1,
  dequantizeQ4_K,
  dequantizeQ5_0,
  dequantizeQ5_1,
  dequantizeQ5_K,
  dequantizeQ6_K,
  dequantizeQ8_0,
  LARGE_BLOCK,
  SMALL_BLOCK,
} from "./ggml_blocks.ts";

/** A type of stored elements that can be read. */
export interface TensorType {
  /** ggml's name: `F16`, `Q4_K`. */
  readonly name: string;
  /** What it is read as. */
  readonly dtype: WeightDtype;
  /** Elements of a block; 1 for the types that are not quantised. */
  readonly blockElements: number;
  /** Bytes of a block. */
  readonly blockBytes: number;
  /** Turns blocks into f32; absent where the elements are taken as they are. */
  readonly dequantize?: Dequantize;
}

/** The types that can be read, by their number in the file. */
export const TENSOR_TYPES: ReadonlyMap<number, TensorType> = new Map([
  [0, plain("F32", "f32", 4)],
  [1, plain("F16", "f16", 2)],
  [30, plain("BF16", "bf16", 2)],
  [2, quantized("Q4_0", SMALL_BLOCK, dequantizeQ4_0)],
  [3, quantized("Q4_1", SMALL_BLOCK, dequantizeQ4_1)],
  [6, quantized("Q5_0", SMALL_BLOCK, dequantizeQ5_0)],
  [7, quantized("Q5_1", SMALL_BLOCK, dequantizeQ5_1)],
  [8, quantized("Q8_0", SMALL_BLOCK, dequantizeQ8_0)],
  [10, quantized("Q2_K", LARGE_BLOCK, dequantizeQ2_K)],
  [11, quantized("Q3_K", LARGE_BLOCK, dequantizeQ3_K)],
  [12, quantized("Q4_K", LARGE_BLOCK, dequantizeQ4_K)],
  [13, quantized("Q5_K", LARGE_BLOCK, dequantizeQ5_K)],
  [14, quantized("Q6_K", LARGE_BLOCK, dequantizeQ6_K)],
]);

/** Names of the other types that ggml has or had, for messages. */
const OTHER_TYPES: Readonly<Record<number, string>> = {
  4: "Q4_2",
  5: "Q4_3",
  9: "Q8_1",
  15: "Q8_K",
  16: "IQ2_XXS",
  17: "IQ2_XS",
  18: "IQ3_XXS",
  19: "IQ1_S",
  20: "IQ4_NL",
  21: "IQ3_S",
  22: "IQ2_S",
  23: "IQ4_XS",
  24: "I8",
  25: "I16",
  26: "I32",
  27: "I64",
  28: "F64",
  29: "IQ1_M",
  34: "TQ1_0",
  35: "TQ2_0",
  39: "MXFP4",
  40: "NVFP4",
  41: "Q1_0",
};

/** Name of a type that cannot be read: ggml's, or its number. */
export function otherTypeName(id: number): string {
  return OTHER_TYPES[id] ?? `type ${id}`;
}

function plain(name: string, dtype: WeightDtype, blockBytes: number): TensorType {
  return { name, dtype, blockElements: 1, blockBytes };
}

function quantized(
  name: keyof typeof BLOCK_BYTES,
  blockElements: number,
  dequantize: Dequantize,
): TensorType {
  return { name, dtype: "f32", blockElements, blockBytes: BLOCK_BYTES[name], dequantize };
}
