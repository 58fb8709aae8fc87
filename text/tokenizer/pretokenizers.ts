import { quoted, TokenizerError } from "../error.ts";
import { asExpressionsSee } from "./unicode.ts";

/** How a byte-level BPE vocabulary wants its text cut into words, which merges never cross. */
export interface PreTokenizer {
  /**
   * Regular expressions (flag `v`; `\s` is Unicode's White_Space). The first cuts the text into its
   * matches and what lies between them, each further one cuts the pieces of the one before.
   */
  readonly patterns: readonly string[];
  /** A whole word that is a token becomes that token, whatever the merges say. */
  readonly ignoreMerges?: boolean;
  /** Whether a text gets a BOS token where the file does not say. */
  readonly addBos?: boolean;
}

const CONTRACTIONS = String.raw`'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD]`;
const WORD = String.raw`[^\r\n\p{L}\p{N}]?\p{L}+`;
const DIGIT = String.raw`\p{N}`;
const THREE_DIGITS = String.raw`\p{N}{1,3}`;
const SYMBOLS = String.raw` ?[^\s\p{L}\p{N}]+[\r\n]*`;
const LINES = String.raw`\s*[\r\n]+`;
const SPACES = String.raw`\s+(?!\S)|\s+`;

const GPT2 = String
  .raw`'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|${SPACES}`;
const LLAMA3 = anyOf(CONTRACTIONS, WORD, THREE_DIGITS, SYMBOLS, LINES, SPACES);
const QWEN2 = anyOf(CONTRACTIONS, WORD, DIGIT, SYMBOLS, LINES, SPACES);

/** Words whose case changes at most once, from upper to lower; letters without case go with both. */
function casedWords(suffix: string): string {
  const upper = String.raw`[\p{L}--[a-z]]`;
  const lower = String.raw`[\p{L}--[A-Z]]`;
  const prefix = String.raw`[^\r\n\p{L}\p{N}]?`;
  return anyOf(
    `${prefix}${upper}*${lower}+${suffix}`,
    `${prefix}${upper}+${lower}*${suffix}`,
  );
}

const SYMBOLS_AND_SLASHES = String.raw` ?[^\s\p{L}\p{N}]+[\r\n\/]*`;
const GPT4O = anyOf(
  casedWords(`(?:${CONTRACTIONS})?`),
  THREE_DIGITS,
  SYMBOLS_AND_SLASHES,
  LINES,
  SPACES,
);
const TEKKEN = anyOf(casedWords(""), DIGIT, SYMBOLS_AND_SLASHES, LINES, SPACES);

const KANA_AND_HAN = String.raw`[\u4e00-\u9fa5\u3040-\u30ff]+`;
const HAN_AND_HANGUL = String.raw`[\u0800-\u9fa5\uac00-\ud7ff]+`;
const DEEPSEEK3_WORDS = anyOf(
  String.raw`[!-\/:-@\[-\`\{-~][A-Za-z]+`,
  String.raw`[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+`,
);
const NOT_SENTENCE_END = String
  .raw` ?[^\(\s\|.,!?\u2026\u3002\uff0c\u3001\u0964\u06d4\u060c\)]+`;

/** The letters with case that DeepSeek LLM's tokenizer.json lists. */
const CASED = String.raw`A-Za-z\u00b5\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u01ba\u01bc-\u01bf` +
  String.raw`\u01c4-\u0293\u0295-\u02af\u0370-\u0373\u0376\u0377\u037b-\u037d\u037f\u0386` +
  String.raw`\u0388-\u038a\u038c\u038e-\u03a1\u03a3-\u03f5\u03f7-\u0481\u048a-\u052f\u0531-\u0556` +
  String.raw`\u10a0-\u10c5\u13a0-\u13f5\u13f8-\u13fd\u1c90-\u1cba\u1cbd-\u1cbf\u1d00-\u1d2b` +
  String.raw`\u1d6b-\u1d77\u1d79-\u1d9a\u1e00-\u1f15\u1f18-\u1f1d\u1f20-\u1f45\u1f48-\u1f4d` +
  String.raw`\u1f50-\u1f57\u1f59\u1f5b\u1f5d\u1f5f-\u1f7d\u1f80-\u1fb4\u1fb6-\u1fbc\u1fbe` +
  String.raw`\u1fc2-\u1fc4\u1fc6-\u1fcc\u1fd0-\u1fd3\u1fd6-\u1fdb\u1fe0-\u1fec\u1ff2-\u1ff4` +
  String.raw`\u1ff6-\u1ffc\u2102\u2107\u210a-\u2113\u2115\u2119-\u211d\u2124\u2126\u2128` +
  String.raw`\u212a-\u212d\u212f-\u2134\u2139\u213c-\u213f\u2145-\u2149\u214e\u2183\u2184` +
  String.raw`\u2c00-\u2c7b\u2c7e-\u2ce4\u2ceb-\u2cee\u2cf2\u2cf3\ua640-\ua66d\ua680-\ua69b` +
  String.raw`\ua722-\ua76f\ua771-\ua787\ua78b-\ua78e\uab70-\uabbf\ufb00-\ufb06\ufb13-\ufb17` +
  String.raw`\uff21-\uff3a\uff41-\uff5a\u{10400}-\u{1044f}\u{104b0}-\u{104d3}\u{104d8}-\u{104fb}` +
  String.raw`\u{10c80}-\u{10cb2}\u{10cc0}-\u{10cf2}\u{118a0}-\u{118df}\u{1e900}-\u{1e943}`;

