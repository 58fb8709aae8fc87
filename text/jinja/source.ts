/**
 * A template's source, cut into text and tags with Jinja's rules for the white space around tags.
 *
 * @module
 */
import { isSpace, trimEnd } from "./text.ts";
import { TemplateFault } from "./values.ts";

/** A piece of a template: text, or the inside of `{{ … }}` or `{% … %}`. */
export interface Piece {
  readonly kind: "text" | "expression" | "statement";
  readonly text: string;
}

const CLOSERS = { "{": "}}", "%": "%}", "#": "#}" } as const;
const BRACKETS: Record<string, number> = { "(": 1, "[": 1, "{": 1, ")": -1, "]": -1, "}": -1 };
const END_RAW = /\{%([-+]?)\s*endraw\s*([-+]?)%\}/g;

/**
 * Cuts a template as Jinja's lexer does with `trim_blocks` and `lstrip_blocks`. Comments are left out, and so are the
 * `generation` tags, which mark for a trainer what an assistant said.
 *
 * @throws {TemplateFault} when a tag does not end
 */
export function cutTemplate(template: string): Piece[] {
  const source = template.replace(/\r\n?/g, "\n").replace(/\n$/, "");
  const pieces: Piece[] = [];
  const addText = (text: string) => {
    if (text !== "") pieces.push({ kind: "text", text });
  };
  let at = 0;
  while (true) {
    const open = source.slice(at).search(/\{[{%#]/);
    if (open < 0) break;
    const start = at + open;
    const mark = source[start + 1] as keyof typeof CLOSERS;
    const sign = source[start + 2];
    const signed = sign === "-" || sign === "+";
    addText(textBefore(source, at, start, mark === "{" ? "{" + sign : sign));
    const inside = start + (signed ? 3 : 2);
    const raw = mark === "%" ? /^\s*raw\s*(-?)%\}/.exec(source.slice(inside)) : null;
    if (raw) {
      const from = inside + raw[0].length;
      END_RAW.lastIndex = from;
      const end = END_RAW.exec(source);
      if (!end) throw new TemplateFault("a {% raw %} has no {% endraw %}");
      const first = raw[1] ? skipSpace(source, from) : from;
      addText(textBefore(source, Math.min(first, end.index), end.index, end[1]));
      at = after(source, END_RAW.lastIndex, end[2], true);
      continue;
    }
    const end = mark === "#" ? source.indexOf("#}", inside) : tagEnd(source, inside, CLOSERS[mark]);
    if (end < 0) throw new TemplateFault(`a {${mark} has no ${CLOSERS[mark]}`);
    const last = end > inside ? source[end - 1] : "";
    const closing = last === "-" || last === "+" && mark !== "{" ? last : "";
    const text = source.slice(inside, end - closing.length);
    if (mark === "{") pieces.push({ kind: "expression", text });
    if (mark === "%" && !/^\s*(end)?generation\s*$/.test(text)) {
      pieces.push({ kind: "statement", text });
    }
    at = after(source, end + 2, closing, mark !== "{");
  }
  addText(source.slice(at));
  return pieces;
}

/** The text before a tag. Before a block's or a comment's it loses the tag's indentation. */
function textBefore(source: string, from: number, to: number, sign: string): string {
  const text = source.slice(from, to);
  if (sign.endsWith("-")) return trimEnd(text);
  if (sign === "+" || sign.startsWith("{")) return text;
  const line = text.lastIndexOf("\n") + 1;
  const startsLine = line > 0 || from === 0 || source[from - 1] === "\n";
  return startsLine && trimEnd(text.slice(line)) === "" ? text.slice(0, line) : text;
}

/** Where a tag's inside ends: not within a string or a bracket. */
function tagEnd(source: string, from: number, closer: string): number {
  let depth = 0;
  for (let at = from; at < source.length; at++) {
    const char = source[at];
    if (depth <= 0 && source.startsWith(closer, at)) return at;
    if (char === "'" || char === '"') {
      for (at++; at < source.length && source[at] !== char; at++) if (source[at] === "\\") at++;
    } else depth += BRACKETS[char] ?? 0;
  }
  return -1;
}

/** Where the text after a tag starts. */
function after(source: string, at: number, sign: string, block: boolean): number {
  if (sign === "-") return skipSpace(source, at);
  return block && sign !== "+" && source[at] === "\n" ? at + 1 : at;
}

function skipSpace(source: string, at: number): number {
  while (at < source.length && isSpace(source[at])) at++;
  return at;
}

const STRINGS = /('[^'\\]*(?:\\.[^'\\]*)*'|"[^"\\]*(?:\\.[^"\\]*)*")/s;
/** Escapes of Python's strings that mean something else to the parser, or nothing. */
const ESCAPES = /\\(?:([0-7]{1,3})|U([0-9a-fA-F]{8})|(\n)|([^]))/g;

/**
 * The inside of a tag as the parser takes it: its strings' escapes are those that the parser knows, and no
 * white space is long, in whose square the parser's time grows.
 */
export function plainTag(tag: string): string {
  return tag.split(STRINGS).map((part, i) =>
    i % 2 === 0 ? part.replace(/\s+/g, " ") : plainString(part)
  ).join("");
}

function plainString(text: string): string {
  const known = text.replace(ESCAPES, (escape, octal, long, newline, char) => {
    if (newline) return "";
    if (octal) return unit(parseInt(octal, 8));
    if (long) return units(String.fromCodePoint(parseInt(long, 16)));
    if (char === "a") return unit(7);
    if (char === "N") throw new TemplateFault("escapes by a character's name are not known");
    return "ntrbfv'\"\\xu".includes(char) ? escape : "\\" + escape;
  });
  // The parser would look for tags in a string, too.
  return known.replace(/\s{2,}|\{(?=%)/g, units);
}

function units(text: string): string {
  return text.split("").map((char) => unit(char.charCodeAt(0))).join("");
}

function unit(code: number): string {
  return `\\u${code.toString(16).padStart(4, "0")}`;
}
