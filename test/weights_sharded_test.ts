/** Checkpoints in several files: what the index must say, and what the shards must hold. */

import { assert, assertEquals, assertRejects } from "@std/assert";
import fc from "fast-check";
import { FileFaultError, HostTensor, ModelFormatError } from "../mod.ts";
import { openSharded, parseShardIndex } from "../model/weights/sharded_source.ts";
import { writeSafetensors } from "../runtime/safetensors.ts";
import { CountingBytes } from "./counting_bytes.ts";
import { text } from "./raw_safetensors.ts";

const A = "model-00001-of-00002.safetensors", B = "model-00002-of-00002.safetensors";

function shard(...names: string[]): Uint8Array {
  return writeSafetensors(
    names.map((name) => [name, HostTensor.from([2], [1, name.charCodeAt(0)])]),
  );
}

/** Opens an index over these shards; a CountingBytes for each is left in `opened`. */
function open(
  index: unknown,
  shards: Readonly<Record<string, Uint8Array>>,
  opened: CountingBytes[] = [],
) {
  const json = text(typeof index === "string" ? index : JSON.stringify(index));
  const openShard = (name: string) => {
    if (!Object.hasOwn(shards, name)) return Promise.resolve(undefined);
    const bytes = new CountingBytes(shards[name]!, name);
    opened.push(bytes);
    return Promise.resolve(bytes);
  };
  return openSharded(openShard, json, "i.json");
}

Deno.test("tensors are read from the shard that the index gives, which is opened once", async () => {
  const opened: CountingBytes[] = [];
  const index = { metadata: { total_size: 24 }, weight_map: { a: A, b: B, c: A } };
  const source = await open(index, { [A]: shard("a", "c"), [B]: shard("b") }, opened);
  assertEquals([source.name, [...source.tensors.keys()], source.warnings], [
    "i.json",
    ["a", "b", "c"],
    [],
  ]);
  assertEquals([source.tensors.get("b")!.file, opened.length], [B, 2]);
  for (const name of ["a", "b", "c"]) {
    const { numbers } = await source.read(name, { begin: 1, end: 2 });
    assertEquals(Array.from(numbers), [name.charCodeAt(0)]);
  }
  await assertRejects(() => source.read("d"), RangeError, '"d"');
  await assertRejects(() => source.read("a", { begin: 0, end: 3 }), RangeError, "0 to 2");
  source[Symbol.dispose]();
  assertEquals(opened.map(({ closed }) => closed), [1, 1]);
});

Deno.test("a total_size that is wrong or missing is no error", async () => {
  const shards = { [A]: shard("a") };
  using wrong = await open({ metadata: { total_size: 7 }, weight_map: { a: A } }, shards);
  assertEquals(wrong.warnings, ["i.json: total_size is 7, and the tensors take 8 bytes"]);
  for (const more of [{}, { metadata: null }, { metadata: { total_size: "8", a: 1 } }]) {
    using source = await open({ ...more, weight_map: { a: A } }, shards);
    assertEquals(source.warnings, []);
  }
});

const many = (count: number, file: (i: number) => string) =>
  Object.fromEntries(Array.from({ length: count }, (_, i) => [`t${i}`, file(i)]));
const named = (file: unknown) => ({ weight_map: { a: file } });

