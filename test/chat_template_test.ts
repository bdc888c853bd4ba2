/** Chat templates: what transformers renders, the formats of StableLM, and templates that mean harm. */

import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { EXIT, explain } from "../apps/command_line.ts";
import {
  type ChatMessage,
  CHATML_TEMPLATE,
  ChatTemplate,
  ModelInputError,
  TemplateError,
  ZEPHYR_TEMPLATE,
} from "../mod.ts";

interface Rendering {
  readonly template: string;
  readonly messages: ChatMessage[];
  readonly prompt: boolean;
  readonly text?: string;
  readonly raises?: string;
}

const RENDERINGS: Rendering[] = JSON.parse(
  await Deno.readTextFile(new URL("testdata/chat/renderings.json", import.meta.url)),
);
const EOS = "<|endoftext|>";
const HI: ChatMessage[] = [{ role: "user", content: "Hi" }];
const LONG: ChatMessage[] = [{ role: "user", content: "ab ".repeat(300_000) }];

Deno.test("chat: renders as transformers does", async () => {
  assert(RENDERINGS.length >= 40);
  for (const { template, messages, prompt, text, raises } of RENDERINGS) {
    const parsed = await ChatTemplate.parse(template);
    const render = () =>
      parsed.render({
        messages,
        addGenerationPrompt: prompt,
        bosToken: "<s>",
        eosToken: EOS,
      });
    if (raises === undefined) assertEquals(render(), text!, template);
    else assertEquals(assertThrows(render, TemplateError).fault.value, raises);
  }
});

Deno.test("chat: the built-in formats", async () => {
  const zephyr = await ChatTemplate.parse(ZEPHYR_TEMPLATE);
  const messages = [
    ...HI,
    { role: "assistant", content: "Yo" },
    { role: "tool", content: "skipped" },
    { role: "user", content: "Q?" },
  ];
  assertEquals(
    zephyr.render({ messages, addGenerationPrompt: true, eosToken: EOS }),
    `<|user|>\nHi${EOS}\n<|assistant|>\nYo${EOS}\n<|user|>\nQ?${EOS}\n<|assistant|>\n`,
  );
  const chatml = await ChatTemplate.parse(CHATML_TEMPLATE);
  const start = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n";
  const user = "<|im_start|>user\nA<|im_end|>\n";
  const a = { role: "user", content: "A" };
  assertEquals(
    chatml.render({ messages: [a], addGenerationPrompt: true }),
    `${start}${user}<|im_start|>assistant\n`,
  );
  assertEquals(
    chatml.render({ messages: [{ role: "system", content: "S" }, a] }),
    `<|im_start|>system\nS<|im_end|>\n${user}`,
  );
});

