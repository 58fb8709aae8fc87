/** What converters do to Hugging Face's files of each family: other names, rows of Q and K in RoPE's order, norms plus one. */
import assert from "node:assert/strict";
import { diffModels, type TensorDiff } from "../../checkpoints/files/diff/diff.ts";
import { ggufName } from "../../checkpoints/files/tensor_names.ts";
import { ggufWeights, openSafetensorsWeights } from "../../checkpoints/files/weight_file.ts";
import { dequantize } from "../../engine/gguf/dequantize.ts";
import { openGgufFile } from "../../engine/gguf/reader.ts";
import { FAMILIES } from "../../engine/model/families/mod.ts";
import { Folder } from "../support/folder.ts";
import { writeFamilyModel } from "../support/models/family_models.ts";
import { type SafetensorsInput, writeSafetensors } from "../support/models/safetensors_writer.ts";

/** Hugging Face's names of weights, and GGUF's, by architecture: those that are not as in a Llama. */
const NAMES: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  apertus: {
    "model.layers.1.attention_layernorm": "blk.1.attn_norm",
    "model.layers.1.feedforward_layernorm": "blk.1.ffn_norm",
    "model.layers.1.self_attn.q_norm": "blk.1.attn_q_norm",
  },
  baichuan: { "model.layers.3.self_attn.W_pack": "blk.3.attn_qkv" },
  chatglm: {
    "transformer.embedding.word_embeddings": "token_embd",
    "transformer.encoder.layers.2.input_layernorm": "blk.2.attn_norm",
    "transformer.encoder.layers.2.self_attention.query_key_value": "blk.2.attn_qkv",
    "transformer.encoder.layers.2.self_attention.dense": "blk.2.attn_output",
    "transformer.encoder.layers.2.post_attention_layernorm": "blk.2.ffn_norm",
    "transformer.encoder.layers.2.mlp.dense_h_to_4h": "blk.2.ffn_up",
    "transformer.encoder.layers.2.mlp.dense_4h_to_h": "blk.2.ffn_down",
    "transformer.encoder.final_layernorm": "output_norm",
    "transformer.output_layer": "output",
  },
  bloom: {
    "word_embeddings_layernorm": "token_embd_norm",
    "transformer.h.1.self_attention.dense": "blk.1.attn_output",
    "h.1.mlp.dense_h_to_4h": "blk.1.ffn_up",
    "ln_f": "output_norm",
  },
  exaone4: {
    "model.layers.0.post_attention_layernorm": "blk.0.post_attention_norm",
    "model.layers.0.post_feedforward_layernorm": "blk.0.post_ffw_norm",
  },
  gemma2: {
    "model.layers.0.post_attention_layernorm": "blk.0.post_attention_norm",
    "model.layers.0.pre_feedforward_layernorm": "blk.0.ffn_norm",
    "model.layers.0.post_feedforward_layernorm": "blk.0.post_ffw_norm",
  },
  gemma3: {
    "language_model.model.layers.0.pre_feedforward_layernorm": "blk.0.ffn_norm",
    "language_model.model.layers.0.self_attn.k_norm": "blk.0.attn_k_norm",
  },
  glm4: {
    "model.layers.0.post_self_attn_layernorm": "blk.0.post_attention_norm",
    "model.layers.0.post_attention_layernorm": "blk.0.ffn_norm",
    "model.layers.0.post_mlp_layernorm": "blk.0.post_ffw_norm",
    "model.layers.0.mlp.gate_up_proj": "blk.0.ffn_up",
  },
  "hunyuan-dense": {
    "model.layers.0.self_attn.query_layernorm": "blk.0.attn_q_norm",
    "model.layers.0.self_attn.key_layernorm": "blk.0.attn_k_norm",
  },
  phi3: {
    "model.layers.0.self_attn.qkv_proj": "blk.0.attn_qkv",
    "model.layers.0.mlp.gate_up_proj": "blk.0.ffn_up",
  },
  mpt: {
    "transformer.blocks.0.norm_1": "blk.0.attn_norm",
    "transformer.blocks.0.attn.Wqkv": "blk.0.attn_qkv",
    "transformer.blocks.0.attn.out_proj": "blk.0.attn_output",
    "transformer.blocks.0.norm_2": "blk.0.ffn_norm",
    "transformer.blocks.0.ffn.up_proj": "blk.0.ffn_up",
    "transformer.blocks.0.ffn.down_proj": "blk.0.ffn_down",
    "transformer.norm_f": "output_norm",
  },
  olmo2: {
    "model.layers.0.post_attention_layernorm": "blk.0.post_attention_norm",
    "model.layers.0.post_feedforward_layernorm": "blk.0.post_ffw_norm",
  },
  phi2: {
    "model.layers.0.self_attn.dense": "blk.0.attn_output",
    "model.layers.0.mlp.fc1": "blk.0.ffn_up",
    "model.layers.0.mlp.fc2": "blk.0.ffn_down",
    "model.final_layernorm": "output_norm",
  },
  starcoder2: {
    "model.layers.0.mlp.c_fc": "blk.0.ffn_up",
    "model.layers.0.mlp.c_proj": "blk.0.ffn_down",
  },
};

