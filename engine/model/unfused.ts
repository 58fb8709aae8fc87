/** Tensors of some files hold several weights, one below the other: q, k and v, or gate and up. */
import { kindOf, layerOf } from "../../base/layer_names.ts";
import { sizeOf } from "../../base/shape.ts";
import type { GgufFile, TensorInfo } from "../gguf/reader.ts";
import type { Config } from "./config.ts";

/** The kinds of weights that a tensor of a kind holds, with their rows; undefined of most. */
export function partsOf(
  { fused, heads, kvHeads, headWidth, ffnWidth }: Config,
  kind: string,
): readonly (readonly [part: string, rows: number])[] | undefined {
  const [, stem, suffix] = kind.match(/^(\w+)\.(\w+)$/) ?? [];
  if (stem === "attn_qkv" && fused.qkv) {
    const [q, kv] = [heads * headWidth, kvHeads * headWidth];
    return [[`attn_q.${suffix}`, q], [`attn_k.${suffix}`, kv], [`attn_v.${suffix}`, kv]];
  }
  if (stem === "ffn_up" && fused.gateUp) {
    return [[`ffn_gate.${suffix}`, ffnWidth], [`ffn_up.${suffix}`, ffnWidth]];
  }
}

/** Where the numbers of a part lie in the file. */
interface Place {
  readonly whole: TensorInfo;
  /** In bytes. */
  readonly offset: number;
}

/** The parts of a tensor; each tensor has the same ones whenever it is asked. */
const known = new WeakMap<TensorInfo, readonly TensorInfo[]>();

/**
 * The file as a plan names its tensors: fused ones are there as their parts, which are rows of them. The same file where it has
 * none. Its tensors have to be those that the config promises.
 */
export function unfused(file: GgufFile, config: Config): GgufFile {
  if (!config.fused.qkv && !config.fused.gateUp) return file;
  const tensors = new Map<string, TensorInfo>();
  const places = new Map<TensorInfo, Place>();
  for (const [name, whole] of file.tensors) {
    const parts = partsOf(config, kindOf(name));
    const rows = parts?.reduce((sum, [, rows]) => sum + rows, 0);
    // Of a file that is unfused already each part is a tensor.
    if (!parts || sizeOf(whole.shape.slice(whole.shape.length > 1 ? 1 : 0)) !== rows) {
      tensors.set(name, whole);
      continue;
    }
    const infos = known.get(whole) ?? split(whole, parts);
    known.set(whole, infos);
    let offset = 0;
    for (const info of infos) {
      tensors.set(info.name, info);
      places.set(info, { whole, offset });
      offset += info.bytes;
    }
  }
  return {
    ...file,
    tensors,
    readTensor(tensor, offset = 0, length = tensor.bytes - offset, into) {
      const place = places.get(tensor);
      return place
        ? file.readTensor(place.whole, place.offset + offset, length, into)
        : file.readTensor(tensor, offset, length, into);
    },
    close: () => file.close(),
  };
}

function split(
  whole: TensorInfo,
  parts: readonly (readonly [part: string, rows: number])[],
): TensorInfo[] {
  const all = parts.reduce((sum, [, rows]) => sum + rows, 0);
  let before = 0;
  return parts.map(([part, rows]) => {
    const bytes = whole.bytes / all * rows;
    const shape = whole.shape.length > 1 ? [whole.shape[0], rows] : [rows];
    const name = `blk.${layerOf(whole.name)}.${part}`;
    return { ...whole, name, shape, bytes, offset: whole.offset + (before += bytes) - bytes };
  });
}
