/** Safetensors files that nobody should trust: each is refused, with the reason that it is known by. */

import { assert, assertEquals, assertRejects } from "@std/assert";
import fc from "fast-check";
import {
  FileFaultError,
  ModelFormatError,
  ModelUnsupportedError,
  ReferenceFileError,
} from "../mod.ts";
import { openSafetensors } from "../model/weights/safetensors_source.ts";
import { parseSafetensors } from "../runtime/safetensors.ts";
import { elementCount } from "../runtime/tensor.ts";
import { CountingBytes } from "./counting_bytes.ts";
import { raw, text, withHeader } from "./raw_safetensors.ts";

const four = new Uint8Array(4);
const entry = { dtype: "F32", shape: [1], data_offsets: [0, 4] };
const spelt = (field: string, value: string) =>
  withHeader(
    text(
      `{"t":{"dtype":"F32",${field === "shape" ? "" : '"shape":[1],'}${
        field === "shape" ? '"data_offsets":[0,4],' : ""
      }"${field}":${value}}}`,
    ),
    four,
  );
const manyTensors = Object.fromEntries(
  Array.from({ length: 65_537 }, (_, i) => [
    `t${i}`,
    { dtype: "F32", shape: [0], data_offsets: [0, 0] },
  ]),
);

/** Bytes, the reason that they are refused for, and words of the message. */
type Bad = readonly [bytes: Uint8Array, reason: string, words?: string];

