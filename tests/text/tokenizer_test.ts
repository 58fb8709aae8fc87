/** Tokenizers against llama.cpp's ids, and what text, pieces and errors look like. */
import assert from "node:assert/strict";
import golden from "../fixtures/smollm2-135m.json" with { type: "json" };
import { mergePairs } from "../../text/tokenizer/merge.ts";
import {
  createTokenizer,
  type Metadata,
  PRE_TOKENIZER_NAMES,
  TokenizerError,
} from "../../text/mod.ts";
import { asExpressionsSee } from "../../text/tokenizer/unicode.ts";
import { Random } from "../../checkpoints/files/random.ts";
import { readPreTokenizerIds, readTokenizerIds } from "../support/text/tokenizer_fixtures.ts";
import { llamaSpm, pairVocabulary, smolLm2 } from "../support/text/vocabularies.ts";

const NORMAL = 1, UNKNOWN = 2, CONTROL = 3, USER_DEFINED = 4, UNUSED = 5, BYTE = 6;

const VOCABULARIES = [
  { name: "llama-spm", metadata: llamaSpm },
  { name: "smollm2", metadata: smolLm2 },
];

const { strings, vocabularies } = readTokenizerIds();

for (const { name, metadata } of VOCABULARIES) {
  Deno.test(`${name}: ids equal llama.cpp's`, async () => {
    const tokenizer = createTokenizer(await metadata());
    const expected = vocabularies[name];
    assert.equal(expected.parsed.length, strings.length);
    for (const [index, text] of strings.entries()) {
      assert.deepEqual(tokenizer.encode(text), expected.parsed[index], JSON.stringify(text));
      const plain = tokenizer.encode(text, { special: false, bos: false, eos: false });
      assert.deepEqual(plain, expected.plain[index], JSON.stringify(text));
    }
    assert.equal(tokenizer.addBos, expected.addBos);
    assert.equal(tokenizer.addEos, expected.addEos);
    assert.deepEqual([...tokenizer.endOfGeneration].sort((a, b) => a - b), expected.ends);
  });

  Deno.test(`${name}: a stream's pieces are whole and make the decoded text`, async () => {
    const tokenizer = createTokenizer(await metadata());
    for (const text of strings) {
      const ids = tokenizer.encode(text);
      for (const special of [false, true]) {
        const decoded = tokenizer.decode(ids, { special });
        const whole = tokenizer.stream({ special });
        const pieces = [...ids.map((id) => whole.push(id)), whole.end()];
        assert.equal(pieces.join(""), decoded);
        assert.ok(pieces.every((piece) => piece.isWellFormed()));

        const half = ids.length >> 1;
        const first = tokenizer.stream({ special });
        const start = ids.slice(0, half).map((id) => first.push(id)).join("");
        const rest = tokenizer.stream({ special, after: ids.slice(0, half) });
        const end = ids.slice(half).map((id) => rest.push(id)).join("") + rest.end();
        assert.equal(start + end, decoded);
      }
    }
  });
}

Deno.test("every pre-tokenizer gives llama.cpp's ids", async (t) => {
  const fixture = readPreTokenizerIds();
  assert.deepEqual(fixture.groups.flat().sort(), [...PRE_TOKENIZER_NAMES]);
  const base = pairVocabulary("");
  for (const [group, names] of fixture.groups.entries()) {
    for (const name of names) {
      await t.step(name, () => {
        const tokenizer = createTokenizer(new Map([...base, ["tokenizer.ggml.pre", name]]));
        for (const [index, text] of fixture.strings.entries()) {
          const expected = fixture.ids[index][group];
          assert.deepEqual(tokenizer.encode(text), expected, JSON.stringify(text));
        }
      });
    }
  }
});

Deno.test("a BPE file without a pre-tokenizer's name is cut as by default", () => {
  const named = pairVocabulary("default");
  const unnamed = new Map(named);
  unnamed.delete("tokenizer.ggml.pre");
  const text = "Hello, 12345 'llamas'...  they'll\n\n go";
  assert.deepEqual(createTokenizer(unnamed).encode(text), createTokenizer(named).encode(text));
});

