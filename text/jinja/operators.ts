/**
 * Python's operators and slices.
 *
 * @module
 */
import type { Budget } from "./budget.ts";
import { contains, escaped } from "./filters.ts";
import { formatPercent } from "./methods.ts";
import {
  compare,
  equal,
  isTrue,
  items,
  lengthOf,
  Markup,
  str,
  TemplateFault,
  toNumber,
  Tuple,
  typeName,
  Undefined,
  type Value,
} from "./values.ts";

/** What a sign or `not` makes of a value. */
export function unary(operator: string, value: Value): Value {
  if (operator === "not") return !isTrue(value);
  const number = toNumber(value);
  if (number === undefined) {
    throw new TemplateFault(`bad operand type for unary ${operator}: '${typeName(value)}'`);
  }
  return operator === "-" ? -number : number;
}

/**
 * What an operator makes of two values; `and` and `or` are not among them.
 *
 * @throws {TemplateFault} when Python does not take them
 */
export function binary(operator: string, left: Value, right: Value, budget: Budget): Value {
  if (operator === "==" || operator === "!=") {
    return equal(left, right, budget) === (operator === "==");
  }
  if (operator === "~") return budget.text(str(left, budget) + str(right, budget));
  if (operator.endsWith("in")) return contains(right, left, budget) === (operator === "in");
  const lost = left instanceof Undefined ? left : right instanceof Undefined ? right : undefined;
  if (lost) throw new TemplateFault(lost.problem);
  if (Object.hasOwn(ORDER, operator)) return ORDER[operator](compare(left, right, budget));
  const [x, y] = [toNumber(left), toNumber(right)];
  if (x !== undefined && y !== undefined) return arithmetic(operator, x, y, budget);
  if (operator === "%" && typeof left === "string") {
    return budget.text(formatPercent(left, right, budget));
  }
  if (operator === "+") {
    if (left instanceof Markup || right instanceof Markup) {
      const text = escaped(left, budget).text + escaped(right, budget).text;
      return new Markup(budget.text(text));
    }
    if (typeof left === "string" && typeof right === "string") return budget.text(left + right);
    if (Array.isArray(left) && Array.isArray(right)) {
      return [...items(left, budget), ...items(right, budget)];
    }
    if (left instanceof Tuple && right instanceof Tuple) {
      return new Tuple([...items(left, budget), ...items(right, budget)]);
    }
  }
  if (operator === "*") {
    if (typeof y === "bigint") return repeat(left, y, budget);
    if (typeof x === "bigint") return repeat(right, x, budget);
  }
  throw new TemplateFault(
    `unsupported operand type(s) for ${operator}: '${typeName(left)}' and '${typeName(right)}'`,
  );
}

/** `object[start:stop:step]`, where null stands for what is left out. */
export function slice(
  object: Value,
  [start, stop, step]: readonly (bigint | null)[],
  budget: Budget,
): Value {
  if (object instanceof Undefined) throw new TemplateFault(object.problem);
  if (object instanceof Map || object === null) {
    throw new TemplateFault(`'${typeName(object)}' object is not subscriptable`);
  }
  const values = items(object, budget);
  const stride = Number(step ?? 1n);
  if (stride === 0) throw new TemplateFault("slice step cannot be zero");
  const [lowest, highest] = stride > 0 ? [0, values.length] : [-1, values.length - 1];
  const clamp = (bound: bigint | null, otherwise: number) => {
    if (bound === null) return otherwise;
    const at = Number(bound) + (bound < 0n ? values.length : 0);
    return Math.min(Math.max(at, lowest), highest);
  };
  const from = clamp(start, stride > 0 ? lowest : highest);
  const to = clamp(stop, stride > 0 ? highest : lowest);
  const taken: Value[] = [];
  for (let at = from; stride > 0 ? at < to : at > to; at += stride) taken.push(values[at]);
  if (typeof object === "string") return taken.join("");
  return object instanceof Tuple ? new Tuple(taken) : taken;
}

function repeat(value: Value, times: bigint, budget: Budget): Value {
  const count = Math.max(0, Number(times));
  const length = typeof value === "string" ? value.length : 16 * lengthOf(value, budget);
  budget.reserve(count * length);
  if (typeof value === "string") return value.repeat(count);
  if (!Array.isArray(value)) throw new TemplateFault(`cannot repeat a ${typeName(value)}`);
  return Array.from({ length: count }, () => value).flat();
}

/** What a comparison makes of the order of its values. */
const ORDER: Readonly<Record<string, (order: number) => boolean>> = {
  "<": (order) => order < 0,
  "<=": (order) => order <= 0,
  ">": (order) => order > 0,
  ">=": (order) => order >= 0,
};

const INTS: Readonly<Record<string, (x: bigint, y: bigint, budget: Budget) => bigint>> = {
  "+": (x, y) => x + y,
  "-": (x, y) => x - y,
  "*": (x, y) => x * y,
  "//": floorDivide,
  "%": (x, y) => x - y * floorDivide(x, y),
  "**": (x, y, budget) => budget.power(x, y),
};

function floorDivide(x: bigint, y: bigint): bigint {
  return x / y - (x % y !== 0n && x < 0n !== y < 0n ? 1n : 0n);
}

const FLOATS: Readonly<Record<string, (x: number, y: number) => number>> = {
  "+": (x, y) => x + y,
  "-": (x, y) => x - y,
  "*": (x, y) => x * y,
  "/": (x, y) => x / y,
  "//": (x, y) => Math.floor(x / y),
  "%": (x, y) => x - y * Math.floor(x / y),
  "**": (x, y) => x ** y,
};

function arithmetic(
  operator: string,
  x: bigint | number,
  y: bigint | number,
  budget: Budget,
): Value {
  if ("/%".includes(operator[0]) && Number(y) === 0) throw new TemplateFault("division by zero");
  const ints = typeof x === "bigint" && typeof y === "bigint" && operator !== "/";
  if (ints && !(operator === "**" && y < 0n)) return budget.int(INTS[operator](x, y, budget));
  return FLOATS[operator](Number(x), Number(y));
}
