/**
 * Jinja's filters and tests.
 *
 * @module
 */
import type { Budget } from "./budget.ts";
import { attribute, dictItems, formatPercent, replace } from "./methods.ts";
import { capitalize, splitLines, trim } from "./text.ts";
import {
  type Args,
  bind,
  Callable,
  compare,
  equal,
  isTrue,
  items,
  lengthOf,
  Markup,
  otherwise,
  Series,
  str,
  TemplateFault,
  toJson,
  toKey,
  toNumber,
  Tuple,
  typeName,
  Undefined,
  unmarked,
  type Value,
} from "./values.ts";

type Filter = (value: Value, args: Args, budget: Budget) => Value;
type Test = (value: Value, args: Args, budget: Budget) => boolean;

/** The filters that a mark as HTML goes through. */
const KEEPING = new Set(["e", "escape", "safe", "string", "list", "default", "d"]);

/** @throws {TemplateFault} when there is no such filter, or it does not take the value */
export function applyFilter(name: string, value: Value, args: Args, budget: Budget): Value {
  if (!Object.hasOwn(FILTERS, name)) throw new TemplateFault(`No filter named '${name}'.`);
  // Only what makes or keeps a mark may see one.
  const seen = KEEPING.has(name) ? value : unmarked(value);
  const result = FILTERS[name](seen, args, budget);
  return typeof result === "string" ? budget.text(result) : result;
}

/** @throws {TemplateFault} when there is no such test, or it does not take the value */
export function applyTest(name: string, value: Value, args: Args, budget: Budget): boolean {
  if (!Object.hasOwn(TESTS, name)) throw new TemplateFault(`No test named '${name}'.`);
  return TESTS[name](unmarked(value), args, budget);
}

/** Jinja's `value[key]`: the item, else the attribute of that name, else undefined. */
export function item(value: Value, key: Value, budget: Budget): Value {
  const found = itemOrNone(value, key, budget);
  if (found !== undefined) return found;
  const named = typeof key === "string" ? attribute(value, key, budget) : undefined;
  return otherwise(named, missing(value, key, budget));
}

/** Jinja's `value.name`: the attribute, else the item of that name, else undefined. */
export function member(value: Value, name: string, budget: Budget): Value {
  const found = attribute(value, name, budget);
  if (found !== undefined) return found;
  return otherwise(itemOrNone(value, name, budget), missing(value, name, budget));
}

function itemOrNone(marked: Value, key: Value, budget: Budget): Value | undefined {
  const value = unmarked(marked);
  if (value instanceof Undefined) throw new TemplateFault(value.problem);
  if (value instanceof Map) {
    return Array.isArray(key) || key instanceof Map ? undefined : value.get(toKey(key));
  }
  const index = toNumber(key);
  if (typeof index !== "bigint") return undefined;
  if (value instanceof Series && value.kind !== "range") return undefined;
  if (value instanceof Series || value instanceof Tuple) return value.items.at(Number(index));
  if (Array.isArray(value)) return value.at(Number(index));
  return typeof value === "string" ? items(value, budget).at(Number(index)) : undefined;
}

function missing(value: Value, key: Value, budget: Budget): Undefined {
  const quoted = typeof key === "string" ? `attribute '${key}'` : `element ${str(key, budget)}`;
  return new Undefined(`'${typeName(value)} object' has no ${quoted}`);
}

/** What is behind a dotted path, as `map(attribute="a.0.b")` takes it. */
function path(value: Value, dotted: Value, budget: Budget): Value {
  const steps = typeof dotted === "string" ? dotted.split(".") : [dotted];
  return steps.reduce<Value>(
    (at, step) =>
      item(at, typeof step === "string" && /^\d+$/.test(step) ? BigInt(step) : step, budget),
    value,
  );
}

/** Whether an item is chosen by the test in `args`, or by being true where there is none. */
function chosen(value: Value, [test, ...rest]: readonly Value[], named: Args["named"], b: Budget) {
  if (test === undefined) return isTrue(value);
  return applyTest(str(test, b), value, { positional: rest, named }, b);
}

/** What `map` and `select` go through: nothing where the value counts as false, as None does. */
function itemsIfAny(value: Value, budget: Budget): readonly Value[] {
  return isTrue(value) ? items(value, budget) : [];
}

