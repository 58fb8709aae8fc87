/**
 * The methods of Python's strings, dicts and lists that a template may call.
 *
 * @module
 */
import type { Budget } from "./budget.ts";
import { capitalize, splitAt, splitLines, splitSpaces, trim, trimEnd, trimStart } from "./text.ts";
import {
  type Args,
  bind,
  Callable,
  equal,
  items,
  Markup,
  Namespace,
  otherwise,
  repr,
  Series,
  str,
  TemplateFault,
  toKey,
  toNumber,
  Tuple,
  typeName,
  Undefined,
  unmarked,
  type Value,
} from "./values.ts";

type Method<Self> = (self: Self, args: Args, budget: Budget) => Value;

/** The sandbox of transformers keeps templates from changing what they are given. */
const CHANGING = new Set(
  "append clear extend insert pop popitem remove reverse setdefault sort update".split(" "),
);

/** A value's attribute, a bound method as a rule; undefined where there is none. */
export function attribute(marked: Value, name: string, budget: Budget): Value | undefined {
  const value = unmarked(marked);
  if (value instanceof Namespace) return value.attributes.get(name);
  const isDict = value instanceof Map;
  if ((isDict || Array.isArray(value)) && CHANGING.has(name)) {
    const problem = `access to attribute '${name}' of '${typeName(value)}' object is unsafe`;
    return new Undefined(problem);
  }
  let method: Method<never> | undefined;
  if (typeof value === "string") method = own(STRING, name);
  else if (isDict) method = own(DICT, name);
  else if (Array.isArray(value)) method = own(LIST, name);
  else if (value instanceof Tuple) method = own(LIST, name);
  if (method === undefined) return undefined;
  const self = (value instanceof Tuple ? value.items : value) as never;
  return new Callable((args) => {
    if (typeof value === "string") budget.text(value);
    if (isDict) budget.spend(value.size);
    const result = method(self, args, budget);
    return typeof result === "string" ? budget.text(result) : result;
  });
}

function own<T>(table: Record<string, T>, name: string): T | undefined {
  return Object.hasOwn(table, name) ? table[name] : undefined;
}

const DICT: Record<string, Method<Map<Value, Value>>> = {
  get(self, args) {
    const [key, fallback] = bind("get", "key default", args);
    return otherwise(self.get(toKey(required("get", key))), otherwise(fallback, null));
  },
  items: (self, args) => (bind("items", "", args), dictItems(self)),
  keys: (self, args) => (bind("keys", "", args), new Series("dict_keys", [...self.keys()])),
  values: (self, args) => (bind("values", "", args), new Series("dict_values", [...self.values()])),
  copy: (self, args) => (bind("copy", "", args), new Map(self)),
};

/** Python's `dict.items()`. */
export function dictItems(dict: Map<Value, Value>): Series {
  return new Series("dict_items", [...dict].map((pair) => new Tuple(pair)));
}

const LIST: Record<string, Method<readonly Value[]>> = {
  index(self, args, budget) {
    const [value] = bind("index", "value", args);
    const at = self.findIndex((item) => equal(item, required("index", value), budget));
    if (at < 0) throw new TemplateFault(`${repr(value!, budget)} is not in list`);
    return BigInt(at);
  },
  count(self, args, budget) {
    const [value] = bind("count", "value", args);
    return BigInt(self.filter((item) => equal(item, required("count", value), budget)).length);
  },
  copy: (self, args) => (bind("copy", "", args), [...self]),
};

const plain = (change: (text: string) => Value): Method<string> => (self, args) => {
  bind("string method", "", args);
  return change(self);
};

const stripping =
  (change: (text: string, chars?: string) => string): Method<string> => (self, args) => {
    const [chars] = bind("strip", "chars", args);
    return change(self, chars === undefined || chars === null ? undefined : text("strip", chars));
  };

const splitting = (fromEnd: boolean): Method<string> => (self, args, budget) => {
  const [separator, limit] = bind("split", "sep maxsplit", args);
  const most = limit === undefined ? Infinity : Number(toNumber(limit) ?? -1);
  const splits = most < 0 ? Infinity : most;
  if (separator === undefined || separator === null) return splitSpaces(self, splits, fromEnd);
  if (separator === "") throw new TemplateFault("empty separator");
  const parts = splitAt(self, text("split", separator), splits, fromEnd);
  budget.spend(parts.length);
  return parts;
};

const edge = (atEnd: boolean): Method<string> => (self, args, budget) => {
  const [edges] = bind(atEnd ? "endswith" : "startswith", "affix", args);
  const candidates = edges instanceof Tuple ? items(edges, budget) : [edges];
  return candidates.some((candidate) => {
    const affix = text(atEnd ? "endswith" : "startswith", candidate);
    return atEnd ? self.endsWith(affix) : self.startsWith(affix);
  });
};

const finding = (fromEnd: boolean, mustBe: boolean): Method<string> => (self, args) => {
  const [part] = bind("find", "sub", args);
  const wanted = text("find", part);
  const at = fromEnd ? self.lastIndexOf(wanted) : self.indexOf(wanted);
  if (at < 0 && mustBe) throw new TemplateFault("substring not found");
  return BigInt(at < 0 ? -1 : [...self.slice(0, at)].length);
};

const partition = (fromEnd: boolean): Method<string> => (self, args) => {
  const [separator] = bind("partition", "sep", args);
  const wanted = text("partition", separator);
  if (wanted === "") throw new TemplateFault("empty separator");
  const at = fromEnd ? self.lastIndexOf(wanted) : self.indexOf(wanted);
  if (at < 0) return new Tuple(fromEnd ? ["", "", self] : [self, "", ""]);
  return new Tuple([self.slice(0, at), wanted, self.slice(at + wanted.length)]);
};