/** Templates that ask for too much, by what they multiply; each must be refused. */
const HOSTILE: readonly string[] = [
  "{% for a in range(9999) %}{% for b in range(9999) %}{% endfor %}{% endfor %}",
  "{% for a in range(99999) %}{% for b in range(99999) %}x{% endfor %}{% endfor %}",
  "{{ range(3000000) }}",
  "{{ range(100001) | length }}",
  "{{ range(9007199254740000) | length }}",
  "{{ range(0, -99999999, -1) }}",
  "{% macro f(n) %}{{ f(n + 1) }}{% endmacro %}{{ f(0) }}",
  "{% macro f(n) %}{{ f(n) }}{{ f(n) }}{% endmacro %}{{ f(0) }}",
  "{% macro f() %}{% call f() %}{% endcall %}{% endmacro %}{{ f() }}",
  "{% set ns = namespace(s='x') %}{% for i in range(64) %}{% set ns.s = ns.s + ns.s %}{% endfor %}",
  "{% set ns = namespace(s='x') %}{% for i in range(64) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}",
  "{% set ns = namespace(s=[1]) %}{% for i in range(64) %}{% set ns.s = ns.s + ns.s %}{% endfor %}",
  "{% set ns = namespace(s=[1]) %}{% for i in range(40) %}{% set ns.s = [ns.s, ns.s] %}{% endfor %}{{ ns.s }}",
  "{% set ns = namespace(s=[1]) %}{% for i in range(40) %}{% set ns.s = [ns.s, ns.s] %}{% endfor %}{{ ns.s | tojson }}",
  "{% set ns = namespace(s=[1]) %}{% for i in range(40) %}{% set ns.s = [ns.s, ns.s] %}{% endfor %}{{ ns.s == 'x' }}",
  "{% set ns = namespace(s=[1]) %}{% for i in range(9999) %}{% set ns.s = [ns.s] %}{% endfor %}{{ ns.s }}",
  "{% set ns = namespace(s=1) %}{% set ns.s = ns %}{{ ns }}",
  "{{ [[1]] | tojson(indent=999999999) }}",
  "{{ range(9999) | tojson(indent=9999) }}",
  "{{ range(9999) | tojson(separators=[long, long]) }}",
  "{{ range(99999) | join(long) }}",
  "{{ long | join(long) }}",
  "{{ 'a\nb' | indent(999999999) }}",
  "{{ long.replace(' ', '\n') | indent(9999) }}",
  "{{ long.replace('a', long) }}",
  "{{ long | replace('', long) }}",
  "{{ long['repl' + 'ace']('a', long) }}",
  "{% set f = long.replace %}{{ f('a', long) }}",
  "{% for i in range(9999) %}{{ long | upper }}{% endfor %}",
  "{% for i in range(9999) %}{{ long | length }}{% endfor %}",
  "{% for i in range(9999) %}{% set x = long.split(' ') %}{% endfor %}",
  "{% for i in range(9999) %}{% set x = long.split() %}{% endfor %}",
  "{% for i in range(9999) %}{% set x = long[::2] %}{% endfor %}",
  "{% for i in range(9999) %}{% set x = long.title() %}{% endfor %}",
  "{% for i in range(9999) %}{{ long is lower }}{% endfor %}",
  "{% for i in range(9999) %}{{ (long + 'c') in long }}{% endfor %}",
  "{% for i in range(9999) %}{% set x = range(99999) %}{% endfor %}",
  "{% set r = range(99999) %}{% for i in r %}{% set x = r | sort %}{% endfor %}",
  "{% set r = range(99999) %}{% for i in r %}{% set x = r | reverse %}{% endfor %}",
  "{% set r = range(99999) %}{% for i in r %}{% set x = r[1:] %}{% endfor %}",
  "{% set r = range(99999) %}{% for i in r %}{{ -1 in r }}{% endfor %}",
  "{% set r = range(99999) %}{% for i in r %}{% set x = r | unique %}{% endfor %}",
  "{% for i in range(99999) %}{% for j in range(99) %}{{ u }}{% endfor %}{% endfor %}",
  "{% for i in range(99999) %}{% for j in range(99) %}{% break %}{% endfor %}{% endfor %}",
  "{% for i in range(99999) %}{% macro m() %}" + "{{ 1 }}".repeat(9999) +
  "{% endmacro %}{% endfor %}",
  "{% filter indent(99999999) %}a\nb{% endfilter %}",
  "{% for i in range(9999) %}{{ strftime_now(long) }}{% endfor %}",
];

Deno.test("chat: a template that takes too much is refused in time", async () => {
  for (const template of HOSTILE) {
    const parsed = await ChatTemplate.parse(template);
    const begin = performance.now();
    const error = assertThrows(
      () => parsed.render({ messages: HI, extra: { long: LONG[0]!.content } }),
      TemplateError,
    );
    const took = performance.now() - begin;
    assertEquals(
      error.fault.reason,
      "template-budget",
      `${template.slice(0, 90)}: ${error.message}`,
    );
    assert(took < 2000, `${took} ms: ${template.slice(0, 100)}`);
  }
});

Deno.test("chat: a source that is too long, too deep or malformed is refused in time", async () => {
  const sources: readonly (readonly [string, string])[] = [
    ["x".repeat(2 ** 18 + 1), "template-budget"],
    [" ".repeat(2 ** 18), "template-budget"],
    ["{% if 1 %}".repeat(65) + "{% endif %}".repeat(65), "template-budget"],
    ["{{ " + "(".repeat(20_000) + "1" + ")".repeat(20_000) + " }}", "template-budget"],
    ["{{ " + "not ".repeat(60_000) + "1 }}", "template-budget"],
    ["{% for", "template-syntax"],
    ["{% if 1 %}", "template-syntax"],
    ["{{ 'a }}", "template-syntax"],
    ["{% include 'x' %}", "template-syntax"],
  ];
  for (const [source, reason] of sources) {
    const begin = performance.now();
    const error = await assertRejects(() => ChatTemplate.parse(source), TemplateError);
    assertEquals(error.fault.reason, reason, source.slice(0, 60));
    assert(performance.now() - begin < 2000, source.slice(0, 60));
  }
  const sum = await ChatTemplate.parse(`{{ ${"1 + ".repeat(50_000)}1 }}`);
  const error = assertThrows(() => sum.render({ messages: HI }), TemplateError);
  assertEquals(error.fault.reason, "template-budget");
});

