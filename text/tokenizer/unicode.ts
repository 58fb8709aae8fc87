/**
 * What Unicode has assigned since version 15.1, as the inside of a regular expression's class.
 * (https://www.unicode.org/Public/16.0.0/ucd/DerivedAge.txt)
 */
const SINCE_15_1 = String.raw`\u0897\u1b4e-\u1b4f\u1b7f\u1c89-\u1c8a\u2427-\u2429\u31e4-\u31e5` +
  String.raw`\ua7cb-\ua7cd\ua7da-\ua7dc\u{105c0}-\u{105f3}\u{10d40}-\u{10d65}\u{10d69}-\u{10d85}` +
  String.raw`\u{10d8e}-\u{10d8f}\u{10ec2}-\u{10ec4}\u{10efc}\u{11380}-\u{11389}\u{1138b}\u{1138e}` +
  String.raw`\u{11390}-\u{113b5}\u{113b7}-\u{113c0}\u{113c2}\u{113c5}\u{113c7}-\u{113ca}` +
  String.raw`\u{113cc}-\u{113d5}\u{113d7}-\u{113d8}\u{113e1}-\u{113e2}\u{116d0}-\u{116e3}` +
  String
    .raw`\u{11bc0}-\u{11be1}\u{11bf0}-\u{11bf9}\u{11f5a}\u{13460}-\u{143fa}\u{16100}-\u{16139}` +
  String
    .raw`\u{16d40}-\u{16d79}\u{18cff}\u{1cc00}-\u{1ccf9}\u{1cd00}-\u{1ceb3}\u{1e5d0}-\u{1e5fa}` +
  String.raw`\u{1e5ff}\u{1f8b2}-\u{1f8bb}\u{1f8c0}-\u{1f8c1}\u{1fa89}\u{1fa8f}\u{1fabe}\u{1fac6}` +
  String.raw`\u{1fadc}\u{1fadf}\u{1fae9}\u{1fbcb}-\u{1fbef}`;

const WIDE_SPACE = String.raw`[\p{White_Space}--[\0-\x7f]]`;
const REPLACED = new RegExp(`${WIDE_SPACE}|[${SINCE_15_1}]`, "gv");

/**
 * The text as llama.cpp's expressions see it, every character in its place:
 *
 * - One that is newer than Unicode 15.1 becomes an unassigned one (on the same side of the Han
 *   characters), for llama.cpp's tables stop at that version while V8's go on; words are to be split
 *   alike on every version of Deno.
 * - White space beyond ASCII becomes a vertical tab: it is white space even where an expression
 *   lists a range of characters that holds it.
 */
export function asExpressionsSee(text: string): string {
  return text.replace(REPLACED, (character) => {
    if (/\p{White_Space}/u.test(character)) return "\v";
    if (character.length === 2) return "\u{10ffff}";
    return character < "\ua000" ? "\u2fe0" : "\uffff";
  });
}
