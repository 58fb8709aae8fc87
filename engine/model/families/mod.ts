/** All families, by `general.architecture`. */
import type { Family } from "../family.ts";
import { baichuan } from "./baichuan.ts";
import { gemma, gemma2, gemma3 } from "./gemma.ts";
import { chatglm, glm4 } from "./glm.ts";
import { arcee, ernie4_5, internlm2, llama, smollm3, xverse } from "./llama.ts";
import { mistral3 } from "./mistral.ts";
import { phi3 } from "./phi.ts";
import { exaone, qwen, qwen2, seed_oss } from "./qwen.ts";
import { apertus, exaone4, hunyuan_dense, qwen3 } from "./qwen3.ts";

/** What a file's architecture means. */
export const FAMILIES: Readonly<Record<string, Family>> = {
  llama,
  apertus,
  arcee,
  baichuan,
  chatglm,
  ernie4_5,
  exaone,
  exaone4,
  gemma,
  gemma2,
  gemma3,
  glm4,
  "hunyuan-dense": hunyuan_dense,
  internlm2,
  mistral3,
  phi3,
  qwen,
  qwen2,
  qwen3,
  seed_oss,
  smollm3,
  xverse,
};
