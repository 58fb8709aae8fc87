/**
 * The embedded model's GGUF. A file of its own, so that only who wants the bytes loads them. It is kept as text (RFC 4648, base64)
 * beside the file itself, since importing text needs neither a permission nor an unstable feature, wherever the import is from.
 */
import base64 from "./tiny/tiny.gguf.base64" with { type: "text" };

/** The bytes of `models/tiny/tiny.gguf`. */
export const tiny: Uint8Array<ArrayBuffer> = Uint8Array.fromBase64(base64);
