/** `task model diff`: broken copies of tiny, one fault each, and copies that are as good as their type lets them be. */
import assert from "node:assert/strict";
import {
  type DiffCause,
  diffModels,
  type ModelDiff,
  type TensorDiff,
} from "../../../checkpoints/files/diff/diff.ts";
import { parseManifest } from "../../../checkpoints/references/engine_folder/manifest.ts";
import { bandOf } from "../../../checkpoints/files/diff/bands.ts";
import { permuted } from "../../../checkpoints/files/permute.ts";
import { openSafetensors, SafetensorsError } from "../../../checkpoints/files/safetensors.ts";
import { ggufName } from "../../../checkpoints/files/tensor_names.ts";
import {
  ggufWeights,
  openSafetensorsWeights,
  type WeightFile,
} from "../../../checkpoints/files/weight_file.ts";
import { diffText } from "../../../checkpoints/commands/model_diff.ts";
import { parseForeignJson } from "../../../models/foreign_json.ts";
import { dequantize } from "../../../engine/gguf/dequantize.ts";
import { GgufError, type MetadataValue, openGguf } from "../../../engine/gguf/reader.ts";
import { bytesSource } from "../../../engine/gguf/source.ts";
import { toHalf } from "../../../inspect/points/points.ts";
import { findModel } from "../../../models/mod.ts";
import { Folder } from "../../support/folder.ts";
import { writeGguf, type WriterValue } from "../../support/gguf_writer.ts";
import { QUANTIZERS } from "../../support/quantize.ts";
import { Random } from "../../../checkpoints/files/random.ts";
import {
  type SafetensorsInput,
  withHeader,
  writeSafetensors,
} from "../../support/safetensors_writer.ts";
import { deno } from "../../support/command.ts";

/** A tensor of tiny in 32 bits. */
interface Tensor {
  name: string;
  type: string;
  /** Slowest axis first. */
  shape: readonly number[];
  data: Float32Array;
}

const tiny = (await findModel("tiny")).bytes!;
const original = await openGguf(bytesSource("tiny", tiny));
const HEAD = 32;

async function tensorsOfTiny(): Promise<Tensor[]> {
  const tensors: Tensor[] = [];
  for (const tensor of original.tensors.values()) {
    const data = dequantize(tensor.type, await original.readTensor(tensor));
    tensors.push({
      name: tensor.name,
      type: tensor.type.name,
      shape: tensor.shape.toReversed(),
      data,
    });
  }
  return tensors;
}

const TENSORS = await tensorsOfTiny();

/** What a test does to a copy. */
interface Change {
  tensors?(tensors: Map<string, Tensor>): void;
  metadata?: Readonly<Record<string, WriterValue>>;
  /** Of the matrices. */
  type?: string;
  /** The bytes of a tensor, once they are written. */
  bytes?(name: string, bytes: Uint8Array): void;
}

/** A copy of tiny in GGUF. */
function copy({ tensors, metadata, type, bytes }: Change = {}): Uint8Array<ArrayBuffer> {
  const all = new Map(
    TENSORS.map((tensor) => [tensor.name, { ...tensor, data: tensor.data.slice() }]),
  );
  tensors?.(all);
  return writeGguf({
    metadata: {
      ...Object.fromEntries(original.metadata) as Record<string, WriterValue>,
      ...metadata,
    },
    tensors: [...all.values()].map(({ name, type: own, shape, data }) => {
      const stored = type !== undefined && shape.length > 1 ? type : own;
      const written = QUANTIZERS[stored](data);
      bytes?.(name, written);
      return { name, type: stored, shape: shape.toReversed(), data: written };
    }),
  });
}

async function opened(bytes: Uint8Array): Promise<WeightFile> {
  return ggufWeights(await openGguf(bytesSource("copy", bytes)));
}

async function diffWithTiny(change: Change): Promise<ModelDiff> {
  return await diffModels(await opened(tiny), await opened(copy(change)));
}

function findings({ tensors }: ModelDiff): TensorDiff[] {
  return tensors.filter(({ finding }) => finding);
}

