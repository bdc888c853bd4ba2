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
  for (const variant of op.variants) {
    Deno.test(`${op.name}/${variant.name} matches the reference on every case`, async () => {
      const backend = await sharedBackend();
      const results = await verifyAll(backend, op, variant.name);
      const passed = results.filter(({ status }) => status === "pass");
      const failed = results.filter(({ status }) => status === "fail");
      assertEquals(failed.map((result) => `${result.case}: ${result.reason}`), []);
      const runnable = variant.supports !== undefined && passed.length > 0;
      const reasons = results.map(({ reason }) => reason);
      assert(runnable || reasons.every(isDeviceReason), `no case ran: ${reasons.join("; ")}`);
    });
  }

  Deno.test(`${op.name}: every case has a variant without subgroups`, async () => {
    using backend = await GpuBackend.create({ without: ["subgroups"] });
    const covered = new Set<string>();
    const failures: string[] = [];
    for (const variant of op.variants) {
      for (const result of await verifyAll(backend, op, variant.name)) {
        if (result.status === "pass") covered.add(result.case);
        if (result.status === "fail") failures.push(`${result.variant}: ${result.reason}`);
      }
    }
    assertEquals(failures, []);
    assertEquals(op.cases.filter(({ name }) => !covered.has(name)).map(({ name }) => name), []);
  });

  for (const relation of op.relations ?? []) {
    Deno.test(`${op.name}: ${relation.name}`, async () => {
      await checkRelation(await sharedBackend(), op, relation);
    });
  }
}

async function verifyAll(
  backend: GpuBackend,
  op: AnyOp,
  variant: string,
): Promise<VerifyResult[]> {
  return await Array.fromAsync(verifyKernel(backend, op, { variants: [variant], seed: SEED }));
}

/** A variant for other devices may refuse every case here, as long as it says that it is the device. */
function isDeviceReason(reason: string): boolean {
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