const select = (wanted: boolean, byAttribute: boolean): Filter => (value, args, budget) => {
  const [first, ...rest] = args.positional;
  if (byAttribute && first === undefined) throw new TemplateFault("Missing attribute name");
  const kept = itemsIfAny(value, budget).filter((entry) => {
    const subject = byAttribute ? path(entry, first, budget) : entry;
    return chosen(subject, byAttribute ? rest : args.positional, args.named, budget) === wanted;
  });
  return new Series("generator", kept);
};

const extreme = (sign: number): Filter => (value, args, budget) => {
  const [caseSensitive = false, by] = bind("min", "case_sensitive attribute", args);
  const key = sortKey(caseSensitive, by, budget);
  const all = items(value, budget);
  if (all.length === 0) return new Undefined("No aggregated item, sequence was empty.");
  return all.reduce((best, next) => sign * compare(key(next), key(best), budget) > 0 ? next : best);
};

function sortKey(caseSensitive: Value, by: Value | undefined, budget: Budget) {
  return (value: Value): Value => {
    const key = by === undefined || by === null ? value : path(value, by, budget);
    return typeof key === "string" && !isTrue(caseSensitive) ? key.toLowerCase() : key;
  };
}

function sorted(
  values: readonly Value[],
  key: (value: Value) => Value,
  reverse: boolean,
  b: Budget,
) {
  b.spend(values.length * Math.ceil(Math.log2(values.length + 1)));
  const sign = reverse ? -1 : 1;
  return [...values].sort((x, y) => sign * compare(key(x), key(y), b));
}

const length: Filter = (value, _args, budget) => BigInt(lengthOf(value, budget));

const byDefault: Filter = (value, args) => {
  const [fallback = "", falsy = false] = bind("default", "default_value boolean", args);
  return value instanceof Undefined || isTrue(falsy) && !isTrue(value) ? fallback : value;
};

const changed = (change: (text: string) => string): Filter => (value, args, budget) => {
  bind("filter", "", args);
  return change(budget.text(str(value, budget)));
};

const HTML: Record<string, string> = {
  "&": "&amp;",
  "<": "&lt;",
  ">": "&gt;",
  "'": "&#39;",
  '"': "&#34;",
};

