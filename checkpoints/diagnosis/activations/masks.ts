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
  const wrong: { head: number; query: number; key: number }[] = [];
  const hidden = new Set<string>();
  for (let head = 0; head < heads; head++) {
    for (let query = start; query < start + queries; query++) {
      for (let key = 0; key < keys; key++) {
        const known = seen(head, query, key);
        if (known === undefined || known === key <= query) continue;
        wrong.push({ head, query, key });
        hidden.add(`${head} ${query} ${key}`);
      }
    }
  }
  if (wrong.length === 0) return undefined;
  const own = [...new Set(wrong.map(({ head }) => head))];
  const rows = Array.from({ length: queries }, (_, t) => start + t);
  /** Of a row in which no key is seen: whether it may be what such rows are filled with, which is the same for all keys. */
  const isFilled = (head: number, query: number) => {
    const known = new Set(Array.from({ length: keys }, (_, key) => seen(head, query, key)));
    known.delete(undefined);
    return known.size < 2;
  };
  const fits = (mask: Mask) =>
    own.every((head) => {
      const empty = rows.filter((query) => isEmptyRow(mask, head, query, keys));
      return (empty.length < 2 || empty.every((query) => isFilled(head, query))) &&
        // Rows that may hold anything prove nothing.
        wrong.some((each) => each.head === head && !empty.includes(each.query)) &&
        rows.every((query) =>
          empty.includes(query) || upTo(0, keys).every((key) => {
            const known = seen(head, query, key);
            return known === undefined || known === mask.sees(query, key, head);
          })
        );
    });
  const shape = maskShapes(extent).find(fits);
  if (shape) return inHeads(shape, own, heads);
  const [{ head, query, key }] = wrong;
  const seesMore = key > query;
  return {
    what:
      `${seesMore ? "sees" : "misses"} ${wrong.length} of its keys, the first in head ${head}: ` +
      `query ${query}, key ${key}`,
    sees: (query, key, head) => (key <= query) !== hidden.has(`${head} ${query} ${key}`),
  };
}
