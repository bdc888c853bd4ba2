/**
 * Random argument sets, made by damaging the cases of each op: every one must end in a right answer or
 * in a KernelArgumentError, with no error from the device. No op is named here.
 */

import { assert, assertEquals } from "@std/assert";
import fc from "fast-check";
import {
  type AnyCase,
  type AnyOp,
  compare,
  CpuBackend,
  drawTensor,
  type Dtype,
  elementCount,
  GpuBackend,
  type GpuTensor,
  type HostTensor,
  KernelArgumentError,
  ops,
  Random,
  type TensorSpec,
} from "../mod.ts";
import { inferOutputs, type Named } from "../runtime/backend.ts";
import { runReference } from "../runtime/cpu_backend.ts";
import { SEED } from "./device.ts";

const SETS_PER_OP = 2000;
const SETS_PER_BATCH = 100;

/** Cases above this many elements cost time and find nothing that a small one does not. */
const MAX_ELEMENTS = 20_000;

type Edit = readonly [kind: string, a: number, b: number, value: unknown];
interface Call {
  readonly inputs: Record<string, TensorSpec>;
  readonly attributes: Record<string, unknown>;
}

const SIZES = [0, 1, 2, 3, 4, 5, 7, 8, 16, 17, 2 ** 31];
const VALUES = [NaN, Infinity, -1, 0, 1, 2, 3, 1.5, 2 ** 53, "x", undefined, null, true, false];
const DTYPES: readonly Dtype[] = ["f32", "f16", "bf16", "i32", "u32", "q8"];

const edit: fc.Arbitrary<Edit> = fc.oneof(
  fc.tuple(fc.constant("resize everywhere"), fc.nat(99), fc.nat(9), fc.constantFrom(...SIZES)),
  fc.tuple(fc.constant("resize"), fc.nat(99), fc.nat(9), fc.constantFrom(...SIZES)),
  fc.tuple(fc.constantFrom("drop axis", "add axis"), fc.nat(99), fc.nat(9), fc.constant(1)),
  fc.tuple(fc.constant("dtype"), fc.nat(99), fc.nat(9), fc.constantFrom(...DTYPES)),
  fc.tuple(fc.constantFrom("omit", "unknown input"), fc.nat(99), fc.nat(9), fc.constant(1)),
  fc.tuple(fc.constant("attribute"), fc.nat(99), fc.nat(9), fc.constantFrom(...VALUES)),
  fc.tuple(fc.constant("unknown attribute"), fc.nat(99), fc.nat(9), fc.constant(1)),
  fc.tuple(fc.constant("below"), fc.nat(99), fc.nat(9), fc.constantFrom(0, 1, 2, 1000, 2 ** 32)),
);

for (const op of ops) {
  Deno.test(`${op.name}: ${SETS_PER_OP} random argument sets are right or refused`, async () => {
    using backend = await GpuBackend.create();
    const cases = op.cases.filter((testCase) => sizeOf(testCase.inputs) <= MAX_ELEMENTS);
    const sets = fc.tuple(fc.nat(cases.length - 1), fc.array(edit, { maxLength: 3 }));
    const batches = fc.array(sets, { minLength: SETS_PER_BATCH, maxLength: SETS_PER_BATCH });
    let ran = 0, refused = 0;
    await fc.assert(
      fc.asyncProperty(batches, async (batch) => {
        const { live } = liveCounts(backend);
        const checks: Promise<void>[] = [];
        for (const [i, [index, edits]] of batch.entries()) {
          // Half with the variant that a user gets, half with the plain one.
          const variant = i % 2 === 0 ? undefined : op.variants.at(-1)!.name;
          const check = tryCall(backend, op, damage(op, cases[index]!, edits), variant);
          if (check) checks.push(check);
          else refused++;
        }
        ran += checks.length;
        await Promise.all(checks);
        assertEquals(liveCounts(backend).live, live, "every tensor was given back");
      }),
      { numRuns: SETS_PER_OP / SETS_PER_BATCH, seed: SEED | 0, endOnFailure: true },
    );
    assert(ran > SETS_PER_OP / 20, `only ${ran} of ${SETS_PER_OP} sets were legal`);
    assert(refused > SETS_PER_OP / 20, `only ${refused} of ${SETS_PER_OP} sets were refused`);
  });
}

function liveCounts(backend: GpuBackend) {
  return { live: backend.memory.liveTensors };
}

/** The outputs of a call, or undefined where it is refused. */
function inferOrRefuse(
  op: AnyOp,
  inputs: Named<TensorSpec>,
  attributes: object,
): Named<TensorSpec> | undefined {
  try {
    return inferOutputs(op, inputs, attributes) as Named<TensorSpec>;
  } catch (error) {
    if (!(error instanceof KernelArgumentError)) throw error;
    assertEquals(error.fault.op, op.name);
    return undefined;
  }
}

