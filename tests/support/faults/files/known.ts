/** Faults of files that the report has known by name for long. */
import { type Bench, type BrokenFile, type Faults, seen } from "../fault.ts";
import {
  all,
  blockChanged,
  copied,
  exchanged,
  type FileFault,
  inHalves,
  listChanged,
  mapped,
  metadata,
  reordered,
  transposed,
  without,
} from "../../models/broken_files.ts";

/** Heads of a tensor in another order. */
function heads(name: string, width: number, order: (head: number) => number): FileFault {
  return reordered(name, (row) => order(Math.floor(row / width)) * width + row % width);
}

/** One block or run of numbers with its signs and order turned round. */
function damaged(name: string, { draw }: Bench, rows: number): FileFault {
  // As many blocks as rows, at least.
  return blockChanged(name, draw.integer(0, rows), (bytes) => {
    for (let i = 4; i < bytes.length; i++) bytes[i] ^= i % 2 === 1 ? 0xa5 : 0x3f;
  });
}

const TOKENS = "tokenizer.ggml.tokens";
const SCORES = "tokenizer.ggml.scores";
const TYPES = "tokenizer.ggml.token_type";

function exchangedEntries<T>(list: readonly T[], i: number, j: number): T[] {
  return list.with(i, list[j]).with(j, list[i]);
}

/** The file with one layer less, whole in itself. */
const lastBlockLost = ({ shape: { layers } }: Bench): FileFault => (file) => ({
  metadata: new Map([["llama.block_count", layers - 1]]),
  tensors: new Map(
    [...file.tensors.keys()].filter((name) => name.startsWith(`blk.${layers - 1}.`))
      .map((name) => [name, undefined]),
  ),
});

