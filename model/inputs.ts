/**
 * What callers hand to a model, checked before any work is done.
 *
 * @module
 */

import { ModelInputError, requireInput } from "../runtime/errors.ts";
import { describe, HostTensor, type Tensor } from "../runtime/tensor.ts";

/**
 * Whole numbers per sequence and token: rows of equal length, or a tensor of shape [batch, tokens]. 64-bit
 * integers are taken as they are.
 */
export type IdMatrix = readonly (ArrayLike<number> | ArrayLike<bigint>)[] | HostTensor;

/** A checked {@linkcode IdMatrix}. */
export interface Ids {
  /** Sequences. */
  readonly batch: number;
  /** Tokens per sequence. */
  readonly tokens: number;
  /** Row after row. */
  readonly values: Int32Array<ArrayBuffer>;
}

/** Which numbers an {@linkcode IdMatrix} may hold. */
export interface IdRule {
  /** Exclusive upper bound. */
  readonly below: number;
  /** What the bound is, for messages: "the vocabulary". */
  readonly bound: string;
  /** A negative number that is legal too, as −100 is in labels. */
  readonly ignored?: number;
  /** Sequences that it has to have; any number unless given. */
  readonly batch?: number;
  /** Tokens per sequence that it has to have; any number unless given. */
  readonly tokens?: number;
}

/**
 * Checks rows of whole numbers.
 *
 * @throws {ModelInputError} naming method, argument, rule, and value with its place
 */
export function requireIds(
  method: string,
  argument: string,
  matrix: IdMatrix,
  rule: IdRule,
): Ids {
  const fail = (rule: string, value: unknown): never => {
    throw new ModelInputError({ op: method, argument, rule, value: String(value) });
  };
  const rows = rowsOf(matrix) ?? fail("must be rows of whole numbers", describeValue(matrix));
  const batch = rows.length;
  const tokens = rows[0]?.length ?? 0;
  if (batch === 0 || tokens === 0) fail("must have at least one row with one token", "none");
  const ragged = rows.findIndex((row) => row.length !== tokens);
  if (ragged > 0) {
    fail(
      `must have rows of one length, here ${tokens}`,
      `row ${ragged} has ${rows[ragged]!.length}`,
    );
  }
  const fits = batch === (rule.batch ?? batch) && tokens === (rule.tokens ?? tokens);
  if (!fits) {
    const wanted = rule.batch === undefined
      ? `rows of ${rule.tokens} tokens`
      : `shape [${rule.batch}, ${rule.tokens}]`;
    fail(`must have ${wanted}`, `[${batch}, ${tokens}]`);
  }
  const values = new Int32Array(batch * tokens);
  for (let row = 0; row < batch; row++) {
    for (let t = 0; t < tokens; t++) {
      const given: unknown = rows[row]![t];
      // 64-bit ids are what tokenizers of other libraries give.
      const value = typeof given === "bigint" ? Number(given) : given as number;
      const isLegal = Number.isInteger(value) && value >= 0 && value < rule.below;
      if (!isLegal && value !== rule.ignored) {
        const also = rule.ignored === undefined ? "" : ` or ${rule.ignored}`;
        fail(
          `must hold whole numbers from 0 to ${rule.below - 1} (${rule.bound})${also}`,
          `${typeof given === "string" ? JSON.stringify(given) : given} at row ${row}, token ${t}`,
        );
      }
      values[row * tokens + t] = value;
    }
  }
  return { batch, tokens, values };
}

/** A tensor of ids, with the shape that they have. */
export function idTensor({ batch, tokens, values }: Ids): HostTensor {
  return new HostTensor([batch, tokens], new Uint32Array(values));
}

/** Throws unless labels of every token have the shape of the tokens. */
export function requireLabelShape(
  argument: string,
  labels: Ids | undefined,
  batch: number,
  tokens: number,
): void {
  if (!labels) return;
  const fits = labels.batch === batch && labels.tokens === tokens;
  const rule = `must have shape [${batch}, ${tokens}], as the inputs have`;
  requireInput(fits, "forward", argument, rule, `[${labels.batch}, ${labels.tokens}]`);
}

/**
 * Throws unless options are an object in which every name is one of `known`, so that a misspelt one is not
 * ignored, and none is null.
 */
export function requireOptions(
  method: string,
  options: object,
  known: readonly string[],
): void {
  const isObject = typeof options === "object" && options !== null;
  requireInput(isObject, method, "options", "must be an object", options);
  for (const [name, value] of Object.entries(options)) {
    const rule = `must be one of ${known.join(", ")}`;
    requireInput(known.includes(name), method, `option ${name}`, rule, name);
    requireInput(value !== null, method, name, "must be left out rather than null", value);
  }
}

/** True for a tensor of some backend. */
export function isTensor(value: unknown): value is Tensor {
  return typeof value === "object" && value !== null && "dtype" in value && "shape" in value;
}

function rowsOf(
  matrix: IdMatrix,
): readonly (ArrayLike<number> | ArrayLike<bigint>)[] | undefined {
  if (matrix instanceof HostTensor) {
    const [batch, tokens] = matrix.shape as [number, number];
    if (matrix.shape.length !== 2) return undefined;
    const { numbers } = matrix;
    return Array.from(
      { length: batch },
      (_, row) => Array.from({ length: tokens }, (_, t) => numbers[row * tokens + t]!),
    );
  }
  if (!Array.isArray(matrix)) return undefined;
  const isRow = (row: unknown) =>
    typeof row === "object" && row !== null &&
    Number.isSafeInteger((row as { length: number }).length);
  return matrix.every(isRow) ? matrix : undefined;
}

function describeValue(value: unknown): string {
  if (value instanceof HostTensor) return describe(value);
  if (isTensor(value)) return `${describe(value)} on a device, which must be read first`;
  if (Array.isArray(value)) return "an array of something else";
  return value === null ? "null" : typeof value;
}
