/**
 * The GPU that the tests share. Without an adapter the tests that need one fail; none is skipped.
 *
 * @module
 */

import { GpuBackend } from "../mod.ts";
import { prepareDriver } from "../apps/driver.ts";

prepareDriver();

let shared: Promise<GpuBackend> | undefined;

/** One backend for the whole test file. */
export function sharedBackend(): Promise<GpuBackend> {
  return shared ??= GpuBackend.create();
}

/** Seed of this run, from `--seed` after `--`, else fresh; printed with every failure. */
export const SEED: number = Number(
  Deno.args.find((argument) => argument.startsWith("--seed="))?.slice(7) ??
    crypto.getRandomValues(new Uint32Array(1))[0],
);
