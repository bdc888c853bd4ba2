/**
 * The tensors of a StableLM's GGUF file under the names that Hugging Face gives them.
 *
 * @module
 */

import { ModelFormatError, ModelUnsupportedError } from "../../../runtime/errors.ts";
import { quoteName } from "../../../runtime/json_text.ts";
import { elementCount, sameShape, type Shape } from "../../../runtime/tensor.ts";
import type { GgufHeader, GgufTensor } from "./header.ts";

/** A tensor under its Hugging Face name: a stored one, or consecutive elements of it. */
export interface TensorSlice {
  /** The stored tensor. */
  readonly stored: GgufTensor;
  /** The first of its elements; with blocks, one that starts a block. */
  readonly firstElement: number;
  /** Sizes, outermost first. */
  readonly shape: Shape;
}

/** Sizes that stacked tensors are taken apart by. */
export interface HeadSizes {
  /** Width of the residual stream. */
  readonly hidden_size: number;
  /** Query heads. */
  readonly num_attention_heads: number;
  /** Key and value heads. */
  readonly num_key_value_heads: number;
}

/** Names outside the layers. */
const WHOLE: ReadonlyMap<string, string> = new Map([
  ["token_embd.weight", "model.embed_tokens.weight"],
  ["output_norm.weight", "model.norm.weight"],
  ["output_norm.bias", "model.norm.bias"],
  ["output.weight", "lm_head.weight"],
]);

/** Names behind `blk.N.`, and behind `model.layers.N.`. */
const PARTS: ReadonlyMap<string, string> = new Map([
  ["attn_norm.weight", "input_layernorm.weight"],
  ["attn_norm.bias", "input_layernorm.bias"],
  ["attn_q.weight", "self_attn.q_proj.weight"],
  ["attn_q.bias", "self_attn.q_proj.bias"],
  ["attn_k.weight", "self_attn.k_proj.weight"],
  ["attn_k.bias", "self_attn.k_proj.bias"],
  ["attn_v.weight", "self_attn.v_proj.weight"],
  ["attn_v.bias", "self_attn.v_proj.bias"],
  ["attn_output.weight", "self_attn.o_proj.weight"],
  ["ffn_norm.weight", "post_attention_layernorm.weight"],
  ["ffn_norm.bias", "post_attention_layernorm.bias"],
  ["ffn_gate.weight", "mlp.gate_proj.weight"],
  ["ffn_up.weight", "mlp.up_proj.weight"],
  ["ffn_down.weight", "mlp.down_proj.weight"],
]);

/** Tensors above this are refused, once those of all heads are taken apart; the 12B has 1,964. */
const MOST_SLICES = 65_536;

const LAYER_NAME = /^blk\.(0|[1-9]\d{0,8})\.(.+)$/;

/**
 * Which tensors a layer has.
 *
 * @returns how many layers there are, counted from 0 without a gap, and the names behind `blk.N.`, which
 * are the same for all
 * @throws {ModelFormatError} If a layer is left out, or two layers differ
 */
export function partsOfLayers(
  { file, tensors }: GgufHeader,
): { readonly layers: number; readonly names: ReadonlySet<string> } {
  const layers = new Map<number, Set<string>>();
  for (const tensor of tensors.keys()) {
    const [, layer, part] = LAYER_NAME.exec(tensor) ?? [];
    if (layer === undefined || part === undefined) continue;
    const parts = layers.get(Number(layer)) ?? new Set();
    layers.set(Number(layer), parts.add(part));
  }
  const first = layers.get(0) ?? new Set();
  for (let layer = 0; layer < layers.size; layer++) {
    const parts = layers.get(layer) ?? new Set();
    const [odd] = parts.symmetricDifference(first);
    if (odd === undefined) continue;
    throw new ModelFormatError({
      file,
      place: placeOf(`blk.${layer}.${odd}`),
      reason: "layers-differ",
      rule: "layers must be numbered from 0 and have the same tensors",
      value: parts.has(odd) ? "layer 0 has no such tensor" : "it is missing",
    });
  }
  return { layers: layers.size, names: first };
}

