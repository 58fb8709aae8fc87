import { parseArgs } from "node:util";
import { nearest } from "../../models/nearest.ts";

/** Wrong usage of a command: exit code 2. */
export class UsageError extends Error {
  override readonly name = "UsageError";
}

/** One option of a command line, and how its text becomes a value. */
export interface Option<T> {
  /** One line for `--help`. */
  readonly help: string;
  /** What stands for the value in `--help`; undefined for an option without one. */
  readonly placeholder?: string;
  /** The value where the option is not given. */
  readonly default?: T;
  /** @throws {UsageError} that says what the value must be, as the end of a sentence. */
  readonly parse: (text: string) => T;
}

/** Options by the name that people type, without the dashes. */
export type Options = Record<string, Option<unknown>>;

/** The values of options. */
export type Values<O extends Options> = {
  readonly [Name in keyof O]: O[Name] extends Option<infer T> ? T : never;
};

/** What a command accepts. */
export interface CommandSyntax<O extends Options> {
  /** As people type it: `./denow task model`. */
  readonly name: string;
  /** What it does, one line. */
  readonly summary: string;
  readonly options: O;
  /** Names of the arguments without dashes: `FILE`, `[FILE]` if it can be left out, `[FILES...]` for any number at the end. */
  readonly positionals?: readonly string[];
}

/** A command line that was understood. */
export interface CommandLine<O extends Options> {
  readonly options: Values<O>;
  readonly positionals: readonly string[];
  /** Whether only the help is wanted. */
  readonly help: boolean;
  /** Whether errors show their stack. */
  readonly debug: boolean;
}

const COMMON = {
  debug: flag("show where an error comes from"),
  help: flag("show this and stop"),
};

/** An option that is there or not. */
export function flag(help: string): Option<boolean> {
  return { help, default: false, parse: () => true };
}

/** An option with any text but the empty one. */
export function text<Standard extends string | undefined = undefined>(
  help: string,
  placeholder: string,
  standard?: Standard,
): Option<string | Standard> {
  return { help, placeholder, default: standard, parse: (given) => given };
}

/** What a number must be. */
export interface NumberRange {
  readonly integer?: boolean;
  /** Lowest allowed. */
  readonly min?: number;
  /** Highest allowed. */
  readonly max?: number;
  /** Must be greater than this. */
  readonly above?: number;
  /** Must be less than this. */
  readonly below?: number;
  /** The value where the option is not given. */
  readonly default?: number;
}

/** An option with a finite number. */
export function number<Standard extends number | undefined = undefined>(
  help: string,
  range: NumberRange & { readonly default?: Standard } = {},
): Option<number | Standard> {
  const parse = (given: string) => parseNumber(given, range);
  return { help, placeholder: "N", default: range.default, parse };
}

/** An option with one of a few words. */
export function choice<
  const Word extends string,
  const Standard extends Word | undefined = undefined,
>(help: string, words: readonly Word[], standard?: Standard): Option<Word | Standard> {
  const parse = (given: string) => parseWord(given, words);
  return { help, placeholder: words.join("|"), default: standard, parse };
}

/** An option with words separated by commas, each one of a few. */
export function choices<Word extends string>(
  help: string,
  words: readonly Word[],
): Option<Word[] | undefined> {
  const parse = (given: string) => given.split(",").map((word) => parseWord(word.trim(), words));
  return { help, placeholder: `${words.join("|")},...`, parse };
}

/** An option with texts separated by commas. */
export function texts(help: string, placeholder: string): Option<string[] | undefined> {
  return {
    help,
    placeholder,
    parse(given) {
      const all = given.split(",").map((part) => part.trim());
      if (all.includes("")) throw new UsageError("a list without gaps, separated by commas");
      return all;
    },
  };
}

/** An option with numbers separated by commas, all in the same range. */
export function numbers(
  help: string,
  placeholder: string,
  range: Omit<NumberRange, "default"> = {},
): Option<number[] | undefined> {
  const parse = (given: string) => given.split(",").map((part) => parseNumber(part, range));
  return { help, placeholder, parse };
}

/**
 * Understands a command line; `--help` and `--debug` are always options. Values stand as
 * `--name value` or `--name=value`, the last one counts, and what follows `--` is no option.
 *
 * @throws {UsageError} for the first thing that is wrong
 */
