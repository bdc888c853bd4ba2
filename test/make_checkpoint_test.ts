/** Checkpoints of random weights: their tensors, configs and numbers, and the command that writes them. */

import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { runCommand } from "../apps/command_line.ts";
import {
  checkpointTensors,
  MAKE_CHECKPOINT_COMMAND,
  makeCheckpoint,
} from "../apps/make_checkpoint.ts";
import { RandomWeights } from "../apps/random_weights.ts";
import { HostTensor } from "../mod.ts";
import type { NewTensor } from "../model/weights/safetensors_writer.ts";
import { elementCount } from "../runtime/tensor.ts";

const RELEASED = [
  ["3b", 356, 2_795_443_200],
  ["1.6b", 340, 1_644_515_328],
  ["12b", 1964, 12_143_185_920],
] as const;

for (const [shape, count, parameters] of RELEASED) {
  Deno.test(`a ${shape} checkpoint has the released model's tensors`, () => {
    const tensors = checkpointTensors(shape);
    const sum = tensors.reduce((total, { shape }) => total + elementCount(shape), 0);
    assertEquals([tensors.length, sum], [count, parameters]);
  });
}

Deno.test("the command refuses what it cannot do in one line", async () => {
  const { error } = console;
  const rows = [
    ["", "--out must name a folder"],
    ["--out x --shape 7b", "did you mean 3b, 12b?"],
    ["--out x --layers 0", "--layers must be a whole number from 1"],
    ["--out x --dtype f64", "did you mean f32"],
    ["--out test", "test holds"],
    ["--out test/none/x", "--allow-write"],
  ] as const;
  for (const [line, words] of rows) {
    const err: string[] = [];
    console.error = (...words) => err.push(words.join(" "));
    try {
      const args = line.split(" ").filter((word) => word !== "");
      assertEquals(await runCommand(MAKE_CHECKPOINT_COMMAND, makeCheckpoint, args), 2);
    } finally {
      console.error = error;
    }
    assertEquals(err.length, 1);
    assertStringIncludes(err[0]!, words);
  }
});

Deno.test("random weights depend on seed and name alone, and are spread as they should be", () => {
  const draw = (seed: number, name: string, dtype: NewTensor["dtype"], count = 100_001) => {
    const pieces = [];
    const tensor = { name, dtype, shape: [count] };
    for (const piece of new RandomWeights(seed).bytesOf(tensor)) pieces.push(piece.slice());
    const bytes = new Uint8Array(pieces.reduce((sum, { length }) => sum + length, 0));
    let at = 0;
    for (const piece of pieces) {
      bytes.set(piece, at);
      at += piece.length;
    }
    return HostTensor.fromBytes(tensor, bytes);
  };
  for (const dtype of ["f32", "f16", "bf16"] as const) {
    for (const [name, center] of [["a.weight", 0], ["norm.weight", 1], ["norm.bias", 0]] as const) {
      const numbers = Float64Array.from(draw(1, name, dtype).numbers);
      const mean = numbers.reduce((sum, x) => sum + x, 0) / numbers.length;
      const variance = numbers.reduce((sum, x) => sum + (x - mean) ** 2, 0) / numbers.length;
      assert(Math.abs(mean - center) < 0.001, `${dtype} ${name}: mean ${mean}`);
      assert(Math.abs(Math.sqrt(variance) - 0.02) < 0.001, `${dtype} ${name}: ${variance}`);
    }
  }
  const bytes = (seed: number, name: string, count?: number) =>
    draw(seed, name, "bf16", count).bytes;
  assertEquals(bytes(1, "a"), bytes(1, "a"));
  assert(bytes(1, "a").some((byte, i) => byte !== bytes(2, "a")[i]));
  assert(bytes(1, "a", 99).some((byte, i) => byte !== bytes(1, "b", 99)[i]));
  // Past the first piece, the numbers go on instead of repeating.
  const long = draw(1, "a", "bf16", 2 ** 22);
  const half = long.bytes.length / 2;
  assertEquals(long.bytes.length, 2 ** 23);
  assert(long.bytes.subarray(0, 64).some((byte, i) => byte !== long.bytes[half + i]));
});
