/** Tokens as labels: what cannot be seen is shown. */
import { escapePlotly } from "../../escape.ts";

/** Text for places where Plotly reads HTML. */
export { escapePlotly as html };

const SHOWN: Readonly<Record<string, string>> = { " ": "·", "\n": "⏎", "\t": "⇥", "\r": "⇤" };

/**
 * A token for a label or a hover: spaces as `·`, newlines as `⏎`, tabs as `⇥`; other control characters as their code.
 * Long ones are cut in the middle.
 *
 * @param most characters
 */
export function tokenLabel(token: string, most = 16): string {
  const shown = token.replace(
    // deno-lint-ignore no-control-regex
    /[ \n\t\r]|[\u0000-\u001f\u007f-\u009f\u200b-\u200f\u2028-\u202e\ufeff]/g,
    (character) => SHOWN[character] ?? `\\x${character.codePointAt(0)!.toString(16)}`,
  );
  const characters = [...shown];
  if (characters.length <= most) return shown;
  const tail = Math.floor((most - 1) / 3);
  return characters.slice(0, most - 1 - tail).join("") + "…" + characters.slice(-tail).join("");
}

/** The same for places where Plotly reads HTML: titles, ticks, hovers. */
export function tokenHtml(token: string, most = 16): string {
  return escapePlotly(tokenLabel(token, most));
}
