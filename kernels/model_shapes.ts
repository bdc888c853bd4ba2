/**
 * Sizes of the released StableLM models, from which every timed case is made.
 *
 * @module
 */

import type { ModelShape } from "../runtime/op.ts";

const LARGE = { prefillTokens: 512, contextTokens: 4096 };

/** StableLM sizes by name; `tiny` is small enough to time in seconds on a software adapter. */
export const MODEL_SHAPES: Readonly<Record<"3b" | "1.6b" | "12b" | "tiny", ModelShape>> = {
  /** StableLM 3B 4E1T, Zephyr 3B and Code 3B. */
  "3b": {
    name: "3b",
    hiddenSize: 2560,
    intermediateSize: 6912,
    numHeads: 32,
    numKvHeads: 32,
    headDim: 80,
    rotaryDim: 20,
    vocabSize: 50_304,
    ...LARGE,
  },
  /** StableLM-2 1.6B. */
  "1.6b": {
    name: "1.6b",
    hiddenSize: 2048,
    intermediateSize: 5632,
    numHeads: 32,
    numKvHeads: 32,
    headDim: 64,
    rotaryDim: 16,
    vocabSize: 100_352,
    ...LARGE,
  },
  /** StableLM-2 12B. */
  "12b": {
    name: "12b",
    hiddenSize: 5120,
    intermediateSize: 13_824,
    numHeads: 32,
    numKvHeads: 8,
    headDim: 160,
    rotaryDim: 40,
    vocabSize: 100_352,
    ...LARGE,
  },
  /** No released model: 3B's proportions, at an eighth of its width. */
  "tiny": {
    name: "tiny",
    hiddenSize: 320,
    intermediateSize: 864,
    numHeads: 4,
    numKvHeads: 4,
    headDim: 80,
    rotaryDim: 20,
    vocabSize: 2048,
    prefillTokens: 64,
    contextTokens: 256,
  },
};
