/** Blocks of weights that no training makes: numbers that are none, or far out of their tensor's range. */
import { dequantize } from "../engine/gguf/dequantize.ts";
import type { GgufFile, TensorInfo } from "../engine/gguf/reader.ts";
import { asF32, type Undo } from "./undo.ts";

/** Numbers that are looked at together: the smallest block of ggml's types. */
const BLOCK = 32;
/** How many times the tensor's own root mean square a block's may be. */
const FAR_OUT = 40;
/** Bytes that are read at a time. */
const PIECE = 16 * 2 ** 20;

/** A block that looks damaged. */
interface Block {
  readonly row: number;
  readonly column: number;
  readonly finite: boolean;
}

/** Finds damaged blocks; undoing one sets it to zero. */
export async function damagedBlocks(file: GgufFile): Promise<Undo[]> {
  const undos: Undo[] = [];
  for (const tensor of file.tensors.values()) {
    if (tensor.shape.length < 2) continue;
    const blocks = await scan(file, tensor);
    if (blocks.length === 0) continue;
    const [{ row, column, finite }] = blocks;
    const more = blocks.length > 1 ? ` and ${blocks.length - 1} more blocks` : "";
    undos.push({
      cause: finite ? "dequant-block" : "nan",
      detail: `${tensor.name}, row ${row}, columns ${column} to ${
        column + BLOCK - 1
      }${more} set to zero`,
      alteration: {
        tensors: new Map([[
          tensor.name,
          asF32(file, tensor, (data) => {
            const out = data.slice();
            for (const block of blocks) {
              const at = block.row * tensor.shape[0] + block.column;
              out.fill(0, at, Math.min(at + BLOCK, (block.row + 1) * tensor.shape[0]));
            }
            return out;
          }),
        ]]),
      },
    });
  }
  return undos;
}

/** Blocks whose root mean square is far from that of the tensor (of its finite blocks: the median). */
async function scan(file: GgufFile, tensor: TensorInfo): Promise<Block[]> {
  const [columns] = tensor.shape;
  const rows = tensor.shape.slice(1).reduce((product, n) => product * n, 1);
  const rowBytes = tensor.bytes / rows;
  const perRow = Math.ceil(columns / BLOCK);
  const size = new Float32Array(rows * perRow);
  const step = Math.max(1, Math.floor(PIECE / rowBytes));
  for (let first = 0; first < rows; first += step) {
    const count = Math.min(step, rows - first);
    const bytes = await file.readTensor(tensor, first * rowBytes, count * rowBytes);
    const data = dequantize(tensor.type, bytes);
    for (let row = 0; row < count; row++) {
      for (let block = 0; block < perRow; block++) {
        let sum = 0;
        const end = Math.min((block + 1) * BLOCK, columns);
        for (let i = block * BLOCK; i < end; i++) sum += data[row * columns + i] ** 2;
        size[(first + row) * perRow + block] = Math.sqrt(sum / BLOCK);
      }
    }
  }
  const finite = size.filter(Number.isFinite).sort();
  const median = finite[finite.length >> 1];
  const found: Block[] = [];
  size.forEach((rms, i) => {
    if (rms <= FAR_OUT * median) return;
    const row = Math.floor(i / perRow);
    found.push({ row, column: (i % perRow) * BLOCK, finite: Number.isFinite(rms) });
  });
  return found;
}
