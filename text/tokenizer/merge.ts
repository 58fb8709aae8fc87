/**
 * How soon two neighbouring symbols are merged: the one before `middle` and the one after it, as
 * offsets in the text. The lowest goes first; undefined for a pair that never merges.
 */
export type MergeRank = (start: number, middle: number, end: number) => number | undefined;

/**
 * Merges neighbouring symbols of a text, always the pair of the lowest rank and of those the
 * leftmost, until no pair has a rank. Takes O(n log n) for n symbols.
 *
 * @param ends the offset at which each symbol ends, in order; each starts where the last one ended
 * @returns the ends of the symbols that remain
 */
export function mergePairs(ends: ArrayLike<number>, rank: MergeRank): number[] {
  const length = ends.length === 0 ? 0 : ends[ends.length - 1];
  // A doubly linked list of the symbols, by the offset at which they start. 0 ends nothing.
  const endOf = new Int32Array(length + 1);
  const previous = new Int32Array(length + 1).fill(-1);
  for (let index = 0, start = 0, before = -1; index < ends.length; index++) {
    endOf[start] = ends[index];
    previous[start] = before;
    before = start;
    start = ends[index];
  }

  const queue = new PairQueue();
  const offer = (start: number, middle: number) => {
    if (start < 0 || middle >= length) return;
    const order = rank(start, middle, endOf[middle]);
    if (order !== undefined) queue.push(order, start, middle, endOf[middle]);
  };
  for (let start = 0; start < length; start = endOf[start]) offer(start, endOf[start]);

  for (let pair = queue.pop(); pair !== undefined; pair = queue.pop()) {
    const { start, middle, end } = pair;
    // Either half may have merged with another symbol since the pair was offered.
    if (endOf[start] !== middle || endOf[middle] !== end) continue;
    endOf[start] = end;
    endOf[middle] = 0;
    if (end < length) previous[end] = start;
    offer(previous[start], start);
    offer(start, end);
  }

  const merged: number[] = [];
  for (let start = 0; start < length; start = endOf[start]) merged.push(endOf[start]);
  return merged;
}

interface Pair {
  readonly order: number;
  readonly start: number;
  readonly middle: number;
  readonly end: number;
}

/** A binary heap of pairs: the lowest order first, then the leftmost. */
class PairQueue {
  #heap: Pair[] = [];

  push(order: number, start: number, middle: number, end: number): void {
    const heap = this.#heap;
    const pair = { order, start, middle, end };
    let at = heap.length;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (!isBefore(pair, heap[parent])) break;
      heap[at] = heap[parent];
      at = parent;
    }
    heap[at] = pair;
  }

  pop(): Pair | undefined {
    const heap = this.#heap;
    const first = heap[0];
    const last = heap.pop();
    if (last === undefined || heap.length === 0) return first;
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= heap.length) break;
      if (child + 1 < heap.length && isBefore(heap[child + 1], heap[child])) child++;
      if (!isBefore(heap[child], last)) break;
      heap[at] = heap[child];
      at = child;
    }
    heap[at] = last;
    return first;
  }
}

function isBefore(a: Pair, b: Pair): boolean {
  return a.order < b.order || (a.order === b.order && a.start < b.start);
}
