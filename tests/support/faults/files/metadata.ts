/** Metadata that differs: tokenizers, and what is not there. */
import { type BrokenFile, type Faults, seen } from "../fault.ts";
import { all, copied, type FileFault, metadata, without } from "../../models/broken_files.ts";
import type { MetadataValue } from "../../../../engine/gguf/reader.ts";

const OUTSIDE = { where: "outside" } as const;
const IDS = { ...OUTSIDE, ...seen("0", "token ids", "tokenizer") };

/** A key of the tokenizer changed. */
function tokenizer(key: string, change: (value: MetadataValue) => MetadataValue): FileFault {
  return (file) => {
    const name = `tokenizer.ggml.${key}`;
    return { metadata: new Map([[name, change(file.metadata.get(name)!)]]) };
  };
}

/** A list of the tokenizer changed. */
function list(key: string, change: (values: unknown[]) => unknown[]): FileFault {
  return tokenizer(key, (value) => {
    const values = Array.from(value as Iterable<unknown>);
    const changed = change(values);
    return Array.isArray(value)
      ? changed as string[]
      : (value as Int32Array).map((_, i) => changed[i] as number);
  });
}

/** Two of a list exchanged. */
function swapped(values: unknown[], a: number, b: number): unknown[] {
  return values.with(a, values[b]).with(b, values[a]);
}

export const TOKENIZERS: Faults<BrokenFile> = {
  "two merges swapped": {
    on: ["bpe"],
    // " t", " a" and "i n", "h e" of most vocabularies.
    make: () => list("merges", (merges) => swapped(merges, 0, 40)),
    ...IDS,
    detail: /merge/,
  },
  "two neighbouring merges of the end swapped": {
    on: ["bpe"],
    make: () =>
      list("merges", (merges) => swapped(merges, merges.length - 9, merges.length - 2000)),
    ...IDS,
    detail: /merge/,
  },
  "a merge lost": {
    on: ["bpe"],
    make: () => list("merges", (merges) => merges.toSpliced(7, 1)),
    ...IDS,
    detail: /merge/,
  },
  "merges end early": {
    on: ["bpe"],
    make: () => list("merges", (merges) => merges.slice(0, -1000)),
    ...IDS,
    detail: /merge/,
  },
  "another pre-tokenizer": {
    on: ["bpe"],
    make: () => metadata("tokenizer.ggml.pre", "llama-bpe"),
    ...IDS,
    detail: /pre/,
  },
  "no pre-tokenizer": {
    on: ["bpe"],
    make: () => metadata("tokenizer.ggml.pre", "default"),
    ...IDS,
    detail: /pre/,
  },
  "special tokens are normal ones": {
    on: ["bpe"],
    make: () => list("token_type", (types) => types.map(() => 1)),
    ...IDS,
    detail: /type/,
  },
  "normal tokens are special ones": {
    on: ["tiny"],
    make: () =>
      list("token_type", (types) => types.map((type, id) => id >= 300 && id < 310 ? 3 : type)),
    ...IDS,
    detail: /type/,
  },
  "unused tokens": {
    on: ["tiny"],
    make: () =>
      list("token_type", (types) => types.map((type, id) => id >= 500 && type === 1 ? 5 : type)),
    ...IDS,
    detail: /type/,
  },
  "scores shifted by one": {
    on: ["tiny"],
    make: () => list("scores", (scores) => [scores[0], ...scores.slice(0, -1)]),
    ...IDS,
    detail: /score/,
  },
  "scores with the wrong sign": {
    on: ["tiny"],
    make: () => list("scores", (scores) => scores.map((score) => -(score as number))),
    ...IDS,
    detail: /score/,
  },
  "all scores are zero": {
    on: ["tiny"],
    make: () => list("scores", (scores) => scores.map(() => 0)),
    ...IDS,
    detail: /score/,
  },
  "another unknown token": {
    on: ["tiny"],
    make: () => metadata("tokenizer.ggml.unknown_token_id", 5),
    ...IDS,
    detail: /unknown/,
  },
  "another BOS": {
    on: ["tiny"],
    make: () => metadata("tokenizer.ggml.bos_token_id", 2),
    ...OUTSIDE,
    ...seen("0", "token ids", "tokenizer"),
    detail: /bos/,
  },
  "EOS is added": {
    on: ["tiny"],
    make: () => metadata("tokenizer.ggml.add_eos_token", true),
    ...IDS,
    detail: /eos/,
  },
  "byte tokens permuted": {
    on: ["tiny"],
    make: () =>
      list(
        "tokens",
        (tokens) =>
          tokens.map((token, id) => id >= 3 && id < 259 ? tokens[3 + (id - 3 ^ 1)] : token),
      ),
    ...IDS,
    detail: /token/,
  },
  "tokens one further from an added one on": {
    on: ["tiny"],
    make: () => list("tokens", (tokens) => ["<pad>", ...tokens.slice(0, -1)]),
    ...IDS,
    detail: /token/,
  },
  "spaces of tokens lost": {
    on: ["tiny"],
    make: () =>
      list("tokens", (tokens) => {
        const known = new Set(tokens);
        return tokens.map((token) => {
          const bare = (token as string).replaceAll("▁", " ");
          return known.has(bare) ? token : bare;
        });
      }),
    ...IDS,
    detail: /token/,
  },
};

export const ABSENT: Faults<BrokenFile> = {
  "the last block is not there": {
    make: ({ shape: { layers }, model }) =>
      all(
        metadata("llama.block_count", layers - 1),
        without(
          ...[...model.engine.weights.keys()].filter((name) =>
            name.startsWith(`blk.${layers - 1}.`)
          ),
        ),
      ),
    ...OUTSIDE,
    ...seen("absent", "blk.{last}", "absent"),
    detail: /block|layer/,
  },
  "a block too many": {
    make: ({ shape: { layers }, model }) =>
      all(
        metadata("llama.block_count", layers + 1),
        ...[...model.engine.weights.keys()]
          .filter((name) => name.startsWith(`blk.${layers - 1}.`))
          .map((name) => copied(name, name.replace(/\d+/, `${layers}`))),
      ),
    ...OUTSIDE,
    ...seen("absent", "blk.{last}", "absent"),
    detail: /block|layer/,
  },
};
