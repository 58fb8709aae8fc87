/** Families whose FFNs are mixtures of experts; Mixtral's files say that they are Llama's. */
import type { Experts } from "../config.ts";
import {
  every,
  type Family,
  mixture,
  pattern,
  real,
  type Rule,
  type Sizes,
  whole,
} from "../family.ts";
import type { Keys } from "../keys.ts";
import { granite } from "./granite.ts";
import { llama } from "./llama.ts";
import { qwen2 } from "./qwen.ts";
import { qwen3 } from "./qwen3.ts";

/** Qwen 1.5 and 2 with experts (Qwen Team 2024): weights do not sum to 1, and a gated FFN is for all. */
export const qwen2moe: Family = {
  ...qwen2,
  experts: mixture({
    normalized: false,
    sharedGate: true,
    sharedWidth: (keys, { layers }) =>
      keys.integer(
        "expert_shared_feed_forward_length",
        keys.sameInLayers("feed_forward_length", layers),
      ),
  }),
};

/** Qwen 3 with experts (Yang et al. 2025). */
export const qwen3moe: Family = { ...qwen3, experts: mixture() };

/** OLMoE (Muennighoff et al. 2024): weights do not sum to 1; queries and keys are normed as whole rows. */
export const olmoe: Family = {
  ropeStyle: "half",
  qkNorm: { over: "row", afterRope: false },
  experts: mixture({ normalized: false }),
};

/** Granite 3 and 4 with experts (IBM): some have an FFN for all. */
export const granitemoe: Family = {
  ...granite,
  experts: mixture({ sharedWidth: whole("expert_shared_feed_forward_length") }),
};

/**
 * gpt-oss (OpenAI 2025): each head has a sink, every other layer a window, everything a bias; experts are chosen by their logits, of
 * which weights are the softmax.
 */
const gptOss: Family = {
  ropeStyle: "half",
  norms: { attention: "attn_norm", ffn: "post_attention_norm" },
  sinks: true,
  activation: "swiglu_clamped",
  window: {
    size: whole("attention.sliding_window"),
    layers: pattern("attention.sliding_window_pattern", 2),
  },
  experts: mixture({ gating: "softmax_chosen", normalized: false }),
};

/** The FFN for all is as wide as so many experts. */
const sharedExperts: Rule<number> = (keys, { layers }) =>
  keys.integer("expert_shared_count") * keys.sameInLayers("expert_feed_forward_length", layers);

/** The first layers have no experts. */
const leadingDense = (keys: Keys, { layers }: Sizes): boolean[] => {
  const count = whole("leading_dense_block_count")(keys);
  return Array.from({ length: layers }, (_, layer) => layer < count);
};

const scale = real("expert_weights_scale", 1);

/** DeepSeek, the first with experts (Dai et al. 2024): small experts, and some for all. */
export const deepseek: Family = {
  ropeStyle: "adjacent",
  denseLayers: leadingDense,
  experts: mixture({ normalized: false, scale, sharedWidth: sharedExperts }),
};

/** What `expert_gating_func` counts from 1 on. */
const GATINGS: readonly Experts["gating"][] = ["softmax", "sigmoid", "softmax_chosen"];

const gating: Rule<Experts["gating"]> = (keys) => {
  const number = whole("expert_gating_func", 2)(keys);
  const name = GATINGS[number - 1];
  if (name === undefined) throw keys.error("expert_gating_func", `${number}, which is not known`);
  return name;
};

const normalized: Rule<boolean> = (keys) => keys.flag("expert_weights_norm", false);

/** dots.llm1 (rednote-hilab 2025): DeepSeek-V3's routing, in which a bias helps to choose, without its groups. */
export const dots1: Family = {
  ...qwen3,
  denseLayers: leadingDense,
  experts: mixture({ gating, normalized, scale, sharedWidth: sharedExperts }),
};

/** Ling (inclusionAI 2025). */
export const bailingmoe: Family = {
  ropeStyle: "adjacent",
  experts: mixture({ normalized, scale, sharedWidth: sharedExperts }),
};

/** Every 4th layer sees everything, and RoPE does not turn it. */
const chunked = pattern("attention.sliding_window_pattern", 4);

/** Positions of a chunk, and between two steps of what queries grow by: no key says it. */
const CHUNK = 8192;

/**
 * Llama 4 (Meta 2025): a single expert, whose input is weighted, beside an FFN for all. Layers that RoPE turns see chunks of the text and
 * have norms behind it; in the others queries grow with their position.
 */
export const llama4: Family = {
  ...llama,
  likeLlamaCpp: undefined,
  qkNorm: (keys) =>
    whole("expert_count")(keys) === 128
      ? undefined
      : { over: "head", afterRope: true, turnedOnly: true, weightless: true },
  window: {
    kind: "chunk",
    size(keys) {
      if (keys.get("attention.sliding_window") !== 0) return CHUNK;
      throw keys.error(
        "attention.sliding_window",
        "0: models without chunks are not supported yet",
      );
    },
    layers: chunked,
  },
  unturned: every(4),
  queryScaling: { scale: 0.1, period: CHUNK, offset: 1, unturnedOnly: true },
  denseLayers(keys, { layers }) {
    const step = keys.integer("interleave_moe_layer_step");
    return Array.from({ length: layers }, (_, layer) => (layer + 1) % step !== 0);
  },
  experts(keys, sizes) {
    const width = keys.sameInLayers("expert_feed_forward_length", sizes.layers);
    const rule = { gating: "sigmoid", normalized: false, weighsInput: true } as const;
    const experts = mixture({ ...rule, sharedWidth: width })(keys, sizes);
    if (experts === undefined) throw keys.error("expert_count", "0, and Llama 4 has experts");
    if (experts.used === 1) return experts;
    throw keys.error("expert_used_count", `${experts.used}, and only 1 is supported`);
  },
};

export { gptOss as "gpt-oss" };
