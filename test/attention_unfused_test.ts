/** Attention in two steps, `attention_weights` and `attention_values`, against the fused op. */

import { assert, assertEquals } from "@std/assert";
import {
  attentionValues,
  attentionWeights,
  compare,
  flashAttention,
  HostTensor,
  KernelArgumentError,
  Random,
  type Shape,
  type TensorSpec,
} from "../mod.ts";
import { runReference } from "../runtime/cpu_backend.ts";
import { SEED, sharedBackend } from "./device.ts";

interface Call {
  readonly name: string;
  readonly batch: number;
  readonly tokens: number;
  readonly keys: number;
  readonly spare?: number;
  readonly heads: number;
  readonly keyHeads: number;
  readonly size: number;
  readonly causal?: boolean;
  readonly scale?: number;
  readonly isReal?: (batch: number, j: number) => boolean;
}

const CALLS: readonly Call[] = [
  { name: "a prompt", batch: 2, tokens: 33, keys: 33, heads: 4, keyHeads: 4, size: 80 },
  {
    name: "8 heads on 2, left padding",
    batch: 3,
    tokens: 19,
    keys: 19,
    spare: 5,
    heads: 8,
    keyHeads: 2,
    size: 64,
    isReal: (b, j) => j >= 6 * b,
  },
  {
    name: "8 heads on 2, right padding",
    batch: 3,
    tokens: 19,
    keys: 19,
    heads: 8,
    keyHeads: 2,
    size: 80,
    isReal: (b, j) => j < 19 - 6 * b,
  },
  {
    name: "a decode step, left padding",
    batch: 2,
    tokens: 1,
    keys: 140,
    spare: 20,
    heads: 8,
    keyHeads: 2,
    size: 160,
    isReal: (b, j) => j >= 50 * b,
  },
  {
    name: "a chunk of 5 after 40, heads of 24",
    batch: 1,
    tokens: 5,
    keys: 45,
    spare: 3,
    heads: 6,
    keyHeads: 3,
    size: 24,
  },
  { name: "heads of 33", batch: 1, tokens: 7, keys: 9, heads: 3, keyHeads: 1, size: 33 },
  {
    name: "not causal, a scale of its own",
    batch: 2,
    tokens: 11,
    keys: 30,
    heads: 4,
    keyHeads: 2,
    size: 64,
    causal: false,
    scale: 0.2,
  },
  {
    name: "a sequence that is all padding",
    batch: 2,
    tokens: 6,
    keys: 8,
    heads: 2,
    keyHeads: 2,
    size: 16,
    isReal: (b) => b === 0,
  },
];

/** Draws a call. Hidden keys and values are `junk`, and so are the slots behind the last key. */
function draw({ name, batch, tokens, keys, spare = 0, isReal, ...call }: Call, junk: number) {
  const random = new Random(SEED, name);
  const normal = (shape: Shape) => {
    const count = shape.reduce((product, n) => product * n);
    return { shape, numbers: Array.from({ length: count }, () => random.normal()) };
  };
  const isHidden = (i: number) => {
    const slot = Math.floor(i / call.size) % (keys + spare);
    const sequence = Math.floor(i / call.size / (keys + spare) / call.keyHeads);
    return slot >= keys || isReal?.(sequence, slot) === false;
  };
  const cache = () => {
    const { shape, numbers } = normal([batch, call.keyHeads, keys + spare, call.size]);
    return HostTensor.from(shape, numbers.map((x, i) => isHidden(i) ? junk : x));
  };
  const q = normal([batch, tokens, call.heads, call.size]);
  const words = Array.from(
    { length: batch * keys },
    (_, i) => isReal?.(Math.floor(i / keys), i % keys) ? 1 : 0,
  );
  return {
    q: HostTensor.from(q.shape, q.numbers),
    k: cache(),
    v: cache(),
    mask: isReal && HostTensor.from([batch, keys], words, "u32"),
  };
}

function attributesOf({ keys, causal = true, scale }: Call) {
  return { keyLength: keys, causal, ...(scale === undefined ? {} : { scale }) };
}

/** Both steps and the fused op on the GPU. */
async function runBoth(call: Call, junk: number) {
  const backend = await sharedBackend();
  const attributes = attributesOf(call);
  const inputs = draw(call, junk);
  using q = backend.upload(inputs.q);
  using k = backend.upload(inputs.k);
  using v = backend.upload(inputs.v);
  using mask = inputs.mask && backend.upload(inputs.mask);
  using weights = backend.run(attentionWeights, { q, k, mask }, attributes).weights;
  using y = backend.run(attentionValues, { weights, v }, { keyLength: call.keys }).y;
  using fused = backend.run(flashAttention, { q, k, v, mask }, attributes).y;
  return {
    inputs,
    weights: await backend.read(weights),
    y: await backend.read(y),
    fused: await backend.read(fused),
  };
}

