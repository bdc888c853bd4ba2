/**
 * Bytes of tokens as a person can read them.
 *
 * @module
 */

const ESCAPES: Readonly<Record<string, string>> = {
  "\\": "\\\\",
  '"': '\\"',
  "\n": "\\n",
  "\r": "\\r",
  "\t": "\\t",
};

/** What cannot be seen, or is drawn over its neighbour; a plain space can be seen between quotes. */
const INVISIBLE = /^[\p{C}\p{Z}\p{M}]$/u;

/**
 * Bytes as what stands between quotes: characters as they are, `\n` and its like, `\u{…}` for what cannot be seen, and `\x…` for a byte
 * that is no character, as the parts are of one that several tokens share.
 */
export function visibleBytes(bytes: Uint8Array): string {
  let text = "";
  for (let at = 0; at < bytes.length;) {
    const character = characterAt(bytes, at);
    text += character === undefined
      ? `\\x${bytes[at]!.toString(16).padStart(2, "0")}`
      : visible(character);
    at += character === undefined ? 1 : lengthOf(bytes[at]!);
  }
  return text;
}

function visible(character: string): string {
  const escape = ESCAPES[character];
  if (escape !== undefined) return escape;
  if (character === " " || !INVISIBLE.test(character)) return character;
  return `\\u{${character.codePointAt(0)!.toString(16)}}`;
}

/** The character that begins at a byte, if one does and is there to its end. */
function characterAt(bytes: Uint8Array, at: number): string | undefined {
  const part = bytes.slice(at, at + lengthOf(bytes[at]!));
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(part);
  } catch {
    return undefined;
  }
}

/** Bytes of a character, by its first one. */
function lengthOf(first: number): number {
  return first < 0xc0 ? 1 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;
}