Deno.test("SmolLM2's golden prompts have the golden ids", async () => {
  const tokenizer = createTokenizer(await smolLm2());
  for (const { prompt, prompt_ids } of golden.runs) {
    assert.deepEqual(tokenizer.encode(prompt), prompt_ids);
  }
});

Deno.test("what is encoded decodes to itself", async () => {
  const spm = createTokenizer(await llamaSpm());
  const bpe = createTokenizer(pairVocabulary("gpt-2"));
  for (const text of strings) {
    const wellFormed = text.toWellFormed();
    assert.equal(bpe.decode(bpe.encode(text), { special: true }), wellFormed);
    // SentencePiece cannot tell its mark for a space from a space.
    const spaced = wellFormed.replaceAll("▁", " ");
    assert.equal(spm.decode(spm.encode(text, { special: false })), spaced);
  }
});

Deno.test("SentencePiece: the space that encoding adds is dropped, others are not", async () => {
  const tokenizer = createTokenizer(await llamaSpm());
  assert.deepEqual(tokenizer.encode("Hello world"), [1, 15043, 3186]);
  assert.deepEqual(tokenizer.encode(""), [1]);
  assert.equal(tokenizer.decode([1, 15043, 3186]), "Hello world");
  assert.equal(tokenizer.decode([1, 15043, 3186], { special: true }), "<s> Hello world");
  assert.equal(tokenizer.decode(tokenizer.encode(" Hello")), " Hello");
  assert.equal(tokenizer.stream().push(3186), "world");
  assert.equal(tokenizer.stream({ after: [1] }).push(3186), "world");
  assert.equal(tokenizer.stream({ after: [1, 15043] }).push(3186), " world");
  // A space goes before each stretch of text after a special token.
  assert.deepEqual(tokenizer.encode("</s>Hello</s>Hello", { bos: false }), [2, 15043, 2, 15043]);
  const without = new Map([...await llamaSpm(), ["tokenizer.ggml.add_space_prefix", false]]);
  const bare = createTokenizer(without);
  assert.equal(bare.decode(bare.encode("Hello")), "Hello");
  assert.deepEqual(bare.encode(" Hello"), [1, 15043]);
  assert.equal(bare.decode([1, 15043]), " Hello");
});

Deno.test("a stream holds a character back until all its bytes are there", async () => {
  const tokenizer = createTokenizer(await llamaSpm());
  const byte = (value: number) => tokenizer.id(`<0x${value.toString(16).toUpperCase()}>`)!;
  const stream = tokenizer.stream({ after: [1, 15043] });
  const llama = [0xf0, 0x9f, 0xa6, 0x99].map(byte);
  assert.deepEqual(llama.map((id) => stream.push(id)), ["", "", "", "🦙"]);
  assert.equal(stream.push(byte(0xf0)), "");
  assert.equal(stream.push(3186), "\ufffd world");
  assert.equal(stream.push(byte(0xf0)), "");
  assert.equal(stream.end(), "\ufffd");
  const byteOrderMark = tokenizer.id("\ufeff");
  assert.ok(byteOrderMark !== undefined);
  assert.equal(tokenizer.stream({ after: [1] }).push(byteOrderMark), "\ufeff");
});

Deno.test("pieces are for people, bytes are exact, ids are found by both spellings", async () => {
  const spm = createTokenizer(await llamaSpm());
  assert.equal(spm.kind, "spm");
  assert.equal(spm.size, 32000);
  assert.equal(spm.piece(278), " the");
  assert.equal(spm.piece(1), "<s>");
  assert.equal(spm.piece(13), "\n");
  assert.equal(spm.piece(3 + 0xe4), "\\xE4");
  assert.deepEqual(spm.bytes(3 + 0xe4), Uint8Array.of(0xe4));
  assert.equal(spm.id("▁the"), 278);
  assert.equal(spm.id(" the"), 278);
  assert.equal(spm.id("<0x0A>"), 13);
  assert.equal(spm.id("no such piece"), undefined);

  const bpe = createTokenizer(await smolLm2());
  assert.equal(bpe.kind, "bpe");
  assert.equal(bpe.piece(260), " the");
  assert.equal(bpe.id("Ġthe"), 260);
  assert.equal(bpe.id(" the"), 260);
  assert.equal(bpe.piece(2), "<|im_end|>");
  const [first, second] = bpe.encode("🦙");
  assert.match(bpe.piece(first) + bpe.piece(second), /^(\\x[0-9A-F]{2})+$/);
  assert.equal(new TextDecoder().decode(bpe.bytes(bpe.encode("é")[0])), "é");
});

