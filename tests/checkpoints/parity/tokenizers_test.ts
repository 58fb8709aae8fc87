/** Two files' tokenizers: what differs is found by a text that shows it and named by its entry; what does not matter is not accused. */
import assert from "node:assert/strict";
import { AWKWARD_TEXTS } from "../../../checkpoints/parity/beginning/awkward_texts.ts";
import { compareTokenizers as compareFiles } from "../../../checkpoints/parity/beginning/tokenizers.ts";
import { Random } from "../../../checkpoints/files/random.ts";
import { compareIds } from "../../../checkpoints/parity/checks.ts";
import { pieceOf } from "../../../inspect/run/vocabulary.ts";
import { createTokenizer, type Metadata, PRE_TOKENIZER_NAMES } from "../../../text/mod.ts";
import { llamaSpm, pairVocabulary, smolLm2 } from "../../support/text/vocabularies.ts";
import { readPreTokenizerIds } from "../../support/text/tokenizer_fixtures.ts";

const smol = await smolLm2();
const spm = await llamaSpm();

const compareTokenizers = (ours: Metadata, theirs: Metadata, texts?: readonly string[]) =>
  compareFiles({ metadata: ours, name: "ours" }, { metadata: theirs, name: "theirs" }, texts);

function changed(metadata: Metadata, key: string, value: unknown): Metadata {
  return new Map([...metadata, [`tokenizer.ggml.${key}`, value]]);
}

function list<T>(metadata: Metadata, key: string): T[] {
  return [...metadata.get(`tokenizer.ggml.${key}`) as Iterable<T>];
}

function swapped<T>(items: readonly T[], i: number, j: number): T[] {
  return items.with(i, items[j]).with(j, items[i]);
}

Deno.test("tokenizers: equal ones, and ones that differ in what nobody reads, are not accused", () => {
  for (const metadata of [smol, spm, pairVocabulary("gpt-2")]) {
    const reordered = new Map([...metadata].reverse());
    const noted = new Map([...reordered, ["tokenizer.ggml.padding_token_id", 7], [
      "general.author",
      "x",
    ]]);
    assert.equal(compareTokenizers(metadata, reordered), undefined);
    assert.equal(compareTokenizers(metadata, noted), undefined);
  }
  // What a file says and what holds without it.
  assert.equal(compareTokenizers(spm, changed(spm, "add_space_prefix", true)), undefined);
  assert.equal(compareTokenizers(smol, changed(smol, "add_eos_token", false)), undefined);
  // Types as arrays of another kind.
  assert.equal(
    compareTokenizers(smol, changed(smol, "token_type", list(smol, "token_type"))),
    undefined,
  );
});

/** Whether a merge waits for the same letters as another one that stands between two ranks. */
function competes(merges: readonly string[], a: number, b: number): boolean {
  const between = merges.slice(Math.min(a, b), Math.max(a, b) + 1);
  return [merges[a], merges[b]].some((merge) => {
    const [left, right] = merge.split(" ");
    return between.some((other) =>
      other !== merge && (other.startsWith(`${right} `) || other.endsWith(` ${left}`))
    );
  });
}

Deno.test("tokenizers: swapped merges are found wherever a text can show them", () => {
  const merges = list<string>(smol, "merges");
  const random = new Random(11);
  let shown = 0;
  for (let i = 0; i < 24; i++) {
    const [a, b] = [random.integer(0, merges.length), random.integer(0, merges.length)];
    const found = compareTokenizers(smol, changed(smol, "merges", swapped(merges, a, b)));
    assert.equal(found !== undefined, competes(merges, a, b), `${merges[a]}, ${merges[b]}`);
    if (!found) continue;
    shown++;
    assert.equal(found.cause, "tokenizer");
    assert.ok(
      found.what.startsWith(
        `tokenizer.ggml.merges has another order at 2 of ${merges.length} places, first at ${
          Math.min(a, b)
        }: ${JSON.stringify(merges[Math.min(a, b)])} here, `,
      ),
      found.what,
    );
  }
  assert.ok(shown > 15, `${shown}`);
});

Deno.test("tokenizers: a merge that is lost, or put in, is found", () => {
  const merges = list<string>(smol, "merges");
  for (const at of [3, 500, 20_000, merges.length - 1]) {
    const lost = merges.toSpliced(at, 1);
    const found = compareTokenizers(smol, changed(smol, "merges", lost));
    assert.equal(found?.cause, "tokenizer");
    assert.match(found!.what, /^tokenizer\.ggml\.merges has 48900 entries here, 48899 there/);
    assert.equal(compareTokenizers(changed(smol, "merges", lost), smol)?.cause, "tokenizer");
  }
});

Deno.test("tokenizers: the awkward texts tell apart all pre-tokenizers that llama.cpp's ids tell apart", () => {
  const { groups } = readPreTokenizerIds();
  const known = new Set(PRE_TOKENIZER_NAMES);
  const found = groups.map(([name]) => name).filter((name) => known.has(name));
  assert.ok(found.length > 15, `${found.length}`);
  const ids = new Map(found.map((name) => {
    const tokenizer = createTokenizer(pairVocabulary(name));
    const bos = false;
    return [name, AWKWARD_TEXTS.map((text) => `${tokenizer.encode(text, { bos })}`).join("|")];
  }));
  const same = found.flatMap((a, i) =>
    found.slice(i + 1).filter((b) => ids.get(a) === ids.get(b)).map((b) => `${a} = ${b}`)
  );
  assert.deepEqual(same, []);
});

