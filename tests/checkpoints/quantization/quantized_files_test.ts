/**
 * Copies of every type that llama.cpp's quantizer makes pass against their originals, and damaged ones fail. Some of the comparisons;
 * tests/fixtures/sweep_healthy.ts makes all of them. Skipped where llama.cpp cannot be had.
 */
import assert from "node:assert/strict";
import { parity, quantizeModel } from "../../../mod.ts";
import { f32Copy } from "../../../checkpoints/files/f32_copy.ts";
import { roundingText } from "../../../checkpoints/parity/compare.ts";
import type { QuantizationType } from "../../../checkpoints/quantization/quantize.ts";
import { type GgufFile, openGgufFile } from "../../../engine/gguf/reader.ts";
import type { GgmlType } from "../../../engine/gguf/types.ts";
import { findModel } from "../../../models/mod.ts";
import { activations, judgedProduct, withBytes } from "../../support/engines/judged_product.ts";
import { llamaCppLibrary } from "../../support/engines/llamacpp_library.ts";
import { Folder } from "../../support/folder.ts";
import { blockChanged, breakFile, reordered } from "../../support/models/broken_files.ts";
import { type HealthyRun, healthyRun, TYPES, whatOf } from "../../support/models/healthy_runs.ts";
import { importanceOf, quantizeByImportance } from "../../support/models/importance.ts";
import { randomLlama } from "../../support/models/random_llama.ts";

const ignore = await llamaCppLibrary() === undefined;

/** Where the 16-bit scales of a block stand. */
const SCALES: Readonly<Record<string, readonly number[]>> = {
  ...{ Q8_0: [0], Q5_0: [0], Q4_0: [0], Q5_1: [0, 2], Q4_1: [0, 2] },
  ...{ Q6_K: [208], Q5_K: [0, 2], Q4_K: [0, 2], Q3_K: [108], Q2_K: [80, 82] },
};

async function copy(type: QuantizationType): Promise<GgufFile> {
  return await openGgufFile(await quantizeModel("tiny", type));
}

async function original(): Promise<GgufFile> {
  return await openGgufFile(await f32Copy(await findModel("tiny")));
}

Deno.test({
  name: "every weight of every type passes",
  ignore,
  async fn() {
    const theirs = await original();
    for (const type of TYPES) {
      const ours = await copy(type);
      for (const { name, shape: [columns, rows] } of ours.tensors.values()) {
        if (rows === undefined || !/blk\.[03]\.|output/.test(name)) continue;
        const judged = await judgedProduct(
          [ours, theirs],
          name,
          activations(3, columns, "massive"),
        );
        const { rounding } = judged;
        assert.ok(judged.passed, `${type}, ${name}: ${rounding && roundingText(rounding)}`);
      }
      ours.close();
    }
    theirs.close();
  },
});

Deno.test({
  name: "weights pass whose quantizer knew which columns matter",
  ignore,
  async fn() {
    using folder = new Folder();
    const theirs = await original();
    const path = folder.at("copy.gguf");
    const from = await f32Copy(await findModel("tiny"));
    const importance = await importanceOf(from, Array.from({ length: 60 }, (_, i) => 40 + i));
    const library = (await llamaCppLibrary())!;
    for (const type of ["Q6_K", "Q4_1", "Q4_0", "Q2_K"] as const) {
      quantizeByImportance(library, from, path, type, importance);
      const ours = await openGgufFile(path);
      for (const { name, shape: [columns, rows] } of ours.tensors.values()) {
        // Errors are largest where few columns matter.
        if (rows === undefined || !/blk\.4\.ffn_down|blk\.0\.attn/.test(name)) continue;
        const judged = await judgedProduct([ours, theirs], name, activations(3, columns, "normal"));
        const { rounding } = judged;
        assert.ok(judged.passed, `${type}, ${name}: ${rounding && roundingText(rounding)}`);
      }
      ours.close();
    }
    theirs.close();
  },
});

/** Faults of a weight by what they are called: what they do to its bytes. */
function faults(
  { blockBytes, blockSize, name }: GgmlType,
  columns: number,
): Record<string, (bytes: Uint8Array) => void> {
  const row = columns / blockSize * blockBytes;
  const scaled = (factor: number, first = 0, last = Infinity) => (bytes: Uint8Array) => {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    for (let at = first; at < Math.min(last, bytes.length); at += blockBytes) {
      for (const offset of SCALES[name]) {
        view.setFloat16(at + offset, view.getFloat16(at + offset, true) * factor, true);
      }
    }
  };
  const swapped = (first: number, second: number, count: number) => (bytes: Uint8Array) => {
    const kept = bytes.slice(first, first + count);
    bytes.copyWithin(first, second, second + count);
    bytes.set(kept, second);
  };
  const one = (at: number) => (bytes: Uint8Array) => {
    for (let i = at + 4; i < at + blockBytes - 4; i++) bytes[i] ^= i % 2 === 1 ? 0xa5 : 0x3f;
  };
  // A tensor's scale is seen where rounding makes less of one.
  const visible = !/^Q[23]/.test(name);
  return {
    "the first block": one(0),
    "a block in the middle": one(51 * row + row - blockBytes),
    "a block of zeros": (bytes) => bytes.fill(0, 9 * row, 9 * row + blockBytes),
    "a block's scale, four times": scaled(4, 7 * row, 7 * row + blockBytes),
    "two rows exchanged": swapped(20 * row, 21 * row, row),
    "a head permuted": swapped(32 * row, 48 * row, 16 * row),
    ...visible ? { "1.02 times": scaled(1.02), "0.98 times": scaled(0.98) } : {},
  };
}

