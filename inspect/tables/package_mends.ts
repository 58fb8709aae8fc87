/** What the packages `apache-arrow` and `flatbuffers` leave to be mended. arrow.ts imports this file before `apache-arrow`. */
import { ByteBuffer, Encoding } from "npm:flatbuffers@25.9.23";

/**
 * `apache-arrow` reads all texts with one TextDecoder, made while it loads, which drops a U+FEFF at the beginning of a text.
 * Vocabularies have tokens that begin with one. A TextDecoder that is made before {@linkcode restoreTextDecoder} keeps it.
 */
const own = globalThis.TextDecoder;
globalThis.TextDecoder = class extends own {
  constructor(label?: string, options?: TextDecoderOptions) {
    super(label, { ignoreBOM: true, ...options });
  }
};

/** Makes TextDecoder the platform's own again. */
export function restoreTextDecoder(): void {
  globalThis.TextDecoder = own;
}

const UTF8 = new own("utf-8", { ignoreBOM: true });

/** `flatbuffers` has TextDecoders for names and metadata, made later. */
const stringBytes = ByteBuffer.prototype.__string;
ByteBuffer.prototype.__string = function (offset, encoding) {
  const bytes = stringBytes.call(this, offset, Encoding.UTF8_BYTES) as Uint8Array;
  return encoding === Encoding.UTF8_BYTES ? bytes : UTF8.decode(bytes);
};

/**
 * The packages believe every count in a file's headers, so that a damaged one keeps them busy for hours. They all come through
 * here: none can be larger than the header.
 */
const vectorLength = ByteBuffer.prototype.__vector_len;
ByteBuffer.prototype.__vector_len = function (offset) {
  const length = vectorLength.call(this, offset);
  if (length <= this.capacity()) return length;
  throw new RangeError(`a header of ${this.capacity()} bytes claims ${length} entries`);
};
