/** Calls a command that works on text in this process, with a standard input and outputs of its own. */

import {
  type CommandSpec,
  EXIT,
  type OptionSpec,
  type ParsedCommand,
  runCommand,
} from "../apps/command_line.ts";
import type { TextSurroundings } from "../apps/text_results.ts";

/** What stands around a call. */
export interface CallOptions {
  /** Bytes of standard input; a terminal that nobody types on unless given. */
  readonly stdin?: string | Uint8Array<ArrayBuffer>;
  /** Whether both outputs are a terminal; false unless given. */
  readonly terminal?: boolean;
  /** Told of each piece on standard output before it counts; may throw, as a broken pipe does. */
  readonly onWrite?: (text: string) => void;
  /** Ends the command, as Ctrl-C does. */
  readonly signal?: AbortSignal;
}

/** What came of a call. */
export interface CallResult {
  /** Exit status. */
  readonly status: number;
  /** Standard output. */
  readonly out: string;
  /** Standard error, without what a terminal wrote over. */
  readonly err: string;
}

/** Calls a command with arguments. */
export async function callCommand<Options extends Readonly<Record<string, OptionSpec>>>(
  spec: CommandSpec<Options>,
  main: (
    command: ParsedCommand<Options>,
    signal: AbortSignal,
    surroundings: TextSurroundings,
  ) => Promise<number>,
  args: readonly string[],
  { stdin, terminal = false, onWrite, signal }: CallOptions = {},
): Promise<CallResult> {
  const decoder = new TextDecoder();
  let out = "", shown = "";
  const isTerminal = () => terminal;
  const input = stdin ?? "";
  const surroundings: TextSurroundings = {
    stdin: {
      isTerminal: () => stdin === undefined,
      readable: new Blob([input]).stream(),
    },
    stdout: {
      isTerminal,
      // One byte less than it is given, as a pipe may take it.
      write: (bytes) => {
        const part = bytes.subarray(0, Math.max(1, bytes.length - 1));
        const text = decoder.decode(part, { stream: true });
        onWrite?.(text);
        out += text;
        return Promise.resolve(part.length);
      },
    },
    stderr: {
      isTerminal,
      writeSync: (bytes) => {
        shown += new TextDecoder().decode(bytes);
        return bytes.length;
      },
    },
  };
  const { log, error } = console;
  console.log = (...words) => out += `${words.join(" ")}\n`;
  console.error = (...words) => shown += `${words.join(" ")}\n`;
  try {
    const status = await runCommand(spec, async (command, own) => {
      const either = signal ? AbortSignal.any([signal, own]) : own;
      try {
        const status = await main(command, either, surroundings);
        return either.aborted ? EXIT.interrupted : status;
      } catch (error) {
        if (signal?.aborted) return EXIT.interrupted;
        throw error;
      }
    }, args);
    return { status, out, err: shown.split("\r\x1b[K").at(-1)! };
  } finally {
    Object.assign(console, { log, error });
  }
}