export function parseCommandLine<O extends Options>(
  syntax: CommandSyntax<O>,
  args: readonly string[],
): CommandLine<O> {
  const options: Options = { ...syntax.options, ...COMMON };
  const values: Record<string, unknown> = {};
  for (const [name, option] of Object.entries(options)) values[name] = option.default;

  // Node's own strictness reports errors in several lines and takes no negative number.
  const { tokens } = parseArgs({
    args: [...args],
    strict: false,
    tokens: true,
    options: Object.fromEntries(
      Object.entries(options).map((
        [name, { placeholder }],
      ) => [name, { type: placeholder === undefined ? "boolean" : "string" } as const]),
    ),
  });
  const positionals: string[] = [];
  for (const token of tokens) {
    if (token.kind === "positional") positionals.push(token.value);
    if (token.kind !== "option") continue;
    if (!Object.hasOwn(options, token.name)) throw unknownOption(token.rawName, options);
    values[token.name] = parseOption(token, options[token.name]);
  }
  const { help, debug, ...own } = values;
  if (!help) checkPositionals(syntax, positionals);
  return { options: own as Values<O>, positionals, help: help === true, debug: debug === true };
}

/** The text that `--help` prints. */
export function helpText(syntax: CommandSyntax<Options>): string {
  const rows = Object.entries({ ...syntax.options, ...COMMON }).map(([name, option]) => {
    const left = option.placeholder === undefined ? `--${name}` : `--${name} ${option.placeholder}`;
    const shown = option.placeholder !== undefined && option.default !== undefined;
    return [left, shown ? `${option.help} (default ${option.default})` : option.help];
  });
  const width = Math.min(32, Math.max(...rows.map(([left]) => left.length)));
  const lines = rows.map(([left, right]) =>
    left.length > width
      ? `  ${left}\n  ${" ".repeat(width)}  ${right}`
      : `  ${left.padEnd(width)}  ${right}`
  );
  return `${syntax.summary}\n\nUsage: ${usage(syntax)}\n\n${lines.join("\n")}`;
}

function usage({ name, positionals = [] }: CommandSyntax<Options>): string {
  return [name, "[OPTIONS]", ...positionals].join(" ");
}

interface OptionToken {
  readonly rawName: string;
  readonly value?: string;
  readonly inlineValue?: boolean;
}

function parseOption({ rawName, value, inlineValue }: OptionToken, option: Option<unknown>) {
  if (option.placeholder === undefined) {
    if (value !== undefined) throw new UsageError(`${rawName} takes no value`);
    return option.parse("");
  }
  // "--model --json" is a forgotten value; "--seed -1" is a wrong one.
  const looksLikeOption = value !== undefined && !inlineValue && /^-[^\d.]/.test(value);
  if (value === undefined || value === "" || looksLikeOption) {
    throw new UsageError(`${rawName} needs a value: ${rawName} ${option.placeholder}`);
  }
  try {
    return option.parse(value);
  } catch (error) {
    if (!(error instanceof UsageError)) throw error;
    throw new UsageError(`${rawName} must be ${error.message}; it is ${JSON.stringify(value)}`);
  }
}

function parseNumber(given: string, range: NumberRange): number {
  const value = given.trim() === "" ? NaN : Number(given);
  const { integer = false, min = -Infinity, max = Infinity, above, below } = range;
  const valid = Number.isFinite(value) && (!integer || Number.isSafeInteger(value)) &&
    value >= min && value <= max && (above === undefined || value > above) &&
    (below === undefined || value < below);
  if (!valid) throw new UsageError(describe(range));
  return value;
}

function describe({ integer, min, max, above, below }: NumberRange): string {
  const kind = integer ? "an integer" : "a number";
  if (min !== undefined && max !== undefined) return `${kind} from ${min} to ${max}`;
  const bounds: string[] = [];
  if (min !== undefined) bounds.push(`at least ${min}`);
  if (above !== undefined) bounds.push(`above ${above}`);
  if (max !== undefined) bounds.push(`at most ${max}`);
  if (below !== undefined) bounds.push(`below ${below}`);
  return [kind, bounds.join(" and ")].join(" ").trim();
}

function parseWord<Word extends string>(given: string, words: readonly Word[]): Word {
  const word = words.find((each) => each === given);
  if (word === undefined) throw new UsageError(`one of ${words.join(", ")}`);
  return word;
}

function checkPositionals(syntax: CommandSyntax<Options>, given: readonly string[]): void {
  const names = syntax.positionals ?? [];
  const required = names.filter((name) => !name.startsWith("["));
  if (given.length < required.length) {
    throw new UsageError(`${required[given.length]} is missing; usage: ${usage(syntax)}`);
  }
  const empty = required.findIndex((_, i) => given[i] === "");
  if (empty >= 0) throw new UsageError(`${required[empty]} is empty; usage: ${usage(syntax)}`);
  if (given.length > names.length && !names.at(-1)?.endsWith("...]")) {
    const extra = JSON.stringify(given[names.length]);
    throw new UsageError(`unexpected argument ${extra} (quote a text with spaces in it)`);
  }
}

function unknownOption(rawName: string, options: Options): UsageError {
  const near = nearest(rawName.replace(/^-+/, ""), Object.keys(options), 1);
  const hint = near.length > 0 ? `did you mean --${near[0]}?` : "--help lists the options";
  return new UsageError(`unknown option ${rawName}; ${hint}`);
}
