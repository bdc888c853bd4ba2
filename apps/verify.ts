/**
 * `deno task verify`: is each kernel right on this device, against the f64 reference or against outputs
 * that the user brings?
 *
 * @module
 */

import { type AnyOp, freshSeed, GpuBackend, ops, verifyKernel, type VerifyResult } from "../mod.ts";
import {
  type CommandSpec,
  EXIT,
  type OptionSpec,
  type ParsedCommand,
  requireChoice,
  runCommand,
  UsageError,
} from "./command_line.ts";
import { ProgressLine } from "./progress_line.ts";
import { prepareDriver } from "./driver.ts";
import { readReferenceCases, type ReferenceCase, verifyReference } from "./reference_files.ts";
import { formatVerification, type Verification, verificationHeader } from "./verify_report.ts";

const FEATURES = ["subgroups", "shader-f16"] as const;

const OPTIONS = {
  variant: { type: "text", value: "NAME", summary: "only this variant" },
  case: { type: "text", value: "TEXT", summary: "only the cases whose name contains this" },
  reference: {
    type: "text",
    value: "DIR",
    summary: "compare with the outputs in DIR's safetensors files (docs/verify.md)",
  },
  seed: {
    type: "integer",
    value: "N",
    summary: "draw the inputs from this seed",
    least: 0,
    most: 2 ** 32 - 1,
  },
  without: {
    type: "text",
    value: "FEATURE",
    summary: "leave a feature of the device unused",
    choices: FEATURES,
  },
  verbose: { type: "flag", summary: "a row for every case" },
  json: { type: "text", value: "FILE", summary: "write every result to FILE as JSON" },
} as const satisfies Record<string, OptionSpec>;

/** What the command takes. */
export const VERIFY_COMMAND: CommandSpec<typeof OPTIONS> = {
  name: "verify",
  summary: "Verifies every variant of every op on this device.",
  operands: {
    name: "op",
    summary: "only these ops",
    choices: ops.map(({ name }) => name),
  },
  options: OPTIONS,
};

/** Verifies and prints; exits 1 on any miss. */
export async function verify(
  { operands, options }: ParsedCommand<typeof OPTIONS>,
  signal: AbortSignal,
): Promise<number> {
  const chosen = operands.length > 0 ? ops.filter(({ name }) => operands.includes(name)) : ops;
  if (options.variant !== undefined) {
    const names = new Set(chosen.flatMap(({ variants }) => variants.map(({ name }) => name)));
    requireChoice("--variant", options.variant, [...names]);
  }
  if (options.reference !== undefined && options.seed !== undefined) {
    throw new UsageError("--seed draws inputs, and the files of --reference hold their own");
  }
  const references = options.reference === undefined
    ? undefined
    : await readReferenceCases(options.reference, chosen);
  const seed = options.seed ?? freshSeed();
  const without = FEATURES.filter((feature) => feature === options.without);
  using backend = await GpuBackend.create({ without });
  const header = verificationHeader(backend, seed, without);
  const { runtime, device, isSoftware } = header;
  const drawn = references ? "" : `, seed ${seed}`;
  console.log(`${device}${isSoftware ? " (software)" : ""}, ${runtime}${drawn}`);

  const results: VerifyResult[] = [];
  const state = (complete: boolean): Verification => {
    return { schemaVersion: 1, kind: "verify", complete, header, results };
  };
  // Written at once, so that a file that cannot be written is known before the work is done.
  await save(options.json, state(false));
  const progress = new ProgressLine();
  const source = references
    ? fromReferences(backend, references, options)
    : fromCases(backend, chosen, seed, options);
  for await (const result of source) {
    results.push(result);
    progress.show(`${results.length} ${result.op}/${result.variant}: ${result.case}`);
    if (result.status === "fail") {
      progress.clear();
      console.log(`FAIL ${result.op}/${result.variant}: ${result.case}: ${result.reason}`);
    }
    if (signal.aborted) break;
  }
  progress.clear();
  if (results.length === 0) throw new UsageError("no case is left to verify");
  const verification = state(!signal.aborted);
  console.log(formatVerification(verification, options.verbose));
  await save(options.json, verification);
  const failed = results.some(({ status }) => status === "fail");
  const passed = results.some(({ status }) => status === "pass");
  return failed || !passed ? EXIT.failed : EXIT.ok;
}

/** Which cases and variants to verify. */
interface Selection {
  readonly variant: string | undefined;
  readonly case: string | undefined;
}

async function* fromCases(
  backend: GpuBackend,
  chosen: readonly AnyOp[],
  seed: number,
  { variant, case: part = "" }: Selection,
): AsyncGenerator<VerifyResult> {
  for (const op of chosen) {
    const cases = op.cases.filter(({ name }) => name.includes(part));
    const names = op.variants.map(({ name }) => name);
    const variants = names.filter((name) => variant === undefined || name === variant);
    yield* verifyKernel(backend, op, { cases, seed, variants });
  }
}

async function* fromReferences(
  backend: GpuBackend,
  references: readonly ReferenceCase[],
  { variant, case: part = "" }: Selection,
): AsyncGenerator<VerifyResult> {
  for (const reference of references) {
    if (reference.name.includes(part)) yield* verifyReference(backend, reference, variant);
  }
}

async function save(file: string | undefined, verification: Verification): Promise<void> {
  if (file === undefined) return;
  await Deno.writeTextFile(file, JSON.stringify(verification, jsonNumbers, 2) + "\n");
}

/** JSON has no NaN and no infinity; as text they can be read back. */
function jsonNumbers(_key: string, value: unknown): unknown {
  return typeof value === "number" && !Number.isFinite(value) ? String(value) : value;
}

if (import.meta.main) {
  prepareDriver();
  Deno.exit(await runCommand(VERIFY_COMMAND, verify));
}
