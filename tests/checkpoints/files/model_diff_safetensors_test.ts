/** Two files compared, of which one is a safetensors file or a folder of Hugging Face. */
import assert from "node:assert/strict";
import { diffModels, type ModelDiff } from "../../../checkpoints/files/diff/diff.ts";
import { openSafetensorsWeights } from "../../../checkpoints/files/weight_file.ts";
import { diffText } from "../../../checkpoints/commands/model_diff.ts";
import { Folder } from "../../support/folder.ts";
import { withHeader, writeSafetensors } from "../../support/models/safetensors_writer.ts";
import {
  asHuggingFace,
  CONFIG,
  copy,
  edit,
  findings,
  opened,
  rowsInHalves,
  swap,
  TENSORS,
  tiny,
} from "../../support/models/diff_samples.ts";

Deno.test("model diff: safetensors of Hugging Face, one file or several, against GGUF", async () => {
  using folder = new Folder();
  folder.write("config.json", JSON.stringify(CONFIG));
  for (const dtype of ["F32", "F16", "BF16"] as const) {
    folder.write("model.safetensors", writeSafetensors(asHuggingFace(dtype)));
    const b = await openSafetensorsWeights(folder.path);
    const diff = await diffModels(await opened(tiny), b);
    b.close();
    assert.deepEqual(findings(diff), [], dtype);
    assert.deepEqual(diff.metadata, []);
    assert.equal(diff.tensors.length, TENSORS.length);
    assert.ok(diff.passed && diff.tensors.every(({ nmse }) => nmse! <= 1e-5));
  }
  // A converter that forgets to permute Q and K, seen from the original.
  const a = await openSafetensorsWeights(folder.at("model.safetensors"));
  const wrong = copy(edit("blk.0.attn_q.weight", (q) => void (q.data = rowsInHalves(q))));
  const found = findings(await diffModels(a, await opened(wrong)));
  a.close();
  assert.deepEqual(found.map(({ name, finding }) => [name, finding!.cause]), [
    ["blk.0.attn_q.weight", "qk-permuted"],
  ]);
  Deno.removeSync(folder.at("model.safetensors"));

  const all = asHuggingFace("F32", false);
  const files = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"];
  folder.write(files[0], writeSafetensors(all.slice(0, 20)));
  folder.write(files[1], writeSafetensors(all.slice(20)));
  const weight_map = Object.fromEntries(all.map(({ name }, i) => [name, files[i < 20 ? 0 : 1]]));
  folder.write("model.safetensors.index.json", JSON.stringify({ weight_map }));
  folder.write("config.json", JSON.stringify({ ...CONFIG, rope_theta: 5e5 }));
  const sharded = await openSafetensorsWeights(folder.path);
  const diff = await diffModels(await opened(tiny), sharded);
  sharded.close();
  assert.equal(findings(diff).length, 10);
  assert.ok(findings(diff).every(({ finding }) => finding!.cause === "qk-permuted"));
  assert.deepEqual(diff.metadata.map(({ key, a, b }) => [key, a, b]), [
    ["llama.rope.freq_base", "10000", "500000"],
  ]);
  // Without a config nobody knows where heads end, unless the other file does.
  Deno.removeSync(folder.at("config.json"));
  const bare = await openSafetensorsWeights(folder.at("model.safetensors.index.json"));
  const alone = await diffModels(bare, bare);
  assert.ok(alone.passed && alone.tensors.every(({ skipped }) => skipped === undefined));
  bare.close();
});

/** A folder's weights against tiny's, and what `task model diff` says about them. */
async function diffFolder(folder: Folder): Promise<{ diff: ModelDiff; text: string }> {
  const b = await openSafetensorsWeights(folder.path);
  const diff = await diffModels(await opened(tiny), b);
  b.close();
  return { diff, text: diffText(diff) };
}

