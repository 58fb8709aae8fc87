/** Tokens in and out of analyses. */
import type { Model } from "../model.ts";

/** A token by its text (exactly one token) or by its id. */
export type TokenName = string | number;

/** @throws {TokenError} for a text that is not one token */
export function tokenId(model: Model, token: TokenName): number {
  return typeof token === "number" ? token : model.tokenId(token);
}

/** Tokens as people read them; their ids where the file has no vocabulary. */
export function tokenTexts(model: Model): (id: number) => string {
  if (!model.metadata.has("tokenizer.ggml.tokens")) return (id) => `${id}`;
  const { tokenizer } = model;
  return (id) => tokenizer.piece(id);
}
