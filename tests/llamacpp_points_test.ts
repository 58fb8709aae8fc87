/**
 * Every point of every layer against llama.cpp's own tensors, live, on a 32-bit copy of the weights: the cumulative verdict, in
 * which a value may be as far from llama.cpp's as its checkpoint's tolerance and the row's largest magnitude allow, or four times
 * as far as llama.cpp itself is from the 64-bit oracle.
 */
import assert from "node:assert/strict";
import { readConfig } from "../engine/config.ts";
import { dequantize } from "../engine/gguf/dequantize.ts";
import { type GgufFile, openGguf, openGgufFile } from "../engine/gguf/reader.ts";
import { bytesSource } from "../engine/gguf/source.ts";
import { oracle } from "../engine/oracle.ts";
import { webgpuEngine } from "../engine/webgpu/engine.ts";
import { openDevice } from "../inspect/loading.ts";
import { findModel } from "../models/mod.ts";
import { createTokenizer } from "../text/mod.ts";
import { writeGguf } from "./support/gguf_writer.ts";
import { type GraphTensor, observeLlamaCpp } from "./support/llamacpp.ts";
import { llamaCppLibrary } from "./support/llamacpp_library.ts";

const PROMPT =
  "Once upon a time there was a little girl who had a red ball. One day she went to the big park " +
  "with her friend and they saw a dog.";

/** Tolerance by kind of point, and llama.cpp's name for it: which of several tensors of that name, counted from the end. */
const KINDS: Record<string, { tolerance: number; name: string; which?: number }> = {
  attn_norm_pre: { tolerance: 1e-5, name: "norm", which: 0 },
  attn_norm: { tolerance: 1e-5, name: "attn_norm" },
  q: { tolerance: 1e-4, name: "Qcur", which: -2 },
  k: { tolerance: 1e-4, name: "Kcur", which: -2 },
  v: { tolerance: 1e-4, name: "Vcur" },
  q_rope: { tolerance: 1e-5, name: "Qcur" },
  k_rope: { tolerance: 1e-5, name: "Kcur" },
  attn_scores: { tolerance: 1e-4, name: "kq" },
  attn_probs: { tolerance: 1e-4, name: "kq_soft_max" },
  head_out: { tolerance: 1e-4, name: "kqv_out" },
  attn_out: { tolerance: 1e-4, name: "attn_out" },
  ffn_inp: { tolerance: 1e-4, name: "ffn_inp" },
  ffn_norm_pre: { tolerance: 1e-5, name: "norm" },
  ffn_norm: { tolerance: 1e-5, name: "ffn_norm" },
  ffn_gate: { tolerance: 1e-4, name: "ffn_gate" },
  ffn_up: { tolerance: 1e-4, name: "ffn_up" },
  ffn_act: { tolerance: 1e-4, name: "ffn_swiglu" },
  ffn_out: { tolerance: 1e-4, name: "ffn_out" },
  out: { tolerance: 1e-4, name: "l_out" },
};

/** A copy with every tensor as F32. */
async function f32Copy(file: GgufFile): Promise<Uint8Array> {
  const tensors = [];
  for (const tensor of file.tensors.values()) {
    const values = dequantize(tensor.type, await file.readTensor(tensor));
    tensors.push({
      name: tensor.name,
      type: "F32",
      shape: tensor.shape,
      data: new Uint8Array(values.slice().buffer),
    });
  }
  // The reader gives plain numbers; llama.cpp insists on floats where the format says so.
  const metadata = [...file.metadata].map(([key, value]) =>
    [key, /freq_base|epsilon|factor/.test(key) ? { type: "f32", value } : value] as const
  );
  return writeGguf({
    metadata: Object.fromEntries(metadata) as never,
    tensors: tensors as never,
  });
}

/** The graph's tensor as ours: attention without unused slots, scores scaled. */
function asOurs(kind: string, found: GraphTensor, tokens: number, scale: number): Float32Array {
  if (!kind.startsWith("attn_scores") && !kind.startsWith("attn_probs")) return found.data;
  const slots = found.shape.at(-1)!;
  const used = found.data.filter((_, i) => i % slots < tokens);
  return kind === "attn_scores" ? used.map((value) => value * scale) : used;
}

