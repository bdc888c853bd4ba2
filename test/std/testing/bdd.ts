/**
 * The part of `@std/testing/bdd` that the tests use, on Node's own test runner, which Deno maps to
 * `Deno.test`. See `../assert/mod.ts` for why it is here.
 *
 * @module
 */

export { describe, it } from "node:test";
