/**
 * Renders a Jinja template as Python's jinja2 does, set up as transformers sets it up for chat templates.
 *
 * @module
 */
import type { parse, Template, tokenize } from "npm:@huggingface/jinja@0.5.11";
import { Budget, LimitFault } from "./budget.ts";
import { applyFilter, applyTest, item, member } from "./filters.ts";
import { makeGlobals } from "./globals.ts";
import type { Expression, For, Node, Parameter, SetNode } from "./nodes.ts";
import { binary, slice, unary } from "./operators.ts";
import { cutTemplate, plainTag } from "./source.ts";
import {
  type Args,
  bind,
  Callable,
  equal,
  isTrue,
  items,
  Namespace,
  otherwise,
  str,
  TemplateFault,
  toKey,
  toValue,
  Tuple,
  typeName,
  Undefined,
  type Value,
} from "./values.ts";

export { LimitFault };

/** What a loop's round costs: `loop` has many attributes. */
const STEPS_PER_ROUND = 15;

/** The parser that a template is read with. */
export interface Parser {
  readonly tokenize: typeof tokenize;
  readonly parse: typeof parse;
}

/** A template that was read. */
export type Parsed = Template["parsed"];

/**
 * Reads a template.
 *
 * @throws {Error} when it is broken
 */
export function parseTemplate(template: string, { tokenize, parse }: Parser): Parsed {
  return parse(
    cutTemplate(template).flatMap(({ kind, text }) => {
      if (kind === "text") return [{ type: "Text" as const, value: text }];
      const inside = plainTag(text);
      return tokenize(kind === "expression" ? `{{ ${inside} }}` : `{% ${inside} %}`);
    }),
  );
}

/**
 * Writes what a template makes of its variables.
 *
 * @throws {TemplateFault} when the template refuses them or fails
 * @throws {LimitFault} when it spends more than it may
 */
export function renderTemplate(parsed: Parsed, variables: Record<string, unknown>): string {
  try {
    return new Renderer().run(parsed as unknown as { body: Node[] }, variables);
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    throw new LimitFault("it nests too deep or makes too long a text", { cause: error });
  }
}

/** The names that a part of a template sees. */
class Scope {
  readonly #values = new Map<string, Value>();
  constructor(readonly parent?: Scope) {}

  get(name: string): Value | undefined {
    // deno-lint-ignore no-this-alias
    for (let scope: Scope | undefined = this; scope; scope = scope.parent) {
      const value = scope.#values.get(name);
      if (value !== undefined) return value;
    }
    return undefined;
  }

  set(name: string, value: Value): void {
    this.#values.set(name, value);
  }
}

/** What is written, piece by piece. */
class Output {
  readonly #pieces: string[] = [];
  #length = 0;
  constructor(readonly budget: Budget) {}

  write(text: string): void {
    this.budget.reserve(text.length);
    this.budget.fits(this.#length += text.length);
    this.#pieces.push(text);
  }

  get text(): string {
    return this.#pieces.join("");
  }
}

/** How a part of a template ended: at its end, or with a tag for the loop around it. */
type End = "end" | "break" | "continue";

class Renderer {
  readonly #budget = new Budget();

