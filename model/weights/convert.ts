/**
 * Conversion between the float dtypes that weights are stored in, as fast as the host allows.
 *
 * @module
 */

import { HostTensor, toBfloat16 } from "../../runtime/tensor.ts";
import type { WeightDtype } from "./weight_source.ts";

/** f16's bit patterns widened to f32: a look-up is several times as fast as V8's conversion. */
let halfToSingle: Float32Array<ArrayBuffer> | undefined;

/**
 * The same elements as another dtype: widening is exact, narrowing rounds to nearest with ties to even. A
 * tensor that has the dtype already is returned as it is.
 */
export function convertTo(tensor: HostTensor, dtype: WeightDtype): HostTensor {
  if (tensor.dtype === dtype) return tensor;
  const singles = widen(tensor);
  if (dtype === "f32") return new HostTensor(tensor.shape, singles, "f32");
  if (dtype === "f16") return new HostTensor(tensor.shape, new Float16Array(singles), "f16");
  const bits = new Uint16Array(singles.length);
  for (let i = 0; i < bits.length; i++) bits[i] = toBfloat16(singles[i]!);
  return new HostTensor(tensor.shape, bits, "bf16");
}

function widen(tensor: HostTensor): Float32Array<ArrayBuffer> {
  const { values } = tensor;
  if (values instanceof Float32Array) return values;
  const bits = new Uint16Array(values.buffer, values.byteOffset, values.length);
  const words = new Uint32Array(bits.length);
  if (tensor.dtype === "bf16") {
    for (let i = 0; i < bits.length; i++) words[i] = bits[i]! << 16;
    return new Float32Array(words.buffer);
  }
  halfToSingle ??= Float32Array.from(
    new Float16Array(Uint16Array.from(Array(65_536).keys()).buffer),
  );
  const table = new Uint32Array(halfToSingle.buffer);
  for (let i = 0; i < bits.length; i++) words[i] = table[bits[i]!]!;
  return new Float32Array(words.buffer);
}

/**
 * Index of the first element that is NaN or infinite, else −1. It looks at bits, two 16-bit elements at a
 * time, since every byte of a checkpoint passes through here.
 */
export function firstNonFinite({ values, dtype }: HostTensor): number {
  if (dtype === "f32") {
    const words = new Uint32Array(values.buffer, values.byteOffset, values.length);
    for (let i = 0; i < words.length; i++) if ((words[i]! & 0x7f800000) === 0x7f800000) return i;
    return -1;
  }
  const exponent = dtype === "bf16" ? 0x7f80 : 0x7c00;
  const high = exponent * 0x10000;
  const halves = new Uint16Array(values.buffer, values.byteOffset, values.length);
  const first = values.byteOffset % 4 === 0 ? 0 : Math.min(1, halves.length);
  const words = new Uint32Array(
    values.buffer,
    values.byteOffset + 2 * first,
    (halves.length - first) >>> 1,
  );
  const isHit = (i: number) => (halves[i]! & exponent) === exponent;
  if (first === 1 && isHit(0)) return 0;
  for (let i = 0; i < words.length; i++) {
    const word = words[i]!;
    if ((word & exponent) === exponent || (word & high) === high) {
      const at = first + 2 * i;
      return isHit(at) ? at : at + 1;
    }
  }
  const last = halves.length - 1;
  return last >= 0 && isHit(last) ? last : -1;
}
