/** An order of rows in words. */
import { runsText } from "./runs.ts";

/** What an order is of. */
export type Things = "rows" | "columns";

/** Orders of a whole matrix: which row stands at r of n. */
type Rule = (row: number, count: number) => number;

/**
 * What an order does, in words; undefined for one that does nothing.
 *
 * @param order at r stands the row `order[r]`; −1 where that is not known
 * @param blocks sizes of blocks that have a meaning, as the width of a head: looked at first
 */
export function orderText(
  order: ArrayLike<number>,
  things: Things,
  blocks: readonly number[] = [],
): string | undefined {
  const moved = Array.from(order, (from, row) => from === row ? -1 : row).filter((row) => row >= 0);
  if (moved.every((row) => order[row] < 0)) return undefined;
  if (moved.length === 1) {
    return `${things.slice(0, -1)} ${moved[0]} has the numbers of ${order[moved[0]]}`;
  }
  return wholeText(order, things, blocks) ?? partText(order, moved, things, blocks) ??
    `${things} are in another order: the first that moved is ${moved[0]}, where ${
      order[moved[0]]
    } stands`;
}

/** Orders that all rows follow. */
function wholeText(
  order: ArrayLike<number>,
  things: Things,
  blocks: readonly number[],
): string | undefined {
  const count = order.length;
  const follows = (rule: Rule) => {
    for (let row = 0; row < count; row++) if (order[row] !== rule(row, count)) return false;
    return true;
  };
  if (follows((row, n) => n - 1 - row)) return `${things} are in reverse order`;
  if (count % 2 === 0 && follows((row, n) => (row + n / 2) % n)) {
    return `the two halves of the ${things} are exchanged`;
  }
  if (follows((row, n) => (row + order[0]) % n)) {
    // The shorter way round.
    const by = order[0] <= count / 2 ? order[0] : order[0] - count;
    return `${things} are rotated by ${by}: at 0 stands ${order[0]}`;
  }
  for (const size of [...blocks, ...divisors(count)]) {
    if (size < 2 || size >= count || count % size !== 0) continue;
    if (follows((row) => row - row % size + size - 1 - row % size)) {
      return `${things} are in reverse order within each ${size}`;
    }
    if (size % 2 === 0 && size > 2 && follows(within(size, interleaved))) {
      return `the halves of each ${size} ${things} are interleaved`;
    }
    if (size % 2 === 0 && size > 2 && follows(within(size, apart))) {
      return `even and odd ones of each ${size} ${things} are apart`;
    }
  }
  for (const parts of divisors(count)) {
    if (!follows((row, n) => row % parts * (n / parts) + Math.floor(row / parts))) continue;
    return parts === 2
      ? `the two halves of the ${things} are interleaved`
      : parts === count / 2
      ? `even and odd ${things} are apart: first all even ones, then all odd ones`
      : `${things} are laid out as [${count / parts}, ${parts}] where [${parts}, ${
        count / parts
      }] belongs`;
  }
}

/** Orders that some rows do not take part in. */
function partText(
  order: ArrayLike<number>,
  moved: readonly number[],
  things: Things,
  blocks: readonly number[],
): string | undefined {
  const [first, last] = [moved[0], moved.at(-1)!];
  const all = moved.every((row) => order[row] >= 0);
  const isWhole = last - first + 1 === moved.length;
  const size = all ? exchangedBlocks(order, moved) : undefined;
  if (size !== undefined) {
    const other = order[first];
    return size === 1
      ? `${things} ${first} and ${other} are exchanged`
      : `${things} ${first} to ${first + size - 1} and ${other} to ${
        other + size - 1
      } are exchanged`;
  }
  const by = order[first] - first;
  if (all && isWhole) {
    if (moved.every((row) => order[row] === first + (row - first + by) % moved.length)) {
      return `${things} ${first} to ${last} are rotated by ${by}: at ${first} stands ${
        order[first]
      }`;
    }
  }
  // The one in the middle stays.
  const span = Array.from({ length: last - first + 1 }, (_, i) => first + i);
  if (all && span.length > 2 && span.every((row) => order[row] === last - (row - first))) {
    return `${things} ${first} to ${last} are in reverse order`;
  }
  const rest = moved.filter((row) => order[row] - row !== by);
  // What is shifted in from beyond the end is anything.
  if (order[first] >= 0 && rest.length <= Math.abs(by) && moved.length - rest.length > 1) {
    const others = rest.length === 0
      ? ""
      : `; ${runsText(rest, things)} ${rest.length === 1 ? "holds" : "hold"} others`;
    return `${things} are shifted by ${by} from ${first} on: there stands ${order[first]}${others}`;
  }
  return all ? blocksText(order, things, blocks) : undefined;
}

/** How many rows from the first that moved on have changed places with as many others, if that is all. */
function exchangedBlocks(order: ArrayLike<number>, moved: readonly number[]): number | undefined {
  const size = moved.length / 2;
  const [first, other] = [moved[0], moved[size]];
  const swaps = Number.isInteger(size) &&
    moved.every((row, i) => order[row] === (i < size ? other + i : first + i - size)) &&
    moved[size - 1] === first + size - 1;
  return swaps ? size : undefined;
}

/** Whole blocks that changed places. */
function blocksText(
  order: ArrayLike<number>,
  things: Things,
  blocks: readonly number[],
): string | undefined {
  const count = order.length;
  const moves = (size: number) => {
    for (let row = 0; row < count; row++) {
      const start = row - row % size;
      if (order[start] % size !== 0 || order[row] !== order[start] + row % size) return false;
    }
    return true;
  };
  const size = [...blocks, ...divisors(count).toReversed()]
    .find((each) => each > 1 && each < count && count % each === 0 && moves(each));
  if (size === undefined) return undefined;
  const places = Array.from({ length: count / size }, (_, i) => order[i * size] / size);
  const alphabetical = places.map((_, i) => i).sort((a, b) => `${a}` < `${b}` ? -1 : 1);
  const isSorted = places.length > 10 && places.every((place, i) => place === alphabetical[i]);
  const shown = places.slice(0, 8).join(", ") + (places.length > 8 ? ", …" : "");
  return `blocks of ${size} ${things} are in ${
    isSorted ? "the alphabetical order of their numbers" : "another order"
  }: ${shown}`;
}

const interleaved: Rule = (row, n) => row % 2 * (n / 2) + Math.floor(row / 2);
const apart: Rule = (row, n) => row % (n / 2) * 2 + Math.floor(row / (n / 2));

function within(size: number, rule: Rule): Rule {
  return (row) => row - row % size + rule(row % size, size);
}

/** Numbers that divide n, from 2 to n / 2. */
function divisors(n: number): number[] {
  return Array.from({ length: Math.max(0, n >> 1) }, (_, i) => i + 1)
    .filter((each) => each > 1 && n % each === 0);
}
