/** Which row stands where: rows of one matrix found again among those of another. */

/** Rows of numbers, row-major. */
export interface Rows {
  readonly count: number;
  readonly length: number;
  readonly data: ArrayLike<number>;
}

/** Rows that are looked for first: where too few of them are found, the rest is not looked for. */
const SAMPLE = 16;
/** Multiplications that may be spent on one matrix. */
const MOST_WORK = 3e8;
/** How far a projection of a row that is near may be off, in standard deviations. */
const DEVIATIONS = 5;

/**
 * For each row of theirs the row of ours that has its numbers, −1 where none does; undefined where most of those that moved are not
 * found, or too much had to be looked at. Of several that are alike the one that continues the order is taken.
 *
 * @param near largest Σ(a − b)² of rows that are the same, as a share of Σb²
 */
export function matchRows(ours: Rows, theirs: Rows, near: number): Int32Array | undefined {
  const { length } = ours;
  if (length !== theirs.length) return undefined;
  let work = 0;
  const norms = Array.from({ length: theirs.count }, (_, row) => squares(theirs, row));
  const distance = (from: number, to: number): number => {
    const limit = near * norms[to];
    let sum = 0;
    let i = 0;
    for (; i < length && sum <= limit; i++) {
      sum += (ours.data[from * length + i] - theirs.data[to * length + i]) ** 2;
    }
    work += i;
    return sum <= limit ? sum : Infinity;
  };
  const has = (from: number, to: number) =>
    from >= 0 && from < ours.count && distance(from, to) < Infinity;

  const own = projections(ours);
  const sorted = [...own.keys()].sort((a, b) => own[a] - own[b]);
  const there = projections(theirs);
  const search = (to: number): number => {
    const reach = DEVIATIONS * Math.sqrt(near * norms[to]);
    let [low, high] = [0, sorted.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (own[sorted[middle]] < there[to] - reach) low = middle + 1;
      else high = middle;
    }
    let [best, least] = [-1, Infinity];
    for (let i = low; i < sorted.length && own[sorted[i]] <= there[to] + reach; i++) {
      const found = distance(sorted[i], to);
      if (found < least) [best, least] = [sorted[i], found];
      if (least === 0 || work > MOST_WORK) break;
    }
    return best;
  };

  const moved = norms.flatMap((norm, row) => norm > 0 && !has(row, row) ? [row] : []);
  if (moved.length === 0) return undefined;
  const step = Math.max(1, Math.floor(moved.length / SAMPLE));
  const sample = moved.filter((_, i) => i % step === 0);
  if (sample.filter((row) => search(row) >= 0).length < sample.length / 2) return undefined;

  const order = Int32Array.from(norms, (norm, row) => norm > 0 ? row : -1);
  for (const row of moved) {
    const before = order[row - 1];
    const expected = [before + 1, before + (before - order[row - 2])];
    order[row] = before >= 0 ? expected.find((each) => has(each, row)) ?? search(row) : search(row);
    if (work > MOST_WORK) return undefined;
  }
  // Of rows that are alike one may seem to stay while its neighbours move: it goes with them.
  const joins = (row: number, beside: number) => {
    const isMoved = order[row] === row && order[beside] >= 0 && order[beside] !== beside;
    const from = order[beside] + row - beside;
    if (isMoved && has(from, row)) order[row] = from;
  };
  for (let row = 1; row < theirs.count; row++) joins(row, row - 1);
  for (let row = theirs.count - 2; row >= 0; row--) joins(row, row + 1);
  return moved.filter((row) => order[row] >= 0).length >= moved.length / 2 ? order : undefined;
}

function squares({ length, data }: Rows, row: number): number {
  let sum = 0;
  for (let i = row * length; i < (row + 1) * length; i++) sum += data[i] ** 2;
  return sum;
}

/** Each row on one direction of signs that has no regularity: the same rows have the same, others seldom. */
function projections({ count, length, data }: Rows): Float64Array {
  const signs = signsOf(length);
  return Float64Array.from({ length: count }, (_, row) => {
    let sum = 0;
    for (let i = 0; i < length; i++) sum += signs[i] * data[row * length + i];
    return sum;
  });
}

/** Signs without regularity, the same each time: the top bits of multiples of the golden ratio's fraction, twice mixed. */
export function signsOf(length: number): Int8Array {
  return Int8Array.from({ length }, (_, i) => {
    let hash = Math.imul(i + 1, 0x9e3779b1);
    hash = Math.imul(hash ^ hash >>> 15, 0x85ebca6b);
    return (hash ^ hash >>> 13) & 0x8000 ? 1 : -1;
  });
}

/** Columns as rows: [rows, columns] → [columns, rows]. */
export function columnsOf(data: ArrayLike<number>, columns: number): Rows {
  const rows = data.length / columns;
  const turned = new Float32Array(data.length);
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++) {
      turned[column * rows + row] = data[row * columns + column];
    }
  }
  return { count: columns, length: rows, data: turned };
}

/** Where each row went: `order[r]` is the row that stands at r; −1 where a row stands nowhere. */
export function inverseOrder(order: ArrayLike<number>): Int32Array {
  const inverse = new Int32Array(order.length).fill(-1);
  for (let row = order.length - 1; row >= 0; row--) if (order[row] >= 0) inverse[order[row]] = row;
  return inverse;
}
