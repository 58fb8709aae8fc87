/** All families, by `general.architecture`. */
import type { Family } from "../family.ts";
import { cohere2, command_r, orion, stablelm } from "./cohere.ts";
import { bloom, falcon, gpt2, gptneox, mpt, nemotron, phi2, starcoder2 } from "./gpt2.ts";
import { granite, minicpm } from "./granite.ts";
import { ernie4_5, internlm2, llama, smollm3, xverse } from "./llama.ts";
import { olmo, olmo2 } from "./olmo.ts";
import { exaone, qwen, qwen2, seed_oss } from "./qwen.ts";

/** What a file's architecture means. */
export const FAMILIES: Readonly<Record<string, Family>> = {
  llama,
  bloom,
  "command-r": command_r,
  cohere2,
  ernie4_5,
  exaone,
  falcon,
  gpt2,
  gptneox,
  granite,
  internlm2,
  minicpm,
  mpt,
  nemotron,
  olmo,
  olmo2,
  orion,
  phi2,
  qwen,
  qwen2,
  seed_oss,
  smollm3,
  stablelm,
  starcoder2,
  xverse,
};