Deno.test("model diff: a config with a byte order mark, in UTF-16, or with Python's numbers is read", async () => {
  using folder = new Folder();
  folder.write("model.safetensors", writeSafetensors(asHuggingFace("F32")));
  const utf16 = (text: string) =>
    new Uint8Array(Uint16Array.from(text, (character) => character.charCodeAt(0)).buffer);
  const other = { ...CONFIG, rope_theta: 5e5 };
  const config = JSON.stringify(other).replace(
    "{",
    '{"limits":[0.0,Infinity],"NaN":-Infinity,"x":NaN,',
  );
  for (
    const written of [
      "\ufeff" + JSON.stringify(other),
      utf16("\ufeff" + JSON.stringify(other)),
      config,
      "\ufeff" + config,
    ]
  ) {
    folder.write("config.json", written);
    const { diff } = await diffFolder(folder);
    assert.deepEqual(diff.metadata.map(({ key, b }) => [key, b]), [
      ["llama.rope.freq_base", "500000"],
    ]);
    assert.equal(diff.passed, false);
  }
  folder.write("config.json", JSON.stringify(CONFIG).replace("10000", "Infinity"));
  const infinite = (await diffFolder(folder)).diff;
  assert.deepEqual(infinite.metadata.map(({ key, b }) => [key, b]), [
    ["llama.rope.freq_base", "Infinity"],
  ]);
  folder.write("config.json", JSON.stringify(CONFIG));
  folder.write("tokenizer_config.json", "\ufeff" + JSON.stringify({ add_bos_token: false }));
  const { diff } = await diffFolder(folder);
  assert.deepEqual(diff.metadata.map(({ key, b }) => [key, b]), [
    ["tokenizer.ggml.add_bos_token", "false"],
  ]);
});

Deno.test("model diff: a config that cannot be read is an error, none at all a difference", async () => {
  using folder = new Folder();
  folder.write("model.safetensors", writeSafetensors(asHuggingFace("F32")));
  for (const wrong of ["", "{", "<html>", "[1]", "null"]) {
    for (const name of ["config.json", "tokenizer_config.json"]) {
      folder.write("config.json", JSON.stringify(CONFIG));
      folder.write(name, wrong);
      await assert.rejects(openSafetensorsWeights(folder.path), (error: Error) => {
        assert.match(
          error.message,
          new RegExp(`/${name}: this is (not JSON|no JSON object)[^\\n]*$`),
        );
        return true;
      });
      Deno.removeSync(folder.at(name));
    }
  }
  Deno.removeSync(folder.at("config.json"));
  Deno.mkdirSync(folder.at("config.json"));
  await assert.rejects(openSafetensorsWeights(folder.path), /config\.json: this is no file/);
  Deno.removeSync(folder.at("config.json"));

  const { diff, text } = await diffFolder(folder);
  assert.deepEqual(findings(diff), []);
  assert.equal(diff.passed, false);
  assert.match(text, /\nconfig\.json +- +missing: metadata not compared\n/);
  assert.doesNotMatch(text, /alike/);
  const bare = await openSafetensorsWeights(folder.path);
  const both = await diffModels(bare, bare);
  bare.close();
  assert.ok(both.passed);
  assert.match(diffText(both), /48 tensors in band, metadata not compared$/);
});

