/**
 * Prepares a parsed template for a metered run: who uses the value of a node, and how much of the tree
 * hangs below it.
 *
 * @module
 */

/** A node of the package's syntax tree, as far as it is read here. */
export interface SyntaxNode {
  /** Its kind, such as `FilterExpression`. */
  type: string;
  /** Its other fields by name: nodes, lists of nodes, names and values. */
  [field: string]: unknown;
  body?: unknown;
  operand?: unknown;
  filter?: unknown;
  callee?: unknown;
  args?: unknown;
  value?: unknown;
  argument?: unknown;
  operator?: unknown;
  property?: unknown;
}

/** What a parent does with a node's value. */
export type Use =
  /** Passes it on. */
  | { readonly kind: "held" }
  /** Walks all of it: shows it, compares it, filters it. */
  | { readonly kind: "walked"; readonly times: number; readonly shown?: boolean }
  /** Walks its elements or characters, and not what they hold. */
  | { readonly kind: "stepped"; readonly times: number }
  /** Searches it for the value of the left side. */
  | { readonly kind: "searched" }
  /** Gives it to a filter that may repeat it for every part of its operand. */
  | { readonly kind: "argument"; readonly filter: string };

/** What is known of a node before it is evaluated. */
export interface NodeFacts {
  /** What its parent does with its value. */
  readonly use: Use;
  /** Nodes below it, which the package walks whenever it defines a macro or a call block. */
  below: number;
}

const HELD: Use = { kind: "held" };
const WALKED: Use = { kind: "walked", times: 1 };
const SHOWN: Use = { kind: "walked", times: 1, shown: true };
const STEPPED: Use = { kind: "stepped", times: 1 };

/** Comparisons of a sort are at most this many for an element, as no list is longer than 2²⁰. */
const SORTING = 20;

/** Each iteration makes scopes and the eleven values of `loop`. */
const LOOPING = 4;

/**
 * Finds the facts of every node. Filters that would hide their operand from the meter become what the
 * package does for them: `{% filter f %}` the filter of a block, `x | replace(a, b)` the call
 * `x.replace(a, b)`.
 */
export function examine(program: SyntaxNode): Map<SyntaxNode, NodeFacts> {
  const facts = new Map<SyntaxNode, NodeFacts>();
  // Not recursive: a sum of many terms is as deep as it is long.
  const open: [SyntaxNode, Use][] = [[program, HELD]];
  const parents = new Map<SyntaxNode, SyntaxNode>();
  while (open.length > 0) {
    const [node, use] = open.pop()!;
    facts.set(node, { use, below: 0 });
    rewrite(node);
    for (const [child, itsUse] of childrenOf(node)) {
      parents.set(child, node);
      open.push([child, itsUse]);
    }
  }
  // A parent comes before its children in the map.
  for (const node of [...facts.keys()].reverse()) {
    const parent = parents.get(node);
    if (parent !== undefined) facts.get(parent)!.below += facts.get(node)!.below + 1;
  }
  return facts;
}

function rewrite(node: SyntaxNode): void {
  if (node.type === "FilterStatement") {
    node.type = "FilterExpression";
    node.operand = { type: "Program", body: node.body };
    delete node.body;
  }
  if (node.type !== "FilterExpression" || filterName(node) !== "replace") return;
  const filter = node.filter as SyntaxNode;
  const property = { type: "Identifier", value: "replace" };
  node.type = "CallExpression";
  node.callee = { type: "MemberExpression", object: node.operand, property, computed: false };
  node.args = filter.args ?? [];
  delete node.operand;
  delete node.filter;
}

/** The name of the filter of a filter expression. */
export function filterName(node: SyntaxNode): string {
  const filter = node.filter as SyntaxNode;
  const named = filter.type === "CallExpression" ? filter.callee as SyntaxNode : filter;
  return String(named.value);
}

function* childrenOf(node: SyntaxNode): Generator<[SyntaxNode, Use]> {
  for (const [key, value] of Object.entries(node)) {
    if (node.type === "FilterExpression" && key === "filter") {
      const filter = filterName(node);
      const given = (value as SyntaxNode).args;
      for (const child of nodesIn(given)) yield* argumentsOf(child, { kind: "argument", filter });
    } else if (node.type === "CallExpression" && key === "args") {
      for (const child of nodesIn(value)) yield* argumentsOf(child, STEPPED);
    } else {
      for (const child of nodesIn(value)) yield [child, useOf(node, key)];
    }
  }
}

/** An argument is evaluated without its name or asterisks, which are no nodes of their own to the package. */
function* argumentsOf(node: SyntaxNode, use: Use): Generator<[SyntaxNode, Use]> {
  if (node.type === "KeywordArgumentExpression") yield [node.value as SyntaxNode, use];
  else if (node.type.endsWith("SpreadExpression")) yield [node.argument as SyntaxNode, use];
  else yield [node, use];
}

function useOf(parent: SyntaxNode, key: string): Use {
  switch (parent.type) {
    case "FilterExpression": {
      const name = filterName(parent);
      return { kind: "walked", times: ["sort", "dictsort", "title"].includes(name) ? SORTING : 1 };
    }
    case "BinaryExpression": {
      const operator = String((parent.operator as SyntaxNode).value);
      if (operator === "and" || operator === "or") return HELD;
      return key === "right" && operator.endsWith("in") ? { kind: "searched" } : WALKED;
    }
    case "For":
      if (key === "iterable") return { kind: "stepped", times: LOOPING };
      return key === "loopvar" ? HELD : SHOWN;
    case "MemberExpression": {
      const property = parent.property as SyntaxNode;
      // A slice of a string takes it apart into characters first.
      if (key === "object" && property.type === "SliceExpression") {
        return { kind: "stepped", times: 8 };
      }
      return HELD;
    }
    case "TestExpression":
      return STEPPED;
    case "SelectExpression":
      return key === "lhs" ? { kind: "stepped", times: LOOPING } : HELD;
    case "If":
      return key === "test" ? HELD : SHOWN;
    case "Program":
    case "Macro":
    case "CallStatement":
      return SHOWN;
    case "Set":
      return key === "body" ? SHOWN : HELD;
    default:
      return HELD;
  }
}

function* nodesIn(value: unknown): Generator<SyntaxNode> {
  if (Array.isArray(value)) {
    for (const each of value) yield* nodesIn(each);
  } else if (value instanceof Map) {
    for (const [key, each] of value) yield* nodesIn([key, each]);
  } else if (typeof value === "object" && value !== null && "type" in value) {
    yield value as SyntaxNode;
  }
}
