/**
 * How a tokenizer cuts text into words. Regular expressions are taken from a list of known ones: one from a file
 * could take forever, and dialects differ in what they call a space.
 *
 * @module
 */

import { describeJson, isRecord } from "../../runtime/json_text.ts";
import type { JsonPlace } from "./json_place.ts";

/** White space as Unicode has it; JavaScript's own `\s` has U+FEFF as well, and not U+0085. */
const SPACE = "\\t-\\r\\x20\\x85\\xa0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000";

const GPT2 = "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";

/** Patterns of GPT-4's family; they differ in how many digits stay together. */
function gpt4(digits: string): string {
  return "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|" + digits +
    "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
}

/** The patterns that may stand in a file: GPT-NeoX's, StableLM 2's, and the one that the latter comes from. */
const KNOWN_PATTERNS: readonly string[] = [GPT2, gpt4("\\p{N}"), gpt4("\\p{N}{1,3}")];

/**
 * A known pattern with nothing left that dialects read differently. What ignores case is spelt out: of all
 * letters beyond ASCII, only the long s folds to one of these.
 */
function spelledOut(pattern: string): string {
  return pattern
    .replace(
      "(?i:'s|'t|'re|'ve|'m|'ll|'d)",
      "'(?:[sS\\u017f]|[tT]|[rR][eE]|[vV][eE]|[mM]|[lL][lL]|[dD])",
    )
    .replaceAll("[^\\s", `[^${SPACE}`)
    .replaceAll("\\S", `[^${SPACE}]`)
    .replaceAll("\\s", `[${SPACE}]`);
}

/**
 * Checks a pre-tokenizer and spells its patterns out.
 *
 * @returns the same for `@huggingface/tokenizers`
 * @throws {TokenizerError} reasons `unknown-pattern` and `unsupported`, or about its form
 */
export function readPreTokenizer(value: unknown, at: JsonPlace): unknown {
  const steps = readSteps(value, at);
  const last = steps.at(-1);
  if (!isRecord(last) || last["type"] !== "ByteLevel") {
    at.fail(
      "unsupported",
      "must end in ByteLevel",
      describeJson(isRecord(last) ? last["type"] : value),
    );
  }
  return { type: "Sequence", pretokenizers: steps };
}

function readSteps(value: unknown, at: JsonPlace): readonly unknown[] {
  const fields = at.record(value);
  const type = fields["type"];
  if (type === "Sequence") {
    const list = at.key("pretokenizers").list(fields["pretokenizers"], 8);
    return list.flatMap((step, i) => {
      const place = at.key(`pretokenizers[${i}]`);
      // One within another adds nothing, and may be nested without end.
      if (isRecord(step) && step["type"] === "Sequence") {
        place.fail("unsupported", "must not be a Sequence in a Sequence", "it is one");
      }
      return readSteps(step, place);
    });
  }
  if (type === "ByteLevel") {
    at.flag(fields, "add_prefix_space", false);
    const split = at.boolean(fields, "use_regex", true);
    const bytes = { type, add_prefix_space: false, use_regex: false };
    return split ? [splitting(GPT2), bytes] : [bytes];
  }
  if (type === "Split") return [splitting(readPattern(fields, at))];
  if (type === "Digits") {
    const individual = at.boolean(fields, "individual_digits", false);
    return [{
      type: "Split",
      pattern: { Regex: individual ? "\\p{N}" : "\\p{N}+" },
      behavior: "Isolated",
      invert: false,
    }];
  }
  return at.key("type").fail(
    "unsupported",
    "must be ByteLevel, Split, Digits or a Sequence of them",
    describeJson(type),
  );
}

function readPattern(fields: Readonly<Record<string, unknown>>, at: JsonPlace): string {
  const given = at.key("pattern").record(fields["pattern"])["Regex"];
  const pattern = KNOWN_PATTERNS.find((known) => known === given);
  // These match every character, so to keep what matches is to cut between matches.
  const { behavior, invert } = fields;
  const cuts = (behavior === "Isolated" && invert === false) ||
    (behavior === "Removed" && invert === true);
  if (!cuts) {
    const value = `${describeJson(behavior)}, invert ${describeJson(invert)}`;
    at.fail("unsupported", 'must be "Isolated", or "Removed" and inverted', value);
  }
  if (pattern === undefined) {
    const rule = "must be the pattern of GPT-2, of StableLM 2 or of cl100k, to the letter";
    return at.key("pattern").fail("unknown-pattern", rule, describeJson(given));
  }
  return pattern;
}

function splitting(pattern: string): unknown {
  const Regex = spelledOut(pattern);
  return { type: "Split", pattern: { Regex }, behavior: "Isolated", invert: false };
}
