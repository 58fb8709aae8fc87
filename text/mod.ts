/**
 * Text to token ids and back, and chats to text, from what a GGUF file says.
 *
 * @module
 */
export { TokenizerError, type TokenizerErrorFacts } from "./error.ts";
export type { Metadata } from "./metadata.ts";
export { PRE_TOKENIZER_NAMES } from "./tokenizer/pretokenizers.ts";
export {
  createTokenizer,
  type DecodeOptions,
  type EncodeOptions,
  type StreamOptions,
  type Tokenizer,
  type TokenStream,
} from "./tokenizer/tokenizer.ts";
export { type ChatMessage, type ChatOptions, ChatTemplateError, renderChat } from "./chat.ts";