Deno.test({
  name: "damaged copies fail, whatever their type and their activations",
  ignore,
  async fn() {
    const theirs = await original();
    const weight = "blk.2.attn_v.weight";
    const types = ["Q8_0", "Q6_K", "Q5_K_S", "Q5_1", "Q5_0", "Q4_1", "Q4_0", "Q2_K"] as const;
    for (const type of types) {
      const ours = await copy(type);
      const { type: stored, shape: [columns] } = ours.tensors.get(weight)!;
      for (const [name, change] of Object.entries(faults(stored, columns))) {
        const broken = await withBytes(ours, weight, change);
        for (const kind of ["normal", "massive"] as const) {
          const x = activations(16, columns, kind);
          const judged = await judgedProduct([broken, theirs], weight, x);
          assert.equal(judged.passed, false, `${stored.name}, ${name}, ${kind}: ${judged.share}`);
        }
      }
      ours.close();
    }
    theirs.close();
  },
});

const same = { from: "F32", against: "F32" } as const;
const RUNS: readonly HealthyRun[] = [
  { model: "tiny", prompt: "default", type: "Q4_K_M", from: "F16", against: "F32" },
  { model: "tiny", prompt: 39, type: "Q2_K", ...same },
  { model: "tiny", prompt: 39, type: "Q4_K_M", ...same, byImportance: true },
  { model: "smollm2-135m", prompt: 48, type: "Q8_0", ...same },
  ...["1 of 3 heads", "biases", "tied, 64 wide", "heads of 256"].flatMap((model): HealthyRun[] => [
    { model, prompt: 39, type: "Q8_0", ...same },
    { model, prompt: 39, type: "Q4_0", ...same },
  ]),
];

for (const run of RUNS) {
  Deno.test({
    name: `a quantized copy passes: ${run.model}, ${whatOf(run)}`,
    ignore,
    async fn() {
      using folder = new Folder();
      const { report, worst } = await healthyRun(run, folder.path);
      assert.ok(report.passed, `${report}`);
      assert.ok(worst.share > 0 && worst.share < 1, `${worst.share}`);
    },
  });
}

Deno.test({
  name: "a damaged copy fails at the weight's own point",
  ignore,
  async fn() {
    using folder = new Folder();
    const against = await quantizeModel("tiny", "F32");
    const broken = folder.at("broken.gguf");
    const ids = Array.from({ length: 50 }, (_, i) => 40 + i);
    const faults = {
      "blk.1.ffn_up": blockChanged("blk.1.ffn_up.weight", 300, (bytes) => {
        for (let i = 2; i < bytes.length; i++) bytes[i] ^= i % 2 === 1 ? 0xa5 : 0x3f;
      }),
      "blk.3.q": reordered("blk.3.attn_q.weight", (row) => row < 64 ? (row + 32) % 64 : row),
    };
    for (const [point, fault] of Object.entries(faults)) {
      await breakFile(await quantizeModel("tiny", "Q4_0"), broken, fault);
      const report = await parity(broken, ids, { against, generate: 1 });
      assert.equal(report.passed, false, point);
      assert.equal(report.firstDivergence?.point, point, `${report}`);
      assert.match(
        `${report}`,
        new RegExp(`times its expected square error .* in ${point.slice(0, 5)}`),
      );
    }
  },
});

Deno.test({
  name: "llama.cpp does not show a product before its bias: both roundings are counted",
  ignore,
  async fn() {
    using folder = new Folder();
    const path = folder.at("biases.gguf");
    Deno.writeFileSync(path, randomLlama({ width: 256, biases: true, layers: 1 }));
    const copy = await quantizeModel(path, "Q4_0", { out: folder.at("copy.gguf") });
    const ids = Array.from({ length: 50 }, (_, i) => i);
    const report = await parity(copy, ids, { against: path, reference: "llama.cpp", generate: 1 });
    assert.ok(report.passed, `${report}`);
    const row = report.result.rows.find(({ point }) => point === "blk.0.q");
    assert.ok(row?.local?.rounding, "it is judged by its rounding");
    assert.notEqual(row.local.rounding.measure, "unknown");
  },
});
