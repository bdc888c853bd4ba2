/** Every example runs, and the README shows the one that it points at. */

import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import "./device.ts";

const FOLDER = new URL("../examples/", import.meta.url);

/** Runs a module and collects what it prints. */
async function outputOf(file: string): Promise<string> {
  const lines: string[] = [];
  const { log } = console;
  console.log = (...words) => lines.push(words.map(String).join(" "));
  try {
    await import(new URL(file, FOLDER).href);
  } finally {
    console.log = log;
  }
  return lines.join("\n");
}

for (const { name } of Deno.readDirSync(FOLDER)) {
  Deno.test(`examples/${name} runs`, async () => {
    const output = await outputOf(name);
    assert(output.length > 0, "it prints something");
    assert(!/\b(fail|NaN|undefined)\b/.test(output), output);
  });
}

Deno.test("the README's example is examples/use_a_kernel.ts", async () => {
  const readme = await Deno.readTextFile(new URL("../README.md", import.meta.url));
  const example = await Deno.readTextFile(new URL("use_a_kernel.ts", FOLDER));
  const shown = example.replace('"../mod.ts"', '"@stablelm/kernels"');
  assertStringIncludes(readme, "```ts\n" + shown + "```");
});

Deno.test("the README's first commands are the two that it promises", async () => {
  const readme = await Deno.readTextFile(new URL("../README.md", import.meta.url));
  const [, first] = /```sh\n([\s\S]*?)```/.exec(readme)!;
  assertEquals(first!.trim().split("\n").map((line) => line.replace(/\s+#.*/, "")), [
    "npx -y deno@2.9.6 task bench",
    "npx -y deno@2.9.6 task test",
  ]);
});
