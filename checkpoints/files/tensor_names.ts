/** Names of weights: GGUF's, and Hugging Face's for the same. Families say where they differ from a Llama's. */
import { kindOf, layerOf } from "../../base/layer_names.ts";
import { FAMILIES } from "../../engine/model/families/mod.ts";
import type { Family } from "../../engine/model/family.ts";

/** Hugging Face's modules in a layer (`layers.<L>.…`), and GGUF's (`blk.<L>.…`). */
const IN_LAYERS: readonly (readonly [huggingFace: string, gguf: string])[] = [
  ["input_layernorm", "attn_norm"],
  ["self_attn.q_proj", "attn_q"],
  ["self_attn.k_proj", "attn_k"],
  ["self_attn.v_proj", "attn_v"],
  ["self_attn.qkv_proj", "attn_qkv"],
  ["self_attn.o_proj", "attn_output"],
  ["self_attn.q_norm", "attn_q_norm"],
  ["self_attn.k_norm", "attn_k_norm"],
  ["post_attention_layernorm", "ffn_norm"],
  ["mlp.gate_proj", "ffn_gate"],
  ["mlp.up_proj", "ffn_up"],
  ["mlp.gate_up_proj", "ffn_gate_up"],
  ["mlp.down_proj", "ffn_down"],
];

/** Those around them. */
const AROUND: readonly (readonly [huggingFace: string, gguf: string])[] = [
  ["embed_tokens", "token_embd"],
  ["norm", "output_norm"],
  ["lm_head", "output"],
];

const LAYER_MODULES: ReadonlyMap<string, string> = new Map(IN_LAYERS);
const OTHER_MODULES: ReadonlyMap<string, string> = new Map(AROUND);

/** The architecture of a `model_type` of Hugging Face's; undefined for those that are not known. */
export function architectureOf(modelType: unknown): string | undefined {
  const type = String(modelType).replace(/_text$/, "");
  return Object.hasOwn(FAMILIES, type)
    ? type
    : Object.keys(FAMILIES).find((architecture) =>
      FAMILIES[architecture].huggingFace?.types?.includes(type)
    );
}

/** What modules around a language model are called: none of a bare `LlamaModel`, `model`, and several in models that see. */
const NAME =
  /^(?:(?:model|language_model|text_model|transformer|encoder|gpt_neox)\.)*(?:(?:layers|h|blocks)\.(\d+)\.)?(.+)\.(weight|bias)$/;

/**
 * GGUF's name for a weight of Hugging Face's, of a family or of `LlamaForCausalLM`, whatever the model stands in: `model.layers.0.…`,
 * `language_model.model.layers.0.…`, `model.language_model.layers.0.…`, `layers.0.…`; undefined for other names.
 */
export function ggufName(name: string, family?: Family): string | undefined {
  const [, layer, module, kind] = name.match(NAME) ?? [];
  const { modules = {} } = family?.huggingFace ?? {};
  const usual = layer === undefined ? OTHER_MODULES : LAYER_MODULES;
  const own = Object.hasOwn(modules, module) ? modules[module] : usual.get(module);
  if (own === undefined) return undefined;
  return `${layer === undefined ? "" : `blk.${layer}.`}${own}.${kind}`;
}

/** Modules that see, hear, or bring that to a language model. */
const OTHER_SENSES =
  /^(?:model\.)?(?:vision|visual|audio|image|multi_modal|multimodal|mm_|connector|speech)/;

/** Whether a weight of Hugging Face's belongs to no language model: converters put such weights into a file of their own, an mmproj. */
export function isOtherSense(name: string): boolean {
  return OTHER_SENSES.test(name);
}

/** Weights of some files that hold several of others, one below the other, and GGUF's names of those. */
const FUSED: Readonly<Record<string, readonly string[]>> = {
  attn_qkv: ["attn_q", "attn_k", "attn_v"],
  ffn_gate_up: ["ffn_gate", "ffn_up"],
};

/** GGUF's names of the weights that this one may hold, one below the other; none for most. */
export function partNames(name: string): string[] {
  const layer = layerOf(name);
  const [, fused, kind] = kindOf(name).match(/^(\w+)\.(weight|bias)$/) ?? [];
  if (layer === undefined || !Object.hasOwn(FUSED, fused)) return [];
  return FUSED[fused].map((part) => `blk.${layer}.${part}.${kind}`);
}

/** Whether a weight's rows are in the order that RoPE asks for: those of queries and keys. */
export function isRotary(name: string): boolean {
  return layerOf(name) !== undefined && /^attn_[qk]\.(weight|bias)$/.test(kindOf(name));
}
