/** From the rows of an Arrow file (as `task capture` writes them) back to tensors. */
import { sizeOf } from "../../../base/shape.ts";
import type { Point } from "../../../inspect/points/points.ts";
import {
  ColumnError,
  type Table,
  tableColumns,
  tableVectors,
} from "../../../inspect/tables/mod.ts";
import { metadataList } from "../../../inspect/tables/meta.ts";
import { TensorFileError } from "../../files/npy.ts";

/** One point in one step, put together from its rows. */
export interface ArrowTensor {
  readonly shape: readonly number[];
  readonly data: Float32Array;
  /** Absolute positions of its rows, in order. */
  readonly positions: readonly number[];
}

/** What a table says of the run that it comes from. */
export interface ArrowRun {
  readonly promptIds: readonly number[];
  /** Those that were generated. */
  readonly ids: readonly number[];
}

/** Largest tensor in numbers: attention is larger than its file, which leaves hidden keys out. */
const MOST_NUMBERS = 2 ** 30;

/**
 * The ids that a table's metadata tells of; undefined where it tells of none.
 *
 * @throws {TensorFileError} for a batch: a reference is one sequence
 */
export function arrowRun({ metadata }: Table): ArrowRun | undefined {
  const ids = metadataList(metadata, "ids") as number[][] | undefined;
  const lengths = metadataList(metadata, "prompt_lengths") as number[] | undefined;
  if (!ids) return undefined;
  if (ids.length !== 1) throw new TensorFileError(`${ids.length} sequences; capture one prompt`);
  const [all, length = all.length] = [ids[0], lengths?.[0]];
  if (!Array.isArray(all) || !all.every(Number.isSafeInteger) || !Number.isSafeInteger(length)) {
    throw new TensorFileError("its metadata's ids are no list of ids");
  }
  return { promptIds: all.slice(0, length), ids: all.slice(length) };
}

/** The name of the point that a table says it is of: an alias, a canonical name, or one with a star for several layers. */
export function arrowPoint({ metadata }: Table): string | undefined {
  return metadata.get("alias") ?? metadata.get("point");
}

/** The order of each head's numbers that a table says it has. */
export function arrowRope({ metadata }: Table): "adjacent" | "half" | undefined {
  const order = metadata.get("row_order");
  return order === "adjacent" || order === "half" ? order : undefined;
}

/**
 * The steps and layers that a table has rows of; no layers where it has no such column.
 *
 * @throws {TensorFileError} when its columns are not what they should be
 */
export function arrowContents(table: Table): { steps: number[]; layers?: number[] } {
  const columns = new IndexColumns(table);
  const layers = columns.optional("layer");
  return {
    steps: [...new Set(columns.optional("step") ?? [0])],
    layers: layers && [...new Set(layers)],
  };
}

/**
 * Puts the rows of one point in one step together.
 *
 * @returns the tensor and the absolute positions of its rows; hidden keys are 0
 * @throws {TensorFileError} when rows are missing, double or of another length, and for columns that are missing
 */
export function arrowTensor(table: Table, point: Point, step: number): ArrowTensor {
  const columns = new IndexColumns(table);
  const vectors = floatRows(table);
  const [steps, layers] = [columns.optional("step"), columns.optional("layer")];
  const rows = [...vectors.keys()].filter((row) =>
    (steps?.[row] ?? 0) === step && (layers?.[row] ?? point.layer) === point.layer
  );
  const sequences = columns.optional("sequence");
  if (sequences && rows.some((row) => sequences[row] !== sequences[rows[0]])) {
    throw new TensorFileError("several sequences; capture one prompt");
  }
  if (rows.length === 0) throw new TensorFileError(`no rows of ${point.name} in step ${step}`);
  return assemble(point, rows, columns, vectors);
}

function assemble(
  point: Point,
  rows: readonly number[],
  columns: IndexColumns,
  vectors: readonly Float32Array[],
): ArrowTensor {
  const leading = point.axes.slice(0, -1);
  const indices = leading.map((axis) => columns.required(axis));
  const placeAxis = leading.findIndex((axis) => ["position", "query", "slot"].includes(axis));
  const positions = [...new Set(rows.map((row) => indices[placeAxis][row]))].sort((a, b) => a - b);
  const placeOf = new Map(positions.map((position, i) => [position, i]));
  const sizes = leading.map((_, i) =>
    i === placeAxis ? positions.length : point.shape[i] as number
  );
  const offsets = rows.map((row) =>
    indices.reduce((offset, index, axis) => {
      const at = axis === placeAxis ? placeOf.get(index[row])! : index[row];
      if (!(at >= 0 && at < sizes[axis])) {
        throw new TensorFileError(`${leading[axis]} ${at} where ${point.name} has ${sizes[axis]}`);
      }
      return offset * sizes[axis] + at;
    }, 0)
  );
  // A prompt that ran in several passes repeats the cache's slots: the last row of each is the one that counts.
  const found = new Set(offsets).size;
  if (found !== sizeOf(sizes)) {
    throw new TensorFileError(`${found} rows where ${point.name} needs ${sizeOf(sizes)}`);
  }
  const attention = point.axes.at(-1) === "key";
  const width = attention ? positions.at(-1)! + 1 : point.shape.at(-1) as number;
  const shape = [...sizes, width];
  if (sizeOf(shape) > MOST_NUMBERS) throw new TensorFileError(`shape [${shape.join(", ")}]`);
  const starts = attention ? columns.optional("key_start") : undefined;
  const data = new Float32Array(sizeOf(shape));
  rows.forEach((row, i) => {
    const start = starts?.[row] ?? 0;
    const expected = attention ? indices[placeAxis][row] + 1 - start : width;
    if (vectors[row].length !== expected || start < 0) {
      throw new TensorFileError(
        `row ${row} has ${vectors[row].length} numbers where ${point.name} has ${expected}`,
      );
    }
    data.set(vectors[row], offsets[i] * width + start);
  });
  return { shape, data, positions };
}

function floatRows(table: Table): Float32Array[] {
  try {
    return tableVectors(table);
  } catch (error) {
    if (error instanceof ColumnError) throw new TensorFileError(error.message);
    throw error;
  }
}

/** Columns of small integers: where a row belongs. */
class IndexColumns {
  readonly #columns: ReturnType<typeof tableColumns>;

  constructor(table: Table) {
    this.#columns = tableColumns(table);
  }

  optional(name: string): Int32Array | undefined {
    if (!Object.hasOwn(this.#columns, name)) return undefined;
    const column = this.#columns[name];
    if (column instanceof Int32Array) return column;
    throw new TensorFileError(`its column ${name} is not int32 in every row`);
  }

  /** @throws {TensorFileError} where it is missing */
  required(name: string): Int32Array {
    const column = this.optional(name);
    if (column) return column;
    const names = Object.keys(this.#columns).join(", ");
    throw new TensorFileError(`it has no column ${name}; its columns: ${names}`);
  }
}
