/** Tokens in and out of analyses. */
import type { Model } from "../run/model.ts";
import { checkTokenId } from "../run/prompt.ts";

/** A token by its text (exactly one token) or by its id. */
export type TokenName = string | number;

/**
 * @throws {TokenError} for a text that is not one token
 * @throws {RangeError} for an id outside the vocabulary
 */
export function tokenId(model: Model, token: TokenName): number {
  return typeof token === "number"
    ? checkTokenId(token, model.config.vocabSize)
    : model.tokenId(token);
}
