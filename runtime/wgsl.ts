/**
 * Reads the declarations of a WGSL file and specialises it.
 *
 * A kernel file is the only place that states its bindings, its `Params` struct, its `override`
 * constants and its workgroup memory; the host finds them here by name, so that nothing is said twice.
 * What the runtime adds to a file goes on its first line (`enable …;`) or after its last one, so line
 * numbers in compile errors are the file's own:
 *
 * - `override NAME: T;` becomes `const NAME: T = value;`, which may also size private arrays;
 * - a binding declared as `array<x_scalar>` or `array<x_vec4>` stores whatever dtype tensor `x` has,
 *   and is read by `load_x(i)` or `load_x4(i)` and written by `store_y(i, v)` or `store_y4(i, v)`,
 *   in f32 whatever is stored; `i` counts scalars or groups of four.
 *
 * @module
 */

import { GpuShaderError } from "./errors.ts";
import type { Dtype } from "./tensor.ts";

/** The text of one kernel. */
export interface WgslFile {
  /** Path for messages: "matmul/naive.wgsl". */
  readonly file: string;
  /** WGSL with one entry point, at most one `Params` uniform at binding 0, and storage bindings. */
  readonly text: string;
}

/** One storage binding of a kernel. */
export interface Binding {
  /** The variable's name. */
  readonly name: string;
  /** Its index in group 0. */
  readonly index: number;
  /** `read` or `read_write`. */
  readonly access: "read" | "read_write";
  /** `x_scalar` or `x_vec4` where the dtype is the tensor's, else undefined. */
  readonly flexible: "scalar" | "vec4" | undefined;
}

/** A field of the `Params` struct; each takes four bytes. */
export interface ParamField {
  /** Name in snake_case. */
  readonly name: string;
  /** `u32`, `i32` or `f32`. */
  readonly type: "u32" | "i32" | "f32";
}

/** A WGSL file with its constants and dtypes filled in, and what the host must know of it. */
export interface SpecializedKernel {
  /** Complete WGSL. */
  readonly code: string;
  /** Name of the `@compute` function. */
  readonly entryPoint: string;
  /** Storage bindings in order of index. */
  readonly bindings: readonly Binding[];
  /** Fields of `Params`; empty if the file has none. */
  readonly params: readonly ParamField[];
  /** Invocations per workgroup along x, y and z. */
  readonly workgroupSize: readonly [number, number, number];
  /** Bytes of workgroup memory. */
  readonly workgroupBytes: number;
  /** Uses subgroup operations. */
  readonly usesSubgroups: boolean;
  /** Uses the f16 type. */
  readonly usesF16: boolean;
}

/** Dialect of WGSL that the implementation takes. */
export interface WgslDialect {
  /** Tint demands `enable subgroups;`, naga refuses it. */
  readonly enableSubgroups: boolean;
}

const OVERRIDE = /^(\s*)override\s+(\w+)\s*:\s*(u32|i32|f32|bool)\s*;/gm;
const BINDING =
  /@group\(0\)\s*@binding\((\d+)\)\s*var<storage,\s*(read|read_write)>\s+(\w+)\s*:\s*array<([^;]+)>;/g;
const PARAMS = /struct\s+Params\s*\{([^}]*)\}/;
const PARAM_FIELD = /(\w+)\s*:\s*(u32|i32|f32)\s*,?/g;
const WORKGROUP_VARIABLE = /var<workgroup>\s+\w+\s*:\s*([^;]+);/g;
const CONSTANT = /^\s*const\s+(\w+)(?:\s*:\s*\w+)?\s*=\s*([^;]+);/gm;
const ENTRY_POINT =
  /@compute\s*@workgroup_size\(([^@]*)\)\s*fn\s+(\w+)|@workgroup_size\(([^@]*)\)\s*@compute\s*fn\s+(\w+)/;
