/** All families, by `general.architecture`. */
import type { Family } from "../family.ts";
import { baichuan } from "./baichuan.ts";
import { cohere2, command_r, orion, stablelm } from "./cohere.ts";
import {
  bailingmoe,
  deepseek,
  dots1,
  gpt_oss,
  granitemoe,
  llama4,
  olmoe,
  qwen2moe,
  qwen3moe,
} from "./experts.ts";
import { gemma, gemma2, gemma3 } from "./gemma.ts";
import { chatglm, glm4 } from "./glm.ts";
import {
  bloom,
  falcon,
  gpt2,
  gptneox,
  mpt,
  nemotron,
  phi2,
  starcoder,
  starcoder2,
} from "./gpt2.ts";
import { granite, minicpm } from "./granite.ts";
import { arcee, ernie4_5, internlm2, llama, smollm3, xverse } from "./llama.ts";
import { mistral3 } from "./mistral.ts";
import { olmo, olmo2 } from "./olmo.ts";
import { phi3 } from "./phi.ts";
import { exaone, qwen, qwen2, seed_oss } from "./qwen.ts";
import { apertus, exaone4, hunyuan_dense, qwen3 } from "./qwen3.ts";

/** What a file's architecture means. */
export const FAMILIES: Readonly<Record<string, Family>> = {
  llama,
  apertus,
  arcee,
  baichuan,
  bailingmoe,
  bloom,
  chatglm,
  cohere2,
  "command-r": command_r,
  deepseek,
  dots1,
  ernie4_5,
  exaone,
  exaone4,
  falcon,
  gemma,
  gemma2,
  gemma3,
  glm4,
  "gpt-oss": gpt_oss,
  gpt2,
  gptneox,
  granite,
  granitemoe,
  "hunyuan-dense": hunyuan_dense,
  internlm2,
  llama4,
  minicpm,
  mistral3,
  mpt,
  nemotron,
  olmo,
  olmo2,
  olmoe,
  orion,
  phi2,
  phi3,
  qwen,
  qwen2,
  qwen2moe,
  qwen3,
  qwen3moe,
  seed_oss,
  smollm3,
  stablelm,
  starcoder,
  starcoder2,
  xverse,
};