/** Runs a call on both backends; undefined where it is refused. The promise checks the answer. */
function tryCall(
  backend: GpuBackend,
  op: AnyOp,
  call: Call,
  variant: string | undefined,
): Promise<void> | undefined {
  const specs = inferOrRefuse(op, call.inputs, call.attributes);
  if (specs === undefined) return undefined;
  if (sizeOf(call.inputs) + sizeOf(specs) > 4 * MAX_ELEMENTS) return Promise.resolve();
  const random = new Random(SEED, op.name);
  const inputs: Record<string, HostTensor> = {};
  for (const [name, spec] of Object.entries(call.inputs)) {
    inputs[name] = drawTensor(spec, "normal", random);
  }
  // What was drawn may break a rule that the shapes alone do not.
  if (inferOrRefuse(op, inputs, call.attributes) === undefined) return undefined;
  const uploaded: Record<string, GpuTensor> = {};
  for (const [name, tensor] of Object.entries(inputs)) uploaded[name] = backend.upload(tensor);
  let outputs: Record<string, GpuTensor> = {};
  try {
    const options = variant === undefined ? {} : { variant };
    outputs = backend.run(op, uploaded, call.attributes, options) as Record<string, GpuTensor>;
  } catch (error) {
    for (const tensor of Object.values(uploaded)) tensor[Symbol.dispose]();
    throw error;
  }
  return checkOutputs(backend, op, call, inputs, specs, outputs, uploaded);
}

async function checkOutputs(
  backend: GpuBackend,
  op: AnyOp,
  call: Call,
  inputs: Record<string, HostTensor>,
  specs: Named<TensorSpec>,
  outputs: Record<string, GpuTensor>,
  uploaded: Record<string, GpuTensor>,
): Promise<void> {
  const reference = runReference(op, inputs, call.attributes, specs);
  const tolerance = op.tolerance(inputs, call.attributes, "normal");
  try {
    for (const [name, tensor] of Object.entries(outputs)) {
      const outcome = compare(await backend.read(tensor), reference[name]!, tolerance);
      assert(outcome.passed, `${describeCall(op, call)}: ${name}: ${JSON.stringify(outcome)}`);
    }
  } finally {
    for (const tensor of [...Object.values(outputs), ...Object.values(uploaded)]) {
      tensor[Symbol.dispose]();
    }
  }
}

function damage(op: AnyOp, testCase: AnyCase, edits: readonly Edit[]): Call {
  const inputs: Record<string, TensorSpec> = {};
  for (const [name, input] of Object.entries(testCase.inputs as Record<string, TensorSpec>)) {
    const { shape, dtype, below } = input;
    inputs[name] = below === undefined ? { shape, dtype } : { shape, dtype, below };
  }
  const attributes: Record<string, unknown> = { ...testCase.attributes };
  for (const [kind, a, b, value] of edits) {
    const names = Object.keys(inputs);
    const name = names[a % Math.max(1, names.length)];
    if (name === undefined) continue;
    const target = inputs[name]!;
    const axis = b % Math.max(1, target.shape.length);
    const resized = (spec: TensorSpec, change: (size: number, axis: number) => number) => ({
      ...spec,
      shape: spec.shape.map(change),
    });
    if (kind === "resize everywhere") {
      const size = target.shape[axis];
      for (const other of names) {
        inputs[other] = resized(inputs[other]!, (s) => s === size ? value as number : s);
      }
    } else if (kind === "resize") {
      inputs[name] = resized(target, (size, i) => i === axis ? value as number : size);
    } else if (kind === "drop axis") {
      inputs[name] = { ...target, shape: target.shape.filter((_, i) => i !== axis) };
    } else if (kind === "add axis") {
      inputs[name] = { ...target, shape: [1, ...target.shape] };
    } else if (kind === "dtype") {
      inputs[name] = { shape: target.shape, dtype: value as Dtype };
    } else if (kind === "omit") {
      delete inputs[name];
    } else if (kind === "unknown input") {
      inputs.stranger = target;
    } else if (kind === "attribute" && op.attributes.length > 0) {
      attributes[op.attributes[b % op.attributes.length]!] = value;
    } else if (kind === "unknown attribute") {
      attributes.stranger = 1;
    } else if (kind === "below" && target.dtype === "u32") {
      inputs[name] = { ...target, below: value as number };
    }
  }
  return { inputs, attributes };
}

function sizeOf(specs: Named<TensorSpec> | object): number {
  return Object.values(specs as Record<string, TensorSpec | undefined>)
    .reduce((sum, spec) => sum + (spec ? elementCount(spec.shape) : 0), 0);
}

function describeCall(op: AnyOp, { inputs, attributes }: Call): string {
  return `${op.name} ${JSON.stringify({ inputs, attributes })}`;
}

Deno.test("both backends refuse the same calls", () => {
  using cpu = new CpuBackend();
  for (const op of ops) {
    const [testCase] = op.cases;
    const { inputs } = damage(op, testCase!, [["unknown attribute", 0, 0, 1]]);
    const tensors = Object.fromEntries(
      Object.entries(inputs).map(([name, spec]) => [
        name,
        drawTensor(spec, "normal", new Random(1)),
      ]),
    );
    let refusal: unknown;
    try {
      cpu.run(op, tensors, { ...testCase!.attributes, stranger: 1 });
    } catch (error) {
      refusal = error;
    }
    assert(refusal instanceof KernelArgumentError, `${op.name} took an unknown attribute`);
  }
});
