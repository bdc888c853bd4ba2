/** `deno task tokenize`: ids, tokens, counts and texts, and what it refuses. */

import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { tokenize, TOKENIZE_COMMAND, type TokenizeReport } from "../apps/tokenize.ts";
import { visibleBytes } from "../apps/visible_bytes.ts";
import { callCommand, type CallOptions } from "./command_call.ts";
import { scratchFolder } from "./checkpoint_folder.ts";
import { byteTokenizer, byteTokens, END } from "./text_model_folder.ts";

const golden = JSON.parse(await Deno.readTextFile("test/testdata/golden/texts.json"));

/** A folder with a tokenizer of one byte per token, and no weights. */
const folder = await scratchFolder();
addEventListener("unload", () => Deno.removeSync(folder.path, { recursive: true }));
const BYTES = ["--model", folder.path];
await Deno.writeTextFile(`${folder.path}/tokenizer.json`, JSON.stringify(byteTokenizer()));

const run = (args: readonly string[], options: CallOptions = {}) =>
  callCommand(TOKENIZE_COMMAND, tokenize, args, options);

Deno.test("the demo's ids are transformers'", async () => {
  for (const { text, ids } of golden.texts) {
    assertEquals(await run([text]), { status: 0, out: `${ids.join(" ")}\n`, err: "" });
    assertEquals((await run([text, "--count"])).out, `${ids.length}\n`);
    assertEquals((await run(["--decode", ids.join(" ")])).out, text.replace(/\n?$/, "\n"));
    assertEquals((await run(["--decode", "-"], { stdin: JSON.stringify(ids) })).status, 0);
  }
});

Deno.test("a text comes from the command line, a file or standard input", async () => {
  const file = `${folder.path}/text.txt`;
  await Deno.writeTextFile(file, "naïve 😀\r\n");
  const out = `${byteTokens("naïve 😀").join(" ")}\n`;
  assertEquals((await run([...BYTES, "naïve 😀"])).out, out);
  assertEquals((await run([...BYTES, "--file", file])).out, out);
  assertEquals((await run([...BYTES, "-"], { stdin: "naïve 😀" })).out, out);
  assertEquals((await run([...BYTES], { stdin: "naïve 😀\n" })).out, out);
  assertEquals((await run([...BYTES, ""])).out, "\n");
});

Deno.test("--tokens shows every byte of a text, and nothing that a terminal would obey", async () => {
  const { out } = await run([...BYTES, "--tokens", 'a "\\\t\x1b é']);
  assertEquals(out.split("\n"), [
    ' 98  "a"',
    ' 33  " "',
    ' 35  "\\""',
    ' 93  "\\\\"',
    ' 10  "\\t"',
    ' 28  "\\u{1b}"',
    ' 33  " "',
    '196  "\\xc3"',
    '170  "\\xa9"',
    "",
  ]);
  const shown = (text: string) => visibleBytes(new TextEncoder().encode(text));
  assertEquals(shown("é 😀\u00a0\u200f\u0301"), "é 😀\\u{a0}\\u{200f}\\u{301}");
  assertEquals(visibleBytes(Uint8Array.of(0xf0, 0x9f, 0x41, 0xff, 0xc3)), "\\xf0\\x9fA\\xff\\xc3");
  assertEquals(
    visibleBytes(Uint8Array.of(0xc0, 0x80, 0xed, 0xa0, 0x80)),
    "\\xc0\\x80\\xed\\xa0\\x80",
  );
});

Deno.test("special tokens are letters, unless they are asked for", async () => {
  assertEquals((await run([...BYTES, END])).out, `${byteTokens(END).join(" ")}\n`);
  const { out } = await run([...BYTES, "--tokens", "--parse-special-tokens", `a${END}`]);
  assertEquals(out, `98  "a"\n 0  "${END}"  special\n`);
});

Deno.test("--decode takes lists as people write them", async () => {
  for (const ids of ["98 99", "98,99", "[98, 99]", " 98\n99 "]) {
    assertEquals((await run([...BYTES, "--decode", ids])).out, "ab\n");
  }
  assertEquals((await run([...BYTES, "--decode", "[]"])).out, "");
  assertEquals(
    (await run([...BYTES, "--decode", "98 0", "--tokens"])).out,
    `98  "a"\n 0  "${END}"  special\n`,
  );
});

Deno.test("--json has text, ids and tokens, both ways", async () => {
  const file = `${folder.path}/report.json`;
  for (const args of [["a\n"], ["--decode", "98 11"]]) {
    assertEquals((await run([...BYTES, ...args, "--json", file])).status, 0);
    const { header, ...report }: TokenizeReport = JSON.parse(await Deno.readTextFile(file));
    assertEquals(report, {
      schemaVersion: 1,
      kind: "tokenize",
      tokenizer: folder.path,
      text: "a\n",
      count: 2,
      ids: [98, 11],
      tokens: [{ id: 98, token: "a", special: false }, { id: 11, token: "\\n", special: false }],
    });
    assertEquals(header.runtime, `Deno ${Deno.version.deno}`);
  }
});

const refused: readonly (readonly [args: readonly string[], status: number, words: string])[] = [
  [[], 2, "a text must be given"],
  [["a", "b"], 2, "at most 1 text"],
  [["a", "--file", "b"], 2, "--file must not be given with a text"],
  [["a", "--count", "--tokens"], 2, "--count must not be given with --tokens"],
  [["a", "--decode", "1"], 2, "a text must not be given with --decode"],
  [["--decode", "1", "--count"], 2, "--count must not be given with --decode"],
  [["--decode", "1 4096"], 2, 'whole numbers to 4095: "4096"'],
  [["--decode", "1 -2"], 2, '"-2"'],
  [["--decode", "x"], 2, '"x"'],
  [["--dtype", "f32", "a"], 2, "unknown option"],
  [["a", "--model", "no/such/folder"], 3, "folder/tokenizer.json: the folder must hold it"],
  [["a", "--tokenizer", "test"], 3, "test/tokenizer.json: the folder must hold it"],
  [["a", "--model", "test/none.gguf"], 3, "test/tokenizer.json: the folder must hold it"],
];

for (const [args, expected, words] of refused) {
  Deno.test(`refused: tokenize ${args.join(" ")} exits ${expected} and says why`, async () => {
    const { status, out, err } = await run(args);
    assertEquals([status, out], [expected, ""], err);
    assertStringIncludes(err, words);
    assert(err.startsWith("error: ") && err.indexOf("\n") === err.length - 1, err);
  });
}

Deno.test("bytes that are no UTF-8 are refused by place", async () => {
  const { status, err } = await run(BYTES, { stdin: Uint8Array.of(0x61, 0xff) });
  assertEquals(status, 2);
  assertStringIncludes(err, "standard input must be UTF-8: 0xff at byte 1");
});

Deno.test("tokenize --help lists every option", async () => {
  const { out } = await run(["--help"]);
  for (const name of Object.keys(TOKENIZE_COMMAND.options)) assertStringIncludes(out, `--${name}`);
  for (const line of out.split("\n")) assert(line.length <= 120, line);
});
