/** Blocks of weights that no training makes: numbers that are none, or far out of their tensor's range. */
import { sizeOf } from "../../../base/shape.ts";
import { dequantize } from "../../../engine/gguf/dequantize.ts";
import type { GgufFile, TensorInfo } from "../../../engine/gguf/reader.ts";
import { asF32, type NewTensorData, wholeTensor } from "../../files/altered_file.ts";
import type { Undo } from "./undo.ts";

/** Numbers that are looked at together, in types of smaller blocks. */
const RUN = 32;
/**
 * How many times the usual root mean square a block's may be; the usual one is the largest of the medians of its tensor, its row and
 * its columns. In SmolLM2 the farthest block has 5.4 times as much.
 */
const FAR_OUT = 12;
/** Bytes that are read at a time. */
const PIECE = 16 * 2 ** 20;

/** A block that looks damaged. */
interface Block {
  readonly row: number;
  readonly column: number;
  readonly kind: "far out" | "infinite" | "none";
}

interface Damage {
  readonly tensor: TensorInfo;
  /** Columns of a block. */
  readonly width: number;
  readonly blocks: readonly Block[];
}

/** Finds damaged blocks. Undoing them sets them to zero, numbers of a norm to the norm's median. */
export async function damagedBlocks(file: GgufFile, signal?: AbortSignal): Promise<Undo[]> {
  const finite: Damage[] = [];
  const none: Damage[] = [];
  for (const tensor of file.tensors.values()) {
    signal?.throwIfAborted();
    const width = Math.min(Math.max(RUN, tensor.type.blockSize), tensor.shape[0]);
    const blocks = await scan(file, tensor, width);
    const [far, bad] = [true, false].map((is) =>
      blocks.filter(({ kind }) => (kind === "far out") === is)
    );
    if (far.length > 0) finite.push({ tensor, width, blocks: far });
    if (bad.length > 0) none.push({ tensor, width, blocks: bad });
  }
  const undos: Undo[] = finite.map((damage) => ({
    cause: "dequant-block",
    detail: inWords([damage]),
    alteration: { tensors: new Map([[damage.tensor.name, mended(file, damage)]]) },
  }));
  if (none.length > 0) {
    // Together: as long as one is left there is no loss at all.
    const isNan = none.some(({ blocks }) => blocks.some(({ kind }) => kind === "none"));
    undos.unshift({
      cause: isNan ? "nan" : "f16-overflow",
      detail: inWords(none),
      alteration: {
        tensors: new Map(none.map((damage) => [damage.tensor.name, mended(file, damage)])),
      },
      certain: true,
    });
  }
  return undos;
}

/** The first place, and how many more there are. */
function inWords(damages: readonly Damage[]): string {
  const [{ tensor, width, blocks: [{ row, column, kind }] }] = damages;
  const last = Math.min(column + width, tensor.shape[0]) - 1;
  const place = isVector(tensor) ? "" : `row ${row}, `;
  const count = damages.reduce((sum, { blocks }) => sum + blocks.length, 0);
  const names = damages.slice(1).map(({ tensor }) => tensor.name);
  const more = count === 1
    ? ""
    : ` and ${count - 1} more ${count === 2 ? "block" : "blocks"}${
      names.length === 0 ? "" : `, also in ${names.slice(0, 3).join(", ")}`
    }${names.length > 3 ? ", …" : ""}`;
  const what = { "far out": "far out of range", infinite: "infinite", none: "not numbers" }[kind];
  const set = damages.every(({ tensor }) => isVector(tensor)) ? "their median" : "zero";
  return `${tensor.name}, ${place}columns ${column} to ${last}${more} (${what}) set to ${set}`;
}

function mended(file: GgufFile, { tensor, width, blocks }: Damage): NewTensorData {
  const { type, shape: [columns] } = tensor;
  if (isVector(tensor)) {
    return asF32(file, tensor, (data) => {
      const middle = median(data);
      return data.map((value) => Number.isFinite(value) ? value : middle);
    });
  }
  // Blocks of zero bits are zeros in every type.
  return wholeTensor(file, tensor, (stored) => {
    const bytes = Uint8Array.from(stored);
    const perNumber = type.blockBytes / type.blockSize;
    for (const { row, column } of blocks) {
      const end = Math.min(column + width, columns);
      bytes.fill(0, (row * columns + column) * perNumber, (row * columns + end) * perNumber);
    }
    return bytes;
  });
}

/** Blocks that are not finite, and in matrices those that are far out. */
async function scan(file: GgufFile, tensor: TensorInfo, width: number): Promise<Block[]> {
  const [columns] = tensor.shape;
  const rows = sizeOf(tensor.shape.slice(1));
  const perRow = Math.ceil(columns / width);
  const sizes = new Float32Array(rows * perRow);
  const found: Block[] = [];
  const rowBytes = tensor.bytes / rows;
  const step = Math.max(1, Math.floor(PIECE / rowBytes));
  for (let first = 0; first < rows; first += step) {
    const count = Math.min(step, rows - first);
    const bytes = await file.readTensor(tensor, first * rowBytes, count * rowBytes);
    const data = dequantize(tensor.type, bytes);
    for (let row = 0; row < count; row++) {
      for (let block = 0; block < perRow; block++) {
        const start = row * columns + block * width;
        const end = Math.min(start + width, (row + 1) * columns);
        let sum = 0;
        for (let i = start; i < end; i++) sum += data[i] * data[i];
        const size = Math.sqrt(sum / (end - start));
        sizes[(first + row) * perRow + block] = size;
        if (Number.isFinite(size)) continue;
        const kind = data.subarray(start, end).some(Number.isNaN) ? "none" : "infinite";
        found.push({ row: first + row, column: block * width, kind });
      }
    }
  }
  if (isVector(tensor)) return found;

  const whole = median(sizes);
  const ofRow = Array.from(
    { length: rows },
    (_, row) => median(sizes.subarray(row * perRow, (row + 1) * perRow)),
  );
  const ofColumns = Array.from(
    { length: perRow },
    (_, block) => median(Float32Array.from({ length: rows }, (_, r) => sizes[r * perRow + block])),
  );
  sizes.forEach((size, i) => {
    const row = Math.floor(i / perRow);
    const block = i % perRow;
    const usual = Math.max(whole, ofRow[row], ofColumns[block]);
    if (Number.isFinite(size) && size > FAR_OUT * usual) {
      found.push({ row, column: block * width, kind: "far out" });
    }
  });
  return found;
}

/** Norms and biases. */
function isVector({ shape }: TensorInfo): boolean {
  return sizeOf(shape.slice(1)) === 1;
}

/** Of the finite numbers. */
function median(values: Float32Array): number {
  const finite = values.filter(Number.isFinite).sort();
  return finite.length === 0 ? 0 : finite[finite.length >> 1];
}