/**
 * Names every tensor of a header as Hugging Face does. Rows of the stacked norms and of a fused
 * projection become tensors of their own. Nothing is permuted: StableLM's rotary layout is the same on
 * both sides.
 *
 * @throws {ModelFormatError} If a stacked tensor's sizes do not fit the heads
 * @throws {ModelUnsupportedError} If there is a tensor that StableLM does not have, or a quantised vector
 */
export function slicesOf(
  { file, tensors }: GgufHeader,
  sizes: HeadSizes,
): Map<string, TensorSlice> {
  const slices = new Map<string, TensorSlice>();
  for (const stored of tensors.values()) {
    const refuse = (reason: string, rule: string, value: string): never => {
      throw new ModelUnsupportedError({ file, place: placeOf(stored.name), reason, rule, value });
    };
    // Rows of a matrix are whole blocks; a vector may be cut anywhere.
    if (stored.shape.length < 2 && stored.type.dequantize !== undefined) {
      refuse("tensor-type", "a vector must be F32, F16 or BF16", stored.type.name);
    }
    const before = slices.size;
    for (const [name, slice] of named(file, stored, sizes)) {
      if (slices.size === MOST_SLICES) {
        refuse("tensor-count", `a model may have ${MOST_SLICES} tensors`, "it has more");
      }
      const other = slices.get(name)?.stored.name;
      if (other !== undefined) refuse("tensor-twice", `must not hold ${name}`, `${other} holds it`);
      slices.set(name, slice);
    }
    if (slices.size === before) {
      refuse("tensor-unknown", "there may be no tensor but StableLM's", "it is none of those");
    }
  }
  return slices;
}

/** What Hugging Face calls a stored tensor: nothing if it knows no such tensor. */
function* named(
  file: string,
  stored: GgufTensor,
  sizes: HeadSizes,
): Generator<readonly [string, TensorSlice]> {
  const all = { stored, firstElement: 0, shape: stored.shape };
  const whole = WHOLE.get(stored.name);
  if (whole !== undefined) yield [whole, all];
  const [, layer, part] = LAYER_NAME.exec(stored.name) ?? [];
  if (layer === undefined || part === undefined) return;
  const prefix = `model.layers.${layer}`;
  const renamed = PARTS.get(part);
  if (renamed !== undefined) yield [`${prefix}.${renamed}`, all];
  const { hidden_size, num_attention_heads: heads, num_key_value_heads: keyValueHeads } = sizes;
  const headDim = hidden_size / heads;
  const attention = `${prefix}.self_attn`;
  if (part === "attn_q_norm.weight" || part === "attn_k_norm.weight") {
    const isQuery = part === "attn_q_norm.weight";
    const count = isQuery ? heads : keyValueHeads;
    // ggml forgets outer axes of size 1.
    const rows = stored.shape.length === 1 ? [1, ...stored.shape] : stored.shape;
    requireShape(file, stored, rows, [count, headDim]);
    const name = `${attention}.${isQuery ? "q" : "k"}_layernorm.norms`;
    for (let head = 0; head < count; head++) {
      const slice = { stored, firstElement: head * headDim, shape: [headDim] };
      yield [`${name}.${head}.weight`, slice];
    }
  }
  if (part === "attn_qkv.weight" || part === "attn_qkv.bias") {
    const rest = part === "attn_qkv.weight" ? [hidden_size] : [];
    const keyValueRows = keyValueHeads * headDim;
    requireShape(file, stored, stored.shape, [hidden_size + 2 * keyValueRows, ...rest]);
    let row = 0;
    const projections = [["q", hidden_size], ["k", keyValueRows], ["v", keyValueRows]] as const;
    for (const [letter, rows] of projections) {
      const firstElement = row * elementCount(rest);
      const name = `${attention}.${letter}_proj.${part === "attn_qkv.bias" ? "bias" : "weight"}`;
      yield [name, { stored, firstElement, shape: [rows, ...rest] }];
      row += rows;
    }
  }
}

function requireShape(file: string, stored: GgufTensor, shape: Shape, wanted: Shape): void {
  if (sameShape(shape, wanted)) return;
  throw new ModelFormatError({
    file,
    place: placeOf(stored.name),
    reason: "tensor-shape",
    rule: `the heads ask for shape [${wanted.join(", ")}]`,
    value: `[${stored.shape.join(", ")}]`,
  });
}

function placeOf(name: string): string {
  return `tensor ${quoteName(name)}`;
}
