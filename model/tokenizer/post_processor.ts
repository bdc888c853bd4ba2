/**
 * What a tokenizer puts before and after every text.
 *
 * @module
 */

import { describeJson } from "../../runtime/json_text.ts";
import type { JsonPlace } from "./json_place.ts";

/** Ids around a text. */
export interface AddedIds {
  /** Before it. */
  readonly before: readonly number[];
  /** After it. */
  readonly after: readonly number[];
}

const NOTHING: AddedIds = { before: [], after: [] };

/**
 * Reads a post-processor: null, ByteLevel, which adds nothing, a template, or a sequence with one template.
 *
 * @param tokens tokens by id, among which those of a template must be
 * @throws {TokenizerError} If it is another one, or breaks a rule
 */
export function readPostProcessor(
  value: unknown,
  at: JsonPlace,
  tokens: ReadonlyMap<number, string>,
): AddedIds {
  if (value === null) return NOTHING;
  const fields = at.record(value);
  const steps = fields["type"] === "Sequence"
    ? at.key("processors").list(fields["processors"], 8)
    : [fields];
  let around: AddedIds | undefined;
  for (const step of steps) {
    const one = at.record(step);
    const type = one["type"];
    if (type === "ByteLevel") continue;
    if (type !== "TemplateProcessing" || around !== undefined) {
      const rule = "must be ByteLevel, one TemplateProcessing, or a Sequence of these";
      at.key("type").fail("unsupported", rule, describeJson(type));
    }
    around = readTemplate(one, at, tokens);
  }
  return around ?? NOTHING;
}

function readTemplate(
  fields: Readonly<Record<string, unknown>>,
  at: JsonPlace,
  tokens: ReadonlyMap<number, string>,
): AddedIds {
  const place = at.key("single");
  const known = at.key("special_tokens").record(fields["special_tokens"]);
  const before: number[] = [], after: number[] = [];
  let texts = 0;
  for (const piece of place.list(fields["single"], 64)) {
    const { SpecialToken: special, Sequence: text } = place.record(piece);
    if (text !== undefined) {
      texts++;
      continue;
    }
    const name = place.record(special)["id"];
    if (typeof name !== "string" || !Object.hasOwn(known, name)) {
      const rule = "must name tokens of special_tokens";
      return place.fail("unknown-token", rule, describeJson(name));
    }
    const token = at.key("special_tokens").key(name);
    for (const given of token.list(token.record(known[name])["ids"], 64)) {
      const id = token.id(given);
      if (!tokens.has(id)) token.fail("unknown-token", "must be ids of tokens", String(id));
      (texts === 0 ? before : after).push(id);
    }
  }
  if (texts !== 1) place.fail("unsupported", "must have the text once", `${texts} times`);
  return { before, after };
}
