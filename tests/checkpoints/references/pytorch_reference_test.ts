/** PyTorch as a reference: its numbers against the oracle's, and one clear line for whatever goes wrong. */
import { kindOf } from "../../../base/layer_names.ts";
import assert from "node:assert/strict";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { compareTensors, localAllowance } from "../../../checkpoints/parity/compare.ts";
import { isCompared } from "../../../checkpoints/parity/contract.ts";
import { type Reference, ReferenceFailure } from "../../../checkpoints/references/reference.ts";
import { oracleReference } from "../../../checkpoints/references/oracle.ts";
import {
  type PyTorchOptions,
  pyTorchReference,
} from "../../../checkpoints/references/pytorch/reference.ts";
import type { PythonEnvironment } from "../../../checkpoints/references/processes/python_environment.ts";
import { readConfig } from "../../../engine/plan/tensors.ts";
import { forward } from "../../../engine/plan/forward.ts";
import { type GgufFile, openGgufFile } from "../../../engine/gguf/reader.ts";
import { listPoints } from "../../../inspect/points/points.ts";
import { findModel } from "../../../models/mod.ts";
import golden from "../../fixtures/smollm2-135m.json" with { type: "json" };
import { needed } from "../../support/needed.ts";
import { pyTorch, run as runProgram } from "../../support/engines/python_venv.ts";
import { randomLlama, type RandomLlamaOptions } from "../../support/models/random_llama.ts";
import { Folder } from "../../support/folder.ts";

const environment = await pyTorch();

function withPyTorch(name: string, fn: (environment: PythonEnvironment) => Promise<void>) {
  Deno.test({ name, ignore: environment === undefined, fn: () => fn(environment!) });
}

/** Kinds of points that PyTorch does not show: parts of its norms, and what is made on request. */
const HIDDEN = /_(rms|pre)$|^head_result$/;

function pointsOf(file: GgufFile): string[] {
  const config = readConfig(file);
  return listPoints(config, forward(config)).map(({ name }) => name);
}

/**
 * Runs both and compares every point of every pass.
 *
 * @param most of what a single operation is allowed; rounding of f32 adds up in deep models
 */
async function assertOracle(
  reference: Reference,
  file: GgufFile,
  request: { ids: number[]; generate: number; forced?: number[]; steps: number[] },
  most = 1,
): Promise<void> {
  const points = pointsOf(file);
  const found = await reference.run({ ...request, points });
  // The same ids in both, whatever rounding decides.
  const forced = [...request.forced ?? [], ...found.ids.slice(request.forced?.length ?? 0)]
    .slice(0, request.generate);
  const oracle = await oracleReference(file).run({ ...request, forced, points });
  assert.deepEqual(found.passes.map(({ step }) => step), request.steps);
  const shares: number[] = [];
  for (const [i, { step, start, ids, tensors }] of oracle.passes.entries()) {
    const pass = found.passes[i];
    assert.deepEqual({ step: pass.step, start: pass.start, ids: pass.ids }, { step, start, ids });
    assert.deepEqual(
      new Set(pass.tensors.keys()),
      new Set(points.filter((point) => !HIDDEN.test(kindOf(point)))),
    );
    for (const [point, tensor] of pass.tensors) {
      if (!isCompared(point) || point === "probs") continue; // of other logits
      const allowance = localAllowance(point);
      const { share } = compareTensors(point, tensor, tensors.get(point)!, allowance, start);
      assert.ok(share <= most, `step ${step}, ${point}: ${share} of what is allowed`);
      shares.push(share);
    }
    const sum = Array.from(pass.tensors.get("probs")!.data).reduce((a, b) => a + b, 0);
    assert.ok(Math.abs(sum / pass.ids.length - 1) < 1e-4);
  }
  const over = shares.filter((share) => share > 1);
  assert.ok(
    over.length <= shares.length / 100,
    `${over.length} of ${shares.length} points are over`,
  );
  oracle.margins.forEach((margin, step) => {
    const close = Math.abs(found.margins[step] - margin) < 2e-3;
    assert.ok(close, `margin ${step}: ${found.margins[step]}, ${margin}`);
    if (margin > 2e-3) assert.equal(found.ids[step], oracle.ids[step]);
  });
}