const hostile: Readonly<Record<string, Bad>> = {
  "nothing at all": [new Uint8Array(0), "header-length", "the file has 0"],
  "seven bytes": [new Uint8Array(7), "header-length", "takes 8 bytes"],
  "a length of one byte more than there is": [
    withHeader(text("{}"), undefined, 3n),
    "header-length",
    "at most 2 bytes",
  ],
  "a length of 2⁶³": [
    withHeader(text("{}"), undefined, 2n ** 63n),
    "header-length",
    `${2n ** 63n}`,
  ],
  "a length of 2⁶⁴ − 1": [new Uint8Array(8).fill(255), "header-length", "18446744073709551615"],
  "a length of 2³²": [withHeader(text("{}"), undefined, 2n ** 32n), "header-length"],
  "a length above the limit": [
    withHeader(new Uint8Array(16 * 1024 * 1024 + 1)),
    "header-length",
    "the limit set",
  ],
  "an empty header": [withHeader(new Uint8Array(0)), "header-json"],
  "a byte that is not UTF-8": [withHeader(new Uint8Array([0x7b, 0xff, 0x7d])), "header-utf8"],
  "an overlong UTF-8 sequence": [
    withHeader(new Uint8Array([0x7b, 0x22, 0xc0, 0x80, 0x22, 0x7d])),
    "header-utf8",
  ],
  "a byte order mark": [withHeader(text("\ufeff{}")), "header-json"],
  "a NUL behind the header": [withHeader(text("{}\0")), "header-json"],
  "half a header": [withHeader(text('{"t":')), "header-json", "must be JSON"],
  "two headers": [withHeader(text("{}{}")), "header-json"],
  "a comma too many": [withHeader(text('{"a":1,}')), "header-json"],
  "a leading zero": [spelt("shape", "[01]"), "header-json"],
  "a header that is an array": [withHeader(text("[]")), "header-json", "object: []"],
  "a header that is a number": [withHeader(text("7")), "header-json"],
  "a header that is null": [withHeader(text("null")), "header-json"],
  "a header that is text": [withHeader(text('"\u202ehi"')), "header-json", '"?hi"'],
  "200,000 open brackets": [withHeader(text("[".repeat(200_000))), "header-json"],
  "200,000 nested arrays": [
    withHeader(text(`{"t":${"[".repeat(200_000)}${"]".repeat(200_000)}}`)),
    "entry",
  ],
  "200,000 nested arrays as a shape": [
    json(`{"t":{"dtype":"F32","shape":${deep(200_000)},"data_offsets":[0,4]}}`),
    "entry-shape",
  ],
  "a name given twice": [
    json(`{"t":${JSON.stringify(entry)},"t":${JSON.stringify(entry)}}`),
    "duplicate-name",
    'tensor "t"',
  ],
  "a name given twice, once escaped": [
    json(`{"t":${JSON.stringify(entry)},"\\u0074" :${JSON.stringify(entry)}}`),
    "duplicate-name",
  ],
  "a name given twice behind one with quotes and brackets": [
    json(`{"\\"}{":{},"t":${JSON.stringify(entry)},"t":${JSON.stringify(entry)}}`),
    "duplicate-name",
    'tensor "t"',
  ],
  "metadata given twice": [
    json('{"__metadata__":{},"__metadata__":{}}'),
    "duplicate-name",
  ],
  "a field given twice": [
    json('{"t":{"dtype":"F32","dtype":"F32","shape":[1],"data_offsets":[0,4]}}'),
    "duplicate-field",
    '"dtype"',
  ],
  "a metadata key given twice": [json('{"__metadata__":{"a":"1","a":"2"}}'), "duplicate-field"],
  "metadata that is an array": [raw({ __metadata__: [] }), "metadata"],
  "metadata that is null": [raw({ __metadata__: null }), "metadata"],
  "metadata that holds a number": [raw({ __metadata__: { a: 1.5 } }), "metadata", '"a" is 1.5'],
  "metadata that holds an object": [raw({ __metadata__: { a: {} } }), "metadata"],
  "an entry that is a number": [raw({ t: 1 }), "entry"],
  "an entry that is null": [raw({ t: null }), "entry"],
  "an entry without dtype": [raw({ t: { shape: [1], data_offsets: [0, 4] } }, four), "entry"],
  "a dtype that is a number": [raw({ t: { ...entry, dtype: 32 } }, four), "entry"],
  "a dtype of 8 bits": [raw({ t: { ...entry, dtype: "F8_E4M3" } }, four), "entry-dtype", "BF16"],
  "a dtype of 4 bits": [raw({ t: { ...entry, dtype: "F4" } }, four), "entry-dtype"],
  "a dtype in small letters": [raw({ t: { ...entry, dtype: "f32" } }, four), "entry-dtype"],
  "a dtype from the prototype": [raw({ t: { ...entry, dtype: "toString" } }, four), "entry-dtype"],
  "no shape": [raw({ t: { dtype: "F32", data_offsets: [0, 4] } }, four), "entry-shape"],
  "a shape that is a number": [raw({ t: { ...entry, shape: 1 } }, four), "entry-shape"],
  "a negative size": [raw({ t: { ...entry, shape: [-1] } }, four), "entry-shape", "-1"],
  "a size of −0": [spelt("shape", "[1,-0]"), "entry-shape", "-0"],
  "a size spelt 1.0": [spelt("shape", "[1.0]"), "entry-shape", "1.0"],
  "a size spelt 1e0": [spelt("shape", "[1e0]"), "entry-shape", "1e0"],
  "a size of 1e400": [spelt("shape", "[1e400]"), "entry-shape"],
  "a size that is text": [spelt("shape", '["1"]'), "entry-shape"],
  "a size that is true": [spelt("shape", "[true]"), "entry-shape"],
  "a size that is null": [spelt("shape", "[null]"), "entry-shape"],
  "a size of 2⁵³": [spelt("shape", "[9007199254740992]"), "entry-shape"],
  "a size of 2⁵³ + 1": [spelt("shape", "[9007199254740993]"), "entry-shape"],
  "a rank of 9": [
    raw({ t: { ...entry, shape: Array(9).fill(1) } }, four),
    "entry-shape",
    "up to 8",
  ],
  "a shape whose product has no number": [
    raw({ t: { ...entry, shape: Array(8).fill(Number.MAX_SAFE_INTEGER) } }, four),
    "offsets-length",
  ],
  "a shape whose product wraps to 4 bytes in 64 bits": [
    raw({ t: { ...entry, shape: [2 ** 31, 2 ** 31 + 1, 2 ** 2] } }, four),
    "offsets-length",
  ],
  "no offsets": [raw({ t: { dtype: "F32", shape: [1] } }, four), "entry-offsets", "there is none"],
  "one offset": [raw({ t: { ...entry, data_offsets: [0] } }, four), "entry-offsets"],
  "three offsets": [raw({ t: { ...entry, data_offsets: [0, 2, 4] } }, four), "entry-offsets"],
  "offsets spelt 4.0": [spelt("data_offsets", "[0,4.0]"), "entry-offsets", "4.0"],
  "offsets that are text": [spelt("data_offsets", '["0","4"]'), "entry-offsets"],
  "offsets out of order": [raw({ t: { ...entry, data_offsets: [4, 0] } }, four), "offsets-order"],
  "offsets past the end": [raw({ t: { ...entry, data_offsets: [0, 8] } }, four), "offsets-range"],
  "offsets of 2⁵³ − 1": [
    raw({ t: { ...entry, data_offsets: [0, Number.MAX_SAFE_INTEGER] } }, four),
    "offsets-range",
  ],
  "a file that was cut off": [
    raw({ t: { dtype: "F16", shape: [5632, 2048], data_offsets: [0, 23068672] } }, four),
    "offsets-range",
  ],
  "a range that is too short": [
    raw(
      { t: { dtype: "F16", shape: [5632, 2048], data_offsets: [0, 4096] } },
      new Uint8Array(4096),
    ),
    "offsets-length",
    'f: tensor "t" at byte 73: shape [5632, 2048] of F16 needs 23068672 bytes: ' +
    "data_offsets hold 4096",
  ],
  "a range that is too long": [
    raw({ t: { ...entry, shape: [], data_offsets: [0, 8] } }, new Uint8Array(8)),
    "offsets-length",
  ],
  "data that does not start at 0": [
    raw({ t: { ...entry, data_offsets: [4, 8] } }, new Uint8Array(8)),
    "hole",
    "where the header ends",
  ],
  "a hole between two tensors": [
    raw({ a: entry, b: { ...entry, data_offsets: [8, 12] } }, new Uint8Array(12)),
    "hole",
    'where tensor "a" ends',
  ],
  "two tensors in one place": [raw({ a: entry, b: entry }, four), "overlap"],
  "tensors that overlap by a byte": [
    raw({ a: entry, b: { ...entry, data_offsets: [3, 7] } }, new Uint8Array(7)),
    "overlap",
  ],
  "an empty tensor inside another": [
    raw({ a: entry, b: { ...entry, shape: [0], data_offsets: [2, 2] } }, four),
    "overlap",
  ],
  "a byte left over": [raw({ t: entry }, new Uint8Array(5)), "trailing", "1 bytes are left over"],
  "data without a tensor": [raw({}, four), "trailing"],
  "65,537 tensors": [raw(manyTensors), "too-many-tensors", "65537"],
  "a name of 513 characters": [raw({ ["n".repeat(513)]: entry }, four), "name-length", "513"],
  "a name that would forge a line of a log": [
    raw({ "x\u001b[31m\nerror: \u202e": 1 }),
    "entry",
    '"x?[31m?error: ?"',
  ],
};