Deno.test("chat: nothing of the host is within reach", async () => {
  const names = ["constructor", "__proto__", "prototype", "toString", "hasOwnProperty", "valueOf"];
  for (
    const value of ["messages", "messages[0]", "eos_token", "range", "namespace", "messages[0].x"]
  ) {
    for (const name of names) {
      for (const path of [`${value}.${name}`, `${value}['${name}']`]) {
        const parsed = await ChatTemplate.parse(`{{ ${path} is undefined }}`);
        const messages = [{ role: "user", content: "", x: { y: 1 } }];
        assertEquals(parsed.render({ messages, eosToken: EOS }), "True", path);
      }
    }
  }
  const attr = await ChatTemplate.parse("{{ messages | attr('constructor') }}");
  assertThrows(() => attr.render({ messages: HI }), TemplateError);
});

Deno.test("chat: long conversations stay within the budget", async () => {
  const messages = Array.from({ length: 2048 }, (_, i): ChatMessage => {
    return { role: i % 2 === 0 ? "user" : "assistant", content: "word ".repeat(200) };
  });
  for (const source of [ZEPHYR_TEMPLATE, CHATML_TEMPLATE, RENDERINGS[0]!.template]) {
    const text = (await ChatTemplate.parse(source)).render({ messages, eosToken: EOS });
    assert(text.length > 2048 * 1000);
  }
});

Deno.test("chat: arguments are checked", async () => {
  const template = await ChatTemplate.parse("{{ messages | length }}");
  const circle: Record<string, unknown> = {};
  circle.self = circle;
  const bad: unknown[] = [
    undefined,
    {},
    { messages: "x" },
    { messages: [null] },
    { messages: [{ role: 1, content: "" }] },
    { messages: [{ role: "user" }] },
    { messages: new Array(2049).fill(HI[0]) },
    { messages: HI, addGenerationPrompt: 1 },
    { messages: HI, eosToken: 0 },
    { messages: HI, surprise: true },
    { messages: HI, extra: { range: 1 } },
    { messages: HI, extra: { f: () => 1 } },
    { messages: HI, extra: circle },
    { messages: HI, extra: { date: new Date(0) } },
  ];
  for (const options of bad) {
    assertThrows(() => template.render(options as { messages: ChatMessage[] }), ModelInputError);
  }
});

Deno.test("chat: a checkpoint's own template is found", async () => {
  const files = (entries: Record<string, string>) =>
    new Map(Object.entries(entries).map(([name, text]) => [name, new Blob([text])]));
  const config = (chat_template: unknown) => JSON.stringify({ chat_template });
  const name = "tokenizer_config.json";
  const list = [{ name: "tool", template: "no" }, { name: "default", template: "list" }];
  const cases: readonly (readonly [Record<string, string>, string | undefined])[] = [
    [{ "chat_template.jinja": "file", [name]: config("config") }, "file"],
    [{ [name]: config("config") }, "config"],
    [{ [name]: config(list) }, "list"],
    [{ [name]: "{}" }, undefined],
    [{ [name]: config(null) }, undefined],
    [{}, undefined],
  ];
  for (const [entries, text] of cases) {
    const template = await ChatTemplate.fromFolder(files(entries));
    assertEquals(template?.render({ messages: HI }), text);
  }
  await assertRejects(() => ChatTemplate.fromFolder(files({ [name]: config(7) })), TemplateError);
});

Deno.test("chat: a command ends with the status of a bad model", () => {
  const fault = { file: "chat_template.jinja", reason: "template-syntax", rule: "r", value: "v" };
  assertEquals(explain("chat", new TemplateError(fault)).status, EXIT.model);
});
