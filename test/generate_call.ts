/** Calls `deno task generate` in this process, with a standard input and outputs of its own. */

import { generate, GENERATE_COMMAND } from "../apps/generate.ts";
import { callCommand, type CallOptions, type CallResult } from "./command_call.ts";

export type { CallOptions, CallResult };

/** Calls the command with arguments. */
export function callGenerate(
  args: readonly string[],
  options: CallOptions = {},
): Promise<CallResult> {
  return callCommand(GENERATE_COMMAND, generate, args, options);
}