Deno.test("special tokens: control ones are parsed on demand, words of the model always", () => {
  const metadata = smallSpm({
    "<ctl>": CONTROL,
    "<word>": USER_DEFINED,
    "<ctl><word>": USER_DEFINED,
    "gone": UNUSED,
  });
  const tokenizer = createTokenizer(metadata);
  const control = tokenizer.id("<ctl>")!, word = tokenizer.id("<word>")!;
  const both = tokenizer.id("<ctl><word>")!, gone = tokenizer.id("gone")!;
  const bos = false;
  assert.deepEqual(tokenizer.encode("<word><ctl>", { bos }), [word, control]);
  assert.deepEqual(tokenizer.encode("<ctl><word>", { bos }), [both]);
  const plain = tokenizer.encode("<word><ctl>", { bos, special: false });
  assert.equal(plain[0], word);
  assert.ok(!plain.includes(control));
  assert.equal(tokenizer.decode([control, word, control]), "<word>");
  assert.equal(tokenizer.decode([control, word], { special: true }), "<ctl><word>");
  // Unused tokens show to people but write nothing, as in llama.cpp.
  assert.equal(tokenizer.decode([gone]), "");
  assert.equal(tokenizer.piece(gone), "gone");
});

Deno.test("Phi-3's special tokens swallow the white space after them", () => {
  const types = { "<|end|>": CONTROL, "<|endoftext|>": CONTROL };
  const plain = createTokenizer(smallSpm(types));
  const phi = createTokenizer(new Map([...smallSpm(types), ["general.name", "Phi-3 mini"]]));
  const end = phi.id("<|end|>")!;
  const bos = false;
  assert.deepEqual(phi.encode("<|end|> \n", { bos }), [end]);
  assert.deepEqual(phi.encode("<|end|>\n ab", { bos }), [end, ...phi.encode("ab", { bos })]);
  // But for the end of a text, the beginning of one and the unknown.
  assert.deepEqual(phi.encode("<|endoftext|> a"), plain.encode("<|endoftext|> a"));
  assert.notDeepEqual(phi.encode("<|end|> a"), plain.encode("<|end|> a"));
});

Deno.test("ids that end generation: the file's, and those known by their text", () => {
  const metadata = smallSpm({
    "<|im_end|>": NORMAL,
    "<|eot_id|>": CONTROL,
    "<|end|>": CONTROL,
    "<|return|>": CONTROL,
    "<|call|>": CONTROL,
    "other": NORMAL,
  });
  const ids = metadata.get("tokenizer.ggml.tokens") as string[];
  const id = (token: string) => ids.indexOf(token);
  metadata.set("tokenizer.ggml.eot_token_id", BigInt(id("other")));
  const tokenizer = createTokenizer(metadata);
  // gpt-oss: a message's end is not the answer's.
  const expected = ["</s>", "<|im_end|>", "<|eot_id|>", "<|return|>", "<|call|>", "other"].map(id);
  assert.deepEqual([...tokenizer.endOfGeneration].sort(), expected.sort());
  // Files often call such a token a normal one.
  assert.equal(tokenizer.decode([id("<|im_end|>")]), "");
});

