/**
 * Runs a template in `@huggingface/jinja`'s interpreter, with every evaluation metered.
 *
 * @module
 */

import { TemplateError } from "../../runtime/errors.ts";
import { MOST_DEPTH, MOST_NESTING, MOST_RANGE } from "./limits.ts";
import { Meter, type RuntimeValue } from "./meter.ts";
import type { NodeFacts, SyntaxNode } from "./syntax_tree.ts";

/** The package. */
export type Jinja = typeof import("@huggingface/jinja");

/** A template that has been parsed and examined. */
export interface Prepared {
  /** What messages call it. */
  readonly file: string;
  /** The package. */
  readonly jinja: Jinja;
  /** Its tree. */
  readonly program: SyntaxNode;
  /** What is known of the tree's nodes. */
  readonly facts: ReadonlyMap<SyntaxNode, NodeFacts>;
}

/** An evaluation whose parts are not all there yet. */
interface Pending {
  /** The node that is evaluated. */
  readonly node: SyntaxNode;
  /** The value of its first part. */
  first?: RuntimeValue;
}

/** Names that a template finds in any case. */
export const GLOBALS: readonly string[] = [
  ...["namespace", "true", "false", "none", "True", "False", "None"],
  ...["raise_exception", "range", "strftime_now"],
];

type Evaluate = InstanceType<Jinja["Interpreter"]>["evaluate"];

/**
 * Renders a template.
 *
 * @param variables plain values by name
 * @throws {TemplateError} If the template fails, refuses, or exceeds its budget
 */
export function runMetered(
  prepared: Prepared,
  variables: Readonly<Record<string, unknown>>,
): string {
  const { file, jinja, program } = prepared;
  const meter = new Meter(file);
  const environment = new jinja.Environment();
  for (const [name, value] of Object.entries(globals(meter, file))) environment.set(name, value);
  for (const [name, value] of Object.entries(variables)) environment.set(name, value);
  try {
    const interpreter = meteredInterpreter(prepared, meter, environment);
    const text = interpreter.run(program as unknown as Parameters<typeof interpreter.run>[0]);
    meter.takeText(String(text.value).length);
    return String(text.value);
  } catch (error) {
    if (error instanceof TemplateError) throw error;
    // The stack is full, or a text or list longer than the engine allows was asked for.
    if (error instanceof RangeError) meter.refuse("what the engine can hold", error.message);
    const value = error instanceof Error ? error.message || "break or continue" : String(error);
    const rule = "must render without a fault";
    throw new TemplateError({ file, reason: "template-failed", rule, value });
  }
}

function meteredInterpreter(
  { jinja, facts }: Prepared,
  meter: Meter,
  environment: InstanceType<Jinja["Environment"]>,
): InstanceType<Jinja["Interpreter"]> {
  const pending: Pending[] = [];
  const metered = new WeakSet<RuntimeValue>();
  let depth = 0;
  let calls = 0;

  const before = (node: SyntaxNode): void => {
    // Names are looked up through as many scopes as there are evaluations around them.
    meter.take(1 + (node.type === "Identifier" ? depth >> 3 : 0));
    if (node.type === "Macro" || node.type === "CallStatement") meter.take(facts.get(node)!.below);
    // Both are thrown as errors, with a trace of the stack.
    if (node.type === "Break" || node.type === "Continue") meter.take(16);
    if (depth > MOST_DEPTH) meter.refuse(`at most ${MOST_DEPTH} evaluations in each other`, "more");
    if (calls > MOST_NESTING) meter.refuse(`at most ${MOST_NESTING} calls in each other`, "more");
  };

  const after = (node: SyntaxNode, value: RuntimeValue): void => {
    if (typeof value.value === "string") meter.takeText(value.value.length, 1024);
    // A name that is not there is found out by a thrown error.
    if (node.type === "Identifier" && value.type === "UndefinedValue") meter.take(16);
    if (node.type === "MemberExpression") meterMethod(node, value);
  };

  const meterMethod = (node: SyntaxNode, method: RuntimeValue): void => {
    const receiver = pending.at(-1)?.first;
    if (method.type !== "FunctionValue" || receiver === undefined || metered.has(method)) return;
    metered.add(method);
    const name = String((node.property as SyntaxNode).value);
    const original = method.value as (args: RuntimeValue[], scope: unknown) => RuntimeValue;
    method.value = (args: RuntimeValue[], scope: unknown) => {
      meter.call(methodOf(receiver, method) ?? name, receiver, args);
      return original(args, scope);
    };
  };

  const hand = (node: SyntaxNode, value: RuntimeValue): void => {
    const parent = pending.at(-1);
    if (parent !== undefined && isFirst(parent.node, node)) parent.first = value;
    const use = facts.get(node)?.use;
    if (use === undefined) return;
    if (use.kind === "walked") meter.walk(value, use.times);
    if (use.kind === "stepped") meter.step(value, use.times);
    if (use.kind === "searched") {
      meter.walk(value);
      if (parent?.first) meter.search(value, parent.first);
    }
    if (use.kind === "argument" && parent?.first) meter.repeat(use.filter, parent.first, value);
  };

  return new class extends jinja.Interpreter {
    override evaluate(...[statement, scope]: Parameters<Evaluate>): ReturnType<Evaluate> {
      if (!statement) return super.evaluate(statement, scope);
      const node = statement as unknown as SyntaxNode;
      const isCall = node.type.startsWith("Call") ? 1 : 0;
      const isPending = FIRSTS[node.type] !== undefined;
      depth++;
      calls += isCall;
      before(node);
      if (isPending) pending.push({ node });
      // Loops catch `break` and `continue`, so what these leave open is closed here.
      const state = [depth, calls, pending.length] as const;
      let value: ReturnType<Evaluate>;
      try {
        value = super.evaluate(statement, scope);
        // The package gives a hole for the first of an empty list.
        if (value === undefined) value = super.evaluate(undefined, scope);
        // Jinja shows these as Python does.
        const use = facts.get(node)?.use;
        if (value.type === "BooleanValue" && use?.kind === "walked" && use.shown) {
          const shown = { type: "StringLiteral", value: value.value ? "True" : "False" };
          value = super.evaluate(shown as unknown as typeof statement, scope);
        }
        after(node, value);
      } finally {
        [depth, calls] = [state[0] - 1, state[1] - isCall];
        pending.length = state[2] - (isPending ? 1 : 0);
      }
      hand(node, value);
      return value;
    }
  }(environment);
}

