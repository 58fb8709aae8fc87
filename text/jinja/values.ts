/**
 * Python's values, as a template sees them: how they are printed, compared and told apart.
 *
 * @module
 */
import type { Budget } from "./budget.ts";

/** A value of a template. An int is a bigint, a float a number, a list an array, a dict a Map. */
export type Value =
  | null
  | boolean
  | bigint
  | number
  | string
  | Value[]
  | Map<Value, Value>
  | Tuple
  | Series
  | Markup
  | Namespace
  | Callable
  | Undefined;

/** A tuple. */
export class Tuple {
  constructor(readonly items: readonly Value[]) {}
}

/** What is iterated over, but is no list: a generator, a range, the views of a dict. */
export class Series {
  constructor(
    readonly kind: "generator" | "range" | "dict_keys" | "dict_values" | "dict_items",
    readonly items: readonly Value[],
  ) {}
}

/**
 * A string that `safe` or `escape` has marked as HTML: what is added to it with `+` is escaped. In all
 * else it is the string.
 */
export class Markup {
  constructor(readonly text: string) {}
}

/** What has attributes and nothing else: `namespace(…)` and `loop`. */
export class Namespace {
  constructor(readonly attributes: Map<string, Value>) {}
}

/** What a name, attribute or item is that is not there: prints as nothing and fails when used. */
export class Undefined {
  constructor(readonly problem: string) {}
}

/** A function, macro or method. */
export class Callable {
  constructor(readonly call: (args: Args) => Value) {}
}

/** What a function, filter or test is called with. */
export interface Args {
  readonly positional: readonly Value[];
  readonly named: ReadonlyMap<string, Value>;
}

/** Why a template cannot go on, in the words of Python and Jinja. */
export class TemplateFault extends Error {
  override readonly name = "TemplateFault";
}

/**
 * The arguments by the names of their parameters (`"sep maxsplit"`), undefined where not given.
 *
 * @throws {TemplateFault} when there are others
 */
export function bind(name: string, names: string | readonly string[], args: Args) {
  const parameters = typeof names === "string" ? names.split(" ").filter(Boolean) : names;
  if (args.positional.length > parameters.length) {
    throw new TemplateFault(`${name}() takes at most ${parameters.length} argument(s)`);
  }
  for (const key of args.named.keys()) {
    if (parameters.indexOf(key) < args.positional.length) {
      throw new TemplateFault(`${name}() got an unexpected or repeated argument '${key}'`);
    }
  }
  return parameters.map((parameter, i) =>
    i < args.positional.length ? args.positional[i] : args.named.get(parameter)
  );
}

/** A value, or another one where it is not there; None is there. */
export function otherwise(value: Value | undefined, other: Value): Value {
  return value === undefined ? other : value;
}

/** A value of JavaScript as a template sees it. A whole number is an int. */
export function toValue(value: unknown): Value {
  if (value === undefined || value === null) return null;
  if (typeof value === "number") return Number.isSafeInteger(value) ? BigInt(value) : value;
  if (typeof value === "string" || typeof value === "boolean" || typeof value === "bigint") {
    return value;
  }
  if (Array.isArray(value)) return value.map(toValue);
  if (typeof value === "function") {
    return new Callable(({ positional }) => toValue(value(...positional.map(fromValue))));
  }
  // A field of no value is one that a message does not have.
  const entries = value instanceof Map
    ? [...value]
    : Object.entries(value).filter(([, item]) => item !== undefined);
  return new Map(entries.map(([key, item]) => [toValue(key), toValue(item)]));
}

function fromValue(value: Value): unknown {
  if (typeof value === "bigint") return Number(value);
  if (value instanceof Map) {
    return Object.fromEntries([...value].map(([key, item]) => [String(key), fromValue(item)]));
  }
  return Array.isArray(value) ? value.map(fromValue) : value;
}

/** The name of a value's type. */
export function typeName(value: Value): string {
  if (value === null) return "NoneType";
  if (typeof value === "boolean") return "bool";
  if (typeof value === "bigint") return "int";
  if (typeof value === "number") return "float";
  if (typeof value === "string") return "str";
  if (Array.isArray(value)) return "list";
  if (value instanceof Map) return "dict";
  if (value instanceof Tuple) return "tuple";
  if (value instanceof Series) return value.kind;
  if (value instanceof Undefined) return "Undefined";
  if (value instanceof Markup) return "Markup";
  return value instanceof Namespace ? "Namespace" : "function";
}

export function isTrue(value: Value): boolean {
  if (Array.isArray(value)) return value.length > 0;
  if (value instanceof Map) return value.size > 0;
  if (value instanceof Tuple) return value.items.length > 0;
  if (value instanceof Series) return value.kind === "generator" || value.items.length > 0;
  if (value instanceof Undefined) return false;
  if (value instanceof Markup) return value.text !== "";
  return typeof value === "object" && value !== null ? true : Boolean(value);
}

/** A value without the mark of `safe`. */
export function unmarked(value: Value): Value {
  return value instanceof Markup ? value.text : value;
}

