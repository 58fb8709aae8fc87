/**
 * Texts on which tokenizers part: each kind of text that some pre-tokenizer, normalization or table of merges treats in a way of its
 * own. A comparison runs all of them through both sides' tokenizers.
 */
export const AWKWARD_TEXTS: readonly string[] = [
  "",
  " ",
  "Hello world",
  " Hello",
  "Hello ",
  "   three spaces in front, two behind  ",
  // Numbers: some cut them into single digits, some into threes, some from the right.
  "7 42 123 1234 12345678901",
  "3.14 1,000.50 1e-9 0x1F v2 ½ ² ٣٤٥ १२३ Ⅻ 零一二",
  // Contractions, in both cases, with both apostrophes, and what only looks like one.
  "I'm we'll they're you've he'd it's CAN'T WE'LL I'D YOU'VE 'M 'rE",
  "'Tis 'twas 'Tworld 'LLama I'mad you'Veil",
  "rock 'n' roll, d'été, ''ve, 'llama, ’s, 'ſ, we'd've",
  // Code.
  "def f(x):\n    return x**2 != 0 and {1: [2]}\n\n\n# end",
  "if (a&&b) { c->d = e[i]++; } // /* x */ <?php $v=>1; ?>",
  "\tint\tmain(void)\t{\r\n\t\treturn 0;\r\n}\r\n",
  '<div class="a">&nbsp;</div>\n<!-- x -->',
  '{"key": "value", "list": [1, 2.5, null], "t": "\\n\\u00e9"}',
  // White space: runs of it, at line ends, and the kinds that only Unicode knows.
  "a  b   c    d        e\t\tf \t g",
  "one\ntwo\n\nthree\n\n\nfour \n five\r\nsix\rseven\n ",
  "\r\n\r\n  42\n\n  ٣ \n  x",
  "\n",
  "\n\n  \n",
  "a\u00a0b\u3000c\u2003d\u200be\u2028f\u0085g\vh\fi",
  // Scripts.
  "日本語の文章です。中文字符，没有空格！カタカナ 한국어 문장",
  "Привет, мир! Съешь ещё этих мягких французских булок.",
  "مرحبا بالعالم، كيف الحال؟ שלום עולם",
  "नमस्ते दुनिया। क्षत्रिय ก็ไม่ไป က္က",
  "Ωμέγα ქართული ᏣᎳᎩ Ελληνικά հայերեն",
  // Emoji: skin tones, families held together by joiners, flags.
  "🦙 👍🏽 👨‍👩‍👧‍👦 🏳️‍🌈 🇩🇪 ☃️ 🤷🏼‍♀️",
  // One letter or two: composed, decomposed, ligatures, marks without a letter.
  "é e\u0301 naïve straße İstanbul ﬁn ǅ q\u0307\u0323 Z̸̡͑a̶ \u0301 \u200d\ufe0f",
  "ＡＢＣ １２３ ㍻ ℌ ª º ①",
  // Control characters, halves of characters, planes that nobody has.
  "\u0000\u0001\u001b[0m\u007f\u0080\ufeff\ufffd\uffff\ue000",
  "\ud83e x \udd99 \ud800\udc00\ud800",
  "𠮷 𝟘𝟙 \u{10ffff} \u{1c89} \u0378",
  // Words.
  "camelCase HTTPServer SNAKE_CASE kebab-case XMLHttpRequest2 iPhone",
  "Supercalifragilisticexpialidocious antidisestablishmentarianism Donaudampfschifffahrt",
  "https://example.org/a/b?c=d&e=%20#f mailto:a.b@c.co C:\\dir\\file.txt ~/x/../y",
  "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
  "--------------------------------====================................!!!!!!!!????",
  '... !!! ?! != => == <= >> :: ;; `x` "y" (z) [w] {v} §°∑¬€$#@&*^~|_',
  "don't-stop,now;go:on.And.on…–—“quoted” ‘single’ «guillemets»",
  // What a special token looks like in a text, whole and broken.
  "<s> </s> <unk> <pad> <|endoftext|> <|im_start|>user\nhi<|im_end|>\n",
  "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nhi<|eot_id|>",
  "<s>a</s> b<s> [INST] hi [/INST] <|end <|> <0x0A> </ s> <|user|>\n<|assistant|>",
  "▁ ▁▁the Ġthe Ċ ## ##ing @@",
];
