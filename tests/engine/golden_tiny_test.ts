/** `tiny` against what llama.cpp made of it, kept in a file: runs everywhere, without a device too. */
import assert from "node:assert/strict";
import { compareEngines } from "../../checkpoints/parity/comparison.ts";
import type {
  Provenance,
  Reference,
  ReferenceTensor,
} from "../../checkpoints/references/reference.ts";
import { reportText } from "../../checkpoints/parity/reports/report.ts";
import { load } from "../../inspect/run/loading.ts";
import { createTokenizer } from "../../text/mod.ts";

interface Golden {
  readonly provenance: Provenance;
  readonly sha256: string;
  readonly prompt: string;
  readonly ids: readonly number[];
  readonly generated: readonly number[];
  readonly margins: readonly number[];
  readonly passes: readonly {
    readonly step: number;
    readonly start: number;
    readonly ids: readonly number[];
    readonly tensors: Readonly<Record<string, { shape: readonly number[]; f32: string }>>;
  }[];
}

const file = await Deno.open(new URL("../fixtures/tiny_llamacpp.json.gz", import.meta.url));
const golden: Golden = await new Response(
  file.readable.pipeThrough(new DecompressionStream("gzip")),
).json();

const passes = golden.passes.map(({ tensors, ...pass }) => ({
  ...pass,
  tensors: new Map(
    Object.entries(tensors).map(([point, { shape, f32 }]): [string, ReferenceTensor] => [point, {
      shape,
      data: new Float32Array(Uint8Array.fromBase64(f32).buffer),
    }]),
  ),
}));

const reference: Reference = {
  provenance: golden.provenance,
  run: ({ steps }) =>
    Promise.resolve({
      passes: passes.filter(({ step }) => steps.includes(step)),
      ids: golden.generated,
      margins: golden.margins,
    }),
  close: () => Promise.resolve(),
};

for (const backend of ["webgpu", "cpu"] as const) {
  Deno.test(`tiny (${backend}): all thirteen against llama.cpp's golden tensors and ids`, async () => {
    const model = await load("tiny", { backend });
    assert.equal(await model.sha256(), golden.sha256, "make_golden_tiny.ts makes them anew");
    const ids = createTokenizer(model.file.metadata).encode(golden.prompt);
    assert.deepEqual(ids, golden.ids);
    const cases = [{
      name: "golden",
      text: golden.prompt,
      ids,
      generate: 64,
      steps: [0, 1],
      oracle: false,
    }];
    const result = await compareEngines(model.engine, reference, cases);
    model.release();
    assert.ok(result.passed, reportText(result));
    assert.deepEqual(new Set(result.checkpoints.map(({ status }) => status)), new Set(["pass"]));
    const written = result.checks.filter(({ checkpoint }) => checkpoint === "3");
    // Both caches of five layers: the prompt's slots and one more.
    assert.deepEqual(written.map(({ what }) => what), [
      `${10 * (ids.length + 1)} slots as written`,
    ]);
    const compared = result.rows.filter(({ local }) => local).length;
    assert.ok(compared >= 2 * 5 * 18, `${compared}`);
  });
}

Deno.test("a golden number that is off by little more than its tolerance is found", async () => {
  const model = await load("tiny", { backend: "cpu" });
  const point = "blk.3.ffn_act";
  const tensor = passes[0].tensors.get(point)!;
  const data = Float32Array.from(tensor.data);
  data[700] += 1e-3;
  passes[0].tensors.set(point, { ...tensor, data });
  const cases = [{ name: "golden", ids: golden.ids, generate: 1, steps: [0], oracle: false }];
  const result = await compareEngines(model.engine, reference, cases);
  passes[0].tensors.set(point, tensor);
  model.release();
  assert.equal(result.passed, false);
  assert.equal(result.first?.point, point);
  const { position, index } = result.first!.local!.place;
  assert.deepEqual([position, index], [1, 700 - 512]);
});