/** A value's number, where it is one; a bool counts as 0 or 1. */
export function toNumber(value: Value): bigint | number | undefined {
  if (typeof value === "boolean") return value ? 1n : 0n;
  return typeof value === "bigint" || typeof value === "number" ? value : undefined;
}

/** A value's items, as a loop takes them. */
export function items(value: Value, budget: Budget): readonly Value[] {
  const found = itemsOf(value);
  // To cut a text takes less than what a loop does with an item.
  budget.spend(typeof value === "string" ? Math.ceil(found.length / 8) : found.length);
  return found;
}

function itemsOf(marked: Value): readonly Value[] {
  const value = unmarked(marked);
  if (Array.isArray(value)) return value;
  if (value instanceof Tuple || value instanceof Series) return value.items;
  if (value instanceof Map) return [...value.keys()];
  if (typeof value === "string") return [...value];
  if (value instanceof Undefined) return [];
  throw new TemplateFault(`'${typeName(value)}' object is not iterable`);
}

/** Python's `len`: a string's counts code points. */
export function lengthOf(marked: Value, budget: Budget): number {
  const value = unmarked(marked);
  if (typeof value === "string") {
    budget.text(value);
    let length = 0;
    for (const _ of value) length++;
    return length;
  }
  if (value instanceof Series && value.kind === "generator" || toNumber(value) !== undefined) {
    throw new TemplateFault(`object of type '${typeName(value)}' has no len()`);
  }
  return value instanceof Map ? value.size : itemsOf(value).length;
}

/** Python's `==`. */
export function equal(one: Value, other: Value, budget: Budget): boolean {
  budget.spend(1);
  const [a, b] = [unmarked(one), unmarked(other)];
  const [x, y] = [toNumber(a), toNumber(b)];
  // JavaScript compares a bigint with a number by their values.
  if (x !== undefined && y !== undefined) return x == y;
  if (a instanceof Undefined) return b instanceof Undefined;
  if (a instanceof Map && b instanceof Map) {
    return a.size === b.size &&
      [...a].every(([key, value]) => b.has(key) && equal(value, b.get(key)!, budget));
  }
  const [left, right] = a instanceof Tuple && b instanceof Tuple ? [a.items, b.items] : [a, b];
  if (Array.isArray(left) && Array.isArray(right)) {
    return left.length === right.length &&
      left.every((value, i) => equal(value, right[i], budget));
  }
  if (typeof a === "string") budget.text(a);
  return a === b;
}

/**
 * The order of two values: below, at or above 0.
 *
 * @throws {TemplateFault} when Python does not order them
 */
export function compare(one: Value, other: Value, budget: Budget): number {
  const [a, b] = [unmarked(one), unmarked(other)];
  const [x, y] = [toNumber(a), toNumber(b)];
  if (x !== undefined && y !== undefined) return x < y ? -1 : x > y ? 1 : x == y ? 0 : NaN;
  if (typeof a === "string" && typeof b === "string") return compareText(budget.text(a), b);
  const [left, right] = a instanceof Tuple && b instanceof Tuple ? [a.items, b.items] : [a, b];
  if (Array.isArray(left) && Array.isArray(right)) {
    for (let i = 0; i < left.length && i < right.length; i++) {
      if (!equal(left[i], right[i], budget)) return compare(left[i], right[i], budget);
    }
    return left.length - right.length;
  }
  throw new TemplateFault(
    `'<' not supported between instances of '${typeName(a)}' and '${typeName(b)}'`,
  );
}

/** By code points, where JavaScript's own order is by UTF-16 units. */
function compareText(a: string, b: string): number {
  let i = 0;
  while (i < a.length && a[i] === b[i]) i++;
  if (i === a.length || i === b.length) return a.length - b.length;
  if (i > 0 && isLowSurrogate(a, i) && isLowSurrogate(b, i)) i--;
  return a.codePointAt(i)! - b.codePointAt(i)!;
}

function isLowSurrogate(text: string, at: number): boolean {
  return (text.charCodeAt(at) & 0xfc00) === 0xdc00;
}

/** The key under which a dict keeps a value: equal keys are the same one. */
export function toKey(marked: Value): Value {
  const value = unmarked(marked);
  if (Array.isArray(value) || value instanceof Map) {
    throw new TemplateFault(`unhashable type: '${typeName(value)}'`);
  }
  return typeof value === "number" && Number.isSafeInteger(value) ? BigInt(value) : value;
}

/** Python's `str`, which is what `{{ … }}` writes. */
export function str(value: Value, budget: Budget): string {
  if (typeof value === "string") return value;
  if (value instanceof Markup) return value.text;
  return value instanceof Undefined ? "" : repr(value, budget);
}

