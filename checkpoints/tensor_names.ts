/** Names of a Llama's weights: GGUF's, and Hugging Face's for the same. */

/** Hugging Face's modules in a layer (`model.layers.<L>.…`), and GGUF's (`blk.<L>.…`). */
const IN_LAYERS: readonly (readonly [huggingFace: string, gguf: string])[] = [
  ["input_layernorm", "attn_norm"],
  ["self_attn.q_proj", "attn_q"],
  ["self_attn.k_proj", "attn_k"],
  ["self_attn.v_proj", "attn_v"],
  ["self_attn.o_proj", "attn_output"],
  ["self_attn.q_norm", "attn_q_norm"],
  ["self_attn.k_norm", "attn_k_norm"],
  ["post_attention_layernorm", "ffn_norm"],
  ["mlp.gate_proj", "ffn_gate"],
  ["mlp.up_proj", "ffn_up"],
  ["mlp.down_proj", "ffn_down"],
];

/** Those around them. */
const AROUND: readonly (readonly [huggingFace: string, gguf: string])[] = [
  ["model.embed_tokens", "token_embd"],
  ["model.norm", "output_norm"],
  ["lm_head", "output"],
];

const TO_GGUF: ReadonlyMap<string, string> = new Map([...IN_LAYERS, ...AROUND]);

/** GGUF's name for a weight of Hugging Face's `LlamaForCausalLM`; undefined for other names. */
export function ggufName(name: string): string | undefined {
  const [, layer, module, kind] = name.match(/^(?:model\.layers\.(\d+)\.)?(.+)\.(weight|bias)$/) ??
    [];
  const own = TO_GGUF.get(module);
  if (own === undefined) return undefined;
  const isLayers = IN_LAYERS.some(([, gguf]) => gguf === own);
  if (isLayers !== (layer !== undefined)) return undefined;
  return `${isLayers ? `blk.${layer}.` : ""}${own}.${kind}`;
}

/** Whether a weight's rows are in the order that RoPE asks for: those of queries and keys. */
export function isRotary(name: string): boolean {
  return /^blk\.\d+\.attn_[qk]\.(weight|bias)$/.test(name);
}
