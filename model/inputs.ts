/**
 * What callers hand to a model, checked before any work is done.
 *
 * @module
 */

import { ModelInputError } from "../runtime/errors.ts";
import { HostTensor } from "../runtime/tensor.ts";

/** Whole numbers per sequence and token: rows of equal length, or a tensor of shape [batch, tokens]. */
export type IdMatrix = readonly ArrayLike<number>[] | HostTensor;

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
  /** Sequences and tokens that it has to have; NaN leaves one open. */
  readonly shape?: readonly [batch: number, tokens: number];
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
  const [wantedBatch = NaN, wantedTokens = NaN] = rule.shape ?? [];
  const fits = (Number.isNaN(wantedBatch) || wantedBatch === batch) &&
    (Number.isNaN(wantedTokens) || wantedTokens === tokens);
  if (!fits) fail(`must have shape [${wantedBatch}, ${wantedTokens}]`, `[${batch}, ${tokens}]`);
  const values = new Int32Array(batch * tokens);
  for (let row = 0; row < batch; row++) {
    for (let t = 0; t < tokens; t++) {
      const value = rows[row]![t]!;
      const isLegal = Number.isInteger(value) && value >= 0 && value < rule.below;
      if (!isLegal && value !== rule.ignored) {
        const also = rule.ignored === undefined ? "" : ` or ${rule.ignored}`;
        fail(
          `must hold whole numbers from 0 to ${rule.below - 1} (${rule.bound})${also}`,
          `${value} at row ${row}, token ${t}`,
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
export function requireLabelShape(labels: Ids | undefined, batch: number, tokens: number): void {
  if (!labels || (labels.batch === batch && labels.tokens === tokens)) return;
  throw new ModelInputError({
    op: "forward",
    argument: "labels",
    rule: `must have shape [${batch}, ${tokens}], as the inputs have`,
    value: `[${labels.batch}, ${labels.tokens}]`,
  });
}

/** Throws unless every option is one of `known`, so that a misspelt one is not ignored. */
export function requireOptions(
  method: string,
  options: object,
  known: readonly string[],
): void {
  for (const name of Object.keys(options)) {
    if (known.includes(name)) continue;
    throw new ModelInputError({
      op: method,
      argument: `option ${name}`,
      rule: `must be one of ${known.join(", ")}`,
      value: name,
    });
  }
}

function rowsOf(matrix: IdMatrix): readonly ArrayLike<number>[] | undefined {
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
  if (Array.isArray(value)) return "an array of something else";
  if (value instanceof HostTensor) return `a tensor of shape [${value.shape.join(", ")}]`;
  return value === null ? "null" : typeof value;
}