/** Whether a string has characters, all of a kind. */
const all = (kind: RegExp) => plain((self) => kind.test(self));

const STRING: Record<string, Method<string>> = {
  upper: plain((self) => self.toUpperCase()),
  lower: plain((self) => self.toLowerCase()),
  capitalize: plain(capitalize),
  title: plain((self) =>
    self.replace(/\p{L}+/gu, (word) => {
      const [first] = word;
      return first.toUpperCase() + word.slice(first.length).toLowerCase();
    })
  ),
  strip: stripping(trim),
  lstrip: stripping(trimStart),
  rstrip: stripping(trimEnd),
  split: splitting(false),
  rsplit: splitting(true),
  splitlines: (self, args) => (bind("splitlines", "", args), splitLines(self)),
  startswith: edge(false),
  endswith: edge(true),
  find: finding(false, false),
  rfind: finding(true, false),
  index: finding(false, true),
  partition: partition(false),
  rpartition: partition(true),
  isdigit: all(/^\p{Nd}+$/u),
  isalpha: all(/^\p{L}+$/u),
  isalnum: all(/^[\p{L}\p{N}]+$/u),
  isspace: plain((self) => self !== "" && trim(self) === ""),
  isupper: plain((self) => self === self.toUpperCase() && self !== self.toLowerCase()),
  islower: plain((self) => self === self.toLowerCase() && self !== self.toUpperCase()),
  count(self, args) {
    const [part] = bind("count", "sub", args);
    const wanted = text("count", part);
    return BigInt(wanted === "" ? [...self].length + 1 : self.split(wanted).length - 1);
  },
  removeprefix(self, args) {
    const prefix = text("removeprefix", bind("removeprefix", "prefix", args)[0]);
    return self.startsWith(prefix) ? self.slice(prefix.length) : self;
  },
  removesuffix(self, args) {
    const suffix = text("removesuffix", bind("removesuffix", "suffix", args)[0]);
    return self.endsWith(suffix) ? self.slice(0, self.length - suffix.length) : self;
  },
  replace(self, args, budget) {
    const [old, fresh, count] = bind("replace", "old new count", args);
    return replace(self, text("replace", old), text("replace", fresh), count, budget);
  },
  join(self, args, budget) {
    const [values] = bind("join", "iterable", args);
    const parts = items(required("join", values), budget).map((part) => text("join", part));
    budget.reserve(self.length * parts.length);
    return parts.join(self);
  },
  format: (self, args, budget) => formatFields(self, args, budget),
};

/** Python's `str.replace`; `count` is the most replacements, if given and not negative. */
export function replace(
  text: string,
  old: string,
  fresh: string,
  count: Value | undefined,
  budget: Budget,
): string {
  const limit = count === undefined || count === null ? -1 : Number(toNumber(count) ?? -1);
  // Of the empty text there is one before every character and one at the end.
  const parts = old === "" ? ["", ...text, ""] : text.split(old);
  const replaced = Math.min(parts.length - 1, limit < 0 ? Infinity : limit);
  budget.reserve(text.length + replaced * fresh.length);
  const kept = parts.slice(replaced).join(old);
  return [...parts.slice(0, replaced), kept].join(fresh);
}

/** Python's `str.format`, with fields that name an argument and nothing more. */
function formatFields(format: string, args: Args, budget: Budget): string {
  let next = 0;
  return format.replace(/\{\{|\}\}|\{([^{}]*)\}|[{}]/g, (field, name: string | undefined) => {
    if (field === "{{" || field === "}}") return field[0];
    if (name === undefined) throw new TemplateFault(`single '${field}' in a format string`);
    if (!/^\w*$/.test(name)) throw new TemplateFault(`the format field {${name}} is not known`);
    const value = /^\d*$/.test(name)
      ? args.positional[name === "" ? next++ : Number(name)]
      : args.named.get(name);
    if (value === undefined) throw new TemplateFault(`no value for the format field {${name}}`);
    return budget.text(str(value, budget));
  });
}

/** Python's `%` on a string, with the conversions that need no width. */
export function formatPercent(format: string, value: Value, budget: Budget): string {
  const values = value instanceof Tuple ? [...value.items] : [value];
  const text = format.replace(/%(?:\((\w+)\))?(.)/gs, (field, name: string | undefined, kind) => {
    if (field === "%%") return "%";
    const item = name !== undefined && value instanceof Map ? value.get(name) : values.shift();
    if (item === undefined) throw new TemplateFault("not enough arguments for format string");
    if (kind === "s") return budget.text(str(item, budget));
    if (kind === "r") return budget.text(repr(item, budget));
    const number = toNumber(item);
    if ("di".includes(kind) && number !== undefined) return String(Math.trunc(Number(number)));
    throw new TemplateFault(`the format ${field} is not known or not for ${typeName(item)}`);
  });
  if (values.length > 0 && !(value instanceof Map)) {
    throw new TemplateFault("not all arguments converted during string formatting");
  }
  return text;
}

function text(method: string, value: Value | undefined): string {
  if (typeof value === "string") return value;
  if (value instanceof Markup) return value.text;
  throw new TemplateFault(`${method}() needs a str, not ${typeName(required(method, value))}`);
}

function required(method: string, value: Value | undefined): Value {
  if (value !== undefined) return value;
  throw new TemplateFault(`${method}() misses an argument`);
}
