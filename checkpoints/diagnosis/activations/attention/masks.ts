/** Shapes of attention masks that are not causal: which keys a query then sees, and in which words that is said. */

/** The sizes of a pass's attention. */
export interface Extent {
  readonly heads: number;
  /** T: queries. */
  readonly queries: number;
  /** S: keys. */
  readonly keys: number;
  /** Absolute position of the first query. */
  readonly start: number;
}

/** Which keys are seen. */
export interface Mask {
  readonly what: string;
  /** Absolute positions. */
  sees(query: number, key: number, head: number): boolean;
}

/** What is known of one query and key: `undefined` where the numbers do not tell. */
export type Seen = (head: number, query: number, key: number) => boolean | undefined;

/** All shapes that are known, the likeliest first; `most` bounds how many there are of each, `mostWindows` those of windows. */
export function maskShapes(
  { queries, keys, start }: Extent,
  most = Infinity,
  mostWindows = most,
): Mask[] {
  const shapes: Mask[] = [
    { what: "misses itself (key = query)", sees: (query, key) => key < query },
    { what: "sees the whole future", sees: () => true },
    { what: "sees the future instead of the past", sees: (query, key) => key >= query },
  ];
  const numbers = (from: number, to: number) => upTo(from, Math.min(to, from + most));
  const family = (list: readonly number[], make: (n: number) => Mask) =>
    shapes.push(...list.map((n) => make(n)));
  family(numbers(1, keys), (n) => ({
    what: `sees ${n} ${n === 1 ? "key" : "keys"} of the future`,
    sees: (query, key) => key <= query + n,
  }));
  family([1], (n) => ({
    what: "misses the first key",
    sees: (query, key) => key >= n && key <= query,
  }));
  if (start > 0) {
    shapes.push({
      what: "counts queries from 0 in this pass: misses the newest keys",
      sees: (query, key) => key <= query - start,
    });
  }
  family(keys <= mostWindows ? upTo(1, keys) : powers(keys), (n) => ({
    what: `sees a window of ${n}`,
    sees: (query, key) => key <= query && key > query - n,
  }));
  family(numbers(2, keys), (n) => ({
    what: `misses the first ${n} keys`,
    sees: (query, key) => key >= n && key <= query,
  }));
  family(numbers(2, keys), (n) => ({
    what: `misses itself and the ${n - 1} before it`,
    sees: (query, key) => key <= query - n,
  }));
  if (queries > 1) {
    family(numbers(2, keys), (n) => ({
      what: `sees only keys of its own chunk of ${n}`,
      sees: (query, key) => key <= query && Math.floor(key / n) === Math.floor(query / n),
    }));
    family(numbers(2, keys), (n) => ({
      what: `sees the future among the first ${n} keys`,
      sees: (query, key) => key <= query || (key < n && query < n),
    }));
    family(numbers(1, keys), (n) => ({
      what: n === 1 ? "misses the last key" : `misses the last ${n} keys`,
      sees: (query, key) => key <= query && key < keys - n,
    }));
  }
  family(numbers(1, keys), (n) => ({
    what: `misses key ${n}`,
    sees: (query, key) => key <= query && key !== n,
  }));
  return shapes;
}

/** first, first + 1, …, up to `end`, exclusive. */
function upTo(first: number, end: number): number[] {
  return Array.from({ length: Math.max(0, end - first) }, (_, i) => first + i);
}

function powers(end: number): number[] {
  const found: number[] = [];
  for (let n = 1; n < end; n *= 2) found.push(n);
  return found;
}

/** The mask of some heads alone; the others see what they should. */
export function inHeads(mask: Mask, heads: readonly number[], all: number): Mask {
  if (heads.length === all) return mask;
  const named = `${heads.length === 1 ? "head" : "heads"} ${heads.join(", ")}`;
  return {
    what: `${mask.what} (${named})`,
    sees: (query, key, head) => heads.includes(head) ? mask.sees(query, key, head) : key <= query,
  };
}

/** Whether a query sees no key. */
export function isEmptyRow({ sees }: Mask, head: number, query: number, keys: number): boolean {
  for (let key = 0; key < keys; key++) if (sees(query, key, head)) return false;
  return true;
}

/** The shape of what is known to be seen; undefined where all is as it should be. */
export function maskOf(seen: Seen, extent: Extent): Mask | undefined {
  const { heads, queries, keys, start } = extent;
  const rows = upTo(start, start + queries);
  const isWrong = (head: number, query: number, key: number) => {
    const known = seen(head, query, key);
    return known !== undefined && known !== key <= query;
  };
  const wrongRows = new Map<number, number[]>();
  let [count, first] = [0, { head: 0, query: 0, key: 0 }];
  for (let head = 0; head < heads; head++) {
    for (const query of rows) {
      const wrong = upTo(0, keys).filter((key) => isWrong(head, query, key));
      if (wrong.length === 0) continue;
      if (count === 0) first = { head, query, key: wrong[0] };
      count += wrong.length;
      wrongRows.set(head, [...wrongRows.get(head) ?? [], query]);
    }
  }
  if (count === 0) return undefined;
  /** Of a row in which no key is seen: whether it may be what such rows are filled with, which is the same for all keys. */
  const isFilled = (head: number, query: number) => {
    const known = new Set(upTo(0, keys).map((key) => seen(head, query, key)));
    known.delete(undefined);
    return known.size < 2;
  };
  const fitsRow = ({ sees }: Mask, head: number, query: number) =>
    upTo(0, keys).every((key) => {
      const known = seen(head, query, key);
      return known === undefined || known === sees(query, key, head);
    });
  const fits = (mask: Mask) => {
    const empty = new Set(rows.filter((query) => isEmptyRow(mask, 0, query, keys)));
    return [...wrongRows].every(([head, wrong]) => {
      // Rows that may hold anything prove nothing.
      const proving = wrong.filter((query) => !empty.has(query));
      return proving.length > 0 && fitsRow(mask, head, proving.at(-1)!) &&
        (empty.size < 2 || [...empty].every((query) => isFilled(head, query))) &&
        rows.every((query) => empty.has(query) || fitsRow(mask, head, query));
    });
  };
  const shape = maskShapes(extent).find(fits);
  if (shape) return inHeads(shape, [...wrongRows.keys()], heads);
  const { head, query, key } = first;
  return {
    what:
      `${
        key > query ? "sees keys of the future" : "misses keys"
      }, ${count} in all, the first in head ${head}: ` +
      `query ${query}, key ${key}`,
    sees: (query, key, head) => seen(head, query, key) ?? key <= query,
  };
}
