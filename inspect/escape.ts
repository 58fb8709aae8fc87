/**
 * Strings from files (metadata, names of tensors, tokens, manifests) on their way to people: one function for each place where
 * characters mean something.
 */

/** Control characters, halves of characters, and marks that turn the direction of text around: what acts instead of showing. */
const ACTING =
  // deno-lint-ignore no-control-regex
  /[\u0000-\u001f\u007f-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\p{Cs}]/gu;

const SHORT: Readonly<Record<string, string>> = { "\n": "\\n", "\r": "\\r", "\t": "\\t" };

/** Text for a terminal, on one line. */
export function printable(text: string): string {
  return text.replace(
    ACTING,
    (character) =>
      SHORT[character] ?? `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
}

/** Text for a terminal whose lines and tabs are its own: what a model writes. */
export function printableLines(text: string): string {
  return text.replace(/[^\n\t]+/g, printable);
}

/** A value as one line of JSON that a terminal may show; what it means stays. */
export function jsonLine(value: unknown): string {
  return printable(JSON.stringify(value));
}

/** Text where HTML or XML is read, within quotes too. */
export function escapeHtml(text: string): string {
  return text.replace(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`);
}

/** Text for a figure: Plotly reads a few tags and entities, and quotes as they are. */
export function escapePlotly(text: string): string {
  return text.replace(/[&<>]/g, (c) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;" })[c]!);
}

/** Text for XML, within quotes too: most control characters may stand in none, not even escaped. */
export function escapeXml(text: string): string {
  return escapeHtml(printable(text).replace(/[\ufffe\uffff]/g, "\ufffd"));
}

/** Text within a line of Markdown: no markup, no HTML, no cell's end. */
export function escapeMarkdown(text: string): string {
  return printable(text).replace(/[\\`*_~[\]<>&|#$]/g, "\\$&");
}

/** Text as a block of code in Markdown, which nothing in it ends. */
export function markdownCode(text: string, language = ""): string {
  const longest = Math.max(2, ...text.matchAll(/`+/g).map(([run]) => run.length));
  const fence = "`".repeat(longest + 1);
  return `${fence}${language}\n${text}\n${fence}`;
}
