import { fileURLToPath } from "node:url";
import { gunzipSync } from "node:zlib";
import { openGgufFile } from "../../../engine/gguf/reader.ts";
import type { Metadata } from "../../../text/mod.ts";
import { Random } from "../../../checkpoints/files/random.ts";

const FOLDER = new URL("../../fixtures/vocab/", import.meta.url);

/** `tokenizer.ggml.token_type` */
const NORMAL = 1, CONTROL = 3;

/** Llama 2's SentencePiece vocabulary: a GGUF file that has nothing else. */
export function llamaSpm(): Promise<Metadata> {
  return ggufMetadata(fileURLToPath(new URL("ggml-vocab-llama-spm.gguf", FOLDER)));
}

/** What fixtures/vocab/smollm2.json.gz holds. */
export interface CompactVocabulary {
  readonly provenance: string;
  /** All but the lists. */
  readonly metadata: Readonly<Record<string, unknown>>;
  /** The tokens before those that merges make, in order; each merge makes the next token. */
  readonly tokens: readonly string[];
  readonly merges: readonly string[];
  /** The ids of the control tokens; the others are normal. */
  readonly control: readonly number[];
}

/** SmolLM2's byte-level BPE vocabulary. */
export async function smolLm2(): Promise<Metadata> {
  const packed = await Deno.readFile(new URL("smollm2.json.gz", FOLDER));
  const compact: CompactVocabulary = JSON.parse(new TextDecoder().decode(gunzipSync(packed)));
  const tokens = [...compact.tokens, ...compact.merges.map((merge) => merge.replace(" ", ""))];
  const types = new Int32Array(tokens.length).fill(NORMAL);
  for (const id of compact.control) types[id] = CONTROL;
  return new Map<string, unknown>([
    ...Object.entries(compact.metadata),
    ["tokenizer.ggml.tokens", tokens],
    ["tokenizer.ggml.token_type", types],
    ["tokenizer.ggml.merges", compact.merges],
  ]);
}

/**
 * A byte-level BPE vocabulary that shows where a pre-tokenizer cuts: nearly any two neighbouring
 * bytes merge, in a random order, so that a cut in another place gives other tokens. Some words are
 * tokens that no merge makes.
 */
export function pairVocabulary(pre: string): Metadata {
  const random = new Random(20240515);
  const bytes = byteCharacters();
  const ascii = [9, 10, 13, ...Array.from({ length: 95 }, (_, index) => 32 + index)];
  const pairs = new Set<string>();
  for (const a of ascii) for (const b of ascii) pairs.add(`${bytes[a]} ${bytes[b]}`);
  while (pairs.size < 20_000) {
    pairs.add(`${bytes[random.integer(0, 256)]} ${bytes[random.integer(128, 256)]}`);
  }
  const merges = [...pairs].map((pair) => ({ pair, order: random.bits() }))
    .sort((a, b) => a.order - b.order)
    .map(({ pair }) => pair);
  const words = ["Hello", "Ġthe", "the", "123", "ĊĊĊ", "ĠĠĠĠĠĠĠĠ", "'ll", "..."];
  const control = ["<s>", "</s>", "<|endoftext|>"];
  const tokens = [...control, ...bytes, ...merges.map((merge) => merge.replace(" ", "")), ...words];
  return new Map<string, unknown>([
    ["general.architecture", "llama"],
    ["tokenizer.ggml.model", "gpt2"],
    ["tokenizer.ggml.pre", pre],
    ["tokenizer.ggml.tokens", tokens],
    [
      "tokenizer.ggml.token_type",
      Int32Array.from(tokens, (_, id) => id < control.length ? CONTROL : NORMAL),
    ],
    ["tokenizer.ggml.merges", merges],
    ["tokenizer.ggml.bos_token_id", 0],
    ["tokenizer.ggml.eos_token_id", 1],
  ]);
}

/** GPT-2's characters for the bytes, written apart from those of text/. */
function byteCharacters(): string[] {
  const own = (byte: number) => byte > 32 && byte < 127 || byte > 160 && byte !== 173;
  let others = 0;
  return Array.from(
    { length: 256 },
    (_, byte) => String.fromCodePoint(own(byte) ? byte : 256 + others++),
  );
}

/** The metadata of a GGUF file on disk. */
export async function ggufMetadata(path: string): Promise<Metadata> {
  const file = await openGgufFile(path);
  file.close();
  return file.metadata;
}
