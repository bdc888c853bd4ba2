/**
 * Makes sure that WebGPU has an adapter, since nothing here runs without one. On Debian and Ubuntu, as
 * root, it installs Mesa's software driver; elsewhere it says what to do and exits 4. The task runs it
 * twice, the second time with `--check`.
 *
 * @module
 */

import { prepareDriver } from "./driver.ts";

/** Set this variable to `0` to keep this command from installing anything. */
const INSTALL_SWITCH = "STABLELM_INSTALL_DRIVER";
const PACKAGE = "mesa-vulkan-drivers";
const NO_GPU = 4;

/** What the command needs of its surroundings; a test passes its own. */
export interface Surroundings {
  /** Adapter description, or undefined without an adapter. */
  findAdapter(): Promise<string | undefined>;
  /** True for the root user. */
  isRoot(): boolean;
  /** Value of {@linkcode INSTALL_SWITCH}. */
  installSwitch(): string | undefined;
  /** Runs apt-get with its output shown; its exit status, or undefined where there is no apt-get. */
  aptGet(args: readonly string[]): Promise<number | undefined>;
  /** Prints a line to standard error. */
  print(line: string): void;
}

/** Finds or installs an adapter; returns the exit status. */
export async function setup(surroundings: Surroundings): Promise<number> {
  const { findAdapter, isRoot, installSwitch, aptGet, print } = surroundings;
  if (await findAdapter() !== undefined) return 0;
  print("No WebGPU adapter was found: there is no GPU driver, and no software one either.");
  if (await aptGet(["--version"]) !== 0) {
    print("Install a Vulkan driver for your GPU, or Mesa's software one (lavapipe):");
    print("  Fedora: dnf install mesa-vulkan-drivers    Arch: pacman -S vulkan-swrast");
    return NO_GPU;
  }
  const commands = `apt-get update && apt-get install -y ${PACKAGE}`;
  if (installSwitch() === "0" || !isRoot()) {
    print(isRoot() ? `${INSTALL_SWITCH}=0 is set. Run:` : "Installing one needs root. Run:");
    print(`  ${isRoot() ? commands : commands.replaceAll("apt-get", "sudo apt-get")}`);
    return NO_GPU;
  }
  print(`Installing ${PACKAGE} (${INSTALL_SWITCH}=0 prevents this) …`);
  const install = ["install", "-y", "-qq", "-o=Dpkg::Use-Pty=0", PACKAGE];
  // The package index may be missing or stale, so one failure is worth a fresh index.
  const installed = await aptGet(install) === 0 ||
    (await aptGet(["update", "-qq"]) === 0 && await aptGet(install) === 0);
  if (!installed) {
    print(`${PACKAGE} could not be installed. By hand:`);
    print(`  ${commands}`);
    return NO_GPU;
  }
  return 0;
}

/** Looks again, in a process of its own: one that found no driver does not see a later one. */
export async function check({ findAdapter, print }: Surroundings): Promise<number> {
  if (await findAdapter() !== undefined) return 0;
  print("A driver was installed and there is still no WebGPU adapter; deno task doctor says more.");
  return NO_GPU;
}

async function findAdapter(): Promise<string | undefined> {
  const adapter = await navigator.gpu?.requestAdapter();
  return adapter ? adapter.info.description || "an adapter without a name" : undefined;
}

async function aptGet(args: readonly string[]): Promise<number | undefined> {
  const isQuestion = args[0] === "--version";
  try {
    const { code } = await new Deno.Command("apt-get", {
      args: [...args],
      env: { DEBIAN_FRONTEND: "noninteractive" },
      stdin: "null",
      stdout: isQuestion ? "null" : "inherit",
      stderr: isQuestion ? "null" : "inherit",
    }).output();
    return code;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  }
}

if (import.meta.main) {
  prepareDriver();
  const status = await (Deno.args[0] === "--check" ? check : setup)({
    findAdapter,
    aptGet,
    isRoot: () => Deno.uid() === 0,
    installSwitch: () => Deno.env.get(INSTALL_SWITCH),
    print: (line) => console.error(line),
  });
  Deno.exit(status);
}
