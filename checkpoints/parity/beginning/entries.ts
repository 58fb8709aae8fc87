/** Entries of two files' metadata that differ: where, and how to say so. */

type Value = unknown;

/** The place at which two lists part first, from a place on; −1 where they do not. */
export function firstEntry(a: Value, b: Value, from = 0): number {
  const [x, y] = [listOf(a), listOf(b)];
  const length = Math.max(x.length, y.length);
  for (let i = from; i < length; i++) if (x[i] !== y[i]) return i;
  return -1;
}

/** Whether two values, or all of two lists, are equal. */
export function isSame(a: Value, b: Value): boolean {
  if (isList(a) && isList(b)) return firstEntry(a, b) < 0;
  return a === b || (typeof a !== "object" && Number(a) === Number(b) && typeof a !== "string");
}

/** A key of two files, with both values; of lists how many entries differ, and the first of them. */
export function entryText(key: string, a: Value, b: Value): string {
  if (!isList(a) || !isList(b)) return `${key} is ${valueText(a)} here, ${valueText(b)} there`;
  const [x, y] = [listOf(a), listOf(b)];
  if (x.length !== y.length) {
    const at = firstEntry(a, b);
    const same = at === Math.min(x.length, y.length) ? "" : `, they part at ${at}`;
    return `${key} has ${x.length} entries here, ${y.length} there${same}`;
  }
  let count = 0;
  for (let i = 0; i < x.length; i++) if (x[i] !== y[i]) count++;
  const at = firstEntry(a, b);
  const isMoved = typeof x[0] === "string" &&
    new Set([...x, ...y] as string[]).size === new Set(x as string[]).size;
  return `${key} has ${
    isMoved ? "another order" : "other entries"
  } at ${count} of ${x.length} places, first at ${at}: ${valueText(x[at])} here, ${
    valueText(y[at])
  } there`;
}

/** Lists as files have them; of what is none, nothing. */
export function listOf(value: Value): ArrayLike<unknown> & Iterable<unknown> {
  return isList(value) ? value : [];
}

function isList(value: Value): value is ArrayLike<unknown> & Iterable<unknown> {
  return Array.isArray(value) || (ArrayBuffer.isView(value) && !(value instanceof DataView));
}

function valueText(value: Value): string {
  if (value === undefined) return "nothing";
  if (isList(value)) return `${value.length} entries`;
  const text = typeof value === "string" ? JSON.stringify(value) : String(value);
  return text.length > 40 ? `${text.slice(0, 37)}...` : text;
}