Deno.test("Hugging Face's modules have the names that converters give them", () => {
  for (const [architecture, names] of Object.entries(NAMES)) {
    for (const [theirs, own] of Object.entries(names)) {
      const found = ggufName(`${theirs}.weight`, FAMILIES[architecture]);
      assert.equal(found, `${own}.weight`, architecture);
    }
  }
  assert.equal(ggufName("model.layers.0.norm.weight", FAMILIES.gemma2), undefined);
});

/** What Hugging Face calls the weights of a Llama. */
const OF_LLAMA: Readonly<Record<string, string>> = {
  token_embd: "model.embed_tokens",
  output_norm: "model.norm",
  output: "lm_head",
  attn_norm: "input_layernorm",
  ffn_norm: "post_attention_layernorm",
  attn_q: "self_attn.q_proj",
  attn_k: "self_attn.k_proj",
  attn_v: "self_attn.v_proj",
  attn_output: "self_attn.o_proj",
  ffn_gate: "mlp.gate_proj",
  ffn_up: "mlp.up_proj",
  ffn_down: "mlp.down_proj",
};

/** A weight's rows as Hugging Face has them. */
type Rows = (name: string, data: Float32Array, columns: number) => Float32Array;

/** Compares a family's model with itself as Hugging Face would have it; what is found is returned. */
async function compared(name: string, modelType: string, rows: Rows): Promise<TensorDiff[]> {
  using folder = new Folder();
  const path = folder.at("model.gguf");
  await writeFamilyModel(name, path);
  const file = await openGgufFile(path);
  const architecture = name.split(" ")[0];
  const theirs = new Map(Object.entries(NAMES[architecture] ?? {}).map(([a, b]) => [b, a]));
  const tensors: SafetensorsInput[] = [];
  for (const tensor of file.tensors.values()) {
    const [, layer, kind, part] = tensor.name.match(/^(?:blk\.(\d+)\.)?(\w+)\.(weight|bias)$/)!;
    const known = theirs.get(`blk.0.${kind}`)?.replace(".0.", `.${layer}.`);
    const usual = layer === undefined ? OF_LLAMA[kind] : `model.layers.${layer}.${OF_LLAMA[kind]}`;
    const data = dequantize(tensor.type, await file.readTensor(tensor));
    tensors.push({
      name: `${known ?? usual}.${part}`,
      dtype: "F32",
      shape: tensor.shape.toReversed(),
      data: rows(tensor.name, data, tensor.shape.length > 1 ? tensor.shape[0] : 1),
    });
  }
  folder.write("model.safetensors", writeSafetensors(tensors));
  const sizes = { num_attention_heads: 6, num_key_value_heads: 2, hidden_size: 84 };
  folder.write("config.json", JSON.stringify({ model_type: modelType, ...sizes }));
  const [a, b] = [ggufWeights(file), await openSafetensorsWeights(folder.path)];
  const { tensors: found } = await diffModels(a, b);
  a.close();
  b.close();
  return found.filter(({ finding }) => finding);
}

/** The rows of each head in halves: 0, 2, 4, …, 1, 3, 5, … of RoPE's neighbours. */
function inHalves(data: Float32Array, columns: number, head: number): Float32Array {
  const out = new Float32Array(data.length);
  for (let row = 0; row < data.length / columns; row++) {
    const at = row % head;
    const from = row - at + (at < head / 2 ? 2 * at : 2 * (at - head / 2) + 1);
    out.set(data.subarray(from * columns, (from + 1) * columns), row * columns);
  }
  return out;
}

const asIs: Rows = (_name, data) => data;

Deno.test("Gemma's norms are one less at Hugging Face, and rows are as they are", async () => {
  const lessOne: Rows = (name, data) =>
    name.endsWith("norm.weight") ? data.map((weight) => weight - 1) : data;
  assert.deepEqual(await compared("gemma2", "gemma2", lessOne), []);
  const forgotten = await compared("gemma2", "gemma2", asIs);
  assert.equal(forgotten.length, 4 * 4 + 1, "a converter that forgets it");
});

Deno.test("GLM's rows are as they are on both sides, those of Mistral are reordered", async () => {
  assert.deepEqual(await compared("glm4", "glm4", asIs), []);
  const halves: Rows = (name, data, columns) =>
    /attn_[qk]\.weight/.test(name) ? inHalves(data, columns, 22) : data;
  assert.deepEqual(await compared("mistral3", "ministral3", halves), []);
  const causes = (await compared("mistral3", "ministral3", asIs)).map(({ finding }) =>
    finding!.cause
  );
  assert.deepEqual([...new Set(causes)], ["qk-permuted"]);
});