/** What each row may be off by: tolerance + 1e-5 of its largest magnitude; nothing where the tolerance is 0. */
function rowLimits(
  reference: Float32Array,
  width: number,
  isVisible: (i: number) => boolean,
  tolerance: number,
): number[] {
  return Array.from({ length: reference.length / width }, (_, row) => {
    if (tolerance === 0) return 0;
    let largest = 0;
    for (let i = row * width; i < (row + 1) * width; i++) {
      if (isVisible(i)) largest = Math.max(largest, Math.abs(reference[i]));
    }
    return tolerance + 1e-5 * largest;
  });
}

for (const name of ["tiny", "smollm2-135m"]) {
  const library = await llamaCppLibrary();
  Deno.test({
    name: `${name}: every point of every layer against llama.cpp on 32-bit weights`,
    ignore: library === undefined,
    async fn() {
      const found = await findModel(name);
      const file = found.bytes
        ? await openGguf(bytesSource(name, found.bytes))
        : await openGgufFile(found.path);
      const config = readConfig(file);
      const ids = createTokenizer(file.metadata).encode(PROMPT);
      const path = await Deno.makeTempFile({ suffix: ".gguf" });
      await Deno.writeFile(path, await f32Copy(file));
      const theirs = observeLlamaCpp(library!, path, ids);
      await Deno.remove(path);

      const engine = await webgpuEngine(file, config, await openDevice());
      const session = engine.session({ capacity: ids.length, ropeBuilder: "ggml" });
      const points = [...Array(config.layers).keys()].flatMap((layer) =>
        Object.entries(KINDS).map(([kind, { tolerance, name, which = -1 }]) => ({
          kind,
          point: `blk.${layer}.${kind}`,
          graph: `${name}-${layer}`,
          which,
          tolerance,
        }))
      ).concat([
        { kind: "token_embd", point: "token_embd", graph: "embd", which: -1, tolerance: 0 },
        {
          kind: "output_norm",
          point: "output_norm",
          graph: "result_norm",
          which: -1,
          tolerance: 1e-5,
        },
        { kind: "logits", point: "logits", graph: "result_output", which: -1, tolerance: 1e-3 },
      ]);
      const wanted = points.map(({ point }) => point);
      const ours = await session.pass({ ids, rows: ids.length, wanted });
      const exact = (await oracle(file, ids, {
        points: (point) => wanted.includes(point),
        rows: "all",
        ropeTable: "ggml",
      })).points;
      session.dispose();
      engine.dispose();
      file.close();

      const failures: string[] = [];
      for (const { kind, point, graph, which, tolerance } of points) {
        const tensor = theirs.get(graph)?.at(which);
        assert.ok(tensor, `llama.cpp shows no ${graph}`);
        const reference = asOurs(kind, tensor, ids.length, config.attentionScale);
        const { data, shape } = ours.get(point)!;
        assert.equal(data.length, reference.length, `${point}: ${shape} against ${tensor.shape}`);
        const width = shape.at(-1)!;
        const arbiter = exact.get(point)!.data;
        // Attention rows count up to the last key that the query sees.
        const isVisible = (i: number) =>
          !kind.startsWith("attn_scores") && !kind.startsWith("attn_probs") ||
          i % width <= Math.floor(i / width) % ids.length;
        let worstOfTheirs = 0;
        reference.forEach((value, i) => {
          if (isVisible(i)) {
            worstOfTheirs = Math.max(worstOfTheirs, Math.abs(value - arbiter[i]));
          }
        });
        const allowed = rowLimits(reference, width, isVisible, tolerance)
          .map((limit) => Math.max(limit, 4 * worstOfTheirs));
        const wrong = data.findIndex((value, i) =>
          isVisible(i) && !(Math.abs(value - reference[i]) <= allowed[Math.floor(i / width)])
        );
        if (wrong >= 0) {
          const limit = allowed[Math.floor(wrong / width)];
          failures.push(
            `${point}[${wrong}]: ${data[wrong]}, llama.cpp ${reference[wrong]}, oracle ${
              arbiter[wrong]
            }, allowed ${limit}`,
          );
        }
      }
      assert.deepEqual(failures, []);
    },
  });
}