export const KNOWN_FILES: Faults<BrokenFile> = {
  "rows of Q as Hugging Face has them": {
    make: ({ layer, shape }) =>
      inHalves(`blk.${layer}.attn_q.weight`, shape.headWidth, shape.rope.width),
    ...seen("2", "q", "qk-permuted"),
  },
  "rows of K as Hugging Face has them": {
    make: ({ layer, shape }) =>
      inHalves(`blk.${layer}.attn_k.weight`, shape.headWidth, shape.rope.width),
    ...seen("2", "k", "qk-permuted"),
  },
  "gate and up exchanged": {
    make: ({ layer }) => exchanged(`blk.${layer}.ffn_gate.weight`, `blk.${layer}.ffn_up.weight`),
    ...seen("6", "ffn_gate", "gate-up-swapped"),
  },
  "a square matrix transposed": {
    make: ({ layer }) => transposed(`blk.${layer}.attn_q.weight`),
    ...seen("2", "q", "transposed"),
  },
  "an oblong matrix transposed": {
    make: ({ layer }) => transposed(`blk.${layer}.ffn_down.weight`),
    ...seen("6", "ffn_out", "transposed"),
  },
  "norm weights one smaller": {
    make: ({ layer }) => mapped(`blk.${layer}.attn_norm.weight`, (w) => w.map((x) => x - 1)),
    ...seen("1", "attn_norm", "norm-offset"),
  },
  "norm weights one larger": {
    on: ["random"],
    make: ({ layer }) => mapped(`blk.${layer}.ffn_norm.weight`, (w) => w.map((x) => x + 1)),
    ...seen("1", "ffn_norm", "norm-offset"),
  },
  "another RoPE base": {
    where: "first",
    make: () => metadata("llama.rope.freq_base", 1e6),
    ...seen("1B", "q_rope", "rope-base"),
    detail: /^10000 instead of 1000000$/,
  },
  "positions squeezed": {
    where: "first",
    make: () =>
      all(
        metadata("llama.rope.scaling.type", "linear"),
        metadata("llama.rope.scaling.factor", 4),
      ),
    ...seen("1B", "q_rope", "rope-scaling"),
    detail: /^positions divided by 1 instead of 4$/,
  },
  "frequency factors lost": {
    on: ["random"],
    where: "first",
    make: () => without("rope_freqs.weight"),
    ...seen("1B", "q_rope", "rope-scaling"),
  },
  "another epsilon": {
    where: "first",
    make: () => metadata("llama.attention.layer_norm_rms_epsilon", 1e-3),
    ...seen("1", "attn_norm_rms", "epsilon"),
    detail: /^0\.00001 instead of 0\.001$/,
  },
  "heads of K and V in another order": {
    make: ({ layer, shape: { kvHeads, headWidth } }) =>
      all(
        ...["attn_k", "attn_v"].map((name) =>
          heads(`blk.${layer}.${name}.weight`, headWidth, (head) => kvHeads - 1 - head)
        ),
      ),
    ...seen("2", "k", "head-grouping", "reordered"),
  },
  "query heads laid out for h mod Hkv": {
    make: ({ layer, shape: { heads: count, kvHeads, headWidth } }) =>
      heads(
        `blk.${layer}.attn_q.weight`,
        headWidth,
        (head) => (head % kvHeads) * (count / kvHeads) + Math.floor(head / kvHeads),
      ),
    ...seen("2", "q", "head-grouping", "reordered"),
  },
  "the output matrix lost": {
    where: "outside",
    make: () => without("output.weight"),
    ...seen("8", "logits", "output-tied", "other-tensor"),
  },
  "the embedding copied to the output matrix": {
    where: "outside",
    make: () => copied("token_embd.weight", "output.weight"),
    ...seen("8", "logits", "output-tied", "other-tensor"),
  },
  "biases lost": {
    on: ["random"],
    where: "first",
    make: ({ shape: { layers } }) =>
      without(...Array.from({ length: layers }, (_, layer) => `blk.${layer}.attn_v.bias`)),
    ...seen("2", "v", "bias-missing"),
  },
  "a bias of zeros": {
    on: ["random"],
    make: ({ layer }) => mapped(`blk.${layer}.attn_k.bias`, (b) => b.map(() => 0)),
    ...seen("2", "k", "bias-missing", "zeros"),
  },
  "no BOS": {
    where: "outside",
    make: () => metadata("tokenizer.ggml.add_bos_token", false),
    ...seen("0", "token ids", "bos-missing"),
  },
  "no space in front": {
    where: "outside",
    make: () => metadata("tokenizer.ggml.add_space_prefix", false),
    ...seen("0", "token ids", "space-prefix"),
  },
  "a token that is exchanged with another": {
    where: "outside",
    make: () => listChanged<string>(TOKENS, (tokens) => exchangedEntries(tokens, 300, 340)),
    ...seen("0", "token ids", "tokenizer"),
    detail: /^tokenizer\.ggml\.tokens has another order at 2 of \d+ places, first at 300: /,
  },
  "scores of two tokens exchanged": {
    on: ["tiny"],
    where: "outside",
    make: () => listChanged<number>(SCORES, (scores) => exchangedEntries(scores, 262, 900)),
    ...seen("0", "token ids", "tokenizer"),
    detail: /^tokenizer\.ggml\.scores has other entries at 2 of \d+ places, first at 262: /,
  },
  "a token's type lost": {
    where: "outside",
    make: () => listChanged<number>(TYPES, (types) => types.with(1, 1)),
    ...seen("0", "token ids", "tokenizer"),
    detail:
      /^tokenizer\.ggml\.token_type has other entries at 1 of \d+ places, first at 1: 1 here, 3 there/,
  },
  "another token as BOS": {
    where: "outside",
    make: () => metadata("tokenizer.ggml.bos_token_id", 2),
    ...seen("0", "token ids", "tokenizer"),
    detail: /^tokenizer\.ggml\.bos_token_id is 2 here, 1 there; /,
  },
  "the last block lost": {
    where: "outside",
    make: lastBlockLost,
    ...seen("0", "tensors", "absent"),
    detail: /^blk\.(\d) is missing here: \1 layers here, \d there$/,
  },
  "a damaged block": {
    make: (bench) => damaged(`blk.${bench.layer}.ffn_up.weight`, bench, bench.shape.ffnWidth),
    ...seen("6", "ffn_up", "dequant-block"),
    detail: /ffn_up\.weight: row \d+, columns \d+ to \d+/,
  },
  "a damaged row of the embedding": {
    where: "outside",
    make: (bench) =>
      blockChanged(
        "token_embd.weight",
        // The first block of the row of a token in the prompt.
        bench.model.ids[7] * bench.shape.width / 32,
        (bytes) => bytes.subarray(4, 20).fill(0x11),
      ),
    ...seen("0", "token_embd", "dequant-block"),
    detail: /token_embd\.weight: row \d+, columns \d+ to \d+/,
  },
  "a norm weight with a damaged run": {
    make: ({ layer }) =>
      blockChanged(`blk.${layer}.ffn_norm.weight`, 1, (bytes) => bytes.fill(0x3e)),
    ...seen("1", "ffn_norm", "dequant-block"),
    detail: /ffn_norm\.weight: \d+ numbers from 3\d to 6\d/,
  },
  "a block that is not a number": {
    make: ({ layer, draw }) =>
      blockChanged(`blk.${layer}.ffn_gate.weight`, draw.integer(0, 100), (bytes) => {
        [bytes[0], bytes[1]] = [0x00, 0x7e];
      }),
    ...seen("6", "ffn_gate", "nan"),
    detail: /ffn_gate\.weight, row \d+, column \d+/,
  },
};