/** The names in `tokenizer.ggml.pre`, and what they stand for in llama.cpp v0.5.0. */
const TABLE: readonly (readonly [readonly string[], PreTokenizer])[] = [
  [["default"], {
    patterns: [String.raw`[\p{P}$+<=>^~\|]+`, GPT2, String.raw`\p{N}+`, "[0-9]{3}"],
  }],
  [
    [
      "llama-bpe",
      "llama3",
      "llama-v3",
      "falcon3",
      "falcon-h1",
      "pixtral",
      "midm-2.0",
      "lfm2",
    ],
    { patterns: [LLAMA3], ignoreMerges: true, addBos: true },
  ],
  [["dbrx", "smaug-bpe", "chatglm-bpe", "glm4"], { patterns: [LLAMA3] }],
  [
    [
      "gpt-2",
      "phi-2",
      "mpt",
      "olmo",
      "jais",
      "trillion",
      "granite-docling",
      "exaone4",
      "gigachat",
      "a.x-4.0",
      "mellum",
    ],
    { patterns: [GPT2] },
  ],
  [
    [
      "smollm",
      "starcoder",
      "refact",
      "command-r",
      "codeshell",
      "exaone",
      "minerva-7b",
      "mellum2",
    ],
    { patterns: [DIGIT, GPT2] },
  ],
  [
    [
      "qwen2",
      "deepseek-r1-qwen",
      "megrez",
      "kormo",
      "f2llmv2",
      "stablelm2",
      "hunyuan",
      "solar-open",
      "grok-2",
    ],
    { patterns: [QWEN2] },
  ],
  [["qwen35"], {
    patterns: [
      anyOf(
        CONTRACTIONS,
        String.raw`[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+`,
        DIGIT,
        String.raw` ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*`,
        LINES,
        SPACES,
      ),
    ],
  }],
  [["falcon"], { patterns: [String.raw`[\p{P}$+<=>^~\|\`]+`, GPT2, "[0-9]{3}"] }],
  [["deepseek-llm"], {
    patterns: [
      String.raw`[\r\n]`,
      String.raw`\s?[${CASED}]+`,
      String.raw`\s?[!-\/:-~\uff01-\uff0f\uff1a-\uff5e\u2018-\u201f\u3000-\u3002]+`,
      // The lookbehind changes no match; without it a long run of spaces costs its length squared.
      String.raw`(?<!\s)\s+$`,
      HAN_AND_HANGUL,
      String.raw`\p{N}+`,
    ],
  }],
  [["deepseek-coder"], {
    patterns: [
      String.raw`[\r\n]`,
      String.raw`\s?\p{L}+`,
      String.raw`\s?\p{P}+`,
      HAN_AND_HANGUL,
      DIGIT,
    ],
  }],
  [["deepseek-v3", "hunyuan-dense", "joyai-llm", "hy_v4"], {
    patterns: [
      THREE_DIGITS,
      KANA_AND_HAN,
      anyOf(DEEPSEEK3_WORDS, String.raw` ?[\p{P}\p{S}]+[\r\n]*`, LINES, SPACES),
    ],
  }],
  [["spark2_5"], {
    patterns: [
      THREE_DIGITS,
      KANA_AND_HAN,
      anyOf(DEEPSEEK3_WORDS, String.raw` ?[\p{P}\p{S}]+`, String.raw`[\r\n]`, SPACES),
      DIGIT,
    ],
  }],
  [["gpt-4o", "llama4", "kanana2", "talkie", "minimax-m2"], { patterns: [GPT4O] }],
  [["tekken"], { patterns: [TEKKEN], ignoreMerges: true, addBos: true }],
  [["poro-chat", "bloom", "gpt3-finnish"], { patterns: [NOT_SENTENCE_END] }],
  [["viking"], { patterns: [NOT_SENTENCE_END, DIGIT] }],
  [["bailingmoe", "bailingmoe2", "llada-moe"], {
    patterns: [
      anyOf(
        "'(?:[sSdDmMtT]|[lL][lL]|[vV][eE]|[rR][eE])",
        WORD,
        DIGIT,
        SYMBOLS,
        String.raw`\s*[\r\n]`,
        SPACES,
      ),
    ],
  }],
  [["seed-coder"], {
    patterns: [
      anyOf(CONTRACTIONS, WORD, DIGIT, String.raw` ?[^\s\p{L}\p{N}\r\n]+`, LINES, SPACES),
    ],
  }],
  [["ufakzeka"], { patterns: [anyOf(WORD, DIGIT, SYMBOLS, LINES, SPACES)] }],
  [["laguna"], { patterns: [String.raw`\n+`, QWEN2] }],
  [["exaone-moe"], {
    patterns: [
      anyOf(
        CONTRACTIONS,
        String.raw`[^\r\n\p{L}\p{N}]?(?:\p{L}\p{M}*(?: \p{L}\p{M}*)*)+`,
        DIGIT,
        String.raw` ?[^\s\p{L}\p{N}]+[\r\n\/]?`,
        String.raw`\s*[\r\n]`,
        SPACES,
      ),
    ],
  }],
  [["minicpm5"], {
    patterns: [
      THREE_DIGITS,
      anyOf(CONTRACTIONS, WORD, String.raw`\p{N}+`, SYMBOLS, LINES, SPACES),
    ],
    ignoreMerges: true,
  }],
  [["chameleon"], {
    patterns: [
      "<sentinel:[0-9]+>",
      "IMGIMG[A-I]{1,4}Z",
      String.raw`[\t\n]|    |  `,
      DIGIT,
      String.raw`[\p{P}!-\/:-@\[-\`\{-~]`,
      GPT2,
    ],
    addBos: true,
  }],
];

