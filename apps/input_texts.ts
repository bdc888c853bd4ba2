/**
 * The texts that a command is to look at.
 *
 * @module
 */

import type { OptionSpec } from "./command_line.ts";
import { UsageError } from "./command_line.ts";
import { readPrompt, type TextInput } from "./prompt_text.ts";

/** Options about a text. */
export const INPUT_OPTIONS = {
  file: { type: "text", value: "FILE", summary: "read the text from FILE" },
  "parse-special-tokens": {
    type: "flag",
    summary: "special tokens that a text spells, as <|endoftext|>, are tokens, not text",
  },
} as const satisfies Record<string, OptionSpec>;

/**
 * The texts: operands, of which `-` alone is standard input, or a file; without either, standard input unless that
 * is a terminal. Of a file and of standard input, one newline at the end is left out.
 *
 * @param signal ends the wait for standard input
 * @throws {UsageError} If there is none, there is a file too, or it is no UTF-8
 */
export async function readTexts(
  operands: readonly string[],
  file: string | undefined,
  stdin: TextInput,
  signal: AbortSignal,
): Promise<readonly string[]> {
  if (operands.length > 0 && file !== undefined) {
    throw new UsageError("--file must not be given with a text");
  }
  if (operands.length > 1) return operands;
  if (operands.length === 0 && file === undefined && stdin.isTerminal()) {
    throw new UsageError("a text must be given, in quotes");
  }
  return [await readPrompt(operands[0], file, stdin, signal)];
}