Deno.test("BOS and EOS: the file decides, then the kind of vocabulary, then the caller", () => {
  const spm = smallSpm({});
  assert.deepEqual(createTokenizer(spm).encode(""), [1]);
  spm.set("tokenizer.ggml.add_eos_token", true);
  assert.deepEqual(createTokenizer(spm).encode(""), [1, 2]);
  spm.set("tokenizer.ggml.add_bos_token", false);
  assert.deepEqual(createTokenizer(spm).encode(""), [2]);
  assert.deepEqual(createTokenizer(spm).encode("", { bos: true, eos: false }), [1]);
  // −1 and whatever else is no token counts as not named.
  spm.set("tokenizer.ggml.bos_token_id", 2 ** 32 - 1);
  assert.equal(createTokenizer(spm).bos, 1);

  assert.deepEqual(createTokenizer(pairVocabulary("llama-bpe")).encode(""), [0]);
  assert.deepEqual(createTokenizer(pairVocabulary("dbrx")).encode(""), []);
  const unnamed = new Map(pairVocabulary("dbrx"));
  unnamed.delete("tokenizer.ggml.bos_token_id");
  assert.equal(createTokenizer(unnamed).bos, undefined);
  assert.throws(
    () => createTokenizer(unnamed).encode("", { bos: true }),
    oneLine(/a BOS token was asked for/, "tokenizer.ggml.bos_token_id"),
  );
});

Deno.test("characters without a token become bytes, without bytes the unknown token", () => {
  const tokenizer = createTokenizer(smallSpm({}));
  const bos = false;
  assert.deepEqual(tokenizer.encode("é", { bos }).slice(1).map((id) => tokenizer.bytes(id)[0]), [
    0xc3,
    0xa9,
  ]);
  const bytes = smallSpm({});
  const tokens = bytes.get("tokenizer.ggml.tokens") as string[];
  bytes.set("tokenizer.ggml.tokens", tokens.map((token) => token.replace("<0x", "<no")));
  assert.deepEqual(createTokenizer(bytes).encode("é", { bos }).slice(1), [0, 0]);
});

Deno.test("BPE: the first of equal merges counts, and what has no id leaves its ASCII", () => {
  // The ids that llama.cpp v0.5.0 gives with this vocabulary.
  const tokenizer = createTokenizer(
    new Map<string, unknown>([
      ["tokenizer.ggml.model", "gpt2"],
      ["tokenizer.ggml.pre", "gpt-2"],
      ["tokenizer.ggml.tokens", ["<s>", "a", "b", "c", "ab", "bc", "Ã", "d"]],
      ["tokenizer.ggml.merges", ["a b", "b c", "a b", "d Ã", "dÃ ©"]],
    ]),
  );
  assert.deepEqual(tokenizer.encode("abc"), [4, 3]);
  assert.deepEqual(tokenizer.encode("dé"), [7]);
  assert.deepEqual(tokenizer.encode("zé"), [6]);
});

Deno.test("a token without text has a name of its own", () => {
  const metadata = smallSpm({ "x1": NORMAL, "x2": NORMAL });
  const tokens = metadata.get("tokenizer.ggml.tokens") as string[];
  metadata.set("tokenizer.ggml.tokens", tokens.map((token) => /^x\d/.test(token) ? "" : token));
  const tokenizer = createTokenizer(metadata);
  assert.equal(tokenizer.piece(tokens.indexOf("x2")), `[EMPTY_${tokens.indexOf("x2")}]`);
});

