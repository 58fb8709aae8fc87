/**
 * Texts made of what two files' vocabularies have differently, so that a difference shows that no usual text happens to touch: a
 * merge that comes sooner shows only in words in which another one waits for the same letters.
 */
import type { Metadata, Tokenizer } from "../../../text/mod.ts";
import { firstEntry, listOf } from "./entries.ts";

/** Entries that texts are made of, and texts in all: some milliseconds. */
const MOST_ENTRIES = 100;
const MOST_TEXTS = 6000;
const SCORES = "tokenizer.ggml.scores";

/** Others that a merge or a token is joined with. */
const MOST_NEIGHBOURS = 400;

/**
 * Texts in which entries under these keys take part.
 *
 * @param tokenizer of our file
 */
export function derivedTexts(
  tokenizer: Tokenizer,
  ours: Metadata,
  theirs: Metadata,
  keys: readonly string[],
): Set<string> {
  const texts = new Set<string>();
  const add = (...tokens: readonly string[]) => {
    for (const token of tokens) {
      if (texts.size < MOST_TEXTS) texts.add(token).add(`a${token}b`).add(` ${token}`);
    }
  };
  const readable = readerOf(tokenizer);
  const tokens = textsOf(ours.get("tokenizer.ggml.tokens"));
  for (const key of keys) {
    const [a, b] = [ours.get(key), theirs.get(key)];
    if (key === "tokenizer.ggml.merges") {
      const merges = textsOf(a);
      for (const [merge, range] of movedMerges(merges, textsOf(b))) {
        add(...mergeTexts(merge, merges.slice(...range), tokens).map(readable));
      }
    } else if (/^tokenizer\.ggml\.(token_type|scores|tokens)$/.test(key)) {
      const other = textsOf(theirs.get("tokenizer.ggml.tokens"));
      const scores = key === SCORES ? [a, b].map(listOf) as ArrayLike<number>[] : [];
      for (const id of changedPlaces(a, b)) {
        const own = [tokens[id], other[id]].filter((each) => each !== undefined);
        add(...own, ...own.map(readable));
        if (scores.length > 0) add(...overlapping(id, tokens, scores).map(readable));
      }
    } else if (/^tokenizer\.ggml\.\w+_token_id$/.test(key)) {
      for (const id of [a, b]) add(tokens[Number(id)] ?? "");
    }
  }
  return texts;
}

function textsOf(list: unknown): string[] {
  return Array.from(listOf(list), String);
}

/** Places at which two lists differ, the first ones. */
function changedPlaces(a: unknown, b: unknown): number[] {
  const places: number[] = [];
  for (
    let at = firstEntry(a, b);
    at >= 0 && places.length < MOST_ENTRIES;
    at = firstEntry(a, b, at + 1)
  ) places.push(at);
  return places;
}

/**
 * Merges that moved, came or went, and the ranks between which they did. Where one is put in, all those behind it have another rank and
 * the same order: so of lists of other lengths only what stands in one of them alone counts, and where they part first.
 */
function movedMerges(
  ours: readonly string[],
  theirs: readonly string[],
): Map<string, [first: number, end: number]> {
  const ranks = [ours, theirs].map((merges) => new Map(merges.map((merge, rank) => [merge, rank])));
  const alone = new Set(ours).symmetricDifference(new Set(theirs));
  const places = changedPlaces(ours, theirs).slice(
    0,
    ours.length === theirs.length ? undefined : 1,
  );
  const moved = [...alone, ...places.flatMap((at) => [ours[at], theirs[at]])];
  return new Map(
    moved.filter((merge) => merge !== undefined).slice(0, MOST_ENTRIES).map((merge) => {
      const [a, b] = ranks.map((ranks) => ranks.get(merge) ?? Infinity);
      return [merge, [Math.min(a, b), Math.max(a, b) + 1]];
    }),
  );
}

/**
 * Words in which a merge takes part, and those in which it waits for the same letters as another one.
 *
 * @param between those that stand between its two ranks: only they come before it on one side and after it on the other
 */
function mergeTexts(
  merge: string,
  between: readonly string[],
  tokens: readonly string[],
): string[] {
  const [left, right] = merge.split(" ");
  const joined = left + right;
  const found = [joined];
  for (const other of between) {
    if (found.length > MOST_NEIGHBOURS) break;
    if (other.startsWith(`${right} `)) found.push(joined + other.slice(right.length + 1));
    if (other.endsWith(` ${left}`)) found.push(other.slice(0, -left.length - 1) + joined);
  }
  return [...found, ...tokens.filter((token) => token.includes(joined)).slice(0, MOST_NEIGHBOURS)];
}

/** A token overlapping with those whose scores are between its own two ones: of two that want the same letters the higher one gets them. */
function overlapping(
  id: number,
  tokens: readonly string[],
  [ours, theirs]: readonly ArrayLike<number>[],
): string[] {
  const token = tokens[id];
  const [low, high] = [ours[id], theirs[id]].sort((a, b) => a - b);
  const found: string[] = [];
  for (const [each, other] of tokens.entries()) {
    if (found.length >= MOST_NEIGHBOURS) break;
    if (each === id || ours[each] < low || ours[each] > high) continue;
    for (let shared = 1; shared < Math.min(token.length, other.length); shared++) {
      if (token.endsWith(other.slice(0, shared))) found.push(token + other.slice(shared));
      if (token.startsWith(other.slice(-shared))) found.push(other.slice(0, -shared) + token);
    }
  }
  return found;
}

/** What makes text of tokens as the file spells them, also of some that are no token when they are joined. */
function readerOf(tokenizer: Tokenizer): (spelled: string) => string {
  if (tokenizer.kind === "spm") return (spelled) => spelled.replaceAll("▁", " ");
  const bytes = new Map<string, Uint8Array>();
  const bytesOf = (character: string) => {
    const id = tokenizer.id(character);
    return id === undefined ? new TextEncoder().encode(character) : tokenizer.bytes(id);
  };
  return (spelled) => {
    const all = [...spelled].flatMap((character) => {
      if (!bytes.has(character)) bytes.set(character, bytesOf(character));
      return [...bytes.get(character)!];
    });
    return new TextDecoder().decode(Uint8Array.from(all));
  };
}
