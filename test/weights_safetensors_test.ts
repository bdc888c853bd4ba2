/** Safetensors files read by range: what comes back, and what is read to get it. */

import { assert, assertEquals, assertRejects } from "@std/assert";
import { HostTensor, ModelFormatError, ModelUnsupportedError } from "../mod.ts";
import { checkpointTensors } from "../apps/make_checkpoint.ts";
import { memoryBytes, StepwiseBytes } from "../model/weights/byte_source.ts";
import { openSafetensors } from "../model/weights/safetensors_source.ts";
import { formatSafetensorsHeader } from "../runtime/safetensors_header.ts";
import { writeSafetensors } from "../runtime/safetensors.ts";
import { elementCount } from "../runtime/tensor.ts";
import { CountingBytes } from "./counting_bytes.ts";
import { raw, text, withHeader } from "./raw_safetensors.ts";

const open = (bytes: Uint8Array, name = "f") => openSafetensors(memoryBytes(bytes, name));

Deno.test("rows and whole tensors come back as they were stored", async () => {
  const values = [1, 2, 3, 4, 5, 6];
  const tensors = (["f32", "f16", "bf16"] as const).map((dtype) =>
    [dtype, HostTensor.from([3, 2], values, dtype)] as const
  );
  using source = await open(writeSafetensors(tensors, { format: "pt" }));
  assertEquals(source.metadata.get("format"), "pt");
  for (const [dtype, tensor] of tensors) {
    const whole = await source.read(dtype);
    assertEquals([whole.dtype, whole.shape, whole.bytes], [dtype, [3, 2], tensor.bytes]);
    const rows = await source.read(dtype, { begin: 1, end: 3 });
    assertEquals([rows.dtype, rows.shape, Array.from(rows.numbers)], [dtype, [2, 2], [3, 4, 5, 6]]);
    assertEquals((await source.read(dtype, { begin: 3, end: 3 })).shape, [0, 2]);
  }
});

Deno.test("a tensor that lies at an odd byte is read, and its place is known", async () => {
  const head = '{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},' +
    '"b":{"dtype":"F32","shape":[2],"data_offsets":[1,9]}}';
  const data = new Uint8Array(9);
  new DataView(data.buffer).setFloat32(5, -2.5, true);
  using source = await open(withHeader(text(head), data));
  const b = source.tensors.get("b")!;
  assertEquals([b.byteOffset, b.byteLength, b.storedAs, b.file], [
    8 + head.length + 1,
    8,
    "F32",
    "f",
  ]);
  assertEquals(Array.from((await source.read("b", { begin: 1, end: 2 })).numbers), [-2.5]);
});

Deno.test("f64 is rounded to f32; integers are listed, and to read one says which dtypes can be", async () => {
  const data = new Uint8Array(new Float64Array([0.1, 0]).buffer);
  using source = await open(raw({
    f: { dtype: "F64", shape: [1], data_offsets: [0, 8] },
    i: { dtype: "I64", shape: [1], data_offsets: [8, 16] },
  }, data));
  assertEquals(Array.from((await source.read("f")).numbers), [Math.fround(0.1)]);
  assertEquals(source.tensors.get("i")!.storedAs, "I64");
  const error = await assertRejects(() => source.read("i"), ModelUnsupportedError, "F16, BF16");
  assertEquals(error.fault.reason, "entry-dtype");
});

Deno.test("scalars, empty tensors and files of none are legal", async () => {
  using source = await open(raw({
    scalar: { dtype: "F32", shape: [], data_offsets: [0, 4] },
    empty: { dtype: "F32", shape: [0, 9007199254740991], data_offsets: [4, 4] },
    before: { dtype: "F32", shape: [0], data_offsets: [0, 0] },
  }, new Uint8Array(4)));
  assertEquals((await source.read("scalar")).shape, []);
  assertEquals((await source.read("empty")).shape, [0, 9007199254740991]);
  assertEquals((await source.read("before", { begin: 0, end: 0 })).shape, [0]);
  await assertRejects(() => source.read("scalar", { begin: 0, end: 1 }), RangeError, "no rows");
  using none = await open(raw({}));
  assertEquals(none.tensors.size, 0);
});

