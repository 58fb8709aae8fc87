/**
 * The bytes of a text out of a file. The reader of GGUF files gives a byte that is no part of UTF-8 as a lone surrogate, U+DC80 to
 * U+DCFF (engine/gguf/file_text.ts; text/ knows no engine, so this way back is written twice).
 */
export function fileTextBytes(text: string): Uint8Array {
  const encoder = new TextEncoder();
  if (text.isWellFormed()) return encoder.encode(text);
  const bytes: number[] = [];
  for (const character of text) {
    const code = character.charCodeAt(0);
    if (code >= 0xdc80 && code <= 0xdcff) bytes.push(code - 0xdc00);
    else bytes.push(...encoder.encode(character));
  }
  return Uint8Array.from(bytes);
}
