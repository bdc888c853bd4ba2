/**
 * Reference outputs that the user brings: one safetensors file per case, with tensors `input.<name>`
 * and `output.<name>`, and the op and its attributes in the file's metadata.
 *
 * @module
 */

import {
  type AnyOp,
  compare,
  type Comparison,
  type Family,
  type GpuBackend,
  type HostTensor,
  KernelArgumentError,
  ops,
  ReferenceFileError,
  type TensorSpec,
  type VerifyResult,
} from "../mod.ts";
import { inferOutputs, type Named } from "../runtime/backend.ts";
import { runReference } from "../runtime/cpu_backend.ts";
import { parseSafetensors } from "../runtime/safetensors.ts";
import { sameShape } from "../runtime/tensor.ts";
import { describeMiss, verifyTensors } from "../runtime/verify.ts";

/** One file. */
export interface ReferenceCase {
  /** File name. */
  readonly name: string;
  /** The op that it is a case of. */
  readonly op: AnyOp;
  /** The op's attributes. */
  readonly attributes: object;
  /** Inputs by name. */
  readonly inputs: Named<HostTensor>;
  /** Outputs that some other system computed, by name. */
  readonly expected: Named<HostTensor>;
}

/** Nothing is known of how the inputs are distributed, so the worst is assumed: sums of one sign. */
const FAMILY: Family = "positive";

/** A file larger than this is refused: it is read whole. */
const MAX_FILE_BYTES = 1024 ** 3;

/**
 * Reads every `.safetensors` file of a folder, in order of name.
 *
 * @param folder where the files are
 * @param chosen the ops to verify; a file of another op is left out
 * @throws {ReferenceFileError} If the folder has none, or a file does not describe a case
 */
export async function readReferenceCases(
  folder: string,
  chosen: readonly AnyOp[],
): Promise<ReferenceCase[]> {
  const names: string[] = [];
  for await (const { name, isFile } of Deno.readDir(folder)) {
    if (isFile && name.endsWith(".safetensors")) names.push(name);
  }
  if (names.length === 0) {
    throw new ReferenceFileError(`Cannot verify: ${folder} must hold .safetensors files: none`);
  }
  const cases: ReferenceCase[] = [];
  for (const name of names.sort()) {
    const path = `${folder.replace(/\/$/, "")}/${name}`;
    const { size } = await Deno.stat(path);
    if (size > MAX_FILE_BYTES) {
      throw new ReferenceFileError(
        `Cannot read ${path}: it must be at most ${MAX_FILE_BYTES} bytes: ${size}`,
      );
    }
    const found = parseReferenceCase(name, await Deno.readFile(path), chosen);
    if (found) cases.push(found);
  }
  return cases;
}

/**
 * Reads one file.
 *
 * @returns the case, or undefined if its op is not among `chosen`
 * @throws {ReferenceFileError} If the file is damaged or does not describe a case
 */
export function parseReferenceCase(
  name: string,
  bytes: Uint8Array,
  chosen: readonly AnyOp[],
): ReferenceCase | undefined {
  const fail = (rule: string): never => {
    throw new ReferenceFileError(`Cannot read ${name}: ${rule}`);
  };
  const { tensors, metadata } = parseSafetensors(bytes, name);
  const opName = metadata.get("op") ?? fail('its metadata must name the "op"');
  const op = ops.find((candidate) => candidate.name === opName) ??
    fail(`its op must be one of ${ops.map(({ name }) => name).join(", ")}: ${quote(opName)}`);
  if (!chosen.includes(op)) return undefined;
  const attributes = parseAttributes(metadata.get("attributes") ?? "{}", fail);
  const inputs: Record<string, HostTensor> = {};
  const expected: Record<string, HostTensor> = {};
  for (const [key, tensor] of tensors) {
    const [, kind, tensorName] = /^(input|output)\.(\w+)$/.exec(key) ?? [];
    const known = kind === "input" ? op.inputs : kind === "output" ? op.outputs : [];
    if (!known.includes(tensorName!)) {
      const names = [
        ...op.inputs.map((input) => `input.${input}`),
        ...op.outputs.map((output) => `output.${output}`),
      ];
      fail(`its tensors must be among ${names.join(", ")}: ${quote(key)}`);
    }
    (kind === "input" ? inputs : expected)[tensorName!] = tensor;
  }
  if (Object.keys(expected).length === 0) fail("it must hold an output");
  checkCase(op, attributes, inputs, expected, fail);
  return { name, op, attributes, inputs, expected };
}

function quote(text: string): string {
  return JSON.stringify(text.slice(0, 80));
}

function checkCase(
  op: AnyOp,
  attributes: object,
  inputs: Named<HostTensor>,
  expected: Named<HostTensor>,
  fail: (rule: string) => never,
): void {
  let specs: Named<TensorSpec>;
  try {
    specs = inferOutputs(op, inputs, attributes) as Named<TensorSpec>;
  } catch (error) {
    if (error instanceof KernelArgumentError) fail(error.message);
    throw error;
  }
  for (const [name, tensor] of Object.entries(expected)) {
    const shape = specs[name]?.shape;
    if (shape === undefined) fail(`${op.name} has no output ${name} for these inputs`);
    if (!sameShape(tensor!.shape, shape!)) {
      fail(`output.${name} must have shape [${shape}]: [${tensor!.shape}]`);
    }
  }
}

function parseAttributes(text: string, fail: (rule: string) => never): object {
  let attributes: unknown;
  try {
    attributes = JSON.parse(text);
  } catch {
    fail("the metadata's attributes must be JSON");
  }
  if (typeof attributes !== "object" || attributes === null || Array.isArray(attributes)) {
    return fail("the metadata's attributes must be a JSON object");
  }
  return attributes;
}

/** Verifies the f64 reference and each variant against the outputs of one file. */
export async function* verifyReference(
  backend: GpuBackend,
  { name, op, attributes, inputs, expected }: ReferenceCase,
  variantName?: string,
): AsyncGenerator<VerifyResult> {
  yield verifyOwnReference(name, op, attributes, inputs, expected);
  for (const variant of op.variants) {
    if (variantName !== undefined && variant.name !== variantName) continue;
    const testCase = { name, attributes, family: FAMILY };
    yield await verifyTensors(backend, op, variant, testCase, inputs, 0, { expected });
  }
}

/** Our own definition may be the one that is wrong: the given outputs are held to it in turn. */
function verifyOwnReference(
  name: string,
  op: AnyOp,
  attributes: object,
  inputs: Named<HostTensor>,
  expected: Named<HostTensor>,
): VerifyResult {
  const specs = inferOutputs(op, inputs, attributes) as Named<TensorSpec>;
  const reference = runReference(op, inputs, attributes, specs);
  const tolerance = op.tolerance(inputs, attributes, FAMILY);
  const outputs: Record<string, Comparison> = {};
  let reason = "";
  for (const [output, given] of Object.entries(expected)) {
    const comparison = compare(given!, reference[output]!, tolerance);
    outputs[output] = comparison;
    if (!comparison.passed) reason ||= `given ${describeMiss(output, comparison)}`;
  }
  return {
    op: op.name,
    variant: "reference (f64)",
    case: name,
    status: reason === "" ? "pass" : "fail",
    reason,
    seed: 0,
    sampledRows: undefined,
    outputs,
  };
}
