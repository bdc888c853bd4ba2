/**
 * `deno task doctor`: what WebGPU is here, what it can do, and, where there is no adapter, why.
 *
 * @module
 */

import { freshSeed, GpuBackend, GpuUnavailableError, ops, verifyKernel } from "../mod.ts";
import {
  type CommandSpec,
  EXIT,
  type OptionSpec,
  type ParsedCommand,
  runCommand,
} from "./command_line.ts";
import { prepareDriver } from "./driver.ts";

const OPTIONS = {
  json: { type: "text", value: "FILE", summary: "write the findings to FILE as JSON" },
} as const satisfies Record<string, OptionSpec>;

/** What the command takes. */
export const DOCTOR_COMMAND: CommandSpec<typeof OPTIONS> = {
  name: "doctor",
  summary: "Says what WebGPU is here and what it can do, or why there is none.",
  options: OPTIONS,
};

/** Everything that the doctor finds; written by `--json`. */
export interface Diagnosis {
  /** Version of this form. */
  readonly schemaVersion: 1;
  /** Runtime and its version. */
  readonly runtime: string;
  /** Operating system and processor. */
  readonly platform: string;
  /** True if the kernels can run here. */
  readonly usable: boolean;
  /** Findings under a heading each, in order. */
  readonly findings: Readonly<Record<string, Readonly<Record<string, string>>>>;
  /** What to do, where something is to be done. */
  readonly advice: readonly string[];
}

const SWITCHES = ["DENO_WEBGPU_BACKEND", "VK_DRIVER_FILES", "VK_ICD_FILENAMES"] as const;
const DRIVER_FOLDERS = ["/usr/share/vulkan/icd.d", "/etc/vulkan/icd.d"] as const;

/** As the user has set it: looked at before this command settles anything. */
const environment = environmentFindings();

/**
 * Looks at everything. A missing adapter and a wrong kernel are findings.
 *
 * @throws {GpuDeviceLostError} If the device is lost on the way
 */
export async function diagnose(gpu: GPU | undefined = navigator.gpu): Promise<Diagnosis> {
  const base = {
    schemaVersion: 1,
    runtime: `Deno ${Deno.version.deno}`,
    platform: `${Deno.build.os} ${Deno.build.arch}`,
  } as const;
  try {
    if (!gpu) throw new GpuUnavailableError("this runtime has no navigator.gpu");
    using backend = await GpuBackend.create({ gpu });
    const findings = { ...deviceFindings(backend), "Self-test": await selfTest(backend) };
    const failed = Object.values(findings["Self-test"]).some((word) => word !== "right");
    return {
      ...base,
      usable: !failed,
      findings: { ...findings, Environment: environment },
      advice: [
        ...(backend.profile.isSoftware
          ? [
            "This adapter runs on the CPU: it proves that results are right, and says nothing of speed.",
          ]
          : []),
        ...(failed ? ["The self-test failed: deno task verify says which kernels and where."] : []),
      ],
    };
  } catch (error) {
    if (!(error instanceof GpuUnavailableError)) throw error;
    return {
      ...base,
      usable: false,
      findings: { Adapter: { found: "none" }, Environment: environment },
      advice: adviceWithoutAdapter(environment),
    };
  }
}

function deviceFindings({ profile }: GpuBackend): Record<string, Record<string, string>> {
  const yes = (condition: boolean) => condition ? "yes" : "no";
  return {
    Adapter: {
      description: profile.description,
      vendor: profile.vendor || "not given",
      software: yes(profile.isSoftware),
    },
    Features: {
      "subgroups": profile.hasSubgroups
        ? `${profile.subgroupMinSize} to ${profile.subgroupMaxSize} invocations (granted on request)`
        : "no",
      "shader-f16": yes(profile.hasF16),
      "timestamp-query": profile.hasTimestamps
        ? "yes: kernels are timed by the device"
        : "no: kernels are timed by the wall clock",
    },
    Limits: Object.fromEntries(
      Object.entries(profile.limits).map(([name, value]) => [name, value.toLocaleString("en")]),
    ),
  };
}

