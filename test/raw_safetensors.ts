/** Safetensors files put together by hand, as no writer would. */

/** A file with this header, as JSON, and these bytes behind it. */
export function raw(
  header: unknown,
  data: Uint8Array = new Uint8Array(0),
): Uint8Array<ArrayBuffer> {
  return withHeader(text(JSON.stringify(header)), data);
}

/** A file with the bytes of this header, and the length that goes with it unless another is given. */
export function withHeader(
  header: Uint8Array,
  data: Uint8Array = new Uint8Array(0),
  length = BigInt(header.length),
): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(8 + header.length + data.length);
  new DataView(bytes.buffer).setBigUint64(0, length, true);
  bytes.set(header, 8);
  bytes.set(data, 8 + header.length);
  return bytes;
}

/** UTF-8 of a text. */
export function text(value: string): Uint8Array<ArrayBuffer> {
  return new TextEncoder().encode(value);
}