const BY_NAME = new Map(
  TABLE.flatMap(([names, preTokenizer]) =>
    names.map((name): [string, PreTokenizer] => [name, preTokenizer])
  ),
);

/** The names that {@linkcode preTokenizer} knows, sorted. */
export const PRE_TOKENIZER_NAMES: readonly string[] = [...BY_NAME.keys()].sort();

/**
 * The pre-tokenizer of a name in `tokenizer.ggml.pre`.
 *
 * @throws {TokenizerError} for a name that is not in the table
 */
export function preTokenizer(name: string): PreTokenizer {
  const found = BY_NAME.get(name);
  if (found !== undefined) return found;
  throw new TokenizerError(
    `tokenizer.ggml.pre names the pre-tokenizer ${quoted(name)}, which is not known; ` +
      `known are ${PRE_TOKENIZER_NAMES.join(", ")}`,
    { key: "tokenizer.ggml.pre" },
  );
}

/** Makes the function that cuts well-formed text into words as a pre-tokenizer says. */
export function wordSplitter({ patterns }: PreTokenizer): (text: string) => string[] {
  const expressions = patterns.map((pattern) => {
    const spaces = pattern.replaceAll(String.raw`\s`, String.raw`\p{White_Space}`)
      .replaceAll(String.raw`\S`, String.raw`\P{White_Space}`);
    return new RegExp(spaces, "gv");
  });
  return (text) => {
    const seen = asExpressionsSee(text);
    let ends = [text.length];
    for (const expression of expressions) ends = cutPieces(seen, ends, expression);
    return ends.map((end, word) => text.slice(word === 0 ? 0 : ends[word - 1], end));
  };
}

/** Cuts each piece of a text further; pieces are given and returned as the offsets of their ends. */
function cutPieces(text: string, ends: readonly number[], expression: RegExp): number[] {
  const cuts: number[] = [];
  let start = 0;
  for (const end of ends) {
    let from = start;
    // On the piece alone: what stands beyond its end must not count for a lookahead.
    for (const match of text.slice(start, end).matchAll(expression)) {
      const first = start + match.index;
      if (first > from) cuts.push(first);
      from = first + match[0].length;
      cuts.push(from);
    }
    if (from < end) cuts.push(end);
    start = end;
  }
  return cuts;
}

function anyOf(...alternatives: readonly string[]): string {
  return alternatives.join("|");
}