Deno.test("tokenizers: another pre-tokenizer is the key that is named", () => {
  for (const pre of ["default", "gpt-2", "llama-bpe", "qwen2"]) {
    const found = compareTokenizers(changed(smol, "pre", pre), smol);
    assert.equal(found?.cause, "tokenizer", pre);
    assert.match(
      found!.what,
      new RegExp(`tokenizer\\.ggml\\.pre is "${pre}" here, "smollm" there; "`),
    );
  }
});

Deno.test("tokenizers: a token's type that is another one is found, in texts or in what they become", () => {
  const types = list<number>(smol, "token_type");
  const control = types.findLastIndex((type) => type === 3);
  const token = list<string>(smol, "tokens")[control];
  const asNormal = compareTokenizers(smol, changed(smol, "token_type", types.with(control, 1)));
  assert.equal(asNormal?.cause, "tokenizer");
  assert.ok(asNormal!.what.includes(`first at ${control}: 3 here, 1 there`), asNormal!.what);
  assert.ok(asNormal!.what.includes(token), asNormal!.what);
  const asControl = compareTokenizers(smol, changed(smol, "token_type", types.with(5000, 3)));
  assert.match(
    asControl!.what,
    /token_type has other entries at 1 of 49152 places, first at 5000: 1 here, 3 there/,
  );
  const bytes = list<number>(spm, "token_type");
  const byte = bytes.indexOf(6) + 70;
  const asText = compareTokenizers(spm, changed(spm, "token_type", bytes.with(byte, 1)));
  assert.equal(asText?.cause, "tokenizer");
  assert.match(asText!.what, new RegExp(`first at ${byte}: 6 here, 1 there`));
});

Deno.test("tokenizers: scores that are exchanged are found", () => {
  const scores = list<number>(spm, "scores");
  const random = new Random(5);
  let shown = 0;
  for (let i = 0; i < 12; i++) {
    const [a, b] = [random.integer(300, 31_000), random.integer(300, 31_000)];
    const found = compareTokenizers(spm, changed(spm, "scores", swapped(scores, a, b)));
    if (!found) continue;
    shown++;
    assert.equal(found.cause, "tokenizer");
    assert.match(found.what, /^tokenizer\.ggml\.scores has other entries at 2 of 32000 places/);
  }
  // The other two have nothing in common with what stands between them.
  assert.ok(shown >= 11, `${shown} of 12`);
});

Deno.test("tokenizers: BOS and the space in front have their own names, and only they", () => {
  assert.deepEqual(compareTokenizers(spm, changed(spm, "add_bos_token", false)), {
    cause: "bos-missing",
    what: 'here 1 "<s>" stands in front, there it does not',
  });
  assert.deepEqual(compareTokenizers(changed(spm, "add_space_prefix", false), spm), {
    cause: "space-prefix",
    what: "there a space is put in front, here none",
  });
  const other = compareTokenizers(spm, changed(spm, "bos_token_id", 2));
  assert.equal(other?.cause, "tokenizer");
  assert.equal(
    other!.what,
    'tokenizer.ggml.bos_token_id is 1 here, 2 there; "": id 0 is 1 "<s>" instead of 2 "</s>", ' +
      '[1 "<s>"] here, [2 "</s>"] there',
  );
  const both = compareTokenizers(
    spm,
    changed(changed(spm, "add_bos_token", false), "add_space_prefix", false),
  );
  assert.equal(both?.cause, "tokenizer");
  assert.match(both!.what, /add_bos_token is true here, false there; .*add_space_prefix/);
});

Deno.test("tokenizers: another end of a text is said with the token", () => {
  const found = compareTokenizers(spm, changed(spm, "eos_token_id", 5));
  assert.equal(found?.cause, "tokenizer");
  assert.match(
    found!.what,
    /eos_token_id is 2 here, 5 there; 5 .* ends a text there, here it does not/,
  );
});

Deno.test("tokenizers: a vocabulary of another size or order is said", () => {
  const tokens = list<string>(smol, "tokens");
  const moved = compareTokenizers(smol, changed(smol, "tokens", swapped(tokens, 300, 900)));
  assert.match(moved!.what, /tokens has another order at 2 of 49152 places, first at 300: /);
  const types = list<number>(smol, "token_type");
  const shorter = changed(
    changed(smol, "tokens", tokens.slice(0, 40_000)),
    "token_type",
    types.slice(0, 40_000),
  );
  const found = compareTokenizers(smol, shorter);
  assert.match(found!.what, /tokens has 49152 entries here, 40000 there/);
});

Deno.test("tokenizers: what is found of SmolLM2's vocabulary takes less than half a second", () => {
  const merges = list<string>(smol, "merges");
  for (const other of [smol, changed(smol, "merges", swapped(merges, 700, 30_000))]) {
    const times = [0, 1, 2].map(() => {
      const start = performance.now();
      compareTokenizers(smol, other);
      return performance.now() - start;
    });
    assert.ok(Math.min(...times) < 500, `${times}`);
  }
});

Deno.test("tokenizers: ids of a larger vocabulary are told as numbers", async () => {
  const piece = pieceOf({ metadata: await llamaSpm(), name: "llama" });
  const check = compareIds({ name: "prompt" }, [1, 300], [1, 1_000_000], piece);
  assert.match(check.what, /^id 1 is 300 ".*" instead of 1000000 "1000000", /);
});