Deno.test("model diff: the language model of one that sees, under any of its names", async () => {
  using folder = new Folder();
  const { model_type: _, rope_scaling: __, ...text } = CONFIG;
  const vision = {
    name: "model.vision_tower.encoder.layers.0.self_attn.q_proj.weight",
    dtype: "F32" as const,
    shape: [2],
    data: Float32Array.of(1, 2),
  };
  for (
    const [inside, head] of [
      ["language_model.model.", "language_model.lm_head"],
      ["model.language_model.", "lm_head"],
      ["model.text_model.", "lm_head"],
      ["", "lm_head"],
    ]
  ) {
    const tensors = asHuggingFace("F32").map((tensor) => ({
      ...tensor,
      name: tensor.name.replace(/^model\./, inside).replace(/^lm_head/, head),
    }));
    folder.write("model.safetensors", writeSafetensors([...tensors, vision]));
    for (const key of ["text_config", "llm_config"]) {
      const config = {
        model_type: "sees",
        hidden_size: 7,
        [key]: { ...text, model_type: "llama" },
      };
      folder.write("config.json", JSON.stringify(config));
      const { diff, text: words } = await diffFolder(folder);
      assert.deepEqual([findings(diff), diff.metadata], [[], []], inside);
      assert.ok(diff.passed);
      assert.match(
        words,
        /not compared: 1 tensor, model\.vision_tower\S+ the first: no part of the/,
      );
    }
    // The fault of a conversion is still seen.
    const b = await openSafetensorsWeights(folder.path);
    const wrong = await opened(
      copy(edit("blk.2.attn_k.weight", (k) => void (k.data = rowsInHalves(k)))),
    );
    const found = findings(await diffModels(b, wrong));
    b.close();
    assert.deepEqual(found.map(({ name, finding }) => [name, finding!.cause]), [
      ["blk.2.attn_k.weight", "qk-permuted"],
    ]);
  }
  // What stands in no text_config means transformers' default.
  folder.write(
    "config.json",
    JSON.stringify({ text_config: { model_type: "llama", ...{ hidden_size: 256 } } }),
  );
  const { diff } = await diffFolder(folder);
  assert.ok(diff.metadata.some(({ key, b }) => key === "llama.block_count" && b === "32"));
});

Deno.test("model diff: qkv_proj and gate_up_proj hold the weights of several", async () => {
  using folder = new Folder();
  folder.write("config.json", JSON.stringify(CONFIG));
  const all = new Map(asHuggingFace("F32").map((tensor) => [tensor.name, tensor]));
  for (let layer = 0; layer < 5; layer++) {
    const fuse = (module: string, fused: string, names: readonly string[]) => {
      const path = (name: string) => `model.layers.${layer}.${module}.${name}_proj.weight`;
      const parts = names.map((name) => all.get(path(name))!);
      names.forEach((name) => all.delete(path(name)));
      const data = Float32Array.from(parts.flatMap(({ data }) => [...data]));
      const shape = [data.length / 256, 256];
      all.set(path(fused), { name: path(fused), dtype: "F32", shape, data });
    };
    fuse("self_attn", "qkv", ["q", "k", "v"]);
    fuse("mlp", "gate_up", ["gate", "up"]);
  }
  folder.write("model.safetensors", writeSafetensors([...all.values()]));
  const { diff } = await diffFolder(folder);
  assert.deepEqual([findings(diff), diff.metadata], [[], []]);
  assert.ok(diff.passed);
  assert.deepEqual(diff.tensors.map(({ name }) => name), TENSORS.map(({ name }) => name));
  assert.equal(
    diff.tensors.find(({ name }) => name === "blk.3.attn_k.weight")!.b!.name,
    "model.layers.3.self_attn.qkv_proj.weight",
  );
  const a = await openSafetensorsWeights(folder.path);
  const wrong = copy({
    tensors: (all) => {
      swap(all, "blk.2.ffn_gate.weight", "blk.2.ffn_up.weight");
      all.get("blk.0.attn_q.weight")!.data = rowsInHalves(all.get("blk.0.attn_q.weight")!);
    },
    type: "Q8_0",
  });
  const found = findings(await diffModels(a, await opened(wrong)));
  a.close();
  assert.deepEqual(
    Object.fromEntries(found.map(({ name, finding }) => [name, finding!.cause])),
    {
      "blk.0.attn_q.weight": "qk-permuted",
      "blk.2.ffn_gate.weight": "gate-up-swapped",
      "blk.2.ffn_up.weight": "gate-up-swapped",
    },
  );
});

Deno.test("model diff: types that cannot be read are told, not judged", async () => {
  using folder = new Folder();
  const header = { odd: { dtype: "I64", shape: [2], data_offsets: [0, 16] } };
  const path = folder.write(
    "x.safetensors",
    withHeader(JSON.stringify(header), [new Uint8Array(16)]),
  );
  const file = await openSafetensorsWeights(path);
  const { tensors, passed } = await diffModels(file, file);
  file.close();
  assert.equal(tensors[0].skipped, "I64 cannot be read yet");
  assert.ok(passed);
});
