/** The commands, called as their tasks call them: what they print, and the status they exit with. */

import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { bench, BENCH_COMMAND } from "../apps/bench.ts";
import { editDistance, runCommand, suggest } from "../apps/command_line.ts";
import { diagnose, doctor, DOCTOR_COMMAND, formatDiagnosis } from "../apps/doctor.ts";
import { parseReferenceCase } from "../apps/reference_files.ts";
import { verify, VERIFY_COMMAND } from "../apps/verify.ts";
import { printWgsl, WGSL_COMMAND } from "../apps/wgsl.ts";
import { HostTensor, ops, ReferenceFileError } from "../mod.ts";
import { writeSafetensors } from "../runtime/safetensors.ts";
import "./device.ts";

const [firstOp] = ops;

const commands: Readonly<Record<string, (args: readonly string[]) => Promise<number>>> = {
  verify: (args) => runCommand(VERIFY_COMMAND, verify, args),
  wgsl: (args) => runCommand(WGSL_COMMAND, printWgsl, args),
  doctor: (args) => runCommand(DOCTOR_COMMAND, doctor, args),
  bench: (args) => runCommand(BENCH_COMMAND, bench, args),
};

const options: Readonly<Record<string, object>> = {
  verify: VERIFY_COMMAND.options,
  wgsl: WGSL_COMMAND.options,
  doctor: DOCTOR_COMMAND.options,
  bench: BENCH_COMMAND.options,
};

/** Calls a command and collects what it prints. */
async function call(name: string, ...args: string[]) {
  const out: string[] = [], err: string[] = [];
  const { log, error } = console;
  console.log = (...words) => out.push(words.join(" "));
  console.error = (...words) => err.push(words.join(" "));
  try {
    const status = await commands[name]!(args);
    return { status, out: out.join("\n"), err: err.join("\n") };
  } finally {
    Object.assign(console, { log, error });
  }
}

const usage: readonly (readonly [args: string, words: string])[] = [
  ["verify --sede 1", "did you mean --seed"],
  ["verify --seed", "--seed needs a value"],
  ["verify --seed x", "--seed must be a whole number from 0 to 4294967295"],
  ["verify --seed -1", "--seed"],
  ["verify --seed 1e9", "whole number"],
  ["verify --seed 4294967296", "4294967295"],
  ["verify --seed 1 --seed 2", "once"],
  [`verify ${firstOp!.name}x`, `did you mean ${firstOp!.name}`],
  ["verify qqqqqqqqqqqqqqqq", `must be one of ${firstOp!.name}`],
  ["verify --variant fastest", "--variant"],
  ["verify --without wings", "must be one of subgroups, shader-f16"],
  ["verify --verbose=yes", "takes no value"],
  ["verify --reference no/such/folder", "No such file"],
  ["verify --reference test", "must hold .safetensors files: none"],
  ["verify --reference test --seed 1", "--seed draws inputs"],
  ["verify --case nothing_is_called_this", "no case is left"],
  ["wgsl", "an op must be named"],
  ["wgsl qqqqqqqq", "must be one of"],
  [`wgsl ${firstOp!.name} nothing`, `variant of ${firstOp!.name}`],
  [`wgsl ${firstOp!.name} naive more`, "at most 2"],
  ["wgsl x --dialect hlsl", "naga, tint"],
  ["bench --quik", "did you mean --quick"],
  ["bench --shapes 7b", "--shapes"],
  ["bench --dtype f64", "--dtype"],
  ["bench --variant fastest", "--variant"],
  ["bench --compare no/such.json", "No such file"],
  ["bench --compare deno.json", "kind must be bench"],
  ["bench --json", "--json needs a value: --json FILE"],
  [`bench ${firstOp!.name}x`, `did you mean ${firstOp!.name}`],
  ["doctor now", "takes options only"],
  ["doctor -x", "unknown option"],
];

for (const [line, words] of usage) {
  Deno.test(`usage: ${line} exits 2 and says why in one line`, async () => {
    const { status, out, err } = await call(...line.split(" ") as [string, ...string[]]);
    assertEquals([status, out.includes("FAIL")], [2, false]);
    assertStringIncludes(err, words);
    assert(err.startsWith("error: ") && !err.includes("\n") && err.length <= 400, err);
  });
}

