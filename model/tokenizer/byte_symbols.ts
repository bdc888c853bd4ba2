/**
 * The letters that byte-level tokenizers write bytes with: printable Latin-1 for itself, and for the other
 * bytes the code points from U+0100 on, in order.
 *
 * @module
 */

/** The letter of each byte. */
export const BYTE_SYMBOLS: readonly string[] = symbolsOfBytes();

const BYTES = new Map(BYTE_SYMBOLS.map((symbol, byte) => [symbol, byte]));

/**
 * The bytes that a token stands for. One with a letter that stands for no byte, as the space of an added token,
 * is its own UTF-8.
 */
export function bytesOfToken(token: string): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(token.length);
  let length = 0;
  for (const symbol of token) {
    const byte = BYTES.get(symbol);
    if (byte === undefined) return new TextEncoder().encode(token);
    bytes[length++] = byte;
  }
  return bytes;
}

function symbolsOfBytes(): string[] {
  let others = 0;
  return Array.from({ length: 256 }, (_, byte) => {
    const isPrintable = (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
    return String.fromCodePoint(isPrintable ? byte : 256 + others++);
  });
}
