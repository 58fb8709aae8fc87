/**
 * The embedded model's GGUF. A file of its own, so that only who wants the bytes loads them; the
 * import needs no permission.
 */
export { default as tiny } from "./tiny/tiny.gguf" with { type: "bytes" };
