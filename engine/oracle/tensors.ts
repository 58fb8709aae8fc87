/** What the oracle reads of a file's tensors, as 64-bit products of them or as numbers; little of it is in memory at a time. */
import { dequantize } from "../gguf/dequantize.ts";
import { GgufError } from "../gguf/error.ts";
import type { GgufFile, TensorInfo } from "../gguf/reader.ts";
import type { Config } from "../model/config.ts";
import { multiplyRows } from "./math.ts";

/** The most bytes of a matrix that are read and dequantized at a time. */
const CHUNK_BYTES = 8 * 1024 * 1024;

/** Some rows of a tensor; of a vector each number is a row. */
interface Rows {
  readonly tensor: TensorInfo;
  readonly first: number;
  readonly count: number;
}

/**
 * Where the file has a weight or bias: whole under its own name, or as rows of a tensor that holds several. Those are q, k and v, one
 * below the other, in `attn_qkv`, and the gate in front of what goes up in `ffn_up` (`build_qkv` and `LLM_FFN_SWIGLU` in
 * llama-graph.cpp). Biases may be separate where their matrices are not.
 *
 * @param name `blk.0.attn_q.weight`
 * @returns undefined where the file has no such tensor
 */
function find({ tensors }: GgufFile, config: Config, name: string): Rows | undefined {
  const [, block, matrix, suffix] = name.match(/^(blk\.\d+\.)?(\w+)\.(\w+)$/)!;
  const part = partOf(config, matrix);
  const whole = part && tensors.get(`${block}${part.of}.${suffix}`);
  if (part && whole && whole.shape.at(-1) === part.all) return { ...part, tensor: whole };
  const tensor = tensors.get(name);
  if (!tensor) return undefined;
  return { tensor, first: 0, count: suffix === "bias" ? numbersOf(tensor) : rowsOf(tensor) };
}

/** Which rows of which fused tensor a matrix is, of all that it has; undefined of matrices on their own. */
function partOf(
  { fused, heads, kvHeads, headWidth, ffnWidth: F }: Config,
  matrix: string,
): { of: string; first: number; count: number; all: number } | undefined {
  const [q, kv] = [heads * headWidth, kvHeads * headWidth];
  const qkv = { of: "attn_qkv", all: q + 2 * kv };
  const gateUp = { of: "ffn_up", all: 2 * F };
  switch (matrix) {
    case "attn_q":
      return fused.qkv ? { ...qkv, first: 0, count: q } : undefined;
    case "attn_k":
      return fused.qkv ? { ...qkv, first: q, count: kv } : undefined;
    case "attn_v":
      return fused.qkv ? { ...qkv, first: q + kv, count: kv } : undefined;
    case "ffn_gate":
      return fused.gateUp ? { ...gateUp, first: 0, count: F } : undefined;
    case "ffn_up":
      return fused.gateUp ? { ...gateUp, first: F, count: F } : undefined;
  }
}

/**
 * The product with a matrix: x · Wᵀ.
 *
 * @param x [T, columns]
 * @param name `blk.0.attn_q`, of which there is a weight [rows, columns]
 * @returns [T, rows]
 */
export async function product(
  file: GgufFile,
  config: Config,
  name: string,
  x: Float64Array,
): Promise<Float64Array> {
  const weight = `${name}.weight`;
  const { tensor, first, count } = find(file, config, weight) ?? missing(file, weight);
  return await multiply(file, tensor, first, count, x);
}

/**
 * The product with the matrix of one expert of a mixture: x · Wᵀ.
 *
 * @param x [n, columns]
 * @param name `blk.0.ffn_up_exps`, of which there is a weight [experts, rows, columns]
 * @returns [n, rows]
 */
export async function expertProduct(
  file: GgufFile,
  name: string,
  expert: number,
  x: Float64Array,
): Promise<Float64Array> {
  const tensor = file.tensors.get(`${name}.weight`) ?? missing(file, `${name}.weight`);
  const rows = tensor.shape[1];
  return await multiply(file, tensor, expert * rows, rows, x);
}

/** The product with some rows of a tensor, whatever of its axes they are counted over. */
async function multiply(
  file: GgufFile,
  tensor: TensorInfo,
  first: number,
  count: number,
  x: Float64Array,
): Promise<Float64Array> {
  const columns = tensor.shape[0];
  const rowBytes = tensor.bytes / (numbersOf(tensor) / columns);
  const rowsPerChunk = Math.max(1, Math.floor(CHUNK_BYTES / rowBytes));
  const out = new Float64Array(x.length / columns * count);
  for (let row = 0; row < count; row += rowsPerChunk) {
    const length = Math.min(rowsPerChunk, count - row) * rowBytes;
    const bytes = await file.readTensor(tensor, (first + row) * rowBytes, length);
    multiplyRows(x, dequantize(tensor.type, bytes), columns, out, row);
  }
  return out;
}

/** A matrix's bias [rows]; undefined where the file has none. */
export async function biasOf(
  file: GgufFile,
  config: Config,
  name: string,
): Promise<Float32Array | undefined> {
  const rows = find(file, config, `${name}.bias`);
  if (!rows) return undefined;
  const numbers = await vector(file, rows.tensor.name);
  return numbers.subarray(rows.first, rows.first + rows.count);
}

/** All numbers of a tensor: of norms, biases, divisors of angles. */
export async function vector(file: GgufFile, name: string): Promise<Float32Array> {
  const tensor = file.tensors.get(name) ?? missing(file, name);
  return dequantize(tensor.type, await file.readTensor(tensor));
}

/**
 * Rows of a tensor, each at its index.
 *
 * @param name `token_embd.weight`, of shape [rows, columns]
 * @param indices from 0 on
 * @returns [indices, columns]
 * @throws {RangeError} for an index beyond the last row
 */
export async function takeRows(
  file: GgufFile,
  name: string,
  indices: readonly number[],
): Promise<Float64Array> {
  const tensor = file.tensors.get(name) ?? missing(file, name);
  const columns = tensor.shape[0];
  const rows = rowsOf(tensor);
  if (Math.max(...indices) >= rows) {
    throw new RangeError(`Cannot take row ${Math.max(...indices)} of ${name}, which has ${rows}`);
  }
  const rowBytes = tensor.bytes / rows;
  const taken = new Float64Array(indices.length * columns);
  for (const [i, index] of indices.entries()) {
    const row = await file.readTensor(tensor, index * rowBytes, rowBytes);
    taken.set(dequantize(tensor.type, row), i * columns);
  }
  return taken;
}

function missing({ name: file }: GgufFile, tensor: string): never {
  throw new GgufError(`the tensor ${tensor} is missing; convert or download the model again`, {
    file,
    tensor,
  });
}

/** How many rows a matrix has. */
function rowsOf({ shape }: TensorInfo): number {
  return shape[1] ?? 1;
}

function numbersOf({ shape }: TensorInfo): number {
  return shape.reduce((product, size) => product * size, 1);
}