/** The fault, and nothing else, must be found. */
async function assertFound(
  change: Change,
  expected: Readonly<Record<string, DiffCause>>,
  detail: RegExp,
): Promise<TensorDiff> {
  const diff = await diffWithTiny(change);
  const found = findings(diff);
  assert.deepEqual(
    Object.fromEntries(found.map(({ name, finding }) => [name, finding!.cause])),
    expected,
  );
  assert.match(found[0].finding!.detail, detail);
  assert.equal(diff.passed, false);
  assert.deepEqual(diff.metadata, []);
  return found[0];
}

function edit(name: string, change: (tensor: Tensor) => void): Change {
  return { tensors: (all) => change(all.get(name)!) };
}

function swap(all: Map<string, Tensor>, a: string, b: string): void {
  const [x, y] = [all.get(a)!, all.get(b)!];
  [x.data, y.data] = [y.data, x.data];
}

/** Rows of each head in halves, as Hugging Face has them. */
function rowsInHalves({ shape: [rows, columns], data }: Tensor): Float32Array {
  const order = toHalf(Int32Array.from({ length: rows }, (_, row) => row), HEAD);
  const moved = new Float32Array(data.length);
  order.forEach((from, to) =>
    moved.set(data.subarray(from * columns, (from + 1) * columns), to * columns)
  );
  return moved;
}

Deno.test("model diff: the same file twice has nothing to show", async () => {
  const diff = await diffModels(await opened(tiny), await opened(copy()));
  assert.deepEqual(findings(diff), []);
  assert.deepEqual(diff.metadata, []);
  assert.ok(diff.passed);
  assert.equal(diff.tensors.length, TENSORS.length);
  assert.ok(diff.tensors.every(({ nmse, worst }) => nmse === 0 && worst === undefined));
});

Deno.test("model diff: clean copies in other types are in band, both ways", async () => {
  for (const type of ["F32", "BF16", "Q8_0", "Q4_0"]) {
    const [a, b] = [await opened(tiny), await opened(copy({ type }))];
    for (const diff of [await diffModels(a, b), await diffModels(b, a)]) {
      assert.deepEqual(findings(diff), [], type);
      assert.ok(diff.passed);
      const worst = Math.max(...diff.tensors.map(({ nmse }) => nmse!));
      assert.ok(worst <= bandOf(type)!.tensor, `${type} ${worst}`);
      if (type !== "F32") assert.ok(worst > bandOf(type)!.tensor / 10, `${type} ${worst}`);
    }
  }
});

Deno.test("model diff: rows of Q and K in the other RoPE order, quantized too", async () => {
  const change: Change = {
    tensors(all) {
      for (const name of ["blk.2.attn_q.weight", "blk.4.attn_k.weight"]) {
        all.get(name)!.data = rowsInHalves(all.get(name)!);
      }
    },
  };
  const expected = {
    "blk.2.attn_q.weight": "qk-permuted",
    "blk.4.attn_k.weight": "qk-permuted",
  } as const;
  const { nmse, finding } = await assertFound(change, expected, /rows are in the other RoPE order/);
  assert.ok(nmse! > 0.1 && finding!.undone === 0, `${nmse} ${finding!.undone}`);
  const quantized = await assertFound({ ...change, type: "Q4_0" }, expected, /RoPE order/);
  assert.ok(quantized.finding!.undone! > 1e-3 && quantized.finding!.undone! < 0.02);
});

Deno.test("model diff: transposed matrices, square ones and others", async () => {
  const transpose = (tensor: Tensor) => {
    tensor.data = permuted(tensor.data, tensor.shape, [1, 0]);
    tensor.shape = tensor.shape.toReversed();
  };
  const square = edit("blk.1.attn_output.weight", transpose);
  await assertFound(square, { "blk.1.attn_output.weight": "transposed" }, /transposed/);
  const wide = edit("blk.3.ffn_up.weight", transpose);
  await assertFound(
    { ...wide, type: "Q8_0" },
    { "blk.3.ffn_up.weight": "transposed" },
    /transposed/,
  );
});

