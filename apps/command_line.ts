/**
 * What every command shares: options from one table, exit statuses, errors in one line, signals.
 *
 * A command describes itself in a {@linkcode CommandSpec} and hands it to {@linkcode runCommand},
 * which reads the arguments, prints `--help`, calls the command and turns whatever happened into an
 * exit status:
 *
 * ```ts ignore
 * Deno.exit(await runCommand(SPEC, async ({ operands, options }, signal) => EXIT.ok));
 * ```
 *
 * @module
 */

import { parseArgs } from "node:util";
import { KernelsError } from "../runtime/errors.ts";

/** Exit statuses, the same for every command. */
export const EXIT = {
  /** All is well. */
  ok: 0,
  /** A check failed, or something became slower. */
  failed: 1,
  /** The command line is wrong, or a file that it names cannot be used. */
  usage: 2,
  /** The model's files are damaged, of another kind, or could not be had. */
  model: 3,
  /** No WebGPU adapter. */
  noGpu: 4,
  /** The device refused or was lost. */
  gpuFault: 5,
  /** A mistake in this program. */
  internal: 70,
  /** Ctrl-C, or a request to end. */
  interrupted: 130,
} as const;

/** The command line is wrong; the message says how, in one line. */
export class UsageError extends Error {
  /** Tells it from other errors. */
  override readonly name = "UsageError";
}

/** One option of a command: a flag, or something that takes a value. */
export type OptionSpec =
  | {
    /** Present or not. */
    readonly type: "flag";
    /** What it does. */
    readonly summary: string;
  }
  | {
    /** Takes text. */
    readonly type: "text";
    /** Placeholder in the help, as in `--json FILE`. */
    readonly value: string;
    /** What it does. */
    readonly summary: string;
    /** The values that it may have; any unless given. */
    readonly choices?: readonly string[];
  }
  | {
    /** Takes text, and may be given several times. */
    readonly type: "texts";
    /** Placeholder in the help. */
    readonly value: string;
    /** What it does. */
    readonly summary: string;
  }
  | {
    /** Takes a whole number, or with `number` any that is finite. */
    readonly type: "integer" | "number";
    /** Placeholder in the help. */
    readonly value: string;
    /** What it does. */
    readonly summary: string;
    /** Least value. */
    readonly least: number;
    /** Greatest value. */
    readonly most: number;
  };

/** What a command takes. */
export interface CommandSpec<Options extends Readonly<Record<string, OptionSpec>>> {
  /** Name of the task: `bench`. */
  readonly name: string;
  /** What it does, in one sentence. */
  readonly summary: string;
  /** Arguments without a name; none are taken unless this is given. */
  readonly operands?: {
    /** Placeholder in the help: `op`. */
    readonly name: string;
    /** What they are. */
    readonly summary: string;
    /** The values that they may have; any unless given. */
    readonly choices?: readonly string[];
    /** How many there may be; any number unless given. */
    readonly most?: number;
  };
  /** Options by name, without the dashes; `help` is added to them. */
  readonly options: Options;
  /** Lines that the help ends with. */
  readonly notes?: readonly string[];
}

/** The values of a command's options, by their names. */
export type OptionValues<Options extends Readonly<Record<string, OptionSpec>>> = {
  readonly [name in keyof Options]: OptionValue<Options[name]["type"]>;
};

type OptionValue<Type extends OptionSpec["type"]> = Type extends "flag" ? boolean
  : Type extends "integer" | "number" ? number | undefined
  : Type extends "texts" ? readonly string[] | undefined
  : string | undefined;

/** A command line that was read without fault. */
export interface ParsedCommand<Options extends Readonly<Record<string, OptionSpec>>> {
  /** Arguments without a name, in order. */
  readonly operands: readonly string[];
  /** A value per option: a boolean for a flag, undefined where another was not given. */
  readonly options: OptionValues<Options>;
  /** `--help` was among the arguments. */
  readonly help: boolean;
}

const HELP: OptionSpec = { type: "flag", summary: "print this and stop" };

