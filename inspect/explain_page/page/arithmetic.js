/** What steps are worked out with: numbers for people, and sums that show their terms. */

/** Terms of a sum that are written out. */
const SHOWN = 4;

/** A number for people: 4 digits, and a true minus. */
export function show(value) {
  if (value === undefined || Number.isNaN(value)) return "NaN";
  if (!Number.isFinite(value)) return value < 0 ? "−∞" : "∞";
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-4 || size >= 1e7)) {
    const [digits, power] = size.toExponential(2).split("e");
    return `${value < 0 ? "−" : ""}${digits}e${power.replace("+", "").replace("-", "−")}`;
  }
  const text = size >= 10_000 ? size.toFixed(0) : size.toPrecision(4);
  return (value < 0 ? "−" : "") + text;
}

/** The same inside a product. */
export const factor = (value) => value < 0 ? `(${show(value)})` : show(value);

/** A long sum: its first terms, and how many follow. */
export function written(count, term) {
  const first = Array.from({ length: Math.min(SHOWN, count) }, (_, i) => term(i)).join(" + ");
  return count > SHOWN ? `${first} + … (${count - SHOWN} more)` : first;
}

/** Sum of products, and of their sizes. */
export function dot(count, a, b) {
  let sum = 0, size = 0;
  for (let i = 0; i < count; i++) {
    sum += a(i) * b(i);
    size += Math.abs(a(i) * b(i));
  }
  return { sum, size, text: written(count, (i) => `${factor(a(i))} × ${factor(b(i))}`) };
}

/** Without the layer: `attn_q.weight`. */
export const short = (name) => name.replace(/^blk\.\d+\./, "");

/** A number, how large the numbers were that went into it, and lines that show how it comes about. */
export const worked = (value, size, ...lines) => ({ value, size, lines });

/** The number of an input at a place, as it is. */
export function copied(page, step, position, place, words) {
  const value = page.vector(step.inputs[0], position)[place];
  return worked(value, Math.abs(value), `${words}: ${show(value)}`);
}