/** A reference, and the file that it is of; everything is closed afterwards. */
async function use(
  options: Omit<PyTorchOptions, "file">,
  path: string,
  fn: (reference: Reference, file: GgufFile) => Promise<void>,
): Promise<void> {
  const file = await openGgufFile(path);
  try {
    const reference = await pyTorchReference({ ...options, file });
    try {
      await fn(reference, file);
    } finally {
      await reference.close();
    }
  } finally {
    file.close();
  }
}

const TINY = fileURLToPath(new URL("../../../models/tiny/tiny.gguf", import.meta.url));

withPyTorch("PyTorch on tiny: prompt, decoding, forced ids", async (environment) => {
  await use({ weights: { gguf: TINY }, environment }, TINY, async (reference, file) => {
    const { name, version, weights } = reference.provenance;
    assert.match(`${name} ${version}`, /^PyTorch 2\.\S+ \(transformers 5\.\S+\)$/);
    assert.equal(weights, "tiny.gguf, dequantized to F32");
    assert.equal(reference.tokenize, undefined);
    const ids = [1, 447, 463, 261, 387, 983, 393, 261, 581, 447, 463, 261, 387, 10, 11, 12, 13];
    await assertOracle(reference, file, { ids, generate: 9, steps: [0, 1, 8] });
    // A process serves many requests; a forced id is run, the own choice is told.
    await assertOracle(reference, file, { ids: [1], generate: 2, forced: [7], steps: [0, 1, 2] });
    const none = await reference.run({ ids: [1, 2], generate: 1, steps: [], points: ["logits"] });
    assert.deepEqual(none.passes, []);
    assert.equal(none.ids.length, 2);
  });
});

withPyTorch("PyTorch on SmolLM2: every layer; llama.cpp's greedy ids", async (environment) => {
  const { path } = await findModel("smollm2-135m");
  const { prompt_ids, greedy_ids } = golden.runs[1];
  await use({ weights: { gguf: path! }, environment }, path!, async (reference, file) => {
    const found = await reference.run({ ids: prompt_ids, generate: 15, steps: [], points: [] });
    assert.deepEqual(found.ids, greedy_ids.slice(0, 16));
    const ids = [...prompt_ids, ...greedy_ids.slice(0, 16)];
    await assertOracle(reference, file, { ids, generate: 1, steps: [0, 1] }, 2);
  });
});

withPyTorch("the original's safetensors, with biases and a tokenizer", async (environment) => {
  using folder = new Folder();
  const path = folder.at("saved.gguf");
  const original = folder.at("original");
  const script = fileURLToPath(
    new URL("../../support/processes/save_hf_llama.py", import.meta.url),
  );
  await runProgram(environment.python, [script, original, path]);
  const weights = { folder: original };
  await use({ weights, environment }, path, async (reference, file) => {
    assert.equal(reference.provenance.weights, `${original} in F32`);
    const ids = Array.from({ length: 20 }, (_, i) => (i * 31 + 5) % 96);
    await assertOracle(reference, file, { ids, generate: 3, steps: [0, 3] });
    assert.deepEqual(await reference.tokenize!(["once upon a midnight", "a"]), [[1, 2, 3, 0], [3]]);
    const chat = (role: string) => reference.renderChat!([{ role, content: "once" }]);
    assert.equal(await chat("user"), "[user] once\n");
    assert.equal(await chat("tool"), undefined);
  });
  await assert.rejects(
    use({ weights, environment }, TINY, () => Promise.resolve()),
    {
      name: "ReferenceFailure",
      message: "PyTorch: its model is another one: layers is 2, in the file 5",
    },
  );
  // What transformers does not know it leaves out: then it is no reference.
  await assert.rejects(use({ weights: { gguf: path }, environment }, path, nothing), {
    message: "PyTorch: transformers cannot read this file whole, it leaves out " +
      "blk.0.attn_k.bias, blk.0.attn_output.bias, blk.0.attn_q.bias and 5 more",
  });
  await Deno.remove(join(original, "model.safetensors"));
  await assert.rejects(
    use({ weights, environment }, path, nothing),
    /^ReferenceFailure: PyTorch: [^\n]*model\.safetensors/,
  );
});

