/** The rules of the house that a program can check. */

import { assert, assertEquals } from "@std/assert";
import { ops } from "../mod.ts";

const ROOT = new URL("../", import.meta.url);

/** Which folders a folder may import from. */
const MAY_IMPORT: Readonly<Record<string, readonly string[]>> = {
  runtime: ["runtime"],
  kernels: ["kernels", "runtime"],
  model: ["model", "kernels", "runtime"],
  bench: ["bench", "model", "kernels", "runtime", "mod.ts"],
  apps: ["apps", "bench", "model", "kernels", "runtime", "mod.ts"],
  test: ["test", "apps", "bench", "model", "kernels", "runtime", "mod.ts"],
  examples: ["mod.ts"],
  "mod.ts": ["model", "kernels", "runtime"],
};

const sources = [...walk("")];

Deno.test("imports go one way", () => {
  const wrong: string[] = [];
  for (const file of sources.filter((path) => path.endsWith(".ts"))) {
    const home = file.split("/")[0]!;
    for (const target of importsOf(file)) {
      const folder = target.split("/")[0]!;
      const [, op] = /^kernels\/(\w+)\/\w+\.ts$/.exec(file) ?? [];
      const [, otherOp] = /^kernels\/(\w+)\//.exec(target) ?? [];
      const otherOpsCode = op && otherOp && op !== otherOp && !target.endsWith("/reference.ts");
      if (!MAY_IMPORT[home]?.includes(folder) || otherOpsCode) wrong.push(`${file} → ${target}`);
    }
  }
  assertEquals(wrong, []);
});

Deno.test("no code outside its folder names an op", () => {
  const wrong: string[] = [];
  for (const file of sources) {
    if (!/^(runtime|bench|apps)\/.*\.ts$/.test(file) && file !== "test/kernels_test.ts") continue;
    const code = read(file).replace(/\/\*[\s\S]*?\*\/|\/\/.*/g, "");
    for (const { name } of ops) {
      const isNamed = name.includes("_") && new RegExp(`\\b${name}\\b`).test(code);
      if (isNamed) wrong.push(`${file} names ${name}`);
    }
  }
  assertEquals(wrong, []);
});

Deno.test("every op folder is in the list", () => {
  const folders = sources.flatMap((path) => /^kernels\/(\w+)\//.exec(path)?.[1] ?? []);
  assertEquals([...new Set(folders)].sort(), ops.map(({ name }) => name).sort());
});

Deno.test("every op folder has its op, reference, cases and a naive kernel", () => {
  for (const { name } of ops) {
    for (const file of [`${name}.ts`, "reference.ts", "cases.ts", "naive.wgsl"]) {
      assert(sources.includes(`kernels/${name}/${file}`), `kernels/${name}/${file} is missing`);
    }
  }
});

Deno.test("a kernel file starts with what it computes and gives the shape of every binding", () => {
  const wrong: string[] = [];
  for (const file of sources.filter((path) => path.endsWith(".wgsl"))) {
    const text = read(file);
    if (!text.trimStart().startsWith("//")) wrong.push(`${file} has no opening comment`);
    if (/^\s*enable\b/m.test(text)) wrong.push(`${file} has an enable line`);
    for (const line of text.split("\n")) {
      if (line.includes("var<storage") && !/\/\/.*\[/.test(line)) {
        wrong.push(`${file}: no shape beside ${line.trim()}`);
      }
      if (/^override\b(?!.*: bool)/.test(line) && !line.includes("//")) {
        wrong.push(`${file}: no remark beside ${line.trim()}`);
      }
    }
  }
  assertEquals(wrong, []);
});

Deno.test("folders and files have telling names", () => {
  const vague = /(^|\/)(utils?|common|helpers?|index|misc|manager)(\.|\/)/;
  assertEquals(sources.filter((path) => vague.test(path)), []);
});

Deno.test("only one function writes to GPU buffers", () => {
  const callers = sources.filter((path) =>
    path.endsWith(".ts") && !path.startsWith("test/") && /\.writeBuffer\(/.test(read(path))
  );
  assertEquals(callers, ["runtime/buffers.ts"]);
});

Deno.test("no task asks for all permissions", () => {
  const { tasks } = JSON.parse(read("deno.json")) as { tasks: Record<string, unknown> };
  assert(!/(^|[\s"])(-A|--allow-all)\b/.test(JSON.stringify(tasks)));
});

function importsOf(file: string): string[] {
  const text = read(file);
  const specifiers = [...text.matchAll(/(?:^|\s)(?:import|export)\b[^;"]*?"([^"]+)"/g)]
    .map((match) => match[1]!);
  return specifiers.filter((specifier) => specifier.startsWith(".")).map((specifier) =>
    new URL(specifier, new URL(file, ROOT)).href.slice(ROOT.href.length)
  );
}

function read(path: string): string {
  return Deno.readTextFileSync(new URL(path, ROOT));
}

function* walk(folder: string): Generator<string> {
  for (const entry of Deno.readDirSync(new URL(folder || ".", ROOT))) {
    const path = folder === "" ? entry.name : `${folder}/${entry.name}`;
    if (entry.name.startsWith(".") || ["coverage", "node_modules", "dist"].includes(path)) continue;
    if (entry.isDirectory) yield* walk(`${path}`);
    else if (/\.(ts|wgsl)$/.test(path)) yield path;
  }
}
