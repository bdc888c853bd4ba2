/**
 * `deno task wgsl`: prints every shader that runs, complete, so that a person can read it.
 *
 * @module
 */

import {
  type AnyCase,
  type AnyOp,
  type AnyVariant,
  type DeviceProfile,
  GpuBackend,
  ops,
} from "../mod.ts";
import type { Named } from "../runtime/backend.ts";
import { specializePlan } from "../runtime/plan.ts";
import type { TensorSpec } from "../runtime/tensor.ts";
import {
  type CommandSpec,
  EXIT,
  type OptionSpec,
  type ParsedCommand,
  requireChoice,
  runCommand,
  UsageError,
} from "./command_line.ts";
import { prepareDriver } from "./driver.ts";

const OPTIONS = {
  case: {
    type: "text",
    value: "TEXT",
    summary: "the first case whose name contains this; else the first that the variant takes",
  },
  dialect: {
    type: "text",
    value: "NAME",
    summary: "which compiler's WGSL to print; naga unless given",
    choices: ["naga", "tint"],
  },
} as const satisfies Record<string, OptionSpec>;

/** What the command takes. */
export const WGSL_COMMAND: CommandSpec<typeof OPTIONS> = {
  name: "wgsl",
  summary: "Prints the complete WGSL of an op's variants, as they run on this device.",
  operands: { name: "op [variant]", summary: "the op, and one of its variants", most: 2 },
  options: OPTIONS,
};

/** Prints the shaders; returns the exit status. */
export async function printWgsl({
  operands: [opName, variantName],
  options,
}: ParsedCommand<typeof OPTIONS>): Promise<number> {
  const names = ops.map(({ name }) => name);
  if (opName === undefined) throw new UsageError(`an op must be named: ${names.join(", ")}`);
  requireChoice("op", opName, names);
  const op = ops.find(({ name }) => name === opName)!;
  if (variantName !== undefined) {
    requireChoice(`variant of ${opName}`, variantName, op.variants.map(({ name }) => name));
  }
  using backend = await GpuBackend.create();
  let printed = 0;
  for (const variant of op.variants) {
    if (variantName !== undefined && variant.name !== variantName) continue;
    const found = findCase(op, variant, backend.profile, options.case ?? "");
    if (typeof found === "string") {
      console.log(`// ${op.name}/${variant.name} does not run here: ${found}\n`);
      continue;
    }
    const dialect = { enableSubgroups: options.dialect === "tint" };
    printVariant(op, variant, found, backend.profile, dialect);
    printed++;
  }
  return printed > 0 ? EXIT.ok : EXIT.failed;
}

function printVariant(
  op: AnyOp,
  variant: AnyVariant,
  testCase: AnyCase,
  device: DeviceProfile,
  dialect: Parameters<typeof specializePlan>[5],
): void {
  const inputs = testCase.inputs as Named<TensorSpec>;
  const steps = specializePlan(op, variant, inputs, testCase.attributes, device, dialect);
  steps.forEach(({ dispatch, kernel }, step) => {
    const { constants = {}, params = {}, workgroups } = dispatch;
    const pairs = (values: Readonly<Record<string, number>>) =>
      Object.entries(values).map(([name, value]) => `${name} = ${value}`).join(", ") || "none";
    const of = steps.length > 1 ? `, dispatch ${step + 1} of ${steps.length}` : "";
    console.log(`// ${op.name}/${variant.name}${of}: ${variant.summary}`);
    console.log(`// case: ${testCase.name}`);
    console.log(`// constants: ${pairs(constants)}`);
    console.log(`// parameters: ${pairs(params)}`);
    console.log(
      `// ${workgroups.join(" × ")} workgroups of ${kernel.workgroupSize.join(" × ")}, ` +
        `${kernel.workgroupBytes} bytes of workgroup memory each`,
    );
    console.log(`\n${kernel.code}`);
  });
}

/** A case that the variant takes, or why it takes none. */
function findCase(
  op: AnyOp,
  variant: AnyVariant,
  device: DeviceProfile,
  part: string,
): AnyCase | string {
  let reason = `no case is named like "${part}"`;
  for (const testCase of op.cases) {
    if (!testCase.name.includes(part)) continue;
    const inputs = testCase.inputs as Named<TensorSpec>;
    const isEmpty = Object.values(inputs).some((spec) => spec?.shape.includes(0));
    const supported = variant.supports(inputs, testCase.attributes, device);
    if (supported === true && !isEmpty) return testCase;
    if (supported !== true) reason = supported;
  }
  return reason;
}

if (import.meta.main) {
  prepareDriver();
  Deno.exit(await runCommand(WGSL_COMMAND, printWgsl));
}