const SUBGROUPS = /\bsubgroup[A-Z]\w*\s*\(|\bsubgroup_(?:size|invocation_id)\b/;

/** `keyMask` → `key_mask`: the name that a tensor or a parameter has in WGSL. */
export function snakeCase(name: string): string {
  let snake = SNAKE_CASE.get(name);
  if (snake === undefined) {
    snake = name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
    SNAKE_CASE.set(name, snake);
  }
  return snake;
}

/** Names that were asked for before: every launch asks for several, and there are few. */
const SNAKE_CASE = new Map<string, string>();

/** The text without comments, every other character in its place. */
export function withoutComments(text: string): string {
  return text.replace(
    /\/\/[^\n]*|\/\*[\s\S]*?\*\//g,
    (comment) => comment.replace(/[^\n]/g, " "),
  );
}

/**
 * Fills in constants and dtypes.
 *
 * @param kernel the file
 * @param constants a value for each `override` that the file declares
 * @param dtypes dtype per binding name
 * @param dialect what the implementation accepts
 * @throws {GpuShaderError} If a constant is missing or unknown, a binding's name is no tensor's, or the
 * file breaks the conventions
 */
export function specialize(
  kernel: WgslFile,
  constants: Readonly<Record<string, number>>,
  dtypes: Readonly<Record<string, Dtype>>,
  dialect: WgslDialect,
): SpecializedKernel {
  const known = new Set<string>();
  const text = kernel.text.replace(OVERRIDE, (_, indent, name, type) => {
    const value = constants[name];
    if (value === undefined) fail(kernel, `override ${name} needs a value`);
    known.add(name);
    return `${indent}const ${name}: ${type} = ${literal(value, type)};`;
  });
  for (const name of Object.keys(constants)) {
    if (!known.has(name)) fail(kernel, `no override is named ${name}`);
  }

  const bare = withoutComments(text);
  const bindings = readBindings(bare);
  const accessors = bindings.map((binding) => accessor(kernel, binding, dtypes[binding.name]));
  const code = text.trimEnd() + "\n" + accessors.join("");
  const scope = readConstants(kernel, bare);
  const entry = ENTRY_POINT.exec(bare) ?? fail(kernel, "no @compute entry point");
  const sizes = (entry[1] ?? entry[3])!.replace(/\)\s*$/, "").split(",");
  const size = (axis: number) => sizes[axis]?.trim() ? evaluate(kernel, sizes[axis]!, scope) : 1;
  const usesF16 = /\bf16\b/.test(withoutComments(code));
  const usesSubgroups = SUBGROUPS.test(bare);
  const enables = (usesF16 ? "enable f16; " : "") +
    (usesSubgroups && dialect.enableSubgroups ? "enable subgroups; " : "");
  return {
    code: enables + code,
    entryPoint: (entry[2] ?? entry[4])!,
    bindings,
    params: readParams(bare),
    workgroupSize: [size(0), size(1), size(2)],
    workgroupBytes: workgroupBytes(kernel, bare, scope),
    usesSubgroups,
    usesF16,
  };
}

function readBindings(bare: string): Binding[] {
  return [...bare.matchAll(BINDING)].map(([, index, access, name, element]) => ({
    name: name!,
    index: Number(index),
    access: access as Binding["access"],
    flexible: element === `${name}_scalar`
      ? "scalar" as const
      : element === `${name}_vec4`
      ? "vec4" as const
      : undefined,
  })).sort((a, b) => a.index - b.index);
}

function readParams(bare: string): ParamField[] {
  const body = PARAMS.exec(bare)?.[1] ?? "";
  return [...body.matchAll(PARAM_FIELD)].map(([, name, type]) => ({
    name: name!,
    type: type as ParamField["type"],
  }));
}

/**
 * The alias and the access functions of a binding whose element type is left to the tensor. 16-bit
 * inputs are unpacked from u32 words, which needs no feature; 16-bit outputs are f16 proper, since two
 * invocations may own the halves of one word. `quantizeToF16` rounds to nearest even where a plain
 * conversion may truncate, but may flush what is subnormal in f16.
 */
function accessor(kernel: WgslFile, binding: Binding, dtype: Dtype | undefined): string {
  const { name, flexible, access } = binding;
  if (dtype === undefined) fail(kernel, `binding ${name} has no tensor`);
  if (flexible === undefined) return "";
  const writes = access === "read_write";
  const wide = flexible === "vec4";
  const form = ACCESSORS[`${dtype}${wide ? "x4" : ""}${writes ? " rw" : ""}`];
  if (form === undefined) fail(kernel, `binding ${name} cannot hold ${dtype}`);
  const four = wide ? "4" : "";
  const value = dtype === "u32" || dtype === "i32" ? dtype : "f32";
  const lanes = wide ? `vec4<${value}>` : value;
  const load = `fn load_${name}${four}(i: u32) -> ${lanes} { return ${form.load(name)}; }\n`;
  const store = `fn store_${name}${four}(i: u32, v: ${lanes}) { ${name}[i] = ${form.store}; }\n`;
  return `alias ${name}_${flexible} = ${form.element};\n${load}${writes ? store : ""}`;
}

interface AccessorForm {
  readonly element: string;
  readonly load: (name: string) => string;
  readonly store: string;
}

const plain = (element: string): AccessorForm => ({
  element,
  load: (name) => `${name}[i]`,
  store: "v",
});

