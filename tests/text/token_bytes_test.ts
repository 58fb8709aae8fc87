/** Texts of a file that are no UTF-8: what they are is their bytes, from the file to the tokenizer and into a copy. */
import assert from "node:assert/strict";
import { writeGguf } from "../../engine/gguf/writer.ts";
import { createTokenizer } from "../../text/mod.ts";
import { Folder } from "../support/folder.ts";
import { open } from "../support/models/gguf_samples.ts";
import { writeGguf as writeInMemory } from "../support/models/gguf_writer.ts";

/** Bytes that make no character, or none by themselves; U+FFFD itself, and neighbours that are whole. */
const TOKENS: readonly (readonly number[])[] = [
  [0x61, 0x80],
  [0x61, 0x81],
  [0xff],
  [0xfe],
  [0xe4, 0xb8], // a character's beginning
  [0xe4, 0xb8, 0xad], // the character
  [0xc0, 0xaf], // a slash, too long
  [0xed, 0xb2, 0x80], // a surrogate, which UTF-8 has not
  [0xf4, 0x90, 0x80, 0x80], // beyond the last character
  [0xf0, 0x9f, 0xa6, 0x99, 0x80], // a character and a byte
  [0xef, 0xbf, 0xbd],
  [0xef, 0xbf, 0xbd, 0x80],
  [0xef, 0xbb, 0xbf],
];

/** A SentencePiece vocabulary of these tokens after the usual three. */
function vocabulary(type: number): Uint8Array<ArrayBuffer> {
  const tokens = ["<unk>", "<s>", "</s>", ...TOKENS.map(({ length }) => "x".repeat(length))];
  const bytes = writeInMemory({
    metadata: {
      "tokenizer.ggml.model": "llama",
      "tokenizer.ggml.tokens": tokens,
      "tokenizer.ggml.scores": new Float32Array(tokens.length),
      "tokenizer.ggml.token_type": Int32Array.from(tokens, (_, id) => [2, 3, 3][id] ?? type),
      "tokenizer.ggml.bos_token_id": 1,
    },
  });
  let at = new TextDecoder("latin1").decode(bytes).indexOf("</s>") + "</s>".length;
  for (const token of TOKENS) {
    at += 8; // the length
    bytes.set(token, at);
    at += token.length;
  }
  return bytes;
}

for (const [name, type] of [["normal", 1], ["user defined", 4]] as const) {
  Deno.test(`tokens that are no UTF-8 are told apart and keep their bytes (${name})`, async () => {
    const { metadata } = await open(vocabulary(type));
    const tokenizer = createTokenizer(metadata);
    TOKENS.forEach((bytes, i) => {
      assert.deepEqual([...tokenizer.bytes(3 + i)], bytes);
      const text = new TextDecoder("utf-8", { ignoreBOM: true }).decode(Uint8Array.from(bytes));
      assert.equal(tokenizer.decode([1, 3 + i]), text, `${bytes}`);
    });
    assert.equal(tokenizer.piece(3), "a\\x80");
    // A text is well-formed, so none of them is in it but the whole characters.
    assert.deepEqual(tokenizer.encode("中\ufffd\ufeff", { bos: false }).slice(-3), [8, 13, 15]);
    assert.equal(tokenizer.id("中"), 8);
  });
}

Deno.test("a copy of a file has the same bytes where they are no UTF-8", async () => {
  using folder = new Folder();
  const original = vocabulary(1);
  const path = folder.at("copy.gguf");
  const { metadata, metadataTypes } = await open(original);
  await writeGguf(path, { metadata, metadataTypes, tensors: [] });
  const copy = await Deno.readFile(path);
  assert.deepEqual(copy.subarray(0, original.length), original);
  assert.ok(copy.subarray(original.length).every((byte) => byte === 0));
});