/** Python's `repr`. */
export function repr(value: Value, budget: Budget): string {
  budget.spend(1);
  if (value === null) return "None";
  if (typeof value === "boolean") return value ? "True" : "False";
  if (typeof value === "bigint") return String(value);
  if (typeof value === "number") return floatText(value);
  if (typeof value === "string") return budget.text(quote(budget.text(value)));
  if (value instanceof Markup) return `Markup(${repr(value.text, budget)})`;
  if (value instanceof Undefined) return "Undefined";
  const list = (values: readonly Value[]) => values.map((item) => repr(item, budget)).join(", ");
  if (Array.isArray(value)) return budget.text(`[${list(value)}]`);
  if (value instanceof Tuple) {
    return budget.text(`(${list(value.items)}${value.items.length === 1 ? "," : ""})`);
  }
  if (value instanceof Map) {
    const pairs = [...value].map(([key, item]) => `${repr(key, budget)}: ${repr(item, budget)}`);
    return budget.text(`{${pairs.join(", ")}}`);
  }
  if (value instanceof Series && value.kind.startsWith("dict_")) {
    return budget.text(`${value.kind}([${list(value.items)}])`);
  }
  // Python writes an address or a range's limits here, which no prompt has a use for.
  throw new TemplateFault(`a ${typeName(value)} cannot be written`);
}

/** Python's `repr` of a float: the shortest digits, an exponent from 1e16 and below 1e-4. */
export function floatText(value: number): string {
  if (Number.isNaN(value)) return "nan";
  if (!Number.isFinite(value)) return value > 0 ? "inf" : "-inf";
  const [digits, power] = value.toExponential().split("e");
  const exponent = Number(power);
  if (value !== 0 && (exponent < -4 || exponent >= 16)) {
    return `${digits}e${exponent < 0 ? "-" : "+"}${String(Math.abs(exponent)).padStart(2, "0")}`;
  }
  if (Object.is(value, -0)) return "-0.0";
  // Down to 1e-4 plain digits, which JavaScript writes down to 1e-6.
  return Number.isInteger(value) ? value.toFixed(1) : String(value);
}

const ESCAPES: Record<string, string> = { "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t" };

function quote(text: string): string {
  const mark = text.includes("'") && !text.includes('"') ? '"' : "'";
  const body = text.replace(/[\\\p{C}\p{Z}']/gu, (char) => {
    if (char === " ") return char;
    if (char === "'") return mark === "'" ? "\\'" : char;
    if (ESCAPES[char]) return ESCAPES[char];
    const code = char.codePointAt(0)!;
    const [letter, digits] = code < 0x100 ? ["x", 2] : code < 0x10000 ? ["u", 4] : ["U", 8];
    return `\\${letter}${code.toString(16).padStart(digits as number, "0")}`;
  });
  return mark + body + mark;
}

/** The options of `tojson`. */
export interface JsonOptions {
  readonly ensureAscii: boolean;
  readonly indent: string | undefined;
  readonly itemSeparator: string;
  readonly keySeparator: string;
  readonly sortKeys: boolean;
}

/** Python's `json.dumps`. */
export function toJson(value: Value, options: JsonOptions, budget: Budget, depth = 0): string {
  budget.spend(1);
  if (value === null) return "null";
  if (typeof value === "boolean" || typeof value === "bigint") return String(value);
  if (typeof value === "number") {
    return Number.isFinite(value) ? floatText(value) : jsonInfinity(value);
  }
  if (typeof value === "string") return budget.text(jsonText(budget.text(value), options));
  if (value instanceof Markup) return toJson(value.text, options, budget);
  const next = (item: Value) => toJson(item, options, budget, depth + 1);
  const wrap = (open: string, parts: string[], close: string): string => {
    if (parts.length === 0 || options.indent === undefined) {
      budget.reserve(options.itemSeparator.length * parts.length);
      return budget.text(open + parts.join(options.itemSeparator) + close);
    }
    const line = "\n" + options.indent.repeat(depth);
    const separator = options.itemSeparator + line + options.indent;
    budget.reserve(separator.length * parts.length);
    return budget.text(open + line + options.indent + parts.join(separator) + line + close);
  };
  if (Array.isArray(value)) return wrap("[", value.map(next), "]");
  if (value instanceof Tuple) return wrap("[", value.items.map(next), "]");
  if (value instanceof Map) {
    const entries = [...value];
    if (options.sortKeys) entries.sort(([a], [b]) => compare(a, b, budget));
    const pairs = entries.map(([key, item]) =>
      jsonText(jsonKey(key, options, budget), options) + options.keySeparator + next(item)
    );
    return wrap("{", pairs, "}");
  }
  throw new TemplateFault(`Object of type ${typeName(value)} is not JSON serializable`);
}

function jsonInfinity(value: number): string {
  return Number.isNaN(value) ? "NaN" : value > 0 ? "Infinity" : "-Infinity";
}

function jsonKey(key: Value, options: JsonOptions, budget: Budget): string {
  if (typeof key === "string") return key;
  if (key === null || toNumber(key) !== undefined) return toJson(key, options, budget);
  throw new TemplateFault(`keys must be str, int, float, bool or None, not ${typeName(key)}`);
}

function jsonText(text: string, { ensureAscii }: JsonOptions): string {
  const json = JSON.stringify(text);
  return ensureAscii
    ? json.replace(
      /[\x7f-\uffff]/g,
      (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`,
    )
    : json;
}