for (const call of CALLS) {
  Deno.test(`attention in two steps is fused attention: ${call.name}`, async () => {
    const { inputs, weights, y, fused } = await runBoth(call, 0);
    const attributes = attributesOf(call);
    const output = flashAttention.infer(inputs, attributes).y!;
    const reference = runReference(flashAttention, inputs, attributes, { y: output }).y!;
    const tolerance = flashAttention.tolerance(inputs, attributes, "normal");
    for (const [steps, result] of [["two", y], ["one", fused]] as const) {
      const outcome = compare(result, reference, tolerance);
      assert(outcome.passed, `in ${steps}, seed ${SEED}: ${JSON.stringify(outcome)}`);
    }

    const { batch, tokens, heads, keys, isReal = () => true, causal = true } = call;
    assertEquals(weights.shape, [batch, heads, tokens, keys]);
    for (let row = 0; row < batch * heads * tokens; row++) {
      const sequence = Math.floor(row / heads / tokens);
      const position = keys - tokens + row % tokens;
      let sum = 0, seesAny = false;
      for (let j = 0; j < keys; j++) {
        const weight = weights.numbers[row * keys + j]!;
        const isSeen = isReal(sequence, j) && (!causal || j <= position);
        seesAny ||= isSeen;
        assert(isSeen ? weight >= 0 : Object.is(weight, 0), `row ${row}, key ${j}: ${weight}`);
        sum += weight;
      }
      const wanted = seesAny ? 1 : 0;
      assert(Math.abs(sum - wanted) <= 1e-5 * wanted, `row ${row} sums to ${sum}, seed ${SEED}`);
    }
  });
}

Deno.test("what the mask hides never shows, not even NaN", async () => {
  for (const call of CALLS.filter(({ isReal, spare }) => isReal || spare)) {
    const clean = await runBoth(call, 0), dirty = await runBoth(call, NaN);
    assertEquals(dirty.weights.bytes, clean.weights.bytes, call.name);
    assertEquals(dirty.y.bytes, clean.y.bytes, call.name);
  }
});

Deno.test("attention_weights refuses what flash_attention refuses, in the same words", () => {
  const q: TensorSpec = { shape: [2, 5, 8, 64], dtype: "f32" };
  const k: TensorSpec = { shape: [2, 2, 20, 64], dtype: "f32" };
  const legal = { keyLength: 9, causal: true };
  const words = (shape: Shape): TensorSpec => ({ shape, dtype: "u32" });
  type Wrong = readonly [
    operands: { readonly q?: TensorSpec; readonly k?: TensorSpec; readonly mask?: TensorSpec },
    attributes: { readonly keyLength: number; readonly causal: boolean; readonly scale?: number },
  ];
  const wrong: readonly Wrong[] = [
    [{ q: { ...q, dtype: "bf16" } }, legal],
    [{ q: { ...q, shape: [2, 5, 512] } }, legal],
    [{ q: { ...q, shape: [2, 5, 8, 257] }, k: { ...k, shape: [2, 2, 20, 257] } }, legal],
    [{ k: { ...k, shape: [1, 2, 20, 64] } }, legal],
    [{ k: { ...k, shape: [2, 3, 20, 64] } }, legal],
    [{ k: { ...k, shape: [2, 2, 20, 32] } }, legal],
    [{}, { ...legal, keyLength: 21 }],
    [{}, { ...legal, keyLength: 0 }],
    [{}, { ...legal, keyLength: 4 }],
    [{}, { ...legal, scale: Infinity }],
    [{ mask: words([2, 20]) }, legal],
    [{ mask: { shape: [2, 9], dtype: "i32" } }, legal],
  ];
  for (const [operands, attributes] of wrong) {
    const inputs = { q, k, ...operands };
    const faults = [
      () => attentionWeights.infer(inputs, attributes),
      () => flashAttention.infer({ ...inputs, v: inputs.k }, attributes),
    ].map((infer) => {
      try {
        infer();
      } catch (error) {
        if (error instanceof KernelArgumentError) return { ...error.fault, op: "" };
        throw error;
      }
      throw new Error(`was taken: ${JSON.stringify({ operands, attributes })}`);
    });
    assertEquals(faults[0], faults[1]);
  }
});