/** An index, the reason that it is refused for, and words of the message. */
const indices: Readonly<Record<string, readonly [unknown, string, string?]>> = {
  "nothing": ["", "index-json"],
  "half an index": ['{"weight_map":', "index-json"],
  "an array": ["[]", "index-json", "must be a JSON object"],
  "no map": [{}, "index-map", "there is none"],
  "a map from the prototype": ['{"__proto__":{"weight_map":{}}}', "index-map"],
  "a map that is an array": [{ weight_map: [] }, "index-map"],
  "a map of nothing": [{ weight_map: {} }, "index-map", "1 to 65536 tensors: 0"],
  "65,537 tensors": [{ weight_map: many(65_537, () => A) }, "index-map", "65537"],
  "1,001 shards": [
    { weight_map: many(1001, (i) => `${i}.safetensors`) },
    "index-shards",
    "1000 files: 1001",
  ],
  "16 MiB and a byte": [" ".repeat(16 * 1024 * 1024 + 1), "index-length", "16777217"],
  "a tensor in two shards": [
    `{"weight_map":{"a":"${A}","a":"${B}"}}`,
    "index-duplicate",
    '"a" is given twice',
  ],
  "two maps": ['{"weight_map":{"a":"b"},"weight_map":{"a":"b"}}', "index-duplicate"],
  "a tensor whose name is long": [{ weight_map: { ["n".repeat(513)]: A } }, "index-name", "513"],
  "a file that is a number": [named(1), "index-shard"],
  "a file that is null": [named(null), "index-shard"],
  "a file above": [named(`../${A}`), "index-shard", 'tensor "a"'],
  "a file below": [named(`sub/${A}`), "index-shard"],
  "an absolute file": [named("/etc/passwd.safetensors"), "index-shard"],
  "a file on a drive": [named("C:a.safetensors"), "index-shard"],
  "a file with a backslash": [named("..\\a.safetensors"), "index-shard"],
  "an address": [named("https://example.org/a.safetensors"), "index-shard"],
  "an escaped path": [named("%2e%2e%2fa.safetensors"), "index-shard"],
  "a NUL": [named("a\0.safetensors"), "index-shard", "a?.safetensors"],
  "a line behind the name": [named("a.safetensors\n"), "index-shard"],
  "another kind of file": [named("config.json"), "index-shard"],
  "a name that is only an ending": [named(".safetensors"), "index-shard"],
  "a name of 300 characters": [named("a".repeat(300) + ".safetensors"), "index-shard"],
};

for (const [name, [index, reason, words]] of Object.entries(indices)) {
  Deno.test(`index refused: ${name}`, async () => {
    const opened: CountingBytes[] = [];
    const tried = () => open(index, { [A]: shard("a"), [B]: shard("a") }, opened);
    const error = await assertRejects(tried, ModelFormatError, words ?? "");
    assertEquals([error.fault.reason, error.fault.file, opened.length], [reason, "i.json", 0]);
    assert(!error.message.includes("\n") && error.message.length <= 620);
  });
}

Deno.test("shards that do not hold what the index says are refused, and all are closed", async () => {
  const ab = { weight_map: { a: A, b: B } };
  const rows: readonly (readonly [unknown, Record<string, Uint8Array>, string, string])[] = [
    [ab, { [A]: shard("a") }, "missing-shard", `${B}: must exist, as i.json names it`],
    [ab, { [A]: shard("a"), [B]: shard() }, "missing-tensor", `${B}: tensor "b"`],
    [ab, { [A]: shard("a"), [B]: shard("a", "b") }, "wrong-shard", `must be in "${A}"`],
    [ab, { [A]: shard("b"), [B]: shard("a") }, "wrong-shard", "nowhere else"],
    [ab, { [A]: shard("a"), [B]: shard("b", "c") }, "unmapped-tensor", 'tensor "c"'],
    [ab, { [A]: shard("a"), [B]: shard("b").slice(0, -1) }, "offsets-range", B],
  ];
  for (const [index, shards, reason, words] of rows) {
    const opened: CountingBytes[] = [];
    const error = await assertRejects(() => open(index, shards, opened), ModelFormatError, words);
    assertEquals(error.fault.reason, reason);
    assertEquals(opened.map(({ closed }) => closed), opened.map(() => 1));
  }
});

Deno.test("3,000 damaged indices end in a map or in an error about the file", () => {
  const good = `{"metadata":{"total_size":16},"weight_map":{"a":"${A}","b":"${B}"}}`;
  const piece = fc.oneof(
    fc.string(),
    fc.constantFrom("null", "1e9", "{}", '"a"', `"${A}"`, '"../x"', ":", ",", "__proto__"),
  );
  const change = fc.record({ at: fc.nat(good.length), length: fc.nat(12), piece });
  fc.assert(
    fc.property(fc.array(change, { minLength: 1, maxLength: 3 }), (changes) => {
      let json = good;
      for (const { at, length, piece } of changes) {
        json = json.slice(0, at) + piece + json.slice(at + length);
      }
      try {
        for (const file of parseShardIndex(text(json), "i.json").weightMap.values()) {
          assert(/^[\w.-]+\.safetensors$/.test(file), file);
        }
      } catch (error) {
        if (!(error instanceof FileFaultError)) throw error;
      }
    }),
    { numRuns: 3000 },
  );
});