Deno.test("rows and names that are not there are refused by name", async () => {
  using source = await open(writeSafetensors([["w", HostTensor.from([2], [1, 2])]]));
  await assertRejects(
    () => source.read("v"),
    RangeError,
    'Cannot read f: it must have the tensor: "v"',
  );
  for (const [begin, end] of [[0, 3], [-1, 1], [2, 1], [0.5, 1], [NaN, 1], [0, Infinity]]) {
    const rows = { begin: begin!, end: end! };
    await assertRejects(() => source.read("w", rows), RangeError, "rows must lie within 0 to 2");
  }
});

Deno.test("names from the prototype are ordinary names", async () => {
  const names = ["__proto__", "constructor", "toString", "hasOwnProperty", '"data_offsets":', ""];
  const entries = names.map((name, i) => {
    const entry = { dtype: "F32", shape: [1], data_offsets: [4 * i, 4 * i + 4] };
    return `${JSON.stringify(name)}:${JSON.stringify(entry)}`;
  });
  using source = await open(withHeader(text(`{${entries.join()}}`), new Uint8Array(4 * 6)));
  assertEquals([...source.tensors.keys()].sort(), names.toSorted());
  assertEquals(({} as Record<string, unknown>).dtype, undefined);
});

Deno.test("only the header is read to open a file", async () => {
  const bytes = writeSafetensors([["w", HostTensor.from([1000], new Float32Array(1000))]]);
  const source = new CountingBytes(bytes);
  using opened = await openSafetensors(source);
  assertEquals(source.bytesRead, bytes.byteLength - 4000);
  await opened.read("w", { begin: 10, end: 11 });
  assertEquals(source.bytesRead, bytes.byteLength - 4000 + 4);
});

Deno.test("a file that fails to open is closed", async () => {
  const source = new CountingBytes(raw({ t: 1 }));
  await assertRejects(() => openSafetensors(source), ModelFormatError);
  assertEquals(source.closed, 1);
  const aborted = new CountingBytes(raw({}));
  const signal = AbortSignal.abort(new Error("enough"));
  await assertRejects(() => openSafetensors(aborted, { signal }), Error, "enough");
  assertEquals(aborted.closed, 1);
});

Deno.test("a header may be larger than the default limit if the caller says so", async () => {
  const header = text("{}" + " ".repeat(17 * 1024 * 1024));
  const bytes = memoryBytes(withHeader(header), "f");
  await assertRejects(() => openSafetensors(bytes), ModelFormatError, "at most 16777216 bytes");
  using source = await openSafetensors(memoryBytes(withHeader(header), "f"), {
    maxHeaderBytes: 100_000_000,
  });
  assertEquals(source.tensors.size, 0);
  for (const maxHeaderBytes of [100_000_001, -1, 0.5, NaN]) {
    const again = memoryBytes(withHeader(header), "f");
    await assertRejects(() => openSafetensors(again, { maxHeaderBytes }), RangeError, "100000000");
  }
});

Deno.test("the header of the largest model, of 1,964 tensors, opens in 50 ms", async () => {
  let end = 0;
  const entries = checkpointTensors("12b").map(({ name, shape }) => {
    const begin = end;
    end += 2 * elementCount(shape);
    return { name, shape, dtype: "BF16" as const, begin, end };
  });
  assertEquals(entries.length, 1964);
  const head = formatSafetensorsHeader(entries, {});
  const times: number[] = [];
  for (let round = 0; round < 5; round++) {
    const start = performance.now();
    using source = await openSafetensors(
      new StepwiseBytes({
        name: "12b",
        size: head.byteLength + end,
        readAt(target, position) {
          target.set(head.subarray(position, position + target.byteLength));
          return Promise.resolve(target.byteLength);
        },
        close() {},
      }),
    );
    times.push(performance.now() - start);
    assertEquals(source.tensors.size, 1964);
  }
  assert(Math.min(...times) < 50, `${times}`);
});

Deno.test("fields that are not known are passed over", async () => {
  const more = {
    dtype: "F32",
    shape: [1],
    data_offsets: [0, 4],
    sparsity: { blocks: [1.5, [2e3]] },
    note: "x",
  };
  using source = await open(raw({ t: more }, new Uint8Array(4)));
  assertEquals(source.tensors.get("t")!.shape, [1]);
});