  run(program: { body: Node[] }, variables: Record<string, unknown>): string {
    const scope = new Scope();
    for (const [name, value] of Object.entries(makeGlobals(this.#budget))) scope.set(name, value);
    for (const [name, value] of Object.entries(variables)) scope.set(name, toValue(value));
    return this.#text(program.body, new Scope(scope));
  }

  #text(body: readonly Node[], scope: Scope): string {
    const output = new Output(this.#budget);
    this.#block(body, scope, output);
    return output.text;
  }

  #block(body: readonly Node[], scope: Scope, output: Output): End {
    for (const node of body) {
      const end = this.#statement(node, scope, output);
      if (end !== "end") return end;
    }
    return "end";
  }

  #statement(node: Node, scope: Scope, output: Output): End {
    this.#budget.spend(1);
    switch (node.type) {
      case "Comment":
        return "end";
      case "If": {
        const test = isTrue(this.#value(node.test, scope));
        return this.#block(test ? node.body : node.alternate, scope, output);
      }
      case "For":
        this.#loop(node, scope, output);
        return "end";
      case "Break":
        return "break";
      case "Continue":
        return "continue";
      case "Set":
        this.#set(node, scope);
        return "end";
      case "Macro":
        scope.set(node.name.value, this.#macro(node.name.value, node, scope));
        return "end";
      case "CallStatement": {
        const args = this.#args(node.call.args, scope);
        const block = { args: node.callerArgs ?? [], body: node.body };
        const named = new Map([...args.named, ["caller", this.#macro("caller", block, scope)]]);
        output.write(str(this.#call(node.call.callee, { ...args, named }, scope), this.#budget));
        return "end";
      }
      case "FilterStatement": {
        const text = this.#text(node.body, new Scope(scope));
        output.write(str(this.#filter(node.filter, text, scope), this.#budget));
        return "end";
      }
      default:
        output.write(str(this.#value(node, scope), this.#budget));
        return "end";
    }
  }

  #loop({ loopvar, iterable, body, defaultBlock }: For, scope: Scope, output: Output): void {
    const filtered = iterable.type === "SelectExpression" ? iterable : undefined;
    let values = items(this.#value(filtered?.lhs ?? iterable, scope), this.#budget);
    if (filtered) {
      values = values.filter((value) => {
        const inner = new Scope(scope);
        this.#assign(loopvar, value, inner);
        return isTrue(this.#value(filtered.test, inner));
      });
    }
    let changing: Value[] | undefined;
    const changed = new Callable(({ positional }) => {
      const before = changing;
      changing = [...positional];
      return before === undefined || !equal(before, changing, this.#budget);
    });
    for (const [i, value] of values.entries()) {
      this.#budget.spend(STEPS_PER_ROUND);
      const inner = new Scope(scope);
      const cycle = new Callable(({ positional }) =>
        otherwise(positional[i % positional.length], null)
      );
      inner.set(
        "loop",
        new Namespace(
          new Map<string, Value>([
            ["index", BigInt(i + 1)],
            ["index0", BigInt(i)],
            ["revindex", BigInt(values.length - i)],
            ["revindex0", BigInt(values.length - i - 1)],
            ["first", i === 0],
            ["last", i === values.length - 1],
            ["length", BigInt(values.length)],
            ["previtem", otherwise(values[i - 1], new Undefined("there is no previous item"))],
            ["nextitem", otherwise(values[i + 1], new Undefined("there is no next item"))],
            ["depth", 1n],
            ["depth0", 0n],
            ["cycle", cycle],
            ["changed", changed],
          ]),
        ),
      );
      this.#assign(loopvar, value, inner);
      if (this.#block(body, inner, output) === "break") return;
    }
    if (values.length === 0) this.#block(defaultBlock, new Scope(scope), output);
  }

  #set({ assignee, value, body }: SetNode, scope: Scope): void {
    if (value !== null) return this.#assign(assignee, this.#value(value, scope), scope);
    const filters: (Expression & { type: "FilterExpression" })[] = [];
    let target = assignee;
    for (; target.type === "FilterExpression"; target = target.operand) filters.unshift(target);
    let text: Value = this.#text(body, new Scope(scope));
    for (const { filter } of filters) text = this.#filter(filter, text, scope);
    this.#assign(target, text, scope);
  }

  #assign(target: Expression, value: Value, scope: Scope): void {
    if (target.type === "Identifier") return scope.set(target.value, value);
    if (target.type === "TupleLiteral") {
      const values = items(value, this.#budget);
      if (values.length !== target.value.length) {
        throw new TemplateFault(`${values.length} values for ${target.value.length} names`);
      }
      target.value.forEach((name, i) => this.#assign(name, values[i], scope));
      return;
    }
    if (target.type !== "MemberExpression" || target.property.type !== "Identifier") {
      throw new TemplateFault("only names can be set");
    }
    const object = this.#value(target.object, scope);
    if (!(object instanceof Namespace)) {
      throw new TemplateFault("cannot assign attribute on non-namespace object");
    }
    object.attributes.set(target.property.value, value);
  }

  #macro(name: string, macro: { args: Parameter[]; body: Node[] }, scope: Scope): Callable {
    const names = macro.args.map((parameter) =>
      parameter.type === "Identifier" ? parameter.value : parameter.key.value
    );
    return new Callable(({ positional, named }) => {
      const inner = new Scope(scope);
      const own = new Map([...named].filter(([key]) => names.includes(key)));
      const others = new Map([...named].filter(([key]) => !own.has(key) && key !== "caller"));
      if (positional.length > names.length && !mentions(macro.body, "varargs")) {
        throw new TemplateFault(`macro '${name}' takes not more than ${names.length} argument(s)`);
      }
      if (others.size > 0 && !mentions(macro.body, "kwargs")) {
        const [other] = others.keys();
        throw new TemplateFault(`macro '${name}' takes no keyword argument '${other}'`);
      }
      inner.set("varargs", new Tuple(positional.slice(names.length)));
      inner.set("kwargs", new Map<Value, Value>(others));
      const caller = named.get("caller");
      if (caller !== undefined) inner.set("caller", caller);
      const given = bind(name, names, {
        positional: positional.slice(0, names.length),
        named: own,
      });
      // Names first: a default sees the other parameters, and none of the names outside.
      names.forEach((key, i) =>
        inner.set(key, otherwise(given[i], new Undefined(`parameter '${key}' was not provided`)))
      );
      macro.args.forEach((parameter, i) => {
        if (given[i] === undefined && parameter.type !== "Identifier") {
          inner.set(names[i], this.#value(parameter.value, inner));
        }
      });
      return this.#text(macro.body, inner);
    });
  }

  #value(node: Expression, scope: Scope): Value {
    this.#budget.spend(1);
    switch (node.type) {
      case "IntegerLiteral":
        return BigInt(node.value);
      case "FloatLiteral":
      case "StringLiteral":
        return node.value;
      case "ArrayLiteral":
        return node.value.map((entry) => this.#value(entry, scope));
      case "TupleLiteral":
        return new Tuple(node.value.map((entry) => this.#value(entry, scope)));
      case "ObjectLiteral":
        return new Map(
          [...node.value].map(([key, value]) => [
            toKey(this.#value(key, scope)),
            this.#value(value, scope),
          ]),
        );
      case "Identifier":
        return otherwise(scope.get(node.value), new Undefined(`'${node.value}' is undefined`));
      case "MemberExpression":
        return this.#member(node, scope);
      case "CallExpression":
        return this.#call(node.callee, this.#args(node.args, scope), scope);
      case "FilterExpression":
        return this.#filter(node.filter, this.#value(node.operand, scope), scope);
      case "TestExpression": {
        const value = this.#value(node.operand, scope);
        return applyTest(node.test.value, value, NO_ARGS, this.#budget) !== node.negate;
      }
      case "SelectExpression":
        return isTrue(this.#value(node.test, scope))
          ? this.#value(node.lhs, scope)
          : new Undefined("the inline if-expression has no else");
      case "Ternary": {
        const test = isTrue(this.#value(node.condition, scope));
        return this.#value(test ? node.trueExpr : node.falseExpr, scope);
      }
      case "UnaryExpression":
        return unary(node.operator.value, this.#value(node.argument, scope));
      case "BinaryExpression": {
        const left = this.#value(node.left, scope);
        const operator = node.operator.value;
        if (operator === "and") return isTrue(left) ? this.#value(node.right, scope) : left;
        if (operator === "or") return isTrue(left) ? left : this.#value(node.right, scope);
        return binary(operator, left, this.#value(node.right, scope), this.#budget);
      }
      default:
        throw new TemplateFault(`${node.type} has no place here`);
    }
  }

  #member(node: Expression & { type: "MemberExpression" }, scope: Scope): Value {
    const object = this.#value(node.object, scope);
    const { property } = node;
    if (property.type === "SliceExpression") {
      const bounds = [property.start, property.stop, property.step].map((bound) => {
        const value = bound === undefined ? null : this.#value(bound, scope);
        if (value === null || typeof value === "bigint") return value;
        throw new TemplateFault("slice indices must be integers or None");
      });
      return slice(object, bounds, this.#budget);
    }
    if (node.computed) return item(object, this.#value(property, scope), this.#budget);
    if (property.type === "IntegerLiteral") {
      return item(object, BigInt(property.value), this.#budget);
    }
    if (property.type !== "Identifier") throw new TemplateFault("an attribute needs a name");
    return member(object, property.value, this.#budget);
  }

  #args(nodes: readonly Expression[], scope: Scope): Args {
    const positional: Value[] = [];
    const named = new Map<string, Value>();
    for (const node of nodes) {
      if (node.type === "KeywordArgumentExpression") {
        named.set(node.key.value, this.#value(node.value, scope));
      } else if (node.type === "SpreadExpression") {
        positional.push(...items(this.#value(node.argument, scope), this.#budget));
      } else if (node.type === "KeywordSpreadExpression") {
        const more = this.#value(node.argument, scope);
        if (!(more instanceof Map)) throw new TemplateFault("argument after ** must be a mapping");
        for (const [key, value] of more) named.set(str(key, this.#budget), value);
      } else positional.push(this.#value(node, scope));
    }
    return { positional, named };
  }

  #call(callee: Expression, args: Args, scope: Scope): Value {
    const called = this.#value(callee, scope);
    if (called instanceof Callable) return called.call(args);
    if (called instanceof Undefined) throw new TemplateFault(called.problem);
    throw new TemplateFault(`'${typeName(called)}' object is not callable`);
  }

  #filter(filter: Expression, value: Value, scope: Scope): Value {
    const [name, args] = filter.type === "CallExpression"
      ? [filter.callee, this.#args(filter.args, scope)]
      : [filter, NO_ARGS];
    if (name.type !== "Identifier") throw new TemplateFault("a filter needs a name");
    return applyFilter(name.value, value, args, this.#budget);
  }
}

const NO_ARGS: Args = { positional: [], named: new Map() };

/** Whether a part of a template reads a name. */
function mentions(node: unknown, name: string): boolean {
  if (typeof node !== "object" || node === null) return false;
  const parts = node instanceof Map ? [...node].flat() : Object.values(node);
  const { type, value } = node as { type?: unknown; value?: unknown };
  return type === "Identifier" && value === name || parts.some((part) => mentions(part, name));
}
