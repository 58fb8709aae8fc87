/** `task model diff`: broken copies of tiny, one fault each, and copies that are as good as their type lets them be. */
import assert from "node:assert/strict";
import { roundedBlocks, toBf16 } from "../../../checkpoints/parity/rounded_engines/rounding.ts";
import { diffModels, type TensorDiff } from "../../../checkpoints/files/diff/diff.ts";
import { bandOf } from "../../../checkpoints/files/diff/bands.ts";
import { permuted } from "../../../checkpoints/files/permute.ts";
import type { WeightFile } from "../../../checkpoints/files/weight_file.ts";
import type { MetadataValue } from "../../../engine/gguf/reader.ts";
import { Folder } from "../../support/folder.ts";
import { Random } from "../../../checkpoints/files/random.ts";
import { writeSafetensors } from "../../support/models/safetensors_writer.ts";
import { deno } from "../../support/command.ts";
import {
  asHuggingFace,
  assertFound,
  type Change,
  CONFIG,
  copy,
  diffWithTiny,
  edit,
  findings,
  opened,
  original,
  rowsInHalves,
  swap,
  type Tensor,
  TENSORS,
  tiny,
} from "../../support/models/diff_samples.ts";

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
    /^one block of 4096 is wrong: row 9, columns 160 to 191; it is right when read so: nibbles of a byte from its other end$/,
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
  await assertFound(zero, { "output_norm.weight": "zeros" }, /^all zeros$/);
});

Deno.test("model diff: other numbers that were rounded are not said to be rounded only", async () => {
  const name = "blk.1.ffn_up.weight";
  const draw = new Random(5);
  const change = edit(name, (tensor) => {
    tensor.data = tensor.data.map((value) => toBf16(value * (1 + draw.normal(0.05))));
  });
  await assertFound(change, { [name]: "unknown" }, /^other numbers/);
});

Deno.test("model diff: numbers that were rounded and are stored in more bits", async () => {
  const name = "blk.1.attn_v.weight";
  const halved = edit(name, (tensor) => {
    tensor.data = tensor.data.map(toBf16);
  });
  await assertFound(
    { ...halved, type: "F32" },
    { [name]: "rounded" },
    /^every number is bf16; A's are not$/,
  );
  const inRows = edit(name, (tensor) => {
    tensor.data = roundedBlocks(tensor.data, tensor.shape.at(-1)!);
  });
  await assertFound(
    { ...inRows, type: "F32" },
    { [name]: "rounded" },
    /^every number is 8 bits in equal steps in each row; A's are not$/,
  );
});

Deno.test("model diff: exchanged tensors", async () => {
  const [gate, up] = ["blk.2.ffn_gate.weight", "blk.2.ffn_up.weight"];
  await assertFound(
    { tensors: (all) => swap(all, gate, up), type: "Q8_0" },
    { [gate]: "gate-up-swapped", [up]: "gate-up-swapped" },
    /it holds the numbers of A's blk\.2\.ffn_up\.weight/,
  );
  const [one, three] = ["blk.1.attn_norm.weight", "blk.3.attn_norm.weight"];
  await assertFound(
    { tensors: (all) => swap(all, one, three) },
    { [one]: "other-tensor", [three]: "other-tensor" },
    /it holds the numbers of A's blk\.3\.attn_norm\.weight/,
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
