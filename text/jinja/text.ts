/** Python's white space, which is not JavaScript's. */
const SPACES = new Set(
  "\t\n\v\f\r\x1c\x1d\x1e\x1f \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008" +
    "\u2009\u200a\u2028\u2029\u202f\u205f\u3000",
);

// deno-lint-ignore no-control-regex
const LINE_ENDS = /\r\n|[\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029]/;

export function isSpace(char: string): boolean {
  return SPACES.has(char);
}

/** Python's `strip`: both ends, of white space or of the given characters. */
export function trim(text: string, chars?: string): string {
  return trimStart(trimEnd(text, chars), chars);
}

export function trimStart(text: string, chars?: string): string {
  const drop = chars === undefined ? SPACES : new Set(chars);
  let start = 0;
  for (const char of text) {
    if (!drop.has(char)) break;
    start += char.length;
  }
  return text.slice(start);
}

export function trimEnd(text: string, chars?: string): string {
  const drop = chars === undefined ? SPACES : new Set(chars);
  let end = text.length;
  while (end > 0) {
    const size = end > 1 && text.codePointAt(end - 2)! > 0xffff ? 2 : 1;
    if (!drop.has(text.slice(end - size, end))) break;
    end -= size;
  }
  return text.slice(0, end);
}

/** Python's `splitlines`. */
export function splitLines(text: string): string[] {
  const lines = text.split(LINE_ENDS);
  if (lines.at(-1) === "") lines.pop();
  return lines;
}

/** Python's `split` at white space: no empty parts, at most `most` splits. */
export function splitSpaces(text: string, most: number, fromEnd: boolean): string[] {
  const parts: string[] = [];
  let rest = fromEnd ? trimEnd(text) : trimStart(text);
  while (rest !== "") {
    if (parts.length === most) {
      parts.push(rest);
      break;
    }
    let cut = fromEnd ? rest.length : 0;
    if (fromEnd) { while (cut > 0 && !isSpace(rest[cut - 1])) cut--; }
    else while (cut < rest.length && !isSpace(rest[cut])) cut++;
    parts.push(fromEnd ? rest.slice(cut) : rest.slice(0, cut));
    rest = fromEnd ? trimEnd(rest.slice(0, cut)) : trimStart(rest.slice(cut));
  }
  return fromEnd ? parts.reverse() : parts;
}

/** Python's `split` at a separator, at most `most` splits. */
export function splitAt(text: string, separator: string, most: number, fromEnd: boolean): string[] {
  const parts = text.split(separator);
  if (parts.length <= most + 1) return parts;
  if (!fromEnd) return [...parts.slice(0, most), parts.slice(most).join(separator)];
  const kept = parts.length - most;
  return [parts.slice(0, kept).join(separator), ...parts.slice(kept)];
}

/** Python's `capitalize`. */
export function capitalize(text: string): string {
  const [first = ""] = text;
  return first.toUpperCase() + text.slice(first.length).toLowerCase();
}

const MONTHS =
  "January February March April May June July August September October November December".split(
    " ",
  );
const DAYS = "Sunday Monday Tuesday Wednesday Thursday Friday Saturday".split(" ");

/** Python's `strftime` in the C locale and local time; an unknown code is left as it is. */
export function formatTime(time: Date, format: string): string {
  const number = (value: number, width = 2) => String(value).padStart(width, "0");
  const hour = time.getHours() % 12 || 12;
  const start = new Date(time.getFullYear(), 0, 1);
  const dayOfYear = Math.round((midnight(time) - midnight(start)) / 86_400_000) + 1;
  const codes: Record<string, string> = {
    Y: String(time.getFullYear()),
    y: number(time.getFullYear() % 100),
    m: number(time.getMonth() + 1),
    d: number(time.getDate()),
    e: String(time.getDate()).padStart(2),
    B: MONTHS[time.getMonth()],
    b: MONTHS[time.getMonth()].slice(0, 3),
    A: DAYS[time.getDay()],
    a: DAYS[time.getDay()].slice(0, 3),
    H: number(time.getHours()),
    I: number(hour),
    M: number(time.getMinutes()),
    S: number(time.getSeconds()),
    f: number(time.getMilliseconds() * 1000, 6),
    p: time.getHours() < 12 ? "AM" : "PM",
    j: number(dayOfYear, 3),
    "%": "%",
  };
  codes.F = `${codes.Y}-${codes.m}-${codes.d}`;
  codes.T = `${codes.H}:${codes.M}:${codes.S}`;
  return format.replace(/%(-?)(.)/gs, (whole, plain, code) => {
    const text = codes[code];
    if (text === undefined) return whole;
    return plain ? text.replace(/^[0 ]+(?=.)/, "") : text;
  });
}

function midnight(time: Date): number {
  return Date.UTC(time.getFullYear(), time.getMonth(), time.getDate());
}