Deno.test("a bad vocabulary is refused in one line that names the key", () => {
  const tokens = "tokenizer.ggml.tokens";
  const cases: [RegExp, string, Metadata][] = [
    [/tokenizer.ggml.model is missing/, "tokenizer.ggml.model", new Map()],
    [/"bert", which is not known/, "tokenizer.ggml.model", changed({ model: "bert" })],
    [/no vocabulary: tokenizer.ggml.tokens is missing/, tokens, changed({ tokens: undefined })],
    [/missing or empty/, tokens, changed({ tokens: [] })],
    [/a list where a list of strings belongs/, tokens, changed({ tokens: [1, 2] })],
    [/has "<s>" twice, as 1 and 3;/, tokens, changed({ tokens: ["<unk>", "<s>", "</s>", "<s>"] })],
    [/vocabulary without scores/, "tokenizer.ggml.scores", changed({ scores: undefined })],
    [/has 2 entries for \d+ tokens/, "tokenizer.ggml.scores", changed({ scores: [0, 0] })],
    [/NaN as the score of token 3;/, "tokenizer.ggml.scores", changed({ scores: nanAt(3) })],
    [/"high" where a list of numbers/, "tokenizer.ggml.scores", changed({ scores: "high" })],
    [/has 1 entries for/, "tokenizer.ggml.token_type", changed({ token_type: [1] })],
    [/is 1 where true or false/, "tokenizer.ggml.add_bos_token", changed({ add_bos_token: 1 })],
    [/is 1.5 where an integer/, "tokenizer.ggml.eos_token_id", changed({ eos_token_id: 1.5 })],
    [/where a string belongs/, "tokenizer.ggml.model", changed({ model: true })],
    [/no merges/, "tokenizer.ggml.merges", changed({ model: "gpt2" })],
    [
      /"smol\ufffdlm", which is not known; known are .*smollm.*/,
      "tokenizer.ggml.pre",
      changed({ model: "gpt2", merges: [], pre: "smol\nlm" }),
    ],
    [
      /wants a BOS token added but .* names none/,
      "tokenizer.ggml.bos_token_id",
      changed({ model: "gpt2", merges: [], add_bos_token: true }),
    ],
    [
      /wants a EOS token added but .* names none/,
      "tokenizer.ggml.eos_token_id",
      changed({ model: "gpt2", merges: [], add_eos_token: true }),
    ],
  ];
  for (const [message, key, metadata] of cases) {
    assert.throws(() => createTokenizer(metadata), oneLine(message, key), String(message));
  }
});

Deno.test("errors name the file where its name is given, once", () => {
  const bare = changed({ scores: undefined });
  assert.throws(() => createTokenizer(bare, "a.gguf"), /^TokenizerError: a\.gguf: the file has a/);
  const unnamed = changed({ model: "gpt2", merges: [], add_bos_token: false });
  const tokenizer = createTokenizer(unnamed, "b.gguf");
  assert.throws(
    () => tokenizer.encode("", { bos: true }),
    /^TokenizerError: b\.gguf: a BOS token was asked for/,
  );
});

/** Scores of which one is NaN. */
function nanAt(id: number): Float32Array {
  const { size } = createTokenizer(changed({}));
  return Float32Array.from({ length: size }, (_, i) => i === id ? NaN : 0);
}

Deno.test("an id that is not in the vocabulary is refused", () => {
  const tokenizer = createTokenizer(smallSpm({}));
  for (const id of [-1, tokenizer.size, 0.5, NaN]) {
    const refused = (error: unknown) =>
      error instanceof TokenizerError && Object.is(error.id, id) &&
      /^token id .* not in the vocabulary, whose ids go from 0 to \d+$/.test(error.message);
    assert.throws(() => tokenizer.decode([1, id]), refused);
    assert.throws(() => tokenizer.piece(id), refused);
    assert.throws(() => tokenizer.bytes(id), refused);
    assert.throws(() => tokenizer.stream().push(id), refused);
  }
});

Deno.test("merging takes the lowest rank first, of those the leftmost", () => {
  const random = new Random(7);
  for (let round = 0; round < 300; round++) {
    const text = Array.from({ length: random.integer(0, 30) }, () => "abc"[random.integer(0, 3)])
      .join("");
    const ranks = new Map<string, number>();
    const rank = (piece: string) => {
      if (!ranks.has(piece)) ranks.set(piece, random.integer(0, 12));
      return ranks.get(piece)! < 6 ? ranks.get(piece) : undefined;
    };
    const ends = Array.from(text, (_, index) => index + 1);
    const merged = mergePairs(ends, (start, _, end) => rank(text.slice(start, end)));
    const pieces = merged.map((end, index) => text.slice(index === 0 ? 0 : merged[index - 1], end));
    assert.deepEqual(pieces, slowlyMerged([...text], rank));
  }
});