for (const [name, [bytes, reason, words]] of Object.entries(hostile)) {
  Deno.test(`refused: ${name}`, async () => {
    const source = new CountingBytes(bytes);
    const kind = reason === "entry-dtype" ? ModelUnsupportedError : ModelFormatError;
    const error = await assertRejects(() => openSafetensors(source), FileFaultError, words ?? "");
    assert(error instanceof kind, `${error}`);
    assertEquals(error.fault.reason, reason);
    assert(error.message.startsWith("Cannot read f: ") && !error.message.includes("\n"));
    assert(error.message.length <= 620, `${error.message.length} characters`);
    assertEquals(source.closed, 1);
    assert(source.bytesRead <= bytes.byteLength);
    // The reader of whole files rests on the same rules.
    const whole = await assertRejects(
      () => Promise.resolve().then(() => parseSafetensors(bytes, "f")),
      ReferenceFileError,
    );
    assertEquals(whole.message, error.message);
  });
}

/** A tensor of a header as JSON text, so that a mutant can be spelt as no serialiser would. */
interface Line {
  name: string;
  dtype: string;
  sizes: string[];
  begin: string;
  end: string;
}

/** The tensors of a good file, with 24 + 8 + 2 bytes behind the header. */
const GOOD: readonly Line[] = [
  { name: '"a.weight"', dtype: '"F32"', sizes: ["2", "3"], begin: "0", end: "24" },
  { name: '"b.weight"', dtype: '"BF16"', sizes: ["4"], begin: "24", end: "32" },
  { name: '"c.bias"', dtype: '"F16"', sizes: ["1"], begin: "32", end: "34" },
];

const number = fc.oneof(
  fc.nat(40).map(String),
  fc.constantFrom("-1", "-0", "4.0", "1e1", "1e400", "9007199254740991", "9007199254740993", '"4"'),
);
const value = fc.oneof(number, fc.constantFrom("null", "true", "{}", "[[]]"), fc.json());
const line = fc.nat(2);
const mutation = fc.oneof(
  fc.record({ kind: fc.constant("name" as const), line, by: fc.constantFrom("a.weight", "d", "") }),
  fc.record({
    kind: fc.constant("dtype" as const),
    line,
    by: fc.constantFrom('"F32"', '"BF16"', '"F16"', '"I16"', '"F64"', '"U8"', '"F4"', "1"),
  }),
  fc.record({ kind: fc.constant("size" as const), line, at: fc.nat(2), by: number }),
  fc.record({ kind: fc.constant("begin" as const), line, by: number }),
  fc.record({ kind: fc.constant("end" as const), line, by: number }),
  fc.record({ kind: fc.constant("resize" as const), rows: fc.nat(9) }),
  fc.record({ kind: fc.constant("swap" as const), line, with: line }),
  fc.record({ kind: fc.constant("value" as const), at: fc.nat(99), by: value }),
  fc.record({ kind: fc.constant("byte" as const), at: fc.nat(999), by: fc.nat(255) }),
  fc.record({ kind: fc.constant("data" as const), by: fc.nat(60) }),
  fc.record({ kind: fc.constant("length" as const), by: fc.integer({ min: -99, max: 99 }) }),
);

