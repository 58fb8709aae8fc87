/** Markdown, formulas and code as HTML that needs neither scripts nor fonts. */
import hljs from "npm:highlight.js@11.12.0/lib/core";
import bash from "npm:highlight.js@11.12.0/lib/languages/bash";
import json from "npm:highlight.js@11.12.0/lib/languages/json";
import python from "npm:highlight.js@11.12.0/lib/languages/python";
import typescript from "npm:highlight.js@11.12.0/lib/languages/typescript";
import { Marked, type TokenizerAndRendererExtension } from "npm:marked@18.2.1";
import temml from "npm:temml@0.13.5";
import { escapeHtml } from "../../../inspect/escape.ts";

for (const [name, language] of Object.entries({ bash, json, python, typescript })) {
  hljs.registerLanguage(name, language);
}

/** The HTML of a text in Markdown, with formulas in `$…$` and `$$…$$` as MathML. */
export function markdownHtml(text: string): string {
  return marked.parse(text, { async: false });
}

/** The HTML of code in a language that hljs knows here; escaped where it does not. */
export function codeHtml(code: string, language: string): string {
  return hljs.getLanguage(language)
    ? hljs.highlight(code, { language, ignoreIllegals: true }).value
    : escapeHtml(code);
}

/** Formulas as JupyterLab takes them: a dollar before a digit or a space begins none, as in "$5 and $6". */
function formula(
  name: string,
  level: "block" | "inline",
  pattern: RegExp,
  displayMode: boolean,
): TokenizerAndRendererExtension {
  return {
    name,
    level,
    // Where a paragraph ends before a block: at the beginning of a line.
    start: (text) => level === "block" ? text.search(/(?<=\n)\$\$/) : text.indexOf("$"),
    tokenizer(text) {
      const match = pattern.exec(text);
      return match ? { type: name, raw: match[0], formula: match[1].trim() } : undefined;
    },
    renderer: (token) => temml.renderToString(token.formula, { displayMode }),
  };
}

const marked = new Marked({
  extensions: [
    formula("formulaBlock", "block", /^\$\$([\s\S]+?)\$\$[ \t]*(?:\n|$)/, true),
    formula("formulaDisplay", "inline", /^\$\$([\s\S]+?)\$\$/, true),
    formula("formula", "inline", /^\$((?![\s\d])(?:\\.|[^$\\])+?)(?<!\s)\$(?!\d)/, false),
  ],
  renderer: {
    code({ text, lang = "" }) {
      const name = lang.split(/\s/)[0];
      return `<pre><code>${codeHtml(text, name)}</code></pre>\n`;
    },
    // Notebooks refer to each other, and so do their pages.
    link({ href, title, tokens }) {
      const target = href.replace(/^(?![a-z]+:)(.*)\.ipynb(?=#|$)/i, "$1.html");
      const hint = title ? ` title="${escapeHtml(title)}"` : "";
      return `<a href="${escapeHtml(target)}"${hint}>${this.parser.parseInline(tokens)}</a>`;
    },
  },
});
