/**
 * The write into the key and value cache, the one op of the model that changes its inputs.
 *
 * @module
 */

import type { DeviceProfile } from "../../runtime/device.ts";
import { requireArgument } from "../../runtime/errors.ts";
import type { Inputs, Op, Plan } from "../../runtime/op.ts";
import {
  byteLength,
  bytesPerElement,
  describe,
  elementCount,
  sameShape,
  type TensorSpec,
} from "../../runtime/tensor.ts";
import { linearGrid } from "../grid.ts";
import { supportsStoring } from "../support.ts";
import { benchCases, cases, relations } from "./cases.ts";
import naive from "./naive.wgsl" with { type: "text" };
import { reference } from "./reference.ts";
import vec4 from "./vec4.wgsl" with { type: "text" };

/** Attributes of {@linkcode kvAppend}. */
export interface KvAppendAttributes {
  /** Slot of the first token: the number of tokens that the cache holds already. */
  readonly position: number;
}

/** Inputs of {@linkcode kvAppend}. */
export type KvAppendInput = "keyCache" | "valueCache" | "keys" | "values";

const WORKGROUP_SIZE = 64;

/**
 * Appends the keys and values of new tokens to their cache, in place.
 *
 *   keyCache[b, g, position + t] = keys[b, t, g],   valueCache likewise
 *
 *   slots of a head:   0 … position−1 | position … position+T−1 | … C−1
 *                      kept           | written                 | kept
 *
 * Shapes:  keyCache, valueCache [B, G, C, D]; keys, values [B, T, G, D] → the caches themselves
 * Numbers: caches f32 or f16, one dtype for both; keys and values f32 or f16, one dtype for both.
 *          Exact, except that an f16 cache rounds f32 to the nearest, ties to even; slots that are not
 *          written keep their bits
 * Limits:  position + T at most C; each cache at most maxStorageBufferBindingSize bytes
 *
 * @throws {KernelArgumentError} If a shape or dtype does not fit, or the cache has no room
 */
export const kvAppend: Op<KvAppendInput, "keyCache" | "valueCache", KvAppendAttributes> = {
  name: "kv_append",
  summary: "cache[b, g, position + t] = keys[b, t, g] and values",
  inputs: ["keyCache", "valueCache", "keys", "values"],
  outputs: ["keyCache", "valueCache"],
  aliases: { keyCache: "keyCache", valueCache: "valueCache" },
  attributes: ["position"],
  infer({ keyCache, valueCache, keys, values }, { position }) {
    requireOperand("keyCache", keyCache, "batch, heads, slots and elements");
    requireArgument(
      sameShape(valueCache.shape, keyCache.shape) && valueCache.dtype === keyCache.dtype,
      "kv_append",
      "valueCache",
      `must be ${describe(keyCache)}, as keyCache is`,
      describe(valueCache),
    );
    requireOperand("keys", keys, "batch, tokens, heads and elements");
    const { batch, heads, capacity, columns } = sizesOf(keyCache);
    const tokens = tokensOf(keys);
    requireArgument(
      sameShape(keys.shape, [batch, tokens, heads, columns]),
      "kv_append",
      "keys",
      `must have shape [${batch}, tokens, ${heads}, ${columns}], as keyCache is ${
        describe(keyCache)
      }`,
      describe(keys),
    );
    requireArgument(
      tokens <= capacity,
      "kv_append",
      "keys",
      `must hold at most ${capacity} tokens, as keyCache is ${describe(keyCache)}`,
      describe(keys),
    );
    requireArgument(
      sameShape(values.shape, keys.shape) && values.dtype === keys.dtype,
      "kv_append",
      "values",
      `must be ${describe(keys)}, as keys is`,
      describe(values),
    );
    requireArgument(
      Number.isSafeInteger(position) && position >= 0 && position + tokens <= capacity,
      "kv_append",
      "position",
      `must be a whole number from 0 to ${capacity - tokens}, as ${tokens} tokens go into ${
        describe(keyCache)
      }`,
      String(position),
    );
    const cache = { shape: keyCache.shape, dtype: keyCache.dtype };
    return { keyCache: cache, valueCache: cache };
  },
  reference,
  variants: [
    {
      name: "vec4",
      summary: "four elements of keys and of values per invocation",
      supports: ({ keyCache }, _attributes, device) =>
        sizesOf(keyCache).columns % 4 !== 0
          ? "the head size must be a multiple of 4"
          : supportsStoring(keyCache.dtype, device),
      plan: (inputs, attributes, device) =>
        planAppend("kv_append/vec4.wgsl", vec4, 4, inputs, attributes, device),
    },
    {
      name: "naive",
      summary: "one element of keys and of values per invocation",
      supports: ({ keyCache }, _attributes, device) => supportsStoring(keyCache.dtype, device),
      plan: (inputs, attributes, device) =>
        planAppend("kv_append/naive.wgsl", naive, 1, inputs, attributes, device),
    },
  ],
  work({ keyCache, keys }) {
    const written = elementCount(keys.shape) * bytesPerElement(keyCache.dtype);
    return { flop: 0, bytes: 2 * (byteLength(keys) + written) };
  },
  tolerance: () => "exact",
  cases,
  benchCases,
  relations,
};

function sizesOf({ shape }: TensorSpec) {
  const [batch, heads, capacity, columns] = shape as [number, number, number, number];
  return { batch, heads, capacity, columns };
}

function tokensOf(keys: TensorSpec): number {
  return keys.shape[1]!;
}

function requireOperand(argument: KvAppendInput, spec: TensorSpec, axes: string): void {
  requireArgument(
    spec.shape.length === 4,
    "kv_append",
    argument,
    `must have four axes, ${axes}`,
    describe(spec),
  );
  requireArgument(
    spec.dtype === "f32" || spec.dtype === "f16",
    "kv_append",
    argument,
    "must be f32 or f16",
    describe(spec),
  );
}

function planAppend(
  file: string,
  text: string,
  lanes: number,
  { keyCache, keys }: Inputs<TensorSpec, KvAppendInput, never>,
  { position }: KvAppendAttributes,
  device: DeviceProfile,
): Plan {
  const { heads, capacity, columns } = sizesOf(keyCache);
  const count = elementCount(keys.shape) / lanes;
  // Without tokens nothing is written, though the caches, which are the outputs, are not empty.
  if (count === 0) return { dispatches: [] };
  return {
    dispatches: [{
      kernel: { file, text },
      constants: { WORKGROUP_SIZE, G: heads, D: columns },
      params: { count, tokens: tokensOf(keys), capacity, position },
      workgroups: linearGrid(Math.ceil(count / WORKGROUP_SIZE), device),
    }],
  };
}