const nothing = () => Promise.resolve();

async function withRandom(
  options: RandomLlamaOptions,
  fn: (path: string) => Promise<void>,
): Promise<void> {
  using folder = new Folder();
  await fn(folder.write("random.gguf", randomLlama(options)));
}

withPyTorch(
  "grouped heads in quantized weights; what transformers gets wrong",
  async (environment) => {
    const sizes = { width: 256, heads: 8, kvHeads: 2, ffnWidth: 512, vocab: 64 };
    const open = (path: string) => ({ weights: { gguf: path }, environment });
    await withRandom(
      { ...sizes, type: "Q4_K", tied: true },
      (path) =>
        use(open(path), path, async (reference, file) => {
          const ids = Array.from({ length: 30 }, (_, i) => (i * 31 + 5) % 64);
          await assertOracle(reference, file, { ids, generate: 1, steps: [0, 1] });
        }),
    );
    const cases: [RandomLlamaOptions, RegExp][] = [
      [{ ropeFactor: 2 }, /leaves out llama\.rope\.scaling$/],
      [{ ropeFactors: true }, /leaves out rope_freqs\.weight$/],
      [{ ropeWidth: 8 }, /^PyTorch: /],
    ];
    for (const [options, line] of cases) {
      await withRandom(
        options,
        (path) =>
          assert.rejects(use(open(path), path, nothing), {
            name: "ReferenceFailure",
            message: line,
          }),
      );
    }
  },
);

/** A program in the place of Python. */
function instead(code: string): PythonEnvironment {
  const args = ["eval", "--no-config", code];
  return { python: "", folder: "", start: () => ({ command: Deno.execPath(), args }) };
}

async function failure(options: Partial<PyTorchOptions>): Promise<string> {
  const opened = use({ weights: { gguf: TINY }, ...options }, TINY, nothing);
  const error = await opened.then(() => undefined, (reason: unknown) => reason);
  assert.ok(error instanceof ReferenceFailure, `${error}`);
  assert.doesNotMatch(error.message, /\n/);
  return error.message;
}

Deno.test("a Python that dies, hangs, talks nonsense or is stopped is one line", async () => {
  const death = instead(`console.error("Traceback:\\nMemoryError"); Deno.exit(3)`);
  assert.match(await failure({ environment: death }), /^PyTorch: .*exit code 3.*MemoryError$/);
  const hang = instead("setTimeout(() => {}, 1e6)");
  assert.match(await failure({ environment: hang, timeout: 300 }), /^PyTorch: no sign of life/);
  const nonsense = instead(`console.log("Hello, I am another program")`);
  assert.equal(await failure({ environment: nonsense }), "PyTorch: its output is no frame");
  assert.match(
    await failure({ weights: { folder: "/no/such/folder" } }),
    /^PyTorch: \/no\/such\/folder is no folder with a config\.json and safetensors$/,
  );
  const aborted = use(
    { weights: { gguf: TINY }, environment: hang, signal: AbortSignal.timeout(200) },
    TINY,
    nothing,
  );
  await assert.rejects(aborted, { name: "TimeoutError" });
});

const python = await needed("python3", () => runProgram("python3", ["--version"]));
Deno.test({
  name: "a Python without PyTorch is one line",
  ignore: python === undefined,
  async fn() {
    const bare = (args: readonly string[]) => ({ command: "python3", args: ["-I", "-S", ...args] });
    assert.match(
      await failure({ environment: { python: "", folder: "", start: bare } }),
      /^PyTorch: its Python lacks a package \(No module named 'torch'\)$/,
    );
  },
});