/** A value as HTML; what is marked as HTML is left as it is. */
export function escaped(value: Value, budget: Budget): Markup {
  if (value instanceof Markup) return value;
  const text = str(value, budget).replace(/[&<>'"]/g, (char) => HTML[char]);
  return new Markup(budget.text(text));
}

const FILTERS: Record<string, Filter> = {
  abs(value) {
    const number = toNumber(value);
    if (number === undefined) throw new TemplateFault(`bad operand type: '${typeName(value)}'`);
    return number < 0 ? -number : number;
  },
  attr(value, args, budget) {
    const [name = null] = bind("attr", "name", args);
    return otherwise(attribute(value, str(name, budget), budget), missing(value, name, budget));
  },
  capitalize: changed(capitalize),
  count: length,
  d: byDefault,
  default: byDefault,
  dictsort(value, args, budget) {
    const [caseSensitive = false, by = "key", reverse = false] = bind(
      "dictsort",
      "case_sensitive by reverse",
      args,
    );
    if (!(value instanceof Map)) throw new TemplateFault("dictsort needs a dict");
    const key = sortKey(caseSensitive, by === "value" ? 1n : 0n, budget);
    return sorted(dictItems(value).items, key, isTrue(reverse), budget);
  },
  e: (value, _args, budget) => escaped(value, budget),
  escape: (value, _args, budget) => escaped(value, budget),
  first: (value, _args, budget) =>
    otherwise(items(value, budget)[0], new Undefined("No first item, sequence was empty.")),
  float(value, args) {
    const [fallback = 0] = bind("float", "default", args);
    const number = typeof value === "string" && value.trim() !== ""
      ? Number(value)
      : toNumber(value);
    return number === undefined || Number.isNaN(Number(number)) ? fallback : Number(number);
  },
  format: (value, { positional }, budget) =>
    formatPercent(str(value, budget), new Tuple(positional), budget),
  indent(value, args, budget) {
    const [width = 4n, first = false, blank = false] = bind("indent", "width first blank", args);
    if (typeof width !== "string") budget.reserve(Number(toNumber(width) ?? 0));
    const space = typeof width === "string" ? width : " ".repeat(Number(toNumber(width) ?? 0));
    // Jinja cuts the lines of the text with a line end behind it.
    const lines = splitLines(str(value, budget) + "\n");
    budget.reserve(space.length * lines.length);
    const indented = lines.map((line, i) =>
      i === 0 ? line : line !== "" || isTrue(blank) ? space + line : line
    );
    return (isTrue(first) ? space : "") + indented.join("\n");
  },
  int(value, args) {
    const [fallback = 0n] = bind("int", "default base", args);
    if (typeof value === "string" && /^\s*[-+]?\d+\s*$/.test(value)) return BigInt(value.trim());
    const number = typeof value === "string" && value.trim() !== ""
      ? Number(value)
      : toNumber(value);
    if (typeof number === "bigint") return number;
    return Number.isFinite(number) ? BigInt(Math.trunc(number!)) : fallback;
  },
  items(value) {
    if (value instanceof Undefined) return new Series("generator", []);
    if (value instanceof Map) return new Series("generator", dictItems(value).items);
    throw new TemplateFault("Can only get item pairs from a mapping.");
  },
  join(value, args, budget) {
    const [separator = "", by] = bind("join", "d attribute", args);
    const glue = str(separator, budget);
    const parts = items(value, budget).map((part) =>
      str(by === undefined || by === null ? part : path(part, by, budget), budget)
    );
    budget.reserve(parts.reduce((sum, part) => sum + part.length + glue.length, 0));
    return parts.join(glue);
  },
  last: (value, _args, budget) =>
    otherwise(items(value, budget).at(-1), new Undefined("No last item, sequence was empty.")),
  length,
  list: (value, _args, budget) => [...items(value, budget)],
  lower: changed((text) => text.toLowerCase()),
  map(value, args, budget) {
    const { positional: [name, ...rest], named } = args;
    const all = itemsIfAny(value, budget);
    const by = named.get("attribute");
    const results = by === undefined
      ? all.map((entry) =>
        applyFilter(str(name ?? null, budget), entry, { positional: rest, named }, budget)
      )
      : all.map((entry) => {
        const found = path(entry, by, budget);
        return found instanceof Undefined ? otherwise(named.get("default"), found) : found;
      });
    return new Series("generator", results);
  },
  max: extreme(1),
  min: extreme(-1),
  reject: select(false, false),
  rejectattr: select(false, true),
  replace(value, args, budget) {
    const [old = null, fresh = null, count] = bind("replace", "old new count", args);
    const text = str(value, budget);
    return replace(text, str(old, budget), str(fresh, budget), count, budget);
  },
  reverse: (value, _args, budget) =>
    typeof value === "string"
      ? [...value].reverse().join("")
      : new Series("generator", [...items(value, budget)].reverse()),
  round(value, args) {
    const [precision = 0n, method = "common"] = bind("round", "precision method", args);
    const number = Number(toNumber(value) ?? NaN);
    const scale = 10 ** Number(toNumber(precision) ?? 0);
    if (method === "ceil") return Math.ceil(number * scale) / scale;
    if (method === "floor") return Math.floor(number * scale) / scale;
    // Python rounds halves to the even neighbour.
    const near = Math.round(number * scale);
    const half = Math.abs(number * scale % 1) === 0.5;
    return (half && near % 2 !== 0 ? near - 1 : near) / scale;
  },
  safe: (value, _args, budget) => new Markup(str(value, budget)),
  select: select(true, false),
  selectattr: select(true, true),
  sort(value, args, budget) {
    const [reverse = false, caseSensitive = false, by] = bind(
      "sort",
      "reverse case_sensitive attribute",
      args,
    );
    const key = sortKey(caseSensitive, by, budget);
    return sorted(items(value, budget), key, isTrue(reverse), budget);
  },
  string: (value, _args, budget) => value instanceof Markup ? value : str(value, budget),
  sum(value, args, budget) {
    const [by, start = 0n] = bind("sum", "attribute start", args);
    return items(value, budget).reduce<Value>((total, entry) => {
      const number = toNumber(by === undefined || by === null ? entry : path(entry, by, budget));
      const sum = toNumber(total);
      if (number === undefined || sum === undefined) throw new TemplateFault("sum needs numbers");
      return typeof number === "bigint" && typeof sum === "bigint"
        ? sum + number
        : Number(sum) + Number(number);
    }, start);
  },
  title: changed((text) => text.split(/([-\s({[<]+)/).map((word) => capitalize(word)).join("")),
  tojson(value, args, budget) {
    const [ensureAscii = false, indent = null, separators = null, sortKeys = false] = bind(
      "tojson",
      "ensure_ascii indent separators sort_keys",
      args,
    );
    const width = toNumber(indent);
    if (width !== undefined) budget.reserve(Number(width));
    const pair = separators === null ? undefined : items(separators, budget);
    return toJson(value, {
      ensureAscii: isTrue(ensureAscii),
      indent: indent === null
        ? undefined
        : width === undefined
        ? str(indent, budget)
        : " ".repeat(Math.max(0, Number(width))),
      itemSeparator: pair ? str(pair[0], budget) : indent === null ? ", " : ",",
      keySeparator: pair ? str(pair[1], budget) : ": ",
      sortKeys: isTrue(sortKeys),
    }, budget);
  },
  trim(value, args, budget) {
    const [chars = null] = bind("trim", "chars", args);
    return trim(str(value, budget), chars === null ? undefined : str(chars, budget));
  },
  unique(value, args, budget) {
    const [caseSensitive = false, by] = bind("unique", "case_sensitive attribute", args);
    const key = sortKey(caseSensitive, by, budget);
    const seen = new Set<Value>();
    const kept = items(value, budget).filter((entry) => {
      const mark = toKey(key(entry));
      return !seen.has(mark) && seen.add(mark);
    });
    return new Series("generator", kept);
  },
  upper: changed((text) => text.toUpperCase()),
  wordcount: (value, _args, budget) =>
    BigInt(str(value, budget).match(/[\p{L}\p{N}_]+/gu)?.length ?? 0),
};

const operand = ({ positional: [other] }: Args): Value => {
  if (other === undefined) throw new TemplateFault("the test misses an argument");
  return other;
};
const same: Test = (value, args, budget) => equal(value, operand(args), budget);
const ordered = (holds: (order: number) => boolean): Test => (value, args, budget) =>
  holds(compare(value, operand(args), budget));
const [less, most, more, least] = [
  ordered((order) => order < 0),
  ordered((order) => order <= 0),
  ordered((order) => order > 0),
  ordered((order) => order >= 0),
];
const parity = (wanted: number): Test => (value) =>
  Math.abs(Number(toNumber(value))) % 2 === wanted;
const isSized = (value: Value) =>
  typeof value === "string" || Array.isArray(value) || value instanceof Map ||
  value instanceof Tuple || value instanceof Undefined ||
  value instanceof Series && value.kind === "range";

const TESTS: Record<string, Test> = {
  boolean: (value) => typeof value === "boolean",
  callable: (value) => value instanceof Callable || value instanceof Undefined,
  defined: (value) => !(value instanceof Undefined),
  divisibleby: (value, args) => Number(toNumber(value)) % Number(toNumber(operand(args))) === 0,
  eq: same,
  equalto: same,
  "==": same,
  even: parity(0),
  false: (value) => value === false,
  float: (value) => typeof value === "number",
  ge: least,
  ">=": least,
  greaterthan: more,
  gt: more,
  ">": more,
  in: (value, args, budget) => contains(operand(args), value, budget),
  integer: (value) => typeof value === "bigint",
  iterable: (value) => isSized(value) || value instanceof Series,
  le: most,
  "<=": most,
  lessthan: less,
  lower: (value, _args, budget) => {
    const text = str(value, budget);
    return text === text.toLowerCase() && text !== text.toUpperCase();
  },
  lt: less,
  "<": less,
  mapping: (value) => value instanceof Map,
  ne: (value, args, budget) => !same(value, args, budget),
  "!=": (value, args, budget) => !same(value, args, budget),
  none: (value) => value === null,
  number: (value) => toNumber(value) !== undefined,
  odd: parity(1),
  sameas: (value, args) => value === operand(args),
  sequence: isSized,
  string: (value) => typeof value === "string",
  true: (value) => value === true,
  undefined: (value) => value instanceof Undefined,
  upper: (value, _args, budget) => {
    const text = str(value, budget);
    return text === text.toUpperCase() && text !== text.toLowerCase();
  },
};

/** Python's `value in container`. */
export function contains(whole: Value, part: Value, budget: Budget): boolean {
  const [container, value] = [unmarked(whole), unmarked(part)];
  if (container instanceof Map) return container.has(toKey(value));
  if (typeof container !== "string") {
    return items(container, budget).some((entry) => equal(entry, value, budget));
  }
  if (typeof value === "string") return budget.text(container).includes(value);
  throw new TemplateFault(
    `'in <string>' requires string as left operand, not ${typeName(value)}`,
  );
}