/**
 * Reads a command line.
 *
 * @throws {UsageError} If an option or an operand is unknown, a value is missing, malformed or out of
 * range, or an option is given twice
 */
export function parseCommandLine<Options extends Readonly<Record<string, OptionSpec>>>(
  spec: CommandSpec<Options>,
  args: readonly string[],
): ParsedCommand<Options> {
  const table: Readonly<Record<string, OptionSpec>> = { ...spec.options, help: HELP };
  const { positionals, tokens } = parseStrictly(spec, table, args);
  const values: Record<string, boolean | number | string | readonly string[] | undefined> = {};
  for (const name in table) values[name] = table[name]!.type === "flag" ? false : undefined;
  const seen = new Set<string>();
  for (const { name, value } of tokens.filter((token) => token.kind === "option")) {
    const option = table[name]!;
    const isAgain = seen.has(name);
    seen.add(name);
    if (isAgain && option.type !== "texts") {
      throw new UsageError(`--${name} must be given once: twice`);
    }
    const read = readValue(name, option, value);
    const isList = option.type === "texts";
    values[name] = isList ? [...values[name] as string[] ?? [], read as string] : read;
  }
  const { operands } = spec;
  if (operands === undefined && positionals.length > 0) {
    throw new UsageError(`${spec.name} takes options only: ${quote(positionals[0]!)}`);
  }
  if (positionals.length > (operands?.most ?? Infinity)) {
    throw new UsageError(`at most ${operands!.most} ${operands!.name}: ${positionals.join(" ")}`);
  }
  if (operands?.choices) {
    for (const operand of positionals) requireChoice(operands.name, operand, operands.choices);
  }
  return {
    operands: positionals,
    options: values as ParsedCommand<Options>["options"],
    help: values.help === true,
  };
}

/**
 * Throws a {@linkcode UsageError} that names the nearest choices unless `value` is one of them.
 *
 * @param what the thing that has the value: `op`, `--shapes`
 */
export function requireChoice(what: string, value: string, choices: readonly string[]): void {
  if (choices.includes(value)) return;
  throw new UsageError(`unknown ${what} ${quote(value)}: ${suggest(value, choices)}`);
}

/** The help of a command, made from its option table. */
export function helpText(spec: CommandSpec<Readonly<Record<string, OptionSpec>>>): string {
  const { operands } = spec;
  const rows = Object.entries({ ...spec.options, help: HELP }).map(([name, option]) => [
    option.type === "flag" ? `--${name}` : `--${name} ${option.value}`,
    option.summary +
    (option.type === "text" && option.choices && !option.value.includes("|")
      ? `: ${option.choices.join(", ")}`
      : ""),
  ]);
  if (operands) {
    const choices = operands.choices ? `: ${operands.choices.join(", ")}` : "";
    rows.unshift([operandsOf(operands), operands.summary + choices]);
  }
  const width = Math.max(...rows.map(([left]) => left!.length)) + 2;
  const lines = rows.map(([left, right]) =>
    `  ${left!.padEnd(width)}${wrap(right!, 98 - width, " ".repeat(width + 2))}`
  );
  return [
    `${spec.summary}`,
    "",
    `Usage: deno task ${spec.name}${operands ? ` [${operandsOf(operands)}]` : ""} [options]`,
    "",
    ...lines,
    ...(spec.notes ? ["", ...spec.notes] : []),
  ].join("\n");
}

function operandsOf({ name, most }: { name: string; most?: number }): string {
  return most === 1 ? name : `${name}…`;
}

/** One Ctrl-C arrives twice under `deno task`: from the terminal, and passed on by the task. */
const ECHO_MS = 300;

/** What asks a command to end. Windows has no SIGTERM to send. */
const ENDING: readonly Deno.Signal[] = Deno.build.os === "windows"
  ? ["SIGINT"]
  : ["SIGINT", "SIGTERM"];

/** What Ctrl-C does while a command has something of its own to stop with it. */
export interface Interrupts {
  /** Called by Ctrl-C, while there is one, in place of ending the command. */
  handler?: (() => void) | undefined;
}

