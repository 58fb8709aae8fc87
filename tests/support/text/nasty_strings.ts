import { Random } from "../../../checkpoints/files/random.ts";

/** Kinds of text that tokenizers get wrong; a string is a few of them in a row. */
const ATOMS: readonly (readonly string[])[] = [
  ["the", "Hello", "world", "HTTPServer", "camelCase", "SNAKE_CASE", "naïve", "straße", "İstanbul"],
  [
    "I'm",
    "we'll",
    "CAN'T",
    "they'Re",
    "'S",
    "'ſ",
    "'llama",
    "''ve",
    "d'été",
    "rock 'n' roll",
    "’s",
  ],
  ["WE'LL", "I'D", "YOU'VE", "'M", "'rE", "'lL", "'T", "it's", "'x", "ſ's", "'K", "we'd've"],
  [" ", "  ", "   ", "        ", "\t", "\t\t", " \t ", "\u00a0", "\u3000", "\u2003", "\u200b"],
  ["\n", "\n\n", "\r\n", "\r", " \n", "\n ", "\r\n\r\n  ", "\u2028", "\u0085", "\v", "\f"],
  ["0", "7", "42", "123", "1234", "12345678901", "3.14", "1,000", "1e-9", "0x1F", "v2", "½", "²"],
  ["٣", "१२३", "Ⅻ", "٤٥٦٧", "零一二", "①", "𝟘𝟙"],
  ["🦙", "👍🏽", "👨‍👩‍👧‍👦", "🏳️‍🌈", "🇩🇪", "☃️", "❤", "🤷🏼‍♀️"],
  ["é", "e\u0301", "q\u0307\u0323", "\u0301", "Z̸̡͑a̶", "ก็", "नमस्ते", "က္က", "\u200d", "\ufe0f"],
  [
    "日本語",
    "中文字符",
    "カタカナ",
    "ひらがな",
    "한국어",
    "힣ퟻ",
    "ㄅㄆㄇ",
    "，。！",
    "「」",
    "㍻",
    "𠮷",
  ],
  ["مرحبا", "שלום", "Привет", "Ωμέγα", "ქართული", "ᏣᎳᎩ", "ﬁn", "ǅ", "ʼn", "ªº"],
  ["!", "?!", "...", "---", "==", "!=", "=>", "{}", "[[", "\\n", "//", "/* */", "#", "@", "$", "€"],
  [".,", ";", ":", "'", '"', "`", "^", "~", "|", "<", ">", "+", "_", "…", "–", "§", "°", "∑", "¬"],
  ["\0", "\x01", "\x1b[0m", "\x1c", "\x7f", "\u0080", "\ufeff", "\ufffd", "\uffff", "\ue000"],
  ["\ud83e", "\udd99", "\ud800 x", "\udc00\ud800"],
  [
    "\u{10ffff}",
    "\u0378",
    "\u{1c89}",
    "\u{1ccf0}",
    "\u{13460}",
    "\u{1fae9}",
    "\u2427",
    "\u{e0041}",
  ],
  ["<s>", "</s>", "<unk>", "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|eot_id|>", "<|end|>"],
  [
    "<|begin_of_text|>",
    "<|end",
    "</",
    "s>",
    "<|>",
    "<0x0A>",
    "<0x",
    "[INST]",
    "<<SYS>>",
    "<|user|>",
  ],
  ["▁", "▁▁the", "Ġ", "Ċ", "Ġthe", "<sentinel:12>", "IMGIMGABCZ", "<reponame>", "<fim_prefix>"],
  ["http://example.org/a?b=c&d=%20", "a@b.co", "x->y", "foo(bar)", "C:\\dir", "def f(x):\n    "],
];

/** A string of a few atoms, sometimes with a stretch that repeats or random characters. */
function nastyString(random: Random): string {
  const pick = <T>(items: readonly T[]) => items[random.integer(0, items.length)];
  const parts: string[] = [];
  const count = random.integer(1, 12);
  for (let i = 0; i < count; i++) {
    const kind = random.integer(0, ATOMS.length + 3);
    if (kind < ATOMS.length) parts.push(pick(ATOMS[kind]));
    else if (kind === ATOMS.length) parts.push(pick(pick(ATOMS)).repeat(random.integer(2, 20)));
    else if (kind === ATOMS.length + 1) parts.push(String.fromCodePoint(anyCodePoint(random)));
    else parts.push(String.fromCharCode(random.integer(0x20, 0x7f)));
    if (random.integer(0, 3) === 0) parts.push(" ");
  }
  return parts.join("");
}

/** Mostly from the planes that are in use. */
function anyCodePoint(random: Random): number {
  return random.integer(0, [0x300, 0x3000, 0x10000, 0x20000, 0x110000][random.integer(0, 5)]);
}

/** Strings that try a tokenizer hard: the same seed, the same strings. The first one is empty. */
export function nastyStrings(seed: number, count: number): string[] {
  const random = new Random(seed);
  const fixed = ["", "Supercalifragilistic".repeat(20), "ab ".repeat(50), " ".repeat(100) + "x"];
  return [...fixed, ...Array.from({ length: count }, () => nastyString(random))].slice(0, count);
}
