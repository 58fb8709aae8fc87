/** What a {@linkcode TextStream} needs to know about a vocabulary. */
export interface StreamSource {
  /** The bytes that an id adds to the text, none for one that does not show. */
  bytes(id: number): Uint8Array;
  /** Whether a space that the text begins with was put there by encoding. */
  readonly dropsSpace: boolean;
}

const SPACE = 0x20;

/** Text out of ids, one by one, in whole UTF-8 characters. */
export class TextStream {
  readonly #source: StreamSource;
  readonly #decoder = new TextDecoder("utf-8", { ignoreBOM: true });
  #begun = false;

  constructor(source: StreamSource) {
    this.#source = source;
  }

  push(id: number): string {
    let bytes = this.#source.bytes(id);
    if (bytes.length === 0) return "";
    if (!this.#begun && this.#source.dropsSpace && bytes[0] === SPACE) bytes = bytes.subarray(1);
    this.#begun = true;
    return this.#decoder.decode(bytes, { stream: true });
  }

  end(): string {
    return this.#decoder.decode();
  }
}

/** Text for people: bytes that are no whole UTF-8 character are written `\xE4`. */
export function readable(bytes: Uint8Array): string {
  let text = "";
  for (let at = 0; at < bytes.length;) {
    const length = Math.max(1, Math.clz32(~(bytes[at] << 24)));
    const character = wholeCharacter(bytes.subarray(at, at + length));
    if (character === undefined) {
      text += `\\x${bytes[at].toString(16).toUpperCase().padStart(2, "0")}`;
      at++;
    } else {
      text += character;
      at += length;
    }
  }
  return text;
}

function wholeCharacter(bytes: Uint8Array): string | undefined {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    return undefined;
  }
}