Deno.test("model diff: one wrong block of a weight, with its place, in every type", async () => {
  const random = new Random(4);
  for (const type of ["F16", "Q8_0", "Q4_0"]) {
    const found = await assertFound(
      {
        ...edit("blk.0.ffn_down.weight", ({ data }) => {
          for (let i = 0; i < 32; i++) data[100 * 512 + 64 + i] = random.normal(0.05);
        }),
        type,
      },
      { "blk.0.ffn_down.weight": "dequant-block" },
      /^one block of 4096 is wrong: row 100, columns 64 to 95$/,
    );
    assert.deepEqual([found.worst!.row, found.worst!.column], [100, 64]);
  }
  // The nibbles of one block in the other order, as a wrong dequantization reads them.
  await assertFound(
    {
      type: "Q4_0",
      bytes(name, bytes) {
        if (name !== "blk.3.ffn_gate.weight") return;
        const block = bytes.subarray(18 * 77, 18 * 78);
        for (let i = 2; i < 18; i++) block[i] = block[i] >> 4 | block[i] << 4;
      },
    },
    { "blk.3.ffn_gate.weight": "dequant-block" },
    /^one block of 4096 is wrong: row 9, columns 160 to 191$/,
  );
});

Deno.test("model diff: norms that are off by one, tensors that are scaled or zero", async () => {
  const plusOne = edit("blk.1.ffn_norm.weight", (tensor) => {
    tensor.data = tensor.data.map((value) => value + 1);
  });
  const { finding } = await assertFound(
    plusOne,
    { "blk.1.ffn_norm.weight": "norm-offset" },
    /one larger than in A/,
  );
  assert.ok(finding!.undone! < 1e-10);
  const scaled = edit("blk.1.attn_v.weight", (tensor) => {
    tensor.data = tensor.data.map((value) => value * 1.125);
  });
  await assertFound(scaled, { "blk.1.attn_v.weight": "scaled" }, /^A's times 1\.125$/);
  // 0.0025 is within the band of Q4_0, but rounding does not scale.
  const little = edit("blk.1.attn_v.weight", (tensor) => {
    tensor.data = tensor.data.map((value) => value * 1.07);
  });
  await assertFound(
    { ...little, type: "Q4_0" },
    { "blk.1.attn_v.weight": "scaled" },
    /A's times 1\.0/,
  );
  const zero = edit("output_norm.weight", ({ data }) => void data.fill(0));
  await assertFound(zero, { "output_norm.weight": "scaled" }, /^all zeros$/);
});

Deno.test("model diff: exchanged tensors", async () => {
  const [gate, up] = ["blk.2.ffn_gate.weight", "blk.2.ffn_up.weight"];
  await assertFound(
    { tensors: (all) => swap(all, gate, up), type: "Q8_0" },
    { [gate]: "gate-up-swapped", [up]: "gate-up-swapped" },
    /its numbers are in B's blk\.2\.ffn_up\.weight/,
  );
  const [one, three] = ["blk.1.attn_norm.weight", "blk.3.attn_norm.weight"];
  await assertFound(
    { tensors: (all) => swap(all, one, three) },
    { [one]: "exchanged", [three]: "exchanged" },
    /its numbers are in B's blk\.3\.attn_norm\.weight/,
  );
});

Deno.test("model diff: missing, extra and renamed tensors", async () => {
  const without = (name: string): Change => ({ tensors: (all) => void all.delete(name) });
  await assertFound(
    without("blk.4.attn_v.weight"),
    { "blk.4.attn_v.weight": "missing" },
    /^not in B$/,
  );
  await assertFound(
    without("output.weight"),
    { "output.weight": "output-tied" },
    /B uses its embedding/,
  );
  const extra: Change = {
    tensors: (all) =>
      void all.set("blk.0.attn_q.bias", {
        name: "blk.0.attn_q.bias",
        type: "F32",
        shape: [256],
        data: new Float32Array(256).fill(0.5),
      }),
  };
  await assertFound(extra, { "blk.0.attn_q.bias": "extra" }, /^not in A$/);
  for (const name of ["blk.1.ffn_w1.weight", "model.layers.1.mlp.gate_proj.weight"]) {
    const renamed = edit("blk.1.ffn_gate.weight", (tensor) => void (tensor.name = name));
    await assertFound(
      { ...renamed, type: "Q8_0" },
      { "blk.1.ffn_gate.weight": "renamed" },
      new RegExp(`^B calls it ${name}$`),
    );
  }
});

Deno.test("model diff: an output matrix that repeats the embedding may be left out", async () => {
  const tied = copy({
    tensors: (all) => void (all.get("output.weight")!.data = all.get("token_embd.weight")!.data),
  });
  const left = copy({ tensors: (all) => void all.delete("output.weight"), type: "Q8_0" });
  for (const [a, b] of [[tied, left], [left, tied]]) {
    const diff = await diffModels(await opened(a), await opened(b));
    assert.deepEqual(findings(diff), []);
    assert.ok(diff.passed);
  }
});

Deno.test("model diff: numbers that are none, and numbers that nothing explains", async () => {
  const nan = edit("blk.2.attn_k.weight", ({ data }) => void (data[5 * 256 + 9] = NaN));
  await assertFound(nan, { "blk.2.attn_k.weight": "nan" }, /^no number in B, row 5, column 9$/);
  const random = new Random(9);
  const other = edit("blk.2.attn_k.weight", (tensor) => {
    tensor.data = tensor.data.map(() => random.normal(0.05));
  });
  const found = await assertFound(other, { "blk.2.attn_k.weight": "unknown" }, /^other numbers$/);
  assert.ok(found.nmse! > 0.5 && found.worst!.nmse > 0.5);
});

Deno.test("model diff: metadata that matters, defaults, and notes", async () => {
  const tokens = (original.metadata.get("tokenizer.ggml.tokens") as string[]).with(300, "odd");
  const diff = await diffWithTiny({
    metadata: {
      "llama.rope.freq_base": { type: "f32", value: 500000 },
      "llama.attention.layer_norm_rms_epsilon": { type: "f32", value: 1e-6 },
      "llama.attention.head_count_kv": { type: "array", of: "u32", value: [4, 4, 4, 4, 4] },
      "llama.context_length": 2048,
      "tokenizer.ggml.add_bos_token": false,
      "tokenizer.ggml.tokens": tokens,
      "general.name": "another",
    },
  });
  assert.deepEqual(findings(diff), []);
  assert.equal(diff.passed, false);
  assert.deepEqual(diff.metadata.map(({ key, a, b, matters }) => [key, a, b, matters]), [
    ["llama.context_length", "1024", "2048", false],
    ["llama.attention.layer_norm_rms_epsilon", "0.00001", "0.000001", true],
    ["llama.rope.freq_base", "10000", "500000", true],
    [
      "tokenizer.ggml.tokens",
      `1024 values, [300] ${
        JSON.stringify((original.metadata.get("tokenizer.ggml.tokens") as string[])[300])
      }`,
      '1024 values, [300] "odd"',
      true,
    ],
    ["tokenizer.ggml.add_bos_token", "true", "false", true],
  ]);
  // What is left out means its default.
  const metadata = new Map<string, MetadataValue>(original.metadata);
  for (const key of ["llama.rope.freq_base", "llama.rope.dimension_count", "tokenizer.ggml.pre"]) {
    metadata.delete(key);
  }
  for (const key of ["add_bos_token", "add_space_prefix", "bos_token_id", "eos_token_id"]) {
    metadata.delete(`tokenizer.ggml.${key}`);
  }
  const silent = { ...await opened(tiny), metadata };
  assert.deepEqual((await diffModels(await opened(tiny), silent)).metadata, []);
  metadata.set("tokenizer.ggml.model", "gpt2");
  const other = (await diffModels(await opened(tiny), silent)).metadata;
  assert.ok(
    other.some(({ key, b }) => key === "tokenizer.ggml.add_bos_token" && b === "false (default)"),
  );
});

/** Hugging Face's names for tiny's tensors. */
const HUGGING_FACE = new Map(
  [
    ...["model.embed_tokens", "model.norm", "lm_head"],
    ...Array.from({ length: 5 }, (_, layer) =>
      [
        ...[
          "input_layernorm",
          "post_attention_layernorm",
          "mlp.gate_proj",
          "mlp.up_proj",
          "mlp.down_proj",
        ],
        ...["q", "k", "v", "o"].map((name) => `self_attn.${name}_proj`),
      ].map((name) => `model.layers.${layer}.${name}`)).flat(),
  ].map((module) => [ggufName(`${module}.weight`)!, `${module}.weight`]),
);

/** Tiny as Hugging Face would have it; Q and K in halves. */
function asHuggingFace(dtype: SafetensorsInput["dtype"], halves = true): SafetensorsInput[] {
  return TENSORS.map((tensor) => ({
    name: HUGGING_FACE.get(tensor.name)!,
    dtype,
    shape: tensor.shape,
    data: halves && /attn_[qk]/.test(tensor.name) ? rowsInHalves(tensor) : tensor.data,
  }));
}

const CONFIG = {
  model_type: "llama",
  num_hidden_layers: 5,
  hidden_size: 256,
  intermediate_size: 512,
  num_attention_heads: 8,
  num_key_value_heads: 4,
  rms_norm_eps: 1e-5,
  rope_theta: 10000.0,
  max_position_embeddings: 1024,
  bos_token_id: 1,
  eos_token_id: 2,
  rope_scaling: null,
};

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

Deno.test("foreign JSON: indexes, headers and manifests may begin with a byte order mark, too", async () => {
  using folder = new Folder();
  const [tensor] = asHuggingFace("F32").filter(({ name }) => name === "model.norm.weight");
  folder.write("x.safetensors", writeSafetensors([tensor]));
  const map = { weight_map: { [tensor.name]: "x.safetensors" } };
  const index = folder.write("x.index.json", "\ufeff" + JSON.stringify({ size: NaN, ...map }));
  const file = await openSafetensors(index);
  assert.deepEqual([...file.tensors.keys()], [tensor.name]);
  file.close();
  folder.write("bad.index.json", "{]");
  await assert.rejects(
    openSafetensors(folder.at("bad.index.json")),
    /bad\.index\.json: this is not/,
  );
  const header = '\ufeff{"__metadata__":{"limit":Infinity}}';
  const marked = await openSafetensors(folder.write("y.safetensors", withHeader(header, [])));
  assert.equal(marked.tensors.size, 0);
  marked.close();
  const manifest = {
    format: "lamina-engine-tensors",
    version: 1,
    model: "tiny",
    prompt_ids: [1],
    passes: [],
  };
  assert.equal(parseManifest("\ufeff" + JSON.stringify(manifest)).model, "tiny");
  const notes = JSON.stringify(manifest).replace("{", '{"loss":NaN,');
  assert.equal(parseManifest(new TextEncoder().encode(notes)).model, "tiny");
});

Deno.test("foreign JSON: words in strings stay, and so do errors", () => {
  assert.deepEqual(
    parseForeignJson('{"a NaN":"Infinity \\"NaN\\"","b":[NaN,-Infinity,Infinity]}'),
    {
      "a NaN": 'Infinity "NaN"',
      b: [NaN, -Infinity, Infinity],
    },
  );
  for (const wrong of ["", "{", "xNaN", "[Infinityx]", "[--Infinity]"]) {
    assert.throws(() => parseForeignJson(wrong), SyntaxError, wrong);
  }
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

Deno.test("safetensors: numbers as they were written, and files that are wrong in one line", async () => {
  using folder = new Folder();
  const data = Float32Array.of(1, -2.5, 0.15625, 3);
  const path = folder.write(
    "x.safetensors",
    writeSafetensors([
      { name: "a", dtype: "BF16", shape: [4], data },
      { name: "b", dtype: "F32", shape: [2, 2], data },
      { name: "c", dtype: "F16", shape: [], data: data.slice(1, 2) },
    ]),
  );
  const file = await openSafetensors(path);
  for (const name of ["a", "b"]) {
    assert.deepEqual(await file.tensors.get(name)!.read!(1, 3), data.slice(1));
  }
  assert.deepEqual(await file.tensors.get("c")!.read!(0, 1), Float32Array.of(-2.5));
  file.close();

  const bytes = Deno.readFileSync(path);
  const entry = (more: Record<string, unknown>) =>
    JSON.stringify({ t: { dtype: "F32", shape: [2], data_offsets: [0, 8], ...more } });
  const eight = [new Uint8Array(8)];
  const cases: [Uint8Array, RegExp][] = [
    [new Uint8Array(3), /too short for a safetensors file/],
    [bytes.subarray(0, 20), /no safetensors file, or a truncated one: a header of \d+ bytes/],
    [withHeader("{}", [], 2n ** 63n), /a header of 9223372036854776000 bytes/],
    [withHeader("{]", []), /its header is not JSON/],
    [withHeader("[1]", []), /its header is no JSON object/],
    [
      bytes.subarray(0, bytes.length - 1),
      /tensor "c" ends at byte \d+ but the file has \d+; it is truncated/,
    ],
    [withHeader(entry({ shape: [3] }), eight), /tensor "t", F32 \[3\], takes 8 bytes/],
    [withHeader(entry({ shape: [2 ** 40, 2 ** 40] }), eight), /takes 8 bytes/],
    [withHeader(entry({ shape: [-2] }), eight), /tensor "t" has no dtype, shape or data_offsets/],
    [withHeader(entry({ data_offsets: [8, 0] }), eight), /data_offsets \[8,0\]/],
    [withHeader(entry({ data_offsets: [0, 1e15] }), eight), /ends at byte 10000000000000\d\d/],
    [withHeader('{"t":null}', eight), /tensor "t" has no dtype/],
  ];
  for (const [wrong, message] of cases) {
    folder.write("wrong.safetensors", wrong);
    const error = await openSafetensors(folder.at("wrong.safetensors")).catch((error) => error);
    assert.ok(error instanceof SafetensorsError, `${error}`);
    assert.match(error.message, message);
    assert.match(error.message, /wrong\.safetensors: [^\n]+$/);
  }
  const index = (map: unknown) => folder.write("i.index.json", JSON.stringify({ weight_map: map }));
  for (
    const [map, message] of [
      [{ a: "../x.safetensors" }, /"a" is in "\.\.\/x\.safetensors"/],
      [{ z: "x.safetensors" }, /x\.safetensors has no tensor "z"/],
      [{ a: "none.safetensors" }, /none\.safetensors: no such file/],
      [[], /an index without weight_map/],
    ] as const
  ) {
    const error = await openSafetensors(index(map)).catch((error) => error);
    assert.ok(error instanceof SafetensorsError || error instanceof GgufError, `${error}`);
    assert.match(error.message, message);
  }
});

Deno.test("model diff: large tensors are read in pieces of a few MiB", async () => {
  const [rows, columns] = [8192, 256];
  let largest = 0;
  const file = (sign: number): WeightFile => ({
    name: "made up",
    format: "safetensors",
    metadata: new Map<string, MetadataValue>([
      ["llama.embedding_length", 8192],
      ["llama.attention.head_count", 64],
    ]),
    rope: "half",
    weights: new Map(["blk.0.attn_q.weight", "blk.0.ffn_up.weight"].map((name) => [name, {
      name,
      stored: name,
      type: "F32",
      shape: [rows, columns],
      blockSize: 1,
      read(first: number, count: number) {
        largest = Math.max(largest, count);
        return Promise.resolve(
          Float32Array.from({ length: count }, (_, i) => sign * Math.sin(first + i)),
        );
      },
    }])),
    close() {},
  });
  const diff = await diffModels(file(1), file(-1));
  assert.ok(largest <= 2 ** 20, `${largest}`);
  assert.deepEqual(diff.tensors.map(({ finding }) => finding?.detail), [
    "A's times -1",
    "A's times -1",
  ]);
});

/** Runs the command with what its permission set grants, less writing and the network. */
async function diffCommand(...args: string[]) {
  const environment =
    "LAMINA_HOME,LOCALAPPDATA,HOME,USERPROFILE,XDG_CACHE_HOME,HF_HOME,HF_HUB_CACHE," +
    "HUGGINGFACE_HUB_CACHE,HF_TOKEN,HF_ENDPOINT";
  const command = ["run", "-q", "--no-prompt", "--allow-read", `--allow-env=${environment}`];
  const { code, out, err: said } = await deno([
    ...command,
    "checkpoints/commands/model.ts",
    "diff",
    ...args,
  ]);
  // A slow machine is told how far it is.
  const err = said.replaceAll(/^comparing: .*\n/gm, "");
  return { code, out, err };
}

Deno.test("task model diff: a table for people, one line for machines, exit codes", async () => {
  using folder = new Folder();
  const good = folder.write("good.gguf", copy({ type: "Q8_0" }));
  const clean = await diffCommand("tiny", good);
  assert.deepEqual([clean.code, clean.err], [0, ""]);
  assert.match(clean.out, /^A {2}tiny\nB {2}\S+good\.gguf\n/);
  assert.match(clean.out, /\n37 tensors +F16 +Q8_0 +[23]\.\de-5 +Q8_0 below 1e-4 +\S+\.weight\n/);
  assert.match(clean.out, /\n48 tensors in band, metadata alike\n$/);

  const random = new Random(1);
  const bad = folder.write(
    "bad.gguf",
    copy({
      ...edit("blk.3.ffn_down.weight", (tensor) => {
        tensor.data = tensor.data.map(() => random.normal(0.04));
      }),
      type: "Q4_0",
      metadata: { "llama.rope.freq_base": { type: "f32", value: 500000 } },
    }),
  );
  const { code, out, err } = await diffCommand("tiny", bad);
  assert.deepEqual([code, err], [1, ""]);
  assert.match(
    out,
    /\nblk\.3\.ffn_down\.weight +F16 +Q4_0 +[12]\.?\d* +Q4_0 below 0\.02 +unknown: other numbers; worst in row \d+, columns \d+ to \d+\n/,
  );
  assert.match(out, /\nllama\.rope\.freq_base +10000 +500000\n/);
  assert.match(out, /\n1 tensor of 48 and 1 metadata value are not what they should be\n$/);

  const json = await diffCommand("--json", "tiny", bad);
  assert.equal(json.code, 1);
  assert.equal(json.out.trimEnd().split("\n").length, 1);
  const { passed, tensors, metadata } = JSON.parse(json.out);
  assert.equal(passed, false);
  assert.equal(tensors.length, 48);
  const [wrong] = tensors.filter(({ finding }: TensorDiff) => finding);
  assert.deepEqual([wrong.name, wrong.finding.cause, wrong.band.type], [
    "blk.3.ffn_down.weight",
    "unknown",
    "Q4_0",
  ]);
  assert.equal(metadata[0].key, "llama.rope.freq_base");

  folder.write("model.safetensors", writeSafetensors(asHuggingFace("BF16")));
  folder.write("config.json", JSON.stringify(CONFIG));
  assert.equal((await diffCommand(folder.path, "tiny")).code, 0);

  const missing = await diffCommand("tiny", folder.at("none.gguf"));
  assert.equal(missing.code, 1);
  assert.match(missing.err, /^error: \S+none\.gguf: no such file[^\n]*\n$/);
  const empty = await diffCommand("tiny", folder.at("none.safetensors"));
  assert.match(empty.err, /^error: \S+none\.safetensors: no such file[^\n]*\n$/);
  assert.equal((await diffCommand("tiny")).code, 2);
});
