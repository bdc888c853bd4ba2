/** Every example runs, and the README shows the one that it points at. */

import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { type Head, StableLmConfig } from "../mod.ts";
import { scratchFolder, writeCheckpoint } from "./checkpoint_folder.ts";
import "./device.ts";

const FOLDER = new URL("../examples/", import.meta.url);

/** What an example names as a model is a small one with the sizes that its ids ask for. */
const TINY = {
  hidden_size: 32,
  intermediate_size: 44,
  num_hidden_layers: 1,
  num_attention_heads: 4,
  num_key_value_heads: 4,
  pad_token_id: 1,
  num_labels: 3,
} as const;

const MODELS: Readonly<Record<string, Head | "demo">> = {
  "stabilityai/stablelm-3b-4e1t": "demo",
  "stabilityai/stablelm-zephyr-3b": "demo",
  "./stablelm-3b-4e1t": "causal-lm",
  "./my-classifier": "sequence-classification",
};

/** Runs a program, with models put in place of those that it names, and collects what it prints. */
async function outputOf(program: string): Promise<string> {
  await using folder = await scratchFolder();
  for (const [i, [name, head]] of Object.entries(MODELS).entries()) {
    if (!program.includes(`"${name}"`)) continue;
    if (head === "demo") {
      program = program.replace(`"${name}"`, '"model/demo"');
      continue;
    }
    const path = `${folder.path}${i}`;
    await Deno.mkdir(path);
    await writeCheckpoint(path, new StableLmConfig(TINY), { head, dtype: "bf16" });
    program = program.replace(`"${name}"`, JSON.stringify(path));
  }
  program = program.replace('"../mod.ts"', JSON.stringify(new URL("../mod.ts", import.meta.url)));
  const lines: string[] = [];
  const { log } = console;
  console.log = (...words) => lines.push(words.map(String).join(" "));
  try {
    await import(`data:application/typescript,${encodeURIComponent(program)}`);
  } finally {
    console.log = log;
  }
  return lines.join("\n");
}

for (const { name } of Deno.readDirSync(FOLDER)) {
  Deno.test(`examples/${name} runs`, async () => {
    const output = await outputOf(await Deno.readTextFile(new URL(name, FOLDER)));
    assert(output.length > 0, "it prints something");
    assert(!/\b(fail|NaN|undefined)\b/.test(output), output);
  });
}

for (const file of ["generate_text.ts", "chat.ts", "use_a_kernel.ts", "classify.ts"]) {
  Deno.test(`the README shows examples/${file}`, async () => {
    const readme = await Deno.readTextFile(new URL("../README.md", import.meta.url));
    const example = await Deno.readTextFile(new URL(file, FOLDER));
    const shown = example.replace('"../mod.ts"', '"@stablelm/kernels"');
    assertStringIncludes(readme, "```ts\n" + shown + "```");
  });
}

Deno.test("the README's first commands are the two that it promises", async () => {
  const readme = await Deno.readTextFile(new URL("../README.md", import.meta.url));
  const [, first] = /```sh\n([\s\S]*?)```/.exec(readme)!;
  assertEquals(first!.trim().split("\n").map((line) => line.replace(/\s+#.*/, "")), [
    "npx -y deno@2.9.6 task bench",
    "npx -y deno@2.9.6 task test",
  ]);
});