/** The plainest variant of every op on its first case. */
async function selfTest(backend: GpuBackend): Promise<Record<string, string>> {
  const outcome: Record<string, string> = {};
  const seed = freshSeed();
  for (const op of ops) {
    const variants = [op.variants.at(-1)!.name];
    for await (
      const { status, reason } of verifyKernel(backend, op, {
        variants,
        seed,
        cases: op.cases.slice(0, 1),
      })
    ) outcome[op.name] = status === "pass" ? "right" : `wrong: ${reason}`;
  }
  return outcome;
}

function environmentFindings(): Record<string, string> {
  const findings: Record<string, string> = {};
  for (const name of SWITCHES) {
    const { state } = Deno.permissions.querySync({ name: "env", variable: name });
    findings[name] = state === "granted"
      ? Deno.env.get(name) ?? "not set"
      : "not permitted to look";
  }
  if (Deno.build.os === "linux") {
    for (const folder of DRIVER_FOLDERS) findings[folder] = listDrivers(folder);
  }
  return findings;
}

function listDrivers(folder: string): string {
  try {
    const names = [...Deno.readDirSync(folder)].map(({ name }) => name);
    return names.sort().join(", ") || "empty";
  } catch (error) {
    return error instanceof Deno.errors.NotFound ? "no such folder" : "not permitted to look";
  }
}

function adviceWithoutAdapter(environment: Readonly<Record<string, string>>): string[] {
  const advice: string[] = [];
  for (const name of SWITCHES) {
    if (!["not set", "not permitted to look"].includes(environment[name]!)) {
      advice.push(`${name} is set and may hide the driver: try without it.`);
    }
  }
  if (Deno.build.os !== "linux") {
    advice.push("Update the graphics driver; on a remote machine, make sure that it sees a GPU.");
    return advice;
  }
  const drivers = DRIVER_FOLDERS.map((folder) => environment[folder]!);
  if (drivers.every((found) => !found.includes(".json"))) {
    advice.push(
      "No Vulkan driver is installed. deno task setup installs Mesa's on Debian and Ubuntu.",
    );
    advice.push("For a GPU, install its vendor's Vulkan driver and the loader (libvulkan1).");
  } else {
    advice.push(
      "A Vulkan driver is installed and gives no adapter. Is the loader there (libvulkan1)?",
      "In a container, pass the GPU in, with its driver's files and the graphics capability.",
    );
  }
  return advice;
}

/** The diagnosis as text. */
export function formatDiagnosis({ runtime, platform, findings, advice }: Diagnosis): string {
  const lines = [`${runtime} on ${platform}`];
  for (const [heading, entries] of Object.entries(findings)) {
    lines.push("", heading);
    const width = Math.max(...Object.keys(entries).map((name) => name.length));
    for (const [name, value] of Object.entries(entries)) {
      lines.push(`  ${name.padEnd(width)}  ${value}`);
    }
  }
  if (advice.length > 0) lines.push("", ...advice);
  return lines.join("\n");
}

/** Prints the diagnosis; exits 4 without an adapter, 1 if the self-test fails. */
export async function doctor({ options }: ParsedCommand<typeof OPTIONS>): Promise<number> {
  const diagnosis = await diagnose();
  console.log(formatDiagnosis(diagnosis));
  if (options.json !== undefined) {
    await Deno.writeTextFile(options.json, JSON.stringify(diagnosis, null, 2) + "\n");
  }
  if (diagnosis.usable) return EXIT.ok;
  return diagnosis.findings["Self-test"] ? EXIT.failed : EXIT.noGpu;
}

if (import.meta.main) {
  prepareDriver();
  Deno.exit(await runCommand(DOCTOR_COMMAND, doctor));
}
