/** Dequantised blocks against those of llama.cpp's Python package, bit by bit. */

import { assert, assertEquals } from "@std/assert";
import { BLOCK_BYTES, LARGE_BLOCK } from "../model/weights/gguf/ggml_blocks.ts";
import { TENSOR_TYPES, type TensorType } from "../model/weights/gguf/tensor_types.ts";
import { parseSafetensors } from "../runtime/safetensors.ts";

const FILE = new URL("testdata/gguf/blocks.safetensors", import.meta.url);
const { tensors: golden } = parseSafetensors(Deno.readFileSync(FILE), "blocks.safetensors");
const quantized = [...TENSOR_TYPES.values()].filter(({ dequantize }) => dequantize !== undefined);

Deno.test("every quantised type has golden blocks", () => {
  assertEquals(
    [...golden.keys()].filter((name) => name.endsWith(".blocks")).sort(),
    quantized.map(({ name }) => `${name}.blocks`).sort(),
  );
});

for (const type of quantized) {
  Deno.test(`${type.name} is dequantised as ggml does it, to the bit`, () => {
    const blocks = Uint8Array.from(golden.get(`${type.name}.blocks`)!.values);
    const { values, shape } = golden.get(`${type.name}.values`)!;
    assertEquals(blocks.length, values.length / type.blockElements * type.blockBytes);
    assertEquals(shape, [2, 512]);
    assert(new Set(values).size > 100, "the golden values are of many kinds");
    assertEquals(bitsOf(dequantized(type, blocks)), bitsOf(values as Float32Array));
  });

  Deno.test(`${type.name} blocks are read from any even offset, and one at a time`, () => {
    const blocks = Uint8Array.from(golden.get(`${type.name}.blocks`)!.values);
    const { blockBytes: size } = type;
    const all = dequantized(type, blocks);
    for (const block of [0, 1, blocks.length / size - 1]) {
      const one = dequantized(type, blocks.subarray(block * size, (block + 1) * size));
      assertEquals(one, all.slice(block * type.blockElements, (block + 1) * type.blockElements));
    }
  });

  Deno.test(`${type.name} carries a scale that is NaN or infinite on to the values`, () => {
    for (const [bits, wanted] of [[0x7e00, NaN], [0x7c00, Infinity]] as const) {
      const blocks = new Uint8Array(type.blockBytes).fill(0x5a);
      const scale = { Q2_K: 80, Q3_K: 108, Q6_K: 208 }[type.name] ?? 0;
      new DataView(blocks.buffer).setUint16(scale, bits, true);
      assert(dequantized(type, blocks).every((value) => Object.is(Math.abs(value), wanted)));
    }
  });
}

Deno.test("blocks have an even number of bytes, so that their scales lie on 16-bit boundaries", () => {
  assert(Object.values(BLOCK_BYTES).every((bytes) => bytes % 2 === 0));
  assertEquals(quantized.filter(({ blockElements }) => blockElements === LARGE_BLOCK).length, 5);
});

function dequantized(type: TensorType, blocks: Uint8Array<ArrayBuffer>): Float32Array {
  const values = new Float32Array(blocks.length / type.blockBytes * type.blockElements);
  type.dequantize!(blocks, values);
  return values;
}

function bitsOf(values: Float32Array): Uint32Array {
  return new Uint32Array(values.buffer, values.byteOffset, values.length);
}
