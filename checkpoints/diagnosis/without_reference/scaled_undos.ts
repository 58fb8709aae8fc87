/** Factors that are in a weight and should not be, or the reverse, undone. */
import type { Config } from "../../../engine/model/config.ts";
import { dequantize } from "../../../engine/gguf/dequantize.ts";
import type { GgufFile, TensorInfo } from "../../../engine/gguf/reader.ts";
import { asF32 } from "../../files/altered_file.ts";
import type { Undo } from "./undo.ts";

/**
 * Matrices of a block, each with the one whose numbers are about as large: training gives both of a product the same size. Measured as
 * the ratio of root mean squares: 0.7 to 1.5 in every block of `tiny` and SmolLM2, but 0.6 for `tiny`'s ffn_down. Where only the product
 * of both counts, a factor of the one is that of the other.
 */
const PARTNERS: readonly (readonly [name: string, partner: string, isProduct?: boolean])[] = [
  ["attn_q", "attn_k", true],
  ["attn_output", "attn_v", true],
  ["ffn_gate", "ffn_up"],
  ["ffn_up", "ffn_gate"],
  ["ffn_down", "ffn_up"],
];
/** How far the ratio of their sizes may be from 1. */
const ALIKE = 1.8;
/** Powers of two that are tried. */
const POWERS = 4;
/** Numbers that a size is measured by: rows from the middle of a tensor. */
const SAMPLE = 2 ** 14;

/**
 * Undos of factors in one matrix of each of some blocks, where its size is not that of its partner: those that make it so, of the powers of
 * two and the roots of widths that models and engines multiply with.
 */
export function scaledUndos(
  file: GgufFile,
  { width, headWidth }: Config,
  layers: readonly number[],
): Undo[] {
  const sizes = new Map<string, Promise<number>>();
  const sizeOf = (tensor: TensorInfo) => {
    const size = sizes.get(tensor.name) ?? rootMeanSquare(file, tensor);
    sizes.set(tensor.name, size);
    return size;
  };
  const powers = Array.from({ length: POWERS }, (_, k): [string, number] => [`${2 << k}`, 2 << k]);
  const roots = [...new Set([headWidth, width])].map((
    n,
  ): [string, number] => [`√${n}`, Math.sqrt(n)]);
  // √64 is 8.
  const factors = [...powers, ...roots.filter(([, root]) => !powers.some(([, p]) => p === root))];
  return PARTNERS.flatMap(([name, partner, isProduct]) => {
    const of = (kind: string) =>
      layers.flatMap((layer) => file.tensors.get(`blk.${layer}.${kind}.weight`) ?? []);
    const [tensors, partners] = [of(name), of(partner)];
    if (tensors.length < layers.length || partners.length < layers.length) return [];
    /** How much larger than their partners they are: the median. */
    const ratio = async () => {
      const ratios: number[] = [];
      for (const [i, tensor] of tensors.entries()) {
        ratios.push(await sizeOf(tensor) / await sizeOf(partners[i]));
      }
      return ratios.toSorted((a, b) => a - b)[ratios.length >> 1];
    };
    return factors.flatMap(([what, factor]) =>
      [factor, 1 / factor].map((by): Undo => ({
        cause: "scaled",
        detail: `${name} ${by > 1 ? "times" : "divided by"} ${what}${
          isProduct ? `, or ${partner}: their product counts` : ""
        }`,
        alteration: scaled(file, tensors, by),
        isPlausible: async () => {
          const own = await ratio();
          return !areAlike(own) && areAlike(own * by);
        },
      }))
    );
  });
}

/** Undos of the factor √D, by which some models multiply what they read of the embedding. */
export function scaledEmbedding(file: GgufFile, { width }: Config): Undo[] {
  const embedding = file.tensors.get("token_embd.weight");
  if (!embedding) return [];
  return [Math.sqrt(width), 1 / Math.sqrt(width)].map((by) => ({
    cause: "scaled",
    detail: `token_embd ${by > 1 ? "times" : "divided by"} √${width}`,
    alteration: scaled(file, [embedding], by),
  }));
}

function scaled(file: GgufFile, tensors: readonly TensorInfo[], by: number): Undo["alteration"] {
  return {
    tensors: new Map(tensors.map((tensor) => [
      tensor.name,
      asF32(file, tensor, (data) => data.map((value) => value * by)),
    ])),
  };
}

function areAlike(ratio: number): boolean {
  return ratio < ALIKE && ratio > 1 / ALIKE;
}

async function rootMeanSquare(file: GgufFile, tensor: TensorInfo): Promise<number> {
  const [columns] = tensor.shape;
  const { blockSize, blockBytes } = tensor.type;
  const rows = tensor.bytes / blockBytes * blockSize / columns;
  const rowBytes = tensor.bytes / rows;
  const count = Math.min(rows, Math.ceil(SAMPLE / columns));
  const first = (rows - count) >> 1;
  const data = dequantize(
    tensor.type,
    await file.readTensor(tensor, first * rowBytes, count * rowBytes),
  );
  return Math.sqrt(data.reduce((sum, value) => sum + value * value, 0) / data.length);
}