const ACCESSORS: Readonly<Record<string, AccessorForm | undefined>> = {
  "f32": plain("f32"),
  "f32 rw": plain("f32"),
  "f32x4": plain("vec4<f32>"),
  "f32x4 rw": plain("vec4<f32>"),
  "u32": plain("u32"),
  "u32 rw": plain("u32"),
  "i32": plain("i32"),
  "i32 rw": plain("i32"),
  "f16": {
    element: "u32",
    load: (name) => `unpack2x16float(${name}[i >> 1u])[i & 1u]`,
    store: "",
  },
  "f16 rw": {
    element: "f16",
    load: (name) => `f32(${name}[i])`,
    store: "select(f16(v), f16(quantizeToF16(v)), abs(v) >= 0x1p-14f)",
  },
  "f16x4": {
    element: "vec2<u32>",
    load: (name) => `vec4<f32>(unpack2x16float(${name}[i].x), unpack2x16float(${name}[i].y))`,
    store: "",
  },
  "f16x4 rw": {
    element: "vec4<f16>",
    load: (name) => `vec4<f32>(${name}[i])`,
    store: "select(vec4<f16>(v), vec4<f16>(quantizeToF16(v)), abs(v) >= vec4<f32>(0x1p-14f))",
  },
  "bf16": {
    element: "u32",
    load: (name) =>
      `bitcast<f32>(select(${name}[i >> 1u] << 16u, ${name}[i >> 1u] & 0xffff0000u, (i & 1u) == 1u))`,
    store: "",
  },
  "bf16x4": {
    element: "vec2<u32>",
    load: (name) =>
      `bitcast<vec4<f32>>(vec4<u32>(${name}[i].x << 16u, ${name}[i].x & 0xffff0000u, ` +
      `${name}[i].y << 16u, ${name}[i].y & 0xffff0000u))`,
    store: "",
  },
};

function literal(value: number, type: string): string {
  if (type === "bool") return value ? "true" : "false";
  if (type === "u32") return `${value}u`;
  if (type === "i32") return `${value}i`;
  const text = String(value);
  return /[.e]/.test(text) ? text : `${text}.0`;
}

/** Values of the module's integer constants. */
function readConstants(kernel: WgslFile, bare: string): Map<string, number> {
  const scope = new Map<string, number>();
  for (const [, name, expression] of bare.matchAll(CONSTANT)) {
    if (/^[\w\s+*/()%-]+$/.test(expression!)) {
      try {
        scope.set(name!, evaluate(kernel, expression!, scope));
      } catch {
        continue; // not an integer expression, so it sizes nothing
      }
    }
  }
  return scope;
}

const ELEMENT_BYTES: Readonly<Record<string, number>> = { f32: 4, u32: 4, i32: 4, f16: 2 };

function workgroupBytes(
  kernel: WgslFile,
  bare: string,
  scope: ReadonlyMap<string, number>,
): number {
  const bytes = (type: string): number => {
    const array = /^array<(.+),([^,]+)>$/.exec(type);
    if (array) return bytes(array[1]!.trim()) * evaluate(kernel, array[2]!, scope);
    const vector = /^vec([234])<(\w+)>$/.exec(type);
    const atomic = /^atomic<(\w+)>$/.exec(type);
    const lanes = vector ? Number(vector[1]) : 1;
    const element = ELEMENT_BYTES[vector?.[2] ?? atomic?.[1] ?? type];
    if (element === undefined) fail(kernel, `cannot size workgroup memory of type ${type}`);
    return element * (lanes === 3 ? 4 : lanes);
  };
  let total = 0;
  for (const [, type] of bare.matchAll(WORKGROUP_VARIABLE)) {
    total += Math.ceil(bytes(type!.trim()) / 16) * 16;
  }
  return total;
}

/** Evaluates an integer expression of literals, named constants, + − * / % and brackets. */
function evaluate(
  kernel: WgslFile,
  expression: string,
  scope: ReadonlyMap<string, number>,
): number {
  const tokens = expression.match(/\w+|[-+*/%()]/g) ?? [];
  let next = 0;
  const primary = (): number => {
    const token = tokens[next++];
    if (token === "(") {
      const value = sum();
      next++;
      return value;
    }
    const value = /^\d/.test(token ?? "") ? parseInt(token!) : scope.get(token ?? "");
    if (value === undefined) fail(kernel, `cannot evaluate ${expression.trim()}`);
    return value;
  };
  const product = (): number => {
    let value = primary();
    while (tokens[next] === "*" || tokens[next] === "/" || tokens[next] === "%") {
      const operator = tokens[next++];
      const right = primary();
      if (operator === "*") value *= right;
      else value = operator === "/" ? Math.floor(value / right) : value % right;
    }
    return value;
  };
  const sum = (): number => {
    let value = product();
    while (tokens[next] === "+" || tokens[next] === "-") {
      value += tokens[next++] === "+" ? product() : -product();
    }
    return value;
  };
  const value = sum();
  if (next !== tokens.length || /[^\w\s+*/%()-]/.test(expression)) {
    fail(kernel, `cannot evaluate ${expression.trim()}`);
  }
  return value;
}

function fail(kernel: WgslFile, rule: string): never {
  throw new GpuShaderError(`Cannot specialise ${kernel.file}: ${rule}`);
}
