/** Token ids of one text by two tokenizers: the place at which they part, as people read it. */
import { firstEntry } from "./entries.ts";

/** Ids around the place that are shown. */
const BEFORE = 1;
const SHOWN = 4;

/**
 * Where two lists of ids part, with some of both from there on: `id 2 is 284 " t" instead of 260 " th" (here …, there …)`. Tokens are
 * quoted, and stay to be escaped.
 *
 * @param piece gives a token's text; without it ids stand alone
 */
export function idsPart(
  { ours, theirs }: { readonly ours: readonly number[]; readonly theirs: readonly number[] },
  piece?: (id: number) => string,
  theirPiece = piece,
): string {
  const at = firstEntry(ours, theirs);
  const token = (id: number | undefined, piece?: (id: number) => string) =>
    id === undefined ? "the end" : piece ? `${id} ${JSON.stringify(piece(id))}` : `${id}`;
  const around = (ids: readonly number[], piece?: (id: number) => string) => {
    const first = Math.max(0, at - BEFORE);
    const shown = ids.slice(first, first + BEFORE + SHOWN).map((id) => token(id, piece));
    const end = first + BEFORE + SHOWN < ids.length ? ", …" : "";
    return `[${first > 0 ? "… " : ""}${shown.join(", ")}${end}]`;
  };
  return `id ${at} is ${token(ours[at], piece)} instead of ${token(theirs[at], theirPiece)}, ${
    around(ours, piece)
  } here, ${around(theirs, theirPiece)} there`;
}
