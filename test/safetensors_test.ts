import { assert, assertEquals, assertThrows } from "@std/assert";
import { Buffer } from "node:buffer";
import fc from "fast-check";
import { HostTensor, ReferenceFileError } from "../mod.ts";
import { parseSafetensors, writeSafetensors } from "../runtime/safetensors.ts";
import { raw, text, withHeader } from "./raw_safetensors.ts";

Deno.test("safetensors survive a round trip", () => {
  const tensors = (["f32", "f16", "bf16", "u32"] as const).map((dtype) =>
    [`in ${dtype}`, HostTensor.from([2, 2], [1, 2, 3, 4], dtype)] as const
  );
  const bytes = writeSafetensors(tensors, { op: "x" });
  assertEquals(Number(new DataView(bytes.buffer).getBigUint64(0, true)) % 8, 0);
  const file = parseSafetensors(bytes, "f");
  assertEquals(file.metadata.get("op"), "x");
  for (const [name, tensor] of tensors) {
    const read = file.tensors.get(name)!;
    assertEquals([read.dtype, read.shape], [tensor.dtype, tensor.shape]);
    assertEquals(read.bytes, tensor.bytes);
  }
});

Deno.test("safetensors are read from Node's Buffer as from any bytes", () => {
  const bytes = writeSafetensors([["a", HostTensor.from([2], [1, 2])]]);
  const wide = raw(
    { b: { dtype: "F64", shape: [1], data_offsets: [0, 8] } },
    new Uint8Array(new Float64Array([0.5]).buffer),
  );
  const read = (file: Uint8Array) => [...parseSafetensors(Buffer.from(file), "f").tensors.values()];
  assertEquals(Array.from(read(bytes)[0]!.numbers), [1, 2]);
  assertEquals(Array.from(read(wide)[0]!.numbers), [0.5]);
});

Deno.test("integers, booleans and f64 are narrowed, and refused where they do not fit", () => {
  const file = (dtype: string, bytes: Uint8Array) =>
    raw({ t: { dtype, shape: [1], data_offsets: [0, bytes.byteLength] } }, bytes);
  const eight = (value: bigint) => new Uint8Array(new BigInt64Array([value]).buffer);
  const read = (bytes: Uint8Array) => parseSafetensors(bytes, "f").tensors.get("t")!;
  assertEquals(Array.from(read(file("I64", eight(7n))).numbers), [7]);
  assertEquals(read(file("BOOL", new Uint8Array([1]))).dtype, "u32");
  const half = new Uint8Array(new Float64Array([0.5]).buffer);
  assertEquals(Array.from(read(file("F64", half)).numbers), [0.5]);
  for (const value of [-1n, 2n ** 32n]) {
    assertThrows(() => read(file("I64", eight(value))), ReferenceFileError, `${value}`);
  }
});

const four = new Uint8Array(4);
const entry = { dtype: "F32", shape: [1], data_offsets: [0, 4] };
const damaged: Readonly<Record<string, readonly [Uint8Array, string]>> = {
  "no length": [new Uint8Array(7), "takes 8 bytes"],
  "a length past the end": [new Uint8Array([9, 0, 0, 0, 0, 0, 0, 0]), "must be at most 0 bytes"],
  "a length of 2⁶⁴ − 1": [new Uint8Array(8).fill(255), "18446744073709551615"],
  "not UTF-8": [withHeader(new Uint8Array([0x7b, 0xff, 0x7d])), "UTF-8"],
  "not JSON": [withHeader(text("{")), "JSON"],
  "a JSON array": [withHeader(text("[]")), "JSON object"],
  "an entry that is no object": [raw({ t: 1 }), "must be an object"],
  "an unknown dtype": [raw({ t: { ...entry, dtype: "F8_E4M3" } }, four), "F8_E4M3"],
  "a dtype from the prototype": [raw({ t: { ...entry, dtype: "toString" } }, four), "toString"],
  "a negative size": [raw({ t: { ...entry, shape: [-1] } }, four), "shape"],
  "a rank of 9": [raw({ t: { ...entry, shape: Array(9).fill(1) } }, four), "up to 8"],
  "a size of 2⁵³": [raw({ t: { ...entry, shape: [2 ** 53] } }, four), "shape"],
  "offsets out of order": [raw({ t: { ...entry, data_offsets: [4, 0] } }, four), "4 to 0"],
  "offsets past the end": [raw({ t: { ...entry, data_offsets: [0, 8] } }, four), "0 to 8"],
  "a shape of another size": [raw({ t: { ...entry, shape: [2] } }, four), "needs 8 bytes"],
  "a hole": [
    raw({ t: { ...entry, data_offsets: [4, 8] } }, new Uint8Array(8)),
    "where the header ends",
  ],
  "an overlap": [raw({ a: entry, b: entry }, four), 'tensor "a" ends'],
  "bytes left over": [raw({ t: entry }, new Uint8Array(5)), "1 bytes are left over"],
  "a name given twice": [
    withHeader(
      text(`{"t":${JSON.stringify(entry)},"t":${JSON.stringify(entry)}}`),
      four,
    ),
    "must be given once",
  ],
  "metadata that is no text": [raw({ __metadata__: { a: 1 } }), "strings"],
};

for (const [name, [bytes, words]] of Object.entries(damaged)) {
  Deno.test(`safetensors refuses ${name}`, () => {
    const error = assertThrows(() => parseSafetensors(bytes, "f"), ReferenceFileError, words);
    assert(error.message.startsWith("Cannot read f: "));
  });
}

Deno.test("a prototype key in a safetensors header is an ordinary name", () => {
  const bytes = withHeader(text(`{"__proto__":${JSON.stringify(entry)}}`), four);
  assertEquals([...parseSafetensors(bytes, "f").tensors.keys()], ["__proto__"]);
  assertEquals(({} as Record<string, unknown>).dtype, undefined);
});

Deno.test("5,000 damaged files end in a tensor or a ReferenceFileError", () => {
  const good = writeSafetensors([["a", HostTensor.from([2], [1, 2])]], { k: "v" });
  const change = fc.record({ at: fc.nat(good.length - 1), byte: fc.nat(255) });
  fc.assert(
    fc.property(fc.array(change, { minLength: 1, maxLength: 4 }), fc.nat(40), (changes, cut) => {
      const bytes = good.slice(0, good.length - (cut > 30 ? cut - 30 : 0));
      for (const { at, byte } of changes) if (at < bytes.length) bytes[at] = byte;
      try {
        parseSafetensors(bytes, "f");
      } catch (error) {
        if (!(error instanceof ReferenceFileError)) throw error;
      }
    }),
    { numRuns: 5000 },
  );
});