/**
 * Runs a command and gives its exit status. `main` gets a signal that Ctrl-C and SIGTERM abort: it should
 * leave what it has in order and return. A second one ends the process at once.
 *
 * @param main does the work and returns the exit status
 * @param args the arguments; the process's own unless given
 */
export async function runCommand<Options extends Readonly<Record<string, OptionSpec>>>(
  spec: CommandSpec<Options>,
  main: (
    command: ParsedCommand<Options>,
    signal: AbortSignal,
    interrupts: Interrupts,
  ) => Promise<number>,
  args: readonly string[] = Deno.args,
): Promise<number> {
  const controller = new AbortController();
  const interrupts: Interrupts = {};
  let last = -Infinity;
  const end = () => {
    const now = performance.now();
    if (now - last <= ECHO_MS) return;
    last = now;
    if (controller.signal.aborted) Deno.exit(EXIT.interrupted);
    controller.abort();
  };
  const interrupt = () => {
    const { handler } = interrupts;
    if (!handler || controller.signal.aborted) return end();
    last = performance.now();
    handler();
  };
  const listeners = ENDING.map((signal) =>
    [signal, signal === "SIGINT" ? interrupt : end] as const
  );
  for (const [signal, listener] of listeners) Deno.addSignalListener(signal, listener);
  try {
    const command = parseCommandLine(spec, args);
    if (command.help) {
      console.log(helpText(spec));
      return EXIT.ok;
    }
    const status = await main(command, controller.signal, interrupts);
    return controller.signal.aborted ? EXIT.interrupted : status;
  } catch (error) {
    if (controller.signal.aborted) return EXIT.interrupted;
    const { status, message } = explain(spec.name, error);
    console.error(`error: ${message}`);
    return status;
  } finally {
    for (const [signal, listener] of listeners) Deno.removeSignalListener(signal, listener);
  }
}

/** The exit status that an error stands for, and what to print. */
export function explain(command: string, error: unknown): { status: number; message: string } {
  const message = oneLine(error instanceof Error ? error.message : String(error));
  if (error instanceof UsageError) {
    return { status: EXIT.usage, message: `${message} (deno task ${command} --help)` };
  }
  if (error instanceof KernelsError) {
    if (error.code === "gpu-unavailable") return { status: EXIT.noGpu, message };
    if (error.code.startsWith("gpu-")) return { status: EXIT.gpuFault, message };
    const isModel = (error.code.startsWith("model-") && error.code !== "model-input") ||
      error.code === "tokenizer" || error.code === "template";
    return { status: isModel ? EXIT.model : EXIT.usage, message };
  }
  if (
    error instanceof Deno.errors.NotCapable || FILE_ERRORS.some((kind) => error instanceof kind)
  ) {
    return { status: EXIT.usage, message };
  }
  const place = error instanceof Error ? /[\w./-]+\.ts:\d+:\d+/.exec(error.stack ?? "")?.[0] : "";
  return {
    status: EXIT.internal,
    message: `a mistake in ${command}, please report it: ${message}${place ? ` at ${place}` : ""}`,
  };
}

/** What a file that the command line names can do wrong. */
const FILE_ERRORS = [
  Deno.errors.NotFound,
  Deno.errors.PermissionDenied,
  Deno.errors.IsADirectory,
  Deno.errors.NotADirectory,
] as const;

/**
 * The choices most like `value`, as a phrase: "did you mean …?", or all of them where none is near.
 */
export function suggest(value: string, choices: readonly string[]): string {
  const most = Math.max(2, Math.floor(value.length / 2));
  const near = choices
    .map((choice) => ({ choice, distance: editDistance(value.toLowerCase(), choice) }))
    .filter(({ choice, distance }) => distance <= most && distance < choice.length)
    .sort((a, b) => a.distance - b.distance)
    .slice(0, 3)
    .map(({ choice }) => choice);
  return near.length > 0
    ? `did you mean ${near.join(", ")}?`
    : `must be one of ${choices.join(", ")}`;
}

