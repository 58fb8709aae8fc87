/** What the two kinds of vocabularies do differently. */
export interface TokenizerModel {
  /**
   * The ids of well-formed text that holds no special tokens: a whole text, or the stretch from one
   * special token to the next.
   */
  encode(text: string): number[];
  /** The bytes that an ordinary token stands for. */
  bytes(token: string): Uint8Array;
  /** A text as the vocabulary would write it: `Ġthe` or `▁the` for ` the`. */
  spelling(text: string): string;
  /** Whether encoding puts a space before a text. */
  readonly addsSpace: boolean;
}
