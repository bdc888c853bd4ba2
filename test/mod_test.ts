/** The public module. */

import { assert, assertEquals } from "@std/assert";
import { ops } from "../mod.ts";
import type { Named } from "../runtime/backend.ts";
import { inferOutputs } from "../runtime/backend.ts";
import { byteLength, type TensorSpec } from "../mod.ts";

Deno.test("importing mod.ts touches no GPU", async () => {
  const worker = new Worker(new URL("./import_without_gpu.ts", import.meta.url), {
    type: "module",
  });
  const { promise, resolve, reject } = Promise.withResolvers<number>();
  worker.onmessage = ({ data }) => resolve(data);
  worker.onerror = (event) => {
    event.preventDefault();
    reject(new Error(event.message));
  };
  assert(await promise > 10, "mod.ts exports its names");
  worker.terminate();
});

Deno.test("op and variant names are unique and in snake_case", () => {
  const names = ops.flatMap((op) => [
    op.name,
    ...op.variants.map((variant) => `${op.name}/${variant.name}`),
    ...op.cases.map((testCase) => `${op.name}: ${testCase.name}`),
  ]);
  assertEquals(names.length, new Set(names).size);
  for (const { name, variants } of ops) {
    assert(/^[a-z][a-z0-9_]*$/.test(name));
    for (const variant of variants) assert(/^[a-z][a-z0-9_]*$/.test(variant.name), variant.name);
    assertEquals(variants.at(-1)!.name, "naive");
  }
});

Deno.test("work counts at least the bytes of the outputs, and no negative or broken number", () => {
  for (const op of ops) {
    for (const { name, inputs, attributes } of op.cases) {
      const { flop, bytes } = op.work(inputs, attributes);
      assert(Number.isFinite(flop) && flop >= 0, `${op.name}: ${name}: ${flop} FLOP`);
      const outputs = inferOutputs(op, inputs, attributes) as Named<TensorSpec>;
      let written = 0;
      for (const [output, spec] of Object.entries(outputs)) {
        if (spec && op.aliases?.[output] === undefined) written += byteLength(spec) - 3;
      }
      assert(bytes >= written, `${op.name}: ${name}: ${bytes} bytes`);
    }
  }
});
