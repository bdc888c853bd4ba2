/**
 * How long the rows are that texts are run in.
 *
 * @module
 */

import type { StableLmConfig } from "../model/config.ts";
import { contextLength } from "../model/generation/request.ts";

/**
 * Tokens of a row with its padding, which is a function of the text alone: so are the sums of the row, whatever
 * texts run beside it. Lengths are one of few, 2ᵏ + 1, so that many texts have the same one, and each has padding.
 *
 * Where angles follow the length of a row, as some kinds of scaled RoPE have it, there is no padding.
 *
 * @param tokens tokens of the text, from 1
 */
export function paddedLength(config: StableLmConfig, tokens: number): number {
  const { rope_type: kind } = config.rope_parameters;
  if (kind === "dynamic" || kind === "longrope") return tokens;
  const length = 2 ** Math.max(4, Math.ceil(Math.log2(tokens))) + 1;
  return Math.max(tokens, Math.min(length, contextLength(config)));
}
