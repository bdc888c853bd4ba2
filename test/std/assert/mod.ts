/**
 * The part of `@std/assert` that the tests use, on Node's own assertions, so that the tests run
 * without a connection to JSR. Without the `links` entry in deno.json the real package is used.
 *
 * @module
 */

import nodeAssert from "node:assert/strict";

/** Throws unless `condition` is truthy. */
export function assert(condition: unknown, message = "condition does not hold"): asserts condition {
  nodeAssert.ok(condition, message);
}

/** Throws unless the values are equal by structure. */
export function assertEquals<T>(actual: T, expected: T, message?: string): void {
  nodeAssert.deepStrictEqual(actual, expected, message);
}

/** Throws unless the values are the same by `Object.is`. */
export function assertStrictEquals<T>(actual: unknown, expected: T, message?: string): void {
  nodeAssert.strictEqual(actual, expected, message);
}

/** Throws unless the numbers differ by at most `tolerance`. */
export function assertAlmostEquals(
  actual: number,
  expected: number,
  tolerance = 1e-7,
  message?: string,
): void {
  const close = Object.is(actual, expected) || Math.abs(actual - expected) <= tolerance;
  nodeAssert.ok(close, message ?? `${actual} is not within ${tolerance} of ${expected}`);
}

/** Throws unless `actual` contains `expected`. */
export function assertStringIncludes(actual: string, expected: string, message?: string): void {
  nodeAssert.ok(actual.includes(expected), message ?? `"${actual}" does not contain "${expected}"`);
}

/** Throws unless `actual` matches. */
export function assertMatch(actual: string, expected: RegExp, message?: string): void {
  nodeAssert.match(actual, expected, message);
}

type ErrorClass<E extends Error> = abstract new (...args: never[]) => E;

/** Calls `body` and returns what it throws, which must be of the class and contain the text. */
export function assertThrows<E extends Error = Error>(
  body: () => unknown,
  errorClass?: ErrorClass<E>,
  includes = "",
): E {
  try {
    body();
  } catch (error) {
    return checked(error, errorClass, includes);
  }
  throw new nodeAssert.AssertionError({ message: "nothing was thrown" });
}

/** Awaits `body` and returns what it rejects with, which must be of the class and contain the text. */
export async function assertRejects<E extends Error = Error>(
  body: () => PromiseLike<unknown>,
  errorClass?: ErrorClass<E>,
  includes = "",
): Promise<E> {
  try {
    await body();
  } catch (error) {
    return checked(error, errorClass, includes);
  }
  throw new nodeAssert.AssertionError({ message: "nothing was rejected" });
}

function checked<E extends Error>(
  error: unknown,
  errorClass: ErrorClass<E> | undefined,
  includes: string,
): E {
  nodeAssert.ok(error instanceof (errorClass ?? Error), `wrong kind of error: ${error}`);
  assertStringIncludes(error.message, includes);
  return error as E;
}
