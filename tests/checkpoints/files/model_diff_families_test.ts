/** Two files compared, of families whose converters do more than rename: Hugging Face's order of rows, made by another hand. */
import assert from "node:assert/strict";
import { diffModels } from "../../../checkpoints/files/diff/diff.ts";
import { ggufWeights, openSafetensorsWeights } from "../../../checkpoints/files/weight_file.ts";
import { dequantize } from "../../../engine/gguf/dequantize.ts";
import { openGgufFile } from "../../../engine/gguf/reader.ts";
import { Folder } from "../../support/folder.ts";
import { findings } from "../../support/models/diff_samples.ts";
import { writeFamilyModel } from "../../support/models/family_models.ts";
import {
  type SafetensorsInput,
  writeSafetensors,
} from "../../support/models/safetensors_writer.ts";

/** Rows [q of all heads; k; v] as [q, …, q, k, v] of each key head. */
function byHeads(data: Float32Array, heads: number, kvHeads: number): Float32Array {
  const size = data.length / (heads + 2 * kvHeads);
  const head = (i: number) => [...data.subarray(i * size, (i + 1) * size)];
  const each = heads / kvHeads;
  return Float32Array.from(
    Array.from({ length: kvHeads }, (_, kv) => [
      ...Array.from({ length: each }, (_, i) => head(kv * each + i)).flat(),
      ...head(heads + kv),
      ...head(heads + kvHeads + kv),
    ]).flat(),
  );
}

function transpose([rows, columns]: readonly number[], data: Float32Array): Float32Array {
  return Float32Array.from(
    data,
    (_, i) => data[i % rows * columns + Math.floor(i / rows)],
  );
}

/** How Hugging Face has a family: names of its modules by GGUF's, and its `config.json`. */
const FAMILIES = {
  "gpt2": {
    config: { model_type: "gpt2", n_layer: 4, n_embd: 84, n_head: 6 },
    layers: "transformer.h",
    modules: {
      "token_embd": "transformer.wte",
      "position_embd": "transformer.wpe",
      "output_norm": "transformer.ln_f",
      "attn_norm": "ln_1",
      "attn_qkv": "attn.c_attn",
      "attn_output": "attn.c_proj",
      "ffn_norm": "ln_2",
      "ffn_up": "mlp.c_fc",
      "ffn_down": "mlp.c_proj",
    },
  },
  "gptneox": {
    config: {
      model_type: "gpt_neox",
      num_hidden_layers: 4,
      hidden_size: 84,
      num_attention_heads: 6,
    },
    layers: "gpt_neox.layers",
    modules: {
      "token_embd": "gpt_neox.embed_in",
      "output_norm": "gpt_neox.final_layer_norm",
      "output": "embed_out",
      "attn_norm": "input_layernorm",
      "attn_qkv": "attention.query_key_value",
      "attn_output": "attention.dense",
      "ffn_norm": "post_attention_layernorm",
      "ffn_up": "mlp.dense_h_to_4h",
      "ffn_down": "mlp.dense_4h_to_h",
    },
  },
  "falcon with two norms": {
    config: {
      model_type: "falcon",
      num_hidden_layers: 4,
      hidden_size: 84,
      num_attention_heads: 6,
      num_kv_heads: 3,
    },
    layers: "transformer.h",
    modules: {
      "token_embd": "transformer.word_embeddings",
      "output_norm": "transformer.ln_f",
      "output": "lm_head",
      "attn_norm": "ln_mlp",
      "attn_norm_2": "ln_attn",
      "attn_qkv": "self_attention.query_key_value",
      "attn_output": "self_attention.dense",
      "ffn_up": "mlp.dense_h_to_4h",
      "ffn_down": "mlp.dense_4h_to_h",
    },
  },
} as const;

for (const [name, { config, layers, modules }] of Object.entries(FAMILIES)) {
  Deno.test(`model diff: ${name} as Hugging Face has it`, async () => {
    using folder = new Folder();
    const path = folder.at("model.gguf");
    await writeFamilyModel(name, path);
    const file = await openGgufFile(path);
    const names: Readonly<Record<string, string>> = modules;
    const heads = name === "falcon with two norms" ? 3 : 6;
    /** @param right whether q, k and v are where they belong */
    async function theirs(right: boolean): Promise<SafetensorsInput[]> {
      const found: SafetensorsInput[] = [];
      for (const tensor of file.tensors.values()) {
        const [, layer, module, suffix] = tensor.name.match(/^(?:blk\.(\d+)\.)?(\w+)\.(\w+)$/)!;
        const inLayer = layer === undefined ? "" : `${layers}.${layer}.`;
        const stored = `${inLayer}${names[module]}.${suffix}`;
        const shape = tensor.shape.toReversed();
        const data = dequantize(tensor.type, await file.readTensor(tensor));
        const dtype = "F32";
        if (name === "gpt2" && inLayer !== "" && shape.length === 2) {
          found.push({ name: stored, dtype, shape: tensor.shape, data: transpose(shape, data) });
        } else if (module === "attn_qkv" && name !== "gpt2" && right) {
          found.push({ name: stored, dtype, shape, data: byHeads(data, 6, heads) });
        } else {
          found.push({ name: stored, dtype, shape, data });
        }
      }
      return found;
    }
    async function differences(right: boolean): Promise<string[]> {
      folder.write("config.json", JSON.stringify(config));
      folder.write("model.safetensors", writeSafetensors(await theirs(right)));
      const b = await openSafetensorsWeights(folder.path);
      const diff = await diffModels(ggufWeights(file), b);
      b.close();
      assert.equal(diff.tensors.length, file.tensors.size);
      return findings(diff).map((each) => each.name);
    }
    try {
      assert.deepEqual(await differences(true), []);
      if (name === "gpt2") return;
      const wrong = await differences(false);
      assert.ok(wrong.length >= 4 && wrong.every((each) => each.includes("attn_qkv")), `${wrong}`);
    } finally {
      file.close();
    }
  });
}
