/** The README's table of families, made of their data: what the configs of their test models have. */
import { syntheticModel } from "../../checkpoints/files/synthetic_model.ts";
import type { Config } from "../../engine/model/config.ts";
import { FAMILIES } from "../../engine/model/families/mod.ts";
import { readHyperparameters } from "../../engine/model/hyperparameters.ts";
import { FAMILY_MODELS } from "./models/family_models.ts";

/** Models of an architecture that people know. */
const MODELS: Readonly<Record<string, string>> = {
  apertus: "Apertus",
  arcee: "AFM 4.5B",
  baichuan: "Baichuan 1 and 2",
  bailingmoe: "Ling",
  bloom: "BLOOM",
  chatglm: "ChatGLM 3, GLM-4 9B",
  codeshell: "CodeShell",
  cohere2: "Command R7B, Command A",
  "command-r": "Command R and R+, Aya",
  deepseek: "DeepSeek-MoE 16B",
  dots1: "dots.llm1",
  ernie4_5: "ERNIE 4.5 (dense)",
  exaone: "EXAONE 3 and 3.5",
  exaone4: "EXAONE 4",
  falcon: "Falcon 7B and 40B",
  gemma: "Gemma 1, CodeGemma",
  gemma2: "Gemma 2",
  gemma3: "Gemma 3",
  glm4: "GLM-4 32B, GLM-Z1",
  "gpt-oss": "gpt-oss",
  gpt2: "GPT-2",
  gptneox: "GPT-NeoX, Pythia",
  granite: "Granite 3 and 4 (dense)",
  granitemoe: "Granite 3 with experts",
  "hunyuan-dense": "Hunyuan (dense)",
  internlm2: "InternLM 2 and 2.5",
  llama: "Llama 1 to 3.3, Mistral 7B, Mixtral, CodeLlama, SmolLM, TinyLlama, Yi, …",
  llama4: "Llama 4",
  minicpm: "MiniCPM",
  mistral3: "Ministral 3",
  mpt: "MPT",
  nemotron: "Minitron, Nemotron 3 8B and 4 15B",
  olmo: "OLMo 1",
  olmo2: "OLMo 2 and 3",
  olmoe: "OLMoE",
  orion: "Orion",
  phi2: "Phi 1, 1.5 and 2",
  phi3: "Phi 3, 3.5 and 4",
  qwen: "Qwen 1",
  qwen2: "Qwen 1.5, 2 and 2.5, QwQ",
  qwen2moe: "Qwen 1.5 and 2 with experts",
  qwen3: "Qwen 3",
  qwen3moe: "Qwen 3 with experts",
  refact: "Refact",
  seed_oss: "Seed-OSS",
  smollm3: "SmolLM 3",
  stablelm: "StableLM 2 and 3B",
  starcoder: "StarCoder, SantaCoder",
  starcoder2: "StarCoder 2",
  xverse: "XVERSE",
};

/** What is special where a config has it. */
const SPECIAL: readonly (readonly [has: (config: Config) => unknown, words: string])[] = [
  [({ embedding }) => embedding.scale !== 1, "scaled embedding"],
  [({ embedding }) => embedding.positions, "learned positions"],
  [({ embedding }) => embedding.norm, "norm of the embedding"],
  [({ normKind }) => normKind === "layer", "LayerNorm"],
  [({ optional }) => !optional.has("output_norm.weight"), "norms without weights"],
  [
    ({ norms }) => norms.attentionAfter !== undefined && norms.attention === undefined,
    "norms behind attention and FFN only",
  ],
  [
    ({ norms }) => norms.attentionAfter !== undefined && norms.attention !== undefined,
    "norms before and behind attention and FFN",
  ],
  [({ parallel }) => parallel, "attention and FFN side by side"],
  [({ fused }) => fused.qkv, "q, k and v in one matrix"],
  [({ fused }) => fused.gateUp, "gate and up in one matrix"],
  [({ optional }) => optional.has("attn_q.bias"), "biases"],
  [({ qkNorm }) => qkNorm && !qkNorm.afterRope, "norms of q and k"],
  [({ qkNorm }) => qkNorm?.afterRope, "norms of q and k behind RoPE"],
  [({ ropes: [rope] }) => rope?.style === "half", "RoPE on halves"],
  [({ ropes: [rope], headWidth }) => rope && rope.width < headWidth, "RoPE on part of a head"],
  [({ ropes }) => ropes.length > 1, "two RoPE tables"],
  [({ ropes }) => ropes.some(({ factors }) => factors !== undefined), "divisors of frequencies"],
  [({ ropes }) => ropes.some(({ scaling }) => scaling.type === "yarn"), "YaRN"],
  [({ ropes }) => ropes.some(({ scaling }) => scaling.type === "longrope"), "LongRoPE"],
  [
    ({ ropes, blocks }) => ropes.length > 0 && blocks.some(({ rope }) => rope === undefined),
    "layers without RoPE",
  ],
  [({ alibi }) => alibi !== 0, "ALiBi"],
  [({ blocks }) => blocks.some(({ window }) => window !== 0), "windows"],
  [({ blocks }) => blocks.some(({ chunk }) => chunk !== 0), "chunks"],
  [({ sinks }) => sinks, "sinks"],
  [({ attentionCap, logitCap }) => attentionCap !== 0 || logitCap !== 0, "soft caps"],
  [({ qkvLimit }) => qkvLimit !== 0, "clamped q, k and v"],
  [({ queryScaling }) => queryScaling, "queries that grow with their position"],
  [({ gated }) => !gated, "no gate"],
  [({ activation }) => activation !== "silu", "other activation than SiLU"],
  [({ residualScale, logitScale }) => residualScale !== 1 || logitScale !== 1, "factors"],
  [({ blocks }) => blocks.some(({ experts }) => experts), "experts"],
  [({ blocks }) => blocks.some(({ experts }) => experts?.shared), "an FFN for all beside them"],
];

/** The configs of a family's test models. */
function configsOf(architecture: string): Config[] {
  const own = Object.entries(FAMILY_MODELS).filter(([, { shape }]) =>
    shape.architecture === architecture
  );
  return own.map(([name, { shape }]) => {
    const { metadata, tensors } = syntheticModel({ name, shape, type: "F32" });
    const infos = tensors.map(({ name, type, shape }) =>
      [name, { name, type, shape, bytes: 0, offset: 0, source: 0 }] as const
    );
    return readHyperparameters({ name, metadata, tensors: new Map(infos) });
  });
}

/** Rows of the table, in Markdown without padding: models, architecture, what is special, what llama.cpp does otherwise. */
export function familiesTable(): string[] {
  const rows = Object.entries(FAMILIES).sort(([a], [b]) => a < b ? -1 : 1).map(([name, family]) => {
    const configs = configsOf(name);
    const special = SPECIAL.filter(([has]) => configs.some((config) => has(config)))
      .map(([, words]) => words);
    const does = family.likeLlamaCpp ? `llama.cpp ${family.likeLlamaCpp.does}` : "";
    return `| \`${name}\` | ${MODELS[name]} | ${special.join(", ")} | ${does} |`;
  });
  return [
    "| `general.architecture` | models | what our small models of it have beyond Llama 2 | what llama.cpp does otherwise |",
    "| --- | --- | --- | --- |",
    ...rows,
  ];
}
