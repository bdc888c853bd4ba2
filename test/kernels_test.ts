/**
 * Every variant of every op on every case, and every relation. No op is named here: what an op has to
 * be tested on stands in its own folder.
 */

import { assert, assertEquals } from "@std/assert";
import {
  type AnyCase,
  type AnyOp,
  drawInputs,
  GpuBackend,
  type GpuTensor,
  type HostTensor,
  ops,
  verifyKernel,
  type VerifyResult,
} from "../mod.ts";
import type { Relation } from "../mod.ts";
import { SEED, sharedBackend } from "./device.ts";

console.log(`seed ${SEED}; repeat with: deno task test -- --seed=${SEED}`);

for (const op of ops) {
  Deno.test(`${op.name} matches its reference`, async (t) => {
    const results = await Array.fromAsync(
      verifyKernel(await sharedBackend(), op, { seed: SEED }),
    );
    for (const { name } of op.variants) {
      await t.step(`${op.name}/${name} on every case that it takes`, () => {
        const own = results.filter(({ variant }) => variant === name);
        assertEquals(misses(own), []);
        const ran = own.some(({ status }) => status === "pass");
        assert(ran || own.every(isForOtherDevices), `no case ran: ${own[0]?.reason}`);
      });
    }
  });

  Deno.test(`${op.name}: every case has a variant without subgroups`, async () => {
    using backend = await GpuBackend.create({ without: ["subgroups"] });
    const results = await Array.fromAsync(verifyKernel(backend, op, { seed: SEED }));
    assertEquals(misses(results), []);
    const covered = new Set(
      results.filter(({ status }) => status === "pass").map((result) => result.case),
    );
    assertEquals(op.cases.map(({ name }) => name).filter((name) => !covered.has(name)), []);
  });

  for (const relation of op.relations ?? []) {
    Deno.test(`${op.name}: ${relation.name}`, async () => {
      await checkRelation(await sharedBackend(), op, relation);
    });
  }
}

function misses(results: readonly VerifyResult[]): string[] {
  return results.filter(({ status }) => status === "fail")
    .map((result) => `${result.variant}: ${result.case}: ${result.reason}`);
}

/** A variant may refuse every case here, as long as it says that it is the device's doing. */
function isForOtherDevices({ reason }: VerifyResult): boolean {
  return /subgroup|device|feature|adapter/.test(reason);
}

async function checkRelation(
  backend: GpuBackend,
  op: AnyOp,
  relation: Relation<string, string, object>,
): Promise<void> {
  const inputs = drawInputs(op, relation.base as AnyCase, SEED) as Record<string, HostTensor>;
  const { attributes } = relation.base;
  const first = await runOnce(backend, op, inputs, attributes);
  const changed = relation.transform(inputs, attributes);
  const second = await runOnce(
    backend,
    op,
    changed.inputs as Record<string, HostTensor>,
    changed.attributes,
  );
  const expected = relation.expected(first.numbers, inputs);
  assertEquals(second.numbers.length, expected.length);
  let compared = 0;
  for (let i = 0; i < expected.length; i++) {
    if (Number.isNaN(expected[i])) continue;
    compared++;
    const difference = Math.abs(second.numbers[i]! - expected[i]!);
    assert(
      difference <= relation.within,
      `element ${i} is ${second.numbers[i]}, the relation wants ${expected[i]} (seed ${SEED})`,
    );
  }
  assert(compared > 0, "the relation compares nothing");
}

async function runOnce(
  backend: GpuBackend,
  op: AnyOp,
  inputs: Readonly<Record<string, HostTensor>>,
  attributes: object,
): Promise<HostTensor> {
  const uploaded: Record<string, GpuTensor> = {};
  for (const [name, tensor] of Object.entries(inputs)) uploaded[name] = backend.upload(tensor);
  const outputs = backend.run(op, uploaded, attributes) as Record<string, GpuTensor>;
  const result = await backend.read(outputs[op.outputs[0]!]!);
  for (const tensor of [...Object.values(uploaded), ...Object.values(outputs)]) {
    tensor[Symbol.dispose]();
  }
  return result;
}