Deno.test("10,000 mutants of a good file end in tensors or in an error about the file", async () => {
  let opened = 0;
  const before = Deno.memoryUsage().rss;
  await fc.assert(
    fc.asyncProperty(fc.array(mutation, { minLength: 1, maxLength: 3 }), async (mutations) => {
      const bytes = mutate(mutations);
      const counting = new CountingBytes(bytes);
      try {
        using source = await openSafetensors(counting);
        for (const [name, { shape, byteLength, storedAs }] of source.tensors) {
          if (!/^(F|BF)/.test(storedAs)) continue;
          const tensor = await source.read(name);
          const perElement = storedAs === "F64" ? 8 : tensor.dtype === "f32" ? 4 : 2;
          assertEquals([tensor.shape, tensor.values.length], [shape, elementCount(shape)]);
          assertEquals(byteLength, tensor.values.length * perElement);
        }
        opened++;
      } catch (error) {
        if (!(error instanceof FileFaultError)) throw error;
      }
      // The cover rule: no byte is read twice.
      assert(counting.bytesRead <= bytes.byteLength);
      assertEquals(counting.closed, 1);
    }),
    { numRuns: 10_000 },
  );
  assert(opened > 500, `only ${opened} mutants could be opened`);
  const grown = Deno.memoryUsage().rss - before;
  assert(grown < 64 * 2 ** 20, `${grown} bytes more memory are in use`);
});

type Mutation = typeof mutation extends fc.Arbitrary<infer T> ? T : never;

/** A good file with these changes; what they leave alone stays consistent. */
function mutate(mutations: readonly Mutation[]): Uint8Array {
  const lines = GOOD.map((line) => ({ ...line, sizes: [...line.sizes] }));
  let dataLength = 34, lengthError = 0;
  const late: Mutation[] = [];
  for (const change of mutations) {
    const line = "line" in change ? lines[change.line]! : lines[0]!;
    if (change.kind === "name") line.name = JSON.stringify(change.by);
    else if (change.kind === "dtype") line.dtype = change.by;
    else if (change.kind === "size") line.sizes[change.at] = change.by;
    else if (change.kind === "begin") line.begin = change.by;
    else if (change.kind === "end") line.end = change.by;
    else if (change.kind === "data") dataLength = change.by;
    else if (change.kind === "length") lengthError = change.by;
    else if (change.kind === "resize") {
      const bytes = 2 * change.rows;
      Object.assign(lines[2]!, { sizes: [String(change.rows)], end: String(32 + bytes) });
      dataLength = 32 + bytes;
    } else if (change.kind === "swap") {
      lines[change.line] = lines[change.with]!;
      lines[change.with] = line;
    } else late.push(change);
  }
  const entries = lines.map(({ name, dtype, sizes, begin, end }) =>
    `${name}:{"dtype":${dtype},"shape":[${sizes}],"data_offsets":[${begin},${end}]}`
  );
  let header = `{"__metadata__":{"format":"pt"},${entries}}`;
  for (const change of late) if (change.kind === "value") header = replaceValue(header, change);
  const bytes = text(header);
  for (const change of late) {
    if (change.kind === "byte") bytes[change.at % bytes.length] = change.by;
  }
  const length = BigInt.asUintN(64, BigInt(bytes.length + lengthError));
  return withHeader(bytes, new Uint8Array(dataLength), length);
}

/** Puts another value in the place of one that stands behind a colon or in an array. */
function replaceValue(header: string, { at, by }: { at: number; by: string }): string {
  const places = [...header.matchAll(/(?<=[:[,])("[^"]*"(?!:)|\d+|\[[^[\]]*\]|\{[^{}]*\})/g)];
  const { index, 0: old } = places[at % places.length]!;
  return header.slice(0, index) + by + header.slice(index + old.length);
}

function json(header: string): Uint8Array {
  return withHeader(text(header));
}

function deep(levels: number): string {
  return "[".repeat(levels) + "]".repeat(levels);
}
