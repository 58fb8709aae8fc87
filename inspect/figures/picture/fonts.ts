/**
 * The letters of the static pictures, as bytes that come with the packages: the same on every machine. Inter for words, DejaVu
 * Sans Mono for tokens, DejaVu Sans for what Inter does not have; Noto for Chinese, Japanese, Korean and emoji.
 */
import * as fontkit from "npm:fontkit@2.0.4";

/** The part of fontkit's font that is used here. */
interface FontkitFont {
  readonly unitsPerEm: number;
  readonly ascent: number;
  readonly descent: number;
  hasGlyphForCodePoint(code: number): boolean;
  layout(text: string): { readonly advanceWidth: number };
}

/** One file of letters. */
class Face {
  #font: FontkitFont | undefined;
  readonly #widths = new Map<string, number>();

  constructor(readonly bytes: Uint8Array) {}

  /** Read when a text is first measured by it. */
  get font(): FontkitFont {
    return this.#font ??= fontkit.create(this.bytes) as FontkitFont;
  }

  has(character: string): boolean {
    return UNSEEN.test(character) || this.font.hasGlyphForCodePoint(character.codePointAt(0)!);
  }

  /** In ems, with kerning. */
  width(text: string): number {
    let width = this.#widths.get(text);
    if (width === undefined) {
      width = this.font.layout(text).advanceWidth / this.font.unitsPerEm;
      if (this.#widths.size >= MOST_WIDTHS) this.#widths.clear();
      this.#widths.set(text, width);
    }
    return width;
  }
}

/** Characters that only change their neighbours. */
const UNSEEN = /\p{Default_Ignorable_Code_Point}/u;
/** Texts whose widths are remembered: the same ticks and tokens come again. */
const MOST_WIDTHS = 10_000;

/** A file of letters. */
interface FontFile {
  /** The npm package, pinned. */
  readonly package: string;
  readonly path: string;
  /** What a text must have to need it; every text does without. */
  readonly characters?: RegExp;
}

/** In the order in which they are asked for a character that a text's own font does not have. */
const FILES = {
  inter: { package: "@expo-google-fonts/inter@0.4.2", path: "400Regular/Inter_400Regular.ttf" },
  interBold: {
    package: "@expo-google-fonts/inter@0.4.2",
    path: "600SemiBold/Inter_600SemiBold.ttf",
  },
  emoji: {
    package: "@expo-google-fonts/noto-emoji@0.4.7",
    path: "400Regular/NotoEmoji_400Regular.ttf",
    characters: /\p{Emoji_Presentation}|\ufe0f|[\u{1f000}-\u{1faff}]/u,
  },
  chinese: {
    package: "@expo-google-fonts/noto-sans-sc@0.4.3",
    path: "400Regular/NotoSansSC_400Regular.ttf",
    characters: /\p{scx=Han}|\p{scx=Hiragana}|\p{scx=Katakana}|\p{scx=Bopomofo}|[\uff00-\uffef]/u,
  },
  korean: {
    package: "@expo-google-fonts/noto-sans-kr@0.4.3",
    path: "400Regular/NotoSansKR_400Regular.ttf",
    characters: /\p{Script=Hangul}/u,
  },
  sans: { package: "dejavu-fonts-ttf@2.37.3", path: "ttf/DejaVuSans.ttf" },
  mono: { package: "dejavu-fonts-ttf@2.37.3", path: "ttf/DejaVuSansMono.ttf" },
} as const satisfies Record<string, FontFile>;

type FontName = keyof typeof FILES;

const faces = new Map<FontName, Face>();

/** Loads a file where it is not there yet. Fonts take 100 MB: a literal import would bring all of them at a first start. */
async function load(name: FontName): Promise<Face> {
  const { package: npm, path } = FILES[name];
  let face = faces.get(name);
  if (face === undefined) {
    // Files of a package can be fetched once a module of it was imported.
    await import(`npm:${npm}/package.json`, { with: { type: "json" } });
    const response = await fetch(import.meta.resolve(`npm:${npm}/${path}`));
    faces.set(name, face = new Face(await response.bytes()));
  }
  return face;
}

/** A font of a text. */
export interface TextFont {
  /** As in CSS: the first known one counts. */
  readonly family: string;
  /** In pixels. */
  readonly size: number;
  readonly bold: boolean;
}

/** The fonts of a figure. */
export class Fonts {
  /** In the order in which they are asked for a character that a text's own font does not have. */
  readonly #faces: readonly Face[];

  private constructor(faces: readonly Face[]) {
    this.#faces = faces;
  }

  /** Those that a text needs. */
  static async of(text: string): Promise<Fonts> {
    const names = (Object.keys(FILES) as FontName[]).filter((name) => {
      const { characters }: FontFile = FILES[name];
      return characters?.test(text) ?? true;
    });
    return new Fonts(await Promise.all(names.map(load)));
  }

  /** For the drawer of pictures. */
  get files(): readonly Uint8Array[] {
    return this.#faces.map(({ bytes }) => bytes);
  }

  /** How wide a text is, in pixels. */
  width(text: string, font: TextFont): number {
    const characters = [...text];
    const faces = this.#facesFor(characters, faceOf(font));
    let width = 0;
    for (let start = 0, end = 0; start < characters.length; start = end) {
      while (faces[end] === faces[start] && end < characters.length) end++;
      width += faces[start].width(characters.slice(start, end).join(""));
    }
    return width * font.size;
  }

  /**
   * By which face each character is drawn, by the rule of resvg: the text's own, then always the first face that has what is
   * missing, for the whole text where it has all of it.
   */
  #facesFor(characters: readonly string[], own: Face): Face[] {
    const faces = characters.map((each) => own.has(each) ? own : undefined);
    for (const face of this.#faces) {
      const missing = faces.indexOf(undefined);
      if (missing < 0) break;
      if (!face.has(characters[missing])) continue;
      if (characters.every((each) => face.has(each))) return faces.fill(face) as Face[];
      characters.forEach((each, i) => faces[i] ??= face.has(each) ? face : undefined);
    }
    return faces.map((face) => face ?? own);
  }

  /** How far letters reach above and below the line, in whole pixels as in browsers. */
  reach(font: TextFont): { readonly ascent: number; readonly descent: number } {
    const { ascent, descent, unitsPerEm } = faceOf(font).font;
    const scale = font.size / unitsPerEm;
    return { ascent: Math.round(ascent * scale), descent: Math.round(-descent * scale) };
  }
}

/** The first known one of a family's list. */
function faceOf({ family, bold }: TextFont): Face {
  const name = family.match(/inter|dejavu sans mono|monospace|dejavu sans/i)?.[0].toLowerCase();
  const mono = name === "dejavu sans mono" || name === "monospace";
  return faces.get(mono ? "mono" : name === "dejavu sans" ? "sans" : bold ? "interBold" : "inter")!;
}