/** The key of the part that is evaluated first, where the meter needs it to weigh the others. */
const FIRSTS: Readonly<Record<string, string>> = {
  FilterExpression: "operand",
  BinaryExpression: "left",
  MemberExpression: "object",
};

function isFirst(parent: SyntaxNode, child: SyntaxNode): boolean {
  return parent[FIRSTS[parent.type]!] === child;
}

/** The name under which a value has a method, however the template spelt it: `x["re" + "place"]`. */
function methodOf(receiver: RuntimeValue, method: RuntimeValue): string | undefined {
  const { builtins } = receiver as RuntimeValue & { builtins: ReadonlyMap<string, RuntimeValue> };
  for (const [name, each] of builtins) if (each === method) return name;
  return undefined;
}

function globals(meter: Meter, file: string): Readonly<Record<string, unknown>> {
  return {
    ...{ true: true, false: false, none: null, True: true, False: false, None: null },
    raise_exception: (message: unknown): never => {
      const rule = "must accept the messages, and says";
      const value = typeof message === "string" ? message : "an exception without a text";
      throw new TemplateError({ file, reason: "template-raised", rule, value });
    },
    range: (...bounds: unknown[]) => range(meter, bounds),
    strftime_now: (format: unknown) => {
      meter.take(String(format).length);
      return timeNow(String(format), new Date());
    },
  };
}

/** Python's range. */
function range(meter: Meter, bounds: readonly unknown[]): number[] {
  const isWhole = (each: unknown): each is number => Number.isSafeInteger(each);
  if (bounds.length < 1 || bounds.length > 3 || !bounds.every(isWhole)) {
    throw new TypeError("range takes one to three whole numbers");
  }
  const [start, stop, step = 1] = bounds.length === 1 ? [0, bounds[0]!] : bounds as number[];
  if (step === 0) throw new TypeError("range takes a step that is not 0");
  const length = Math.max(0, Math.ceil((stop! - start!) / step));
  if (length > MOST_RANGE) meter.refuse(`ranges of at most ${MOST_RANGE}`, String(length));
  meter.take(length);
  return Array.from({ length }, (_, index) => start! + index * step);
}

const MONTHS =
  "January February March April May June July August September October November December"
    .split(" ");

/** Python's strftime in the C locale, as far as templates use it. */
function timeNow(format: string, now: Date): string {
  const two = (value: number): string => String(value).padStart(2, "0");
  const month = MONTHS[now.getMonth()]!;
  const parts: Readonly<Record<string, string>> = {
    ...{ "%Y": String(now.getFullYear()), "%m": two(now.getMonth() + 1), "%d": two(now.getDate()) },
    ...{ "%B": month, "%b": month.slice(0, 3), "%H": two(now.getHours()) },
    ...{ "%M": two(now.getMinutes()), "%S": two(now.getSeconds()), "%%": "%" },
  };
  return format.replace(/%./g, (part) => parts[part] ?? part);
}
