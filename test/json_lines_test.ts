/** Lines of JSON: cut from any pieces, exact in their numbers, and appended to after any interruption. */

import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import fc from "fast-check";
import { UsageError } from "../apps/command_line.ts";
import {
  formatJsonLine,
  IndexSet,
  JsonLineError,
  JsonLinesOutput,
  type Line,
  parseJsonLine,
  readLines,
} from "../apps/json_lines.ts";
import { decodeText, InvalidTextError } from "../apps/prompt_text.ts";
import { scratchFolder } from "./checkpoint_folder.ts";
import { SEED } from "./device.ts";

const encode = (text: string) => new TextEncoder().encode(text);
const decode = (bytes: Uint8Array | undefined) => bytes && new TextDecoder().decode(bytes);

/** Cuts bytes into pieces of these lengths, over and over, in a buffer that is used again. */
async function* inPieces(bytes: Uint8Array, lengths: readonly number[]) {
  const buffer = new Uint8Array(bytes.length + 1);
  for (let at = 0, i = 0; at < bytes.length; i++) {
    const piece = bytes.subarray(at, at + lengths[i % lengths.length]!);
    buffer.fill(0x0a);
    buffer.set(piece);
    yield await Promise.resolve(buffer.subarray(0, piece.length));
    at += piece.length;
  }
}

function lines(text: string, lengths: readonly number[], most?: number): Promise<Line[]> {
  return Array.fromAsync(readLines(inPieces(encode(text), lengths), most));
}

Deno.test("lines are the same from whatever pieces", async () => {
  const letters = fc.constantFrom("a", "é", "\n", "\r", "\r\n", " ", "{}");
  const text = fc.array(letters, { maxLength: 30 }).map((parts) => parts.join(""));
  const lengths = fc.array(fc.integer({ min: 1, max: 9 }), { minLength: 1, maxLength: 5 });
  await fc.assert(
    fc.asyncProperty(text, lengths, async (text, lengths) => {
      const got = await lines(text, lengths);
      const whole = text.split("\n");
      const last = whole.pop()!;
      const wanted = whole.map((line) => line.replace(/\r$/, ""));
      assertEquals(got.map(({ bytes }) => decode(bytes)), last === "" ? wanted : [...wanted, last]);
      assertEquals(got.map(({ index }) => index), got.map((_, i) => i));
      const bytes = encode(text);
      for (const { next } of got.slice(0, wanted.length)) assertEquals(bytes[next! - 1], 0x0a);
      assertEquals(
        got.slice(wanted.length).map(({ next }) => next),
        last === "" ? [] : [undefined],
      );
    }),
    { seed: SEED | 0 },
  );
});

Deno.test("a line that is too long is passed over, and the next one is read", async () => {
  for (const lengths of [[1], [3], [100]]) {
    const got = await lines("12345\n123456\n\n1234567", lengths, 5);
    assertEquals(got.map(({ bytes }) => decode(bytes)), ["12345", undefined, "", undefined]);
  }
});

Deno.test("whole numbers of any size come out as they went in", () => {
  const text = '{"id":12345678901234567890,"list":[-9007199254740993,1.5,1e300],"seed":7}';
  const value = parseJsonLine(encode(text));
  assertEquals(formatJsonLine(value), text.replace("1e300", "1e+300") + "\n");
  assertEquals((value as { id: unknown }).id, 12345678901234567890n);
  assertEquals(formatJsonLine({ text: "a\nb\u2028" }).match(/\n/g)!.length, 1);
});

Deno.test("what is no JSON, or no text, is a fault of the line", () => {
  const deep = encode("[".repeat(200_000) + "]".repeat(200_000));
  const rows: [bytes: Uint8Array<ArrayBuffer>, words: string][] = [
    [encode("{bad"), "must be JSON: "],
    [encode("\ufeff{}"), "must be JSON: "],
    [new Uint8Array([0x22, 0xc3, 0x22]), "must be UTF-8: 0xc3 at byte 1"],
    [deep, "must be JSON of fewer levels"],
  ];
  for (const [bytes, words] of rows) {
    assertThrows(() => parseJsonLine(bytes), JsonLineError, words);
  }
});

