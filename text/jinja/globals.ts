/**
 * The names that every template sees: those of Jinja's that chat templates use, and transformers' own.
 *
 * @module
 */
import type { Budget } from "./budget.ts";
import { formatTime } from "./text.ts";
import {
  bind,
  Callable,
  items,
  Namespace,
  Series,
  str,
  TemplateFault,
  typeName,
  type Value,
} from "./values.ts";

/** The sandbox's own limit. */
const LONGEST_RANGE = 100_000;

/** The names that every template sees. */
export const makeGlobals = (budget: Budget): Record<string, Value> => ({
  true: true,
  True: true,
  false: false,
  False: false,
  none: null,
  None: null,
  range: new Callable((args) => {
    const bounds = args.positional.map((bound) => {
      if (typeof bound === "bigint") return Number(bound);
      throw new TemplateFault(`'${typeName(bound)}' object cannot be interpreted as an integer`);
    });
    if (bounds.length === 0 || bounds.length > 3) {
      throw new TemplateFault("range takes 1 to 3 ints");
    }
    const [start, stop, step = 1] = bounds.length === 1 ? [0, bounds[0]] : bounds;
    if (step === 0) throw new TemplateFault("range() arg 3 must not be zero");
    const length = Math.max(0, Math.ceil((stop - start) / step));
    if (length > LONGEST_RANGE) {
      throw new TemplateFault(`a range of more than ${LONGEST_RANGE} items is too big`);
    }
    budget.spend(length);
    return new Series("range", Array.from({ length }, (_, i) => BigInt(start + i * step)));
  }),
  dict: new Callable(({ positional: [source], named }) =>
    new Map([...entries(source, budget), ...named])
  ),
  namespace: new Callable(({ positional: [source], named }) => {
    const names = entries(source, budget).map(([key, value]) =>
      [str(key, budget), value] as [string, Value]
    );
    return new Namespace(new Map([...names, ...named]));
  }),
  raise_exception: new Callable((args) => {
    const [message = ""] = bind("raise_exception", "message", args);
    throw new TemplateFault(String(message));
  }),
  strftime_now: new Callable((args) => {
    const [format = ""] = bind("strftime_now", "format", args);
    return formatTime(new Date(), String(format));
  }),
});

function entries(source: Value | undefined, budget: Budget): [Value, Value][] {
  if (source === undefined) return [];
  if (source instanceof Map) {
    budget.spend(source.size);
    return [...source];
  }
  return items(source, budget).map((pair) => {
    const [key, value, ...more] = items(pair, budget);
    if (value !== undefined && more.length === 0) return [key, value];
    throw new TemplateFault("a dict is made of another one, or of pairs");
  });
}
