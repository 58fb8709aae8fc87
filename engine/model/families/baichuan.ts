/** Baichuan. */
import type { Family, Sizes } from "../family.ts";
import type { Keys } from "../keys.ts";

/** Baichuan 1 and 2 (Yang et al. 2023): the 7B knows positions by RoPE, the 13B by ALiBi; files do not say which, except by their layers. */
export const baichuan: Family = {
  ropeStyle: "adjacent",
  huggingFace: { modules: { "self_attn.W_pack": "attn_qkv" } },
  alibi: (keys, sizes) => hasAlibi(keys, sizes) ? 8 : 0,
  unturned: (keys, sizes) => Array(sizes.layers).fill(hasAlibi(keys, sizes)),
};

function hasAlibi(keys: Keys, { layers }: Sizes): boolean {
  if (layers === 32 || layers === 40) return layers === 40;
  throw keys.error("block_count", `${layers}, and only models of 32 and 40 layers are known`);
}
