import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { check, setup, type Surroundings } from "../apps/setup.ts";

/** A machine without an adapter on which everything else works; what happens there is recorded. */
function machine(changes: Partial<Surroundings> = {}) {
  const lines: string[] = [];
  const commands: string[] = [];
  const surroundings: Surroundings = {
    findAdapter: () => Promise.resolve(undefined),
    isRoot: () => true,
    installSwitch: () => undefined,
    aptGet: (args) => {
      commands.push(args.join(" "));
      return Promise.resolve(0);
    },
    print: (line) => lines.push(line),
    ...changes,
  };
  return { surroundings, commands, output: () => lines.join("\n") };
}

const INSTALL = "install -y -qq -o=Dpkg::Use-Pty=0 mesa-vulkan-drivers";

Deno.test("setup is silent and installs nothing where there is an adapter", async () => {
  const { surroundings, commands, output } = machine({ findAdapter: () => Promise.resolve("GPU") });
  assertEquals(await setup(surroundings), 0);
  assertEquals([commands, output()], [[], ""]);
});

Deno.test("setup says that it installs the software driver, and does", async () => {
  const { surroundings, commands, output } = machine();
  assertEquals(await setup(surroundings), 0);
  assertEquals(commands, ["--version", INSTALL]);
  assertStringIncludes(output(), "Installing mesa-vulkan-drivers (STABLELM_INSTALL_DRIVER=0");
});

Deno.test("setup fetches the package index where the first try fails", async () => {
  let tries = 0;
  const seen: string[] = [];
  const { surroundings } = machine({
    aptGet: (args) => {
      seen.push(args[0]!);
      return Promise.resolve(args[0] === "install" && tries++ === 0 ? 100 : 0);
    },
  });
  assertEquals(await setup(surroundings), 0);
  assertEquals(seen, ["--version", "install", "update", "install"]);
});

Deno.test("setup never installs without root or against the switch, and exits 4", async () => {
  const ways = [
    [{ isRoot: () => false }, "sudo apt-get install -y mesa-vulkan-drivers"],
    [{ installSwitch: () => "0" }, "apt-get update && apt-get install -y mesa-vulkan-drivers"],
  ] as const;
  for (const [changes, words] of ways) {
    const { surroundings, commands, output } = machine(changes);
    assertEquals(await setup(surroundings), 4);
    assertEquals(commands, ["--version"]);
    assertStringIncludes(output(), words);
  }
});

Deno.test("setup explains itself where there is no apt-get, and where it fails", async () => {
  const none = machine({ aptGet: () => Promise.resolve(undefined) });
  assertEquals(await setup(none.surroundings), 4);
  assertStringIncludes(none.output(), "Vulkan driver");
  const failing = machine({ aptGet: (args) => Promise.resolve(args[0] === "--version" ? 0 : 100) });
  assertEquals(await setup(failing.surroundings), 4);
  assertStringIncludes(failing.output(), "could not be installed");
});

Deno.test("the second look fails where the installed driver gives no adapter", async () => {
  const { surroundings, output } = machine();
  assertEquals(await check(surroundings), 4);
  assert(output().includes("doctor"));
});
