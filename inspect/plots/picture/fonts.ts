/**
 * The letters of the static pictures, as bytes that come with the packages: the same on every machine. Inter for words, DejaVu
 * Sans Mono for tokens, DejaVu Sans for what Inter does not have.
 */
import dejavuSans from "npm:dejavu-fonts-ttf@2.37.3/ttf/DejaVuSans.ttf" with { type: "bytes" };
import dejavuMono from "npm:dejavu-fonts-ttf@2.37.3/ttf/DejaVuSansMono.ttf" with { type: "bytes" };
import interRegular from "npm:@expo-google-fonts/inter@0.4.2/400Regular/Inter_400Regular.ttf" with {
  type: "bytes",
};
import interBold from "npm:@expo-google-fonts/inter@0.4.2/600SemiBold/Inter_600SemiBold.ttf" with {
  type: "bytes",
};

/** What the drawer of pictures gets. */
export const FONT_FILES: readonly Uint8Array[] = [interRegular, interBold, dejavuSans, dejavuMono];

/** The weight of bold words: the one that is here. */
export const BOLD = 600;

/**
 * How wide a text is, in ems. Without kerning: a per cent or so, which placing does not notice.
 *
 * @param family a list as in CSS; the first known one counts
 */
export function emWidth(text: string, family: string, bold: boolean): number {
  const first = family.match(/inter|dejavu sans mono|monospace|dejavu sans/i)?.[0].toLowerCase();
  const inter = bold ? INTER_BOLD : INTER;
  const faces = first === "dejavu sans mono" || first === "monospace"
    ? [MONO, SANS]
    : first === "dejavu sans"
    ? [SANS, MONO]
    : [inter, SANS, MONO];
  let width = 0;
  for (const character of text) {
    const code = character.codePointAt(0)!;
    const face = faces.find((each) => each.has(code));
    width += face?.advance(code) ?? 1;
  }
  return width;
}

/**
 * Advance widths of a TrueType font: its tables `head`, `hhea`, `hmtx` and `cmap` (formats 4 and 12).
 * Format: https://learn.microsoft.com/typography/opentype/spec/otff
 */
class Advances {
  readonly #view: DataView;
  #glyphs: ReadonlyMap<number, number> | undefined;
  #tables: ReadonlyMap<string, number> | undefined;

  constructor(bytes: Uint8Array) {
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  has(code: number): boolean {
    return (this.#glyphs ??= this.#readGlyphs()).has(code);
  }

  /** Of a character that the font has, in ems. */
  advance(code: number): number {
    const glyph = (this.#glyphs ??= this.#readGlyphs()).get(code)!;
    const unitsPerEm = this.#view.getUint16(this.#table("head") + 18);
    const last = this.#view.getUint16(this.#table("hhea") + 34) - 1;
    return this.#view.getUint16(this.#table("hmtx") + 4 * Math.min(glyph, last)) / unitsPerEm;
  }

  #table(tag: string): number {
    if (this.#tables === undefined) {
      const tables = new Map<string, number>();
      for (let i = 0; i < this.#view.getUint16(4); i++) {
        const entry = 12 + 16 * i;
        const name = [0, 1, 2, 3].map((at) => this.#view.getUint8(entry + at));
        tables.set(String.fromCharCode(...name), this.#view.getUint32(entry + 8));
      }
      this.#tables = tables;
    }
    return this.#tables.get(tag)!;
  }

  #readGlyphs(): ReadonlyMap<number, number> {
    const view = this.#view;
    const cmap = this.#table("cmap");
    const glyphs = new Map<number, number>();
    for (let i = 0; i < view.getUint16(cmap + 2); i++) {
      const at = cmap + view.getUint32(cmap + 4 + 8 * i + 4);
      const format = view.getUint16(at);
      if (format === 12) {
        for (let group = 0; group < view.getUint32(at + 12); group++) {
          const entry = at + 16 + 12 * group;
          const [first, last, glyph] = [0, 4, 8].map((offset) => view.getUint32(entry + offset));
          for (let code = first; code <= last; code++) glyphs.set(code, glyph + code - first);
        }
      } else if (format === 4) {
        const bytes = view.getUint16(at + 6); // twice the number of segments
        for (let segment = 0; segment < bytes; segment += 2) {
          const last = view.getUint16(at + 14 + segment);
          const first = view.getUint16(at + 16 + bytes + segment);
          const delta = view.getUint16(at + 16 + 2 * bytes + segment);
          const rangeAt = at + 16 + 3 * bytes + segment;
          const range = view.getUint16(rangeAt);
          for (let code = first; code <= last && code !== 0xffff; code++) {
            const glyph = range === 0 ? code : view.getUint16(rangeAt + range + 2 * (code - first));
            if (glyph !== 0) glyphs.set(code, (glyph + delta) & 0xffff);
          }
        }
      }
    }
    return glyphs;
  }
}

const INTER = new Advances(interRegular);
const INTER_BOLD = new Advances(interBold);
const SANS = new Advances(dejavuSans);
const MONO = new Advances(dejavuMono);
