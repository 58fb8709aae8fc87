/**
 * The texts of a file as strings, without a loss. A byte that is no part of UTF-8 becomes a lone surrogate, U+DC80 to U+DCFF, which
 * no text has (Python's PEP 383, "surrogateescape"). So two texts are equal where their bytes are, a copy has the bytes of its
 * original, and where such a string is shown the byte is U+FFFD.
 */

const UTF8 = new TextDecoder("utf-8", { ignoreBOM: true }); // a byte order mark may be a token of its own

const ENCODER = new TextEncoder();

/** A text of a file. */
export function decodeFileText(bytes: Uint8Array): string {
  const text = UTF8.decode(bytes);
  if (!text.includes("\ufffd")) return text;
  let exact = "";
  let start = 0; // of the characters that are not in `exact` yet
  for (let at = 0; at < bytes.length;) {
    const length = characterLength(bytes, at);
    if (length === 0) {
      exact += UTF8.decode(bytes.subarray(start, at)) + String.fromCharCode(0xdc00 + bytes[at]);
      start = at + 1;
    }
    at += Math.max(1, length);
  }
  return exact + UTF8.decode(bytes.subarray(start));
}

/** The bytes of a text of a file: what {@linkcode decodeFileText} was given. */
export function encodeFileText(text: string): Uint8Array {
  if (text.isWellFormed()) return ENCODER.encode(text);
  const bytes: number[] = [];
  for (const character of text) {
    const code = character.charCodeAt(0);
    if (code >= 0xdc80 && code <= 0xdcff) bytes.push(code - 0xdc00);
    else bytes.push(...ENCODER.encode(character));
  }
  return Uint8Array.from(bytes);
}

/** How many bytes the character at a place has; 0 where there is none (Unicode 16.0, table 3-7). */
function characterLength(bytes: Uint8Array, at: number): number {
  const first = bytes[at];
  if (first < 0x80) return 1;
  const length = first < 0xc2 ? 0 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : first < 0xf5 ? 4 : 0;
  if (at + length > bytes.length) return 0;
  const lowest = first === 0xe0 ? 0xa0 : first === 0xf0 ? 0x90 : 0x80;
  const highest = first === 0xed ? 0x9f : first === 0xf4 ? 0x8f : 0xbf;
  for (let i = 1; i < length; i++) {
    const byte = bytes[at + i];
    if (byte < (i === 1 ? lowest : 0x80) || byte > (i === 1 ? highest : 0xbf)) return 0;
  }
  return length;
}