/** How many characters of keys are looked up in maps meanwhile. */
function charactersLookedUp(work: () => void): number {
  const get = Map.prototype.get;
  let sum = 0;
  Map.prototype.get = function (key: unknown) {
    if (typeof key === "string") sum += key.length;
    return get.call(this, key);
  };
  try {
    work();
  } finally {
    Map.prototype.get = get;
  }
  return sum;
}

Deno.test("a long text takes work in proportion to its length", () => {
  let calls = 0;
  const count = 100_000;
  const ends = Array.from({ length: count }, (_, index) => index + 1);
  mergePairs(ends, (start, _, end) => {
    calls++;
    return end - start <= 16 ? end - start : undefined;
  });
  assert.ok(calls < 4 * count, `${calls} pairs were ranked`);
  const tokenizer = createTokenizer(pairVocabulary("gpt-2"));
  for (const part of ["a", " ", "ab ", "日本", "1", "!?", "\n"]) {
    const text = part.repeat(count / part.length);
    const looked = charactersLookedUp(() => tokenizer.encode(text));
    assert.ok(looked > 0 && looked < 30 * count, `${JSON.stringify(part)}: ${looked / count}`);
  }
});

Deno.test("characters have the categories of Unicode 15.1, whatever this Deno's version", () => {
  // Counted in llama.cpp v0.5.0's tables, src/unicode-data.cpp.
  const expected = { L: 136_726, N: 1_831, M: 2_450, P: 842, S: 7_775 };
  const found: Record<string, number> = {};
  for (const category of Object.keys(expected)) {
    const expression = new RegExp(`^\\p{${category}}$`, "v");
    found[category] = 0;
    for (let point = 0; point <= 0x10ffff; point++) {
      if (expression.test(asExpressionsSee(String.fromCodePoint(point)))) found[category]++;
    }
  }
  assert.deepEqual(found, expected);
});

/** A small SentencePiece vocabulary: bytes, a few letters, and what is given with its types. */
function smallSpm(extra: Record<string, number>): Map<string, unknown> {
  const bytes = Array.from(
    { length: 256 },
    (_, byte) => `<0x${byte.toString(16).toUpperCase().padStart(2, "0")}>`,
  );
  const typed: [string, number][] = [
    ["<unk>", UNKNOWN],
    ["<s>", CONTROL],
    ["</s>", CONTROL],
    ...bytes.map((token): [string, number] => [token, BYTE]),
    ...["▁", "a", "b", "ab", "▁ab"].map((token): [string, number] => [token, NORMAL]),
    ...Object.entries(extra),
  ];
  return new Map<string, unknown>([
    ["tokenizer.ggml.model", "llama"],
    ["tokenizer.ggml.tokens", typed.map(([token]) => token)],
    ["tokenizer.ggml.token_type", Int32Array.from(typed, ([, type]) => type)],
    ["tokenizer.ggml.scores", Float32Array.from(typed, (_, id) => -id)],
  ]);
}

/** The small vocabulary with some keys of `tokenizer.ggml` changed, or gone where undefined. */
function changed(keys: Record<string, unknown>): Metadata {
  const metadata = smallSpm({});
  for (const [key, value] of Object.entries(keys)) {
    if (value === undefined) metadata.delete(`tokenizer.ggml.${key}`);
    else metadata.set(`tokenizer.ggml.${key}`, value);
  }
  return metadata;
}

function oneLine(message: RegExp, key: string): (error: unknown) => boolean {
  return (error) =>
    error instanceof TokenizerError && message.test(error.message) && error.key === key &&
    !error.message.includes("\n");
}

/** The plain way: look at all pairs, merge the best, again. */
function slowlyMerged(
  symbols: string[],
  rank: (piece: string) => number | undefined,
): string[] {
  for (;;) {
    let best = -1, lowest = Infinity;
    for (let index = 0; index + 1 < symbols.length; index++) {
      const order = rank(symbols[index] + symbols[index + 1]) ?? Infinity;
      if (order < lowest) [best, lowest] = [index, order];
    }
    if (best < 0) return symbols;
    symbols.splice(best, 2, symbols[best] + symbols[best + 1]);
  }
}