/** Insertions, deletions, replacements and swaps of neighbours that turn `a` into `b`. */
export function editDistance(a: string, b: string): number {
  let beforeLast: number[] = [];
  let last = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    for (let j = 1; j <= b.length; j++) {
      const replace = last[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1);
      let best = Math.min(replace, last[j]! + 1, row[j - 1]! + 1);
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]) {
        best = Math.min(best, beforeLast[j - 2]! + 1);
      }
      row.push(best);
    }
    beforeLast = last;
    last = row;
  }
  return last[b.length]!;
}

function parseStrictly(
  spec: CommandSpec<Readonly<Record<string, OptionSpec>>>,
  table: Readonly<Record<string, OptionSpec>>,
  args: readonly string[],
) {
  const options = Object.fromEntries(
    Object.entries(table).map(([name, { type }]) =>
      [name, { type: type === "flag" ? "boolean" as const : "string" as const }] as const
    ),
  );
  try {
    const allowPositionals = true;
    return parseArgs({ args: [...args], options, strict: true, allowPositionals, tokens: true });
  } catch (error) {
    const { code, message } = error as { code?: string; message: string };
    const name = /'--?([^' ]+)/.exec(message)?.[1] ?? "";
    const option = table[name];
    if (code === "ERR_PARSE_ARGS_UNKNOWN_OPTION") {
      const written = args.find((arg) => arg.replace(/^--?/, "").startsWith(name)) ?? `--${name}`;
      const names = Object.keys(table).map((known) => `--${known}`);
      throw new UsageError(
        `unknown option ${quote(written.replace(/=.*/s, ""))}: ${suggest(`--${name}`, names)}`,
      );
    }
    if (code === "ERR_PARSE_ARGS_INVALID_OPTION_VALUE" && option) {
      throw new UsageError(
        option.type === "flag"
          ? `--${name} takes no value`
          : `--${name} needs a value: --${name} ${option.value}${negative(name, option)}`,
      );
    }
    throw new UsageError(`${spec.name}: ${oneLine(message)}`);
  }
}

/** How to write a number that looks like an option. */
function negative(name: string, option: OptionSpec): string {
  const isNumber = option.type === "integer" || option.type === "number";
  return isNumber ? `; one below 0 is written --${name}=-1` : "";
}

const WHOLE = /^-?\d{1,16}$/;
const DECIMAL = /^-?(\d{1,16}(\.\d{0,20})?|\.\d{1,20})(e-?\d{1,2})?$/i;

function readValue(
  name: string,
  option: OptionSpec,
  value: string | undefined,
): boolean | number | string {
  if (option.type === "flag") return true;
  if (value === undefined || value === "") {
    throw new UsageError(`--${name} needs a value: --${name} ${option.value}`);
  }
  if (option.type === "text" || option.type === "texts") {
    if (option.type === "text" && option.choices) {
      requireChoice(`--${name}`, value, option.choices);
    }
    return value;
  }
  const { least, most } = option;
  const isWhole = option.type === "integer";
  const number = (isWhole ? WHOLE : DECIMAL).test(value) ? Number(value) : NaN;
  if (!(number >= least && number <= most) || (isWhole && !Number.isSafeInteger(number))) {
    throw new UsageError(
      `--${name} must be a ${isWhole ? "whole " : ""}number from ${least} to ${most}: ${
        quote(value)
      }`,
    );
  }
  return number;
}

/** Shows an argument without letting it write to the terminal more than its letters. */
function quote(value: string): string {
  const text = JSON.stringify(value);
  return text.length <= 60 ? text : `${text.slice(0, 57)}…"`;
}

function oneLine(text: string): string {
  return text.replace(/\s+/g, " ").trim();
}

function wrap(text: string, width: number, indent: string): string {
  const lines: string[] = [""];
  for (const word of text.split(" ")) {
    const line = lines.at(-1)!;
    if (line === "") lines[lines.length - 1] = word;
    else if (line.length + 1 + word.length <= width) lines[lines.length - 1] = `${line} ${word}`;
    else lines.push(word);
  }
  return lines.join(`\n${indent}`);
}
