/** All families, by `general.architecture`. */
import type { Family } from "../family.ts";
import { ernie4_5, internlm2, llama, smollm3, xverse } from "./llama.ts";
import { exaone, qwen, qwen2, seed_oss } from "./qwen.ts";

/** What a file's architecture means. */
export const FAMILIES: Readonly<Record<string, Family>> = {
  llama,
  ernie4_5,
  exaone,
  internlm2,
  qwen,
  qwen2,
  seed_oss,
  smollm3,
  xverse,
};