for (const name of Object.keys(commands)) {
  Deno.test(`${name} --help lists every option and exits 0`, async () => {
    const { status, out } = await call(name, "--help");
    assertEquals(status, 0);
    for (const option of Object.keys(options[name]!)) {
      assertStringIncludes(out, `--${option}`);
    }
  });
}

Deno.test("verify prints a row per variant, or per case, and the seed", async () => {
  const args = ["verify", firstOp!.name, "--seed", "7"];
  const short = await call(...args as [string]);
  assertEquals(short.status, 0);
  assertStringIncludes(short.out, "seed 7");
  for (const { name } of firstOp!.variants) assertStringIncludes(short.out, name);
  const long = await call(...args as [string], "--verbose");
  assertStringIncludes(long.out, firstOp!.cases[0]!.name);
  assert(long.out.split("\n").length > short.out.split("\n").length);
});

Deno.test("wgsl prints a shader that stands by itself, in both dialects", async () => {
  const { status, out } = await call("wgsl", firstOp!.name, firstOp!.variants.at(-1)!.name);
  assertEquals(status, 0);
  assertStringIncludes(out, "@compute");
  assertStringIncludes(out, "// constants:");
  assert(!/\boverride\b(?!.*Expects)/.test(out.replace(/\/\/.*/g, "")), "an override is left");
  assertEquals((await call("wgsl", firstOp!.name, "--dialect", "tint")).status, 0);
});

Deno.test("bench prints roofs, then a checked row per variant, the preferred one marked", async () => {
  const { status, out } = await call("bench", firstOp!.name, "--quick", "--seed", "1");
  assertEquals(status, 0);
  for (const words of ["f32 multiply-add", "seed 1", "err/bound", "* ", "0 failed"]) {
    assertStringIncludes(out, words);
  }
  for (const { name } of firstOp!.variants) assertStringIncludes(out, name);
  assert(out.split("\n").every((line) => line.length <= 120), "lines fit a terminal");
});

Deno.test("the nearest names are suggested", () => {
  assertEquals(editDistance("matmul", "mtamul"), 1);
  assertEquals(editDistance("", "abc"), 3);
  assertStringIncludes(suggest("verfy", ["verify", "bench"]), "did you mean verify?");
  assertStringIncludes(suggest("zzz", ["verify", "bench"]), "must be one of verify, bench");
});

Deno.test("doctor describes the adapter and tests every op", async () => {
  const { status, out } = await call("doctor");
  assertEquals(status, 0);
  for (const { name } of ops) assertStringIncludes(out, name);
  assertStringIncludes(out, "maxStorageBufferBindingSize");
});

Deno.test("doctor explains why there is no adapter", async () => {
  const gpu = { requestAdapter: () => Promise.resolve(null) } as unknown as GPU;
  const diagnosis = await diagnose(gpu);
  assertEquals(diagnosis.usable, false);
  assert(diagnosis.advice.length > 0);
  assertStringIncludes(formatDiagnosis(diagnosis), "none");
});

Deno.test("a reference file that does not describe a case is refused by rule", () => {
  const tensor = HostTensor.from([2], [1, 2]);
  const parse = (
    tensors: [string, HostTensor][],
    metadata: Record<string, string>,
  ) => parseReferenceCase("case.safetensors", writeSafetensors(tensors, metadata), ops);
  const op = firstOp!.name;
  const damaged: [() => unknown, string][] = [
    [() => parse([["output.y", tensor]], {}), 'must name the "op"'],
    [() => parse([["output.y", tensor]], { op: `${op}s` }), "its op must be one of"],
    [() => parse([["output.y", tensor]], { op, attributes: "{" }), "must be JSON"],
    [() => parse([["output.y", tensor]], { op, attributes: "[]" }), "JSON object"],
    [() => parse([["y", tensor]], { op }), "tensors must be among"],
    [() => parse([[`input.${firstOp!.inputs[0]}`, tensor]], { op }), "must hold an output"],
    [() => parse([[`output.${firstOp!.outputs[0]}`, tensor]], { op }), "must be given"],
  ];
  for (const [body, words] of damaged) {
    let message = "";
    try {
      body();
    } catch (error) {
      assert(error instanceof ReferenceFileError, `${error}`);
      message = error.message;
    }
    assertStringIncludes(message, words);
  }
  const others = ops.filter(({ name }) => name !== op);
  const file = writeSafetensors([["output.y", tensor]], { op });
  assertEquals(parseReferenceCase("case.safetensors", file, others), undefined, "not asked for");
});
