/**
 * Patterns for names whose components are parted by points: `*` stands for any characters within a component (but for
 * `#`, which must be named), a last component `*` for everything below, `3-7` for the numbers from 3 to 7, `{a,b}` for either.
 */

/** Tells whether a name fits. Exact names are patterns too. */
export type Matcher = (name: string) => boolean;

/** Compiles a pattern. */
export function glob(pattern: string): Matcher {
  const alternatives = expand(pattern).map((each) => each.split(".").map(component));
  const open = lastComponent(pattern) === "*";
  return (name) => {
    const parts = name.split(".");
    return alternatives.some((components) =>
      (parts.length === components.length || (open && parts.length > components.length)) &&
      components.every((fits, i) => fits(parts[i]))
    );
  };
}

/** Patterns that are separated by commas; commas in braces belong to their pattern. */
export function splitPatterns(list: string): string[] {
  return list.split(/,(?![^{}]*\})/).map((pattern) => pattern.trim());
}

/** A pattern's last component: `attn_probs` of `blk.*.attn_probs`. */
export function lastComponent(pattern: string): string {
  return pattern.slice(pattern.lastIndexOf(".") + 1);
}

/** `a{b,c}d` as `abd` and `acd`. */
function expand(pattern: string): string[] {
  const found = pattern.match(/^([^{]*)\{([^{}]*)\}(.*)$/);
  if (!found) return [pattern];
  const [, before, choices, after] = found;
  return choices.split(",").flatMap((choice) => expand(before + choice + after));
}

function component(pattern: string): Matcher {
  const range = pattern.match(/^(\d+)-(\d+)$/);
  if (range) {
    const [first, last] = [Number(range[1]), Number(range[2])];
    return (part) => /^\d+$/.test(part) && Number(part) >= first && Number(part) <= last;
  }
  if (pattern === "*") return () => true;
  const literals = pattern.split("*").map((text) => text.replace(/[.+?^${}()|[\]\\]/g, "\\$&"));
  const expression = new RegExp(`^${literals.join("[^#]*")}$`, "s");
  return (part) => expression.test(part);
}
