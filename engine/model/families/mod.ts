/** All families. Each file here exports some, under the names that files have in `general.architecture`. */
import type { Family } from "../family.ts";
import * as baichuan from "./baichuan.ts";
import * as cohere from "./cohere.ts";
import * as experts from "./experts.ts";
import * as gemma from "./gemma.ts";
import * as glm from "./glm.ts";
import * as gpt2 from "./gpt2.ts";
import * as granite from "./granite.ts";
import * as llama from "./llama.ts";
import * as mistral from "./mistral.ts";
import * as olmo from "./olmo.ts";
import * as phi from "./phi.ts";
import * as qwen from "./qwen.ts";
import * as qwen3 from "./qwen3.ts";

/** What a file's architecture means. */
export const FAMILIES: Readonly<Record<string, Family>> = {
  ...llama,
  ...baichuan,
  ...cohere,
  ...experts,
  ...gemma,
  ...glm,
  ...gpt2,
  ...granite,
  ...mistral,
  ...olmo,
  ...phi,
  ...qwen,
  ...qwen3,
};