Deno.test("the place of a fault in UTF-8 is where the text before it ends", () => {
  const isText = (bytes: Uint8Array) => {
    try {
      new TextDecoder("utf-8", { fatal: true }).decode(bytes);
      return true;
    } catch {
      return false;
    }
  };
  const letters = fc.constantFrom([0x61], [0xc3, 0xa9], [0xf0, 0x9f, 0x98, 0x80], [0xe2, 0x82]);
  const any = fc.oneof(letters, fc.array(fc.integer({ min: 0, max: 255 }), { maxLength: 2 }));
  let faults = 0;
  fc.assert(
    fc.property(fc.array(any, { maxLength: 8 }), (parts) => {
      const bytes = new Uint8Array(parts.flat());
      if (isText(bytes)) return assertEquals(encode(decodeText(bytes)), bytes);
      // The longest part that is text, of those from the start.
      const at = bytes.findLastIndex((_, i) => isText(bytes.subarray(0, i)));
      assertThrows(() => decodeText(bytes), InvalidTextError, `at byte ${at}`);
      faults++;
    }),
    { seed: SEED | 0, numRuns: 500 },
  );
  assert(faults > 50, `${faults} faults`);
});

Deno.test("a set of numbers has what was added, near and far", () => {
  const numbers = fc.array(fc.oneof(fc.nat(70_000), fc.integer({ min: 0, max: 2 ** 45 })));
  fc.assert(
    fc.property(numbers, (numbers) => {
      const set = new IndexSet();
      for (const number of numbers) set.add(number);
      assertEquals(set.size, new Set(numbers).size);
      for (const number of numbers) {
        assert(set.has(number));
        assertEquals(set.has(number + 1), numbers.includes(number + 1));
      }
    }),
    { seed: SEED | 0 },
  );
});

Deno.test("an output goes on behind its last whole line, wherever it was cut", async () => {
  await using folder = await scratchFolder();
  const file = `${folder.path}/out.jsonl`;
  const records = [{ index: 0, text: "né" }, { index: 1, error: "bad" }, { index: 2, text: "" }];
  const whole = records.map(formatJsonLine).join("");
  const bytes = encode(whole);
  for (let cut = 0; cut <= bytes.length; cut++) {
    await Deno.writeFile(file, bytes.subarray(0, cut));
    using output = await JsonLinesOutput.open(file);
    const { done, errors } = output;
    assertEquals(errors, done.has(1) ? 1 : 0);
    await output.append(records.filter(({ index }) => !done.has(index)));
    assertEquals([done.size, output.errors], [3, 1]);
    assertEquals(await Deno.readTextFile(file), whole, `cut at ${cut}`);
  }
});

Deno.test("an output that is something else, or another's, is refused and left as it is", async () => {
  await using folder = await scratchFolder();
  const file = `${folder.path}/out.jsonl`;
  const rows: [text: string, words: string][] = [
    ["name,value\n1,2\n", "line 1 must be JSON"],
    ['{"index":0}\n{"index":-1}\n', 'line 2 must have an "index" from 0: -1'],
    ['{"index":0}\n[1]\n', 'line 2 must have an "index" from 0: there is none'],
    ['{"index":1.5}\n', 'line 1 must have an "index" from 0: 1.5'],
    ["\xff\n", "line 1 must be JSON"],
  ];
  for (const [text, words] of rows) {
    await Deno.writeTextFile(file, text + "half a line");
    await assertRejects(() => JsonLinesOutput.open(file), UsageError, words);
    assertEquals(await Deno.readTextFile(file), text + "half a line");
  }
  await Deno.writeTextFile(file, '{"index":4}\n\n');
  using first = await JsonLinesOutput.open(file);
  assertEquals(first.done.has(4), true);
  await assertRejects(() => JsonLinesOutput.open(file), UsageError, "one is writing to it");
});
