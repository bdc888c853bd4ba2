/** Labels of `cross_entropy`: what is no class is refused before anything is read. */

import { assertEquals, assertThrows } from "@std/assert";
import { CpuBackend, crossEntropy, HostTensor, KernelArgumentError } from "../mod.ts";
import type { Backend } from "../runtime/backend.ts";
import type { Tensor } from "../runtime/tensor.ts";
import { sharedBackend } from "./device.ts";

const LOGITS = HostTensor.from([2, 3], [1, 2, 3, 4, 5, 6]);

/** Losses of the two rows; a flag that is not 0 has its row ignored. */
async function losses<T extends Tensor>(
  backend: Backend<T>,
  labelOfRow: readonly [number, number],
  flags?: readonly [number, number],
): Promise<number[]> {
  using logits = backend.upload(LOGITS);
  using labels = backend.upload(HostTensor.from([2], labelOfRow, "u32"));
  using ignored = flags && backend.upload(HostTensor.from([2], flags, "u32"));
  using loss = backend.run(crossEntropy, { logits, labels, ignored }, {}).loss;
  return Array.from((await backend.read(loss)).numbers);
}

/** The losses on either backend. */
async function onBoth(
  labels: readonly [number, number],
  flags?: readonly [number, number],
): Promise<number[][]> {
  return [
    await losses(new CpuBackend(), labels, flags),
    await losses(await sharedBackend(), labels, flags),
  ];
}

Deno.test("label 0 and the last label are classes, and an ignored row is exactly 0", async () => {
  const total = Math.log(1 + Math.exp(-1) + Math.exp(-2));
  for (const found of await onBoth([0, 2])) {
    assertEquals(found.map((loss) => loss.toFixed(5)), [total + 2, total].map((x) => x.toFixed(5)));
  }
  for (const found of await onBoth([1, 2], [7, 0])) {
    assertEquals([found[0], found[1]!.toFixed(5)], [0, total.toFixed(5)]);
  }
});

Deno.test("a label outside the classes is refused on either backend, ignored or not", async () => {
  const gpu = await sharedBackend();
  using cpu = new CpuBackend();
  const refusal = async (run: () => Promise<unknown>) => {
    try {
      await run();
    } catch (error) {
      if (error instanceof KernelArgumentError) return error.message;
      throw error;
    }
    return "taken";
  };
  for (const label of [3, 2 ** 32 - 100]) {
    const wanted =
      "Cannot run cross_entropy: labels must be less than 3, the last axis of logits: " +
      label;
    for (const flags of [undefined, [0, 1] as const]) {
      assertEquals(await refusal(() => losses(cpu, [1, label], flags)), wanted);
      assertEquals(await refusal(() => losses(gpu, [1, label], flags)), wanted);
    }
  }
});

Deno.test("labels of unknown size, of another dtype or of another shape are refused", () => {
  const labels = { shape: [2], dtype: "u32", below: 3 } as const;
  assertEquals(crossEntropy.infer({ logits: LOGITS, labels }, {}).loss!.shape, [2]);
  const refused = [
    { shape: [2], dtype: "u32" },
    { shape: [2], dtype: "i32", below: 3 },
    { shape: [2, 1], dtype: "u32", below: 3 },
  ] as const;
  for (const wrong of refused) {
    const infer = () => crossEntropy.infer({ logits: LOGITS, labels: wrong }, {});
    assertEquals(assertThrows(infer, KernelArgumentError).fault.argument, "labels");
  }
});
