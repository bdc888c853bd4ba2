/**
 * Which tokens begin, end and fill up a text, as `tokenizer_config.json` has it.
 *
 * @module
 */

import { describeJson, isRecord } from "../../runtime/json_text.ts";
import { JsonPlace } from "./json_place.ts";

/** What a tokenizer's config says. */
export interface SpecialIds {
  /** Begins a text, or null. */
  readonly bos: number | null;
  /** Ends a text, or null. */
  readonly eos: number | null;
  /** Fills up a row of a batch, or null. */
  readonly pad: number | null;
  /** On which side rows are filled up. */
  readonly paddingSide: "left" | "right";
}

/**
 * Reads the value of a `tokenizer_config.json`.
 *
 * @param value undefined where there is no such file
 * @param ids ids by token
 * @throws {TokenizerError} If it names a token that the tokenizer does not have, or breaks a rule
 */
export function readSpecialTokens(
  value: unknown,
  file: string,
  ids: ReadonlyMap<string, number>,
): SpecialIds {
  const root = new JsonPlace(file);
  const config = root.record(value ?? {});
  const idOf = (name: string): number | null => {
    const given = config[name] ?? null;
    if (given === null) return null;
    // Older files describe the token in full.
    const token = isRecord(given) ? given["content"] : given;
    if (typeof token !== "string") {
      return root.key(name).fail("not-a-token", "must be a token or null", describeJson(token));
    }
    const id = ids.get(token);
    const rule = "must be a token of the tokenizer";
    return id ?? root.key(name).fail("unknown-token", rule, describeJson(token));
  };
  const side = config["padding_side"] ?? "right";
  if (side !== "left" && side !== "right") {
    const rule = 'must be "left" or "right"';
    return root.key("padding_side").fail("bad-side", rule, describeJson(side));
  }
  return {
    bos: idOf("bos_token"),
    eos: idOf("eos_token"),
    pad: idOf("pad_token"),
    paddingSide: side,
  };
}
