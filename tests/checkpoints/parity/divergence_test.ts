/** Following a divergence: what the first wrong operation read and made is in the bundle, and recomputing it says whose number is right. */
import assert from "node:assert/strict";
import { Random } from "../../../checkpoints/files/random.ts";
import { formulaAt } from "../../../checkpoints/parity/divergence/formula.ts";
import { recompute } from "../../../checkpoints/parity/divergence/recompute.ts";
import { placesOf } from "../../../checkpoints/parity/compare.ts";
import type { OperationEvidence } from "../../../checkpoints/parity/divergence/evidence.ts";
import { diverged, divergedBy, FEW_IDS } from "../../support/engines/divergence_bundles.ts";
import type { Mistakes } from "../../support/engines/engine_mistakes.ts";
import { made, times } from "../../support/faults/engines/mistakes.ts";
import { Folder } from "../../support/folder.ts";
import {
  blockChanged,
  breakFile,
  type FileFault,
  inHalves,
  mapped,
  metadata,
  without,
} from "../../support/models/broken_files.ts";
import { faultModels } from "../../support/models/fault_models.ts";

const folder = new Folder();
globalThis.addEventListener("unload", () => folder[Symbol.dispose]());
const { random } = await faultModels(folder.path);
const { shape } = random.engine;
const IDS = random.ids.slice(0, FEW_IDS);
let count = 0;
const next = () => folder.at(`${++count}`);

const withFault = (mistakes: Mistakes, options?: Parameters<typeof divergedBy>[3]) =>
  divergedBy(random, next(), mistakes, options);

/** Of every kind of operation a fault: where it shows, its kind, and what the reference's number says of it. */
const FAULTS: Readonly<
  Record<string, {
    readonly mistakes: Mistakes;
    readonly point: string;
    readonly outside?: boolean;
    readonly implied?: RegExp;
  }>
> = {
  embed: {
    mistakes: made("token_embd", (x) => x.map((v) => 2 * v)),
    ...{ point: "token_embd", outside: true },
  },
  scale_columns: {
    mistakes: { epsilon: 3e-2 },
    ...{
      point: "blk.1.attn_norm",
      implied: /^blk\.1\.attn_norm_rms: ε would be 0\.0(3|29\d+|300\d*)$/m,
    },
  },
  "add_bias, after a product with F32": {
    // Each row exchanged with its neighbour.
    mistakes: {
      weight: (name, weight) =>
        name !== "attn_output.weight" ? weight : {
          ...weight,
          data: weight.data.map((_, i) => weight.data[i ^ weight.columns]), // a power of two
        },
    },
    point: "blk.1.attn_out",
    implied:
      /^blk\.1\.attn_out_product: row \d+ of blk\.1\.attn_output\.weight gives it, at all \d+ pos/m,
  },
  "linear, Q8_0": {
    mistakes: {
      weight: (name, weight) =>
        name !== "ffn_up.weight" ? weight : {
          ...weight,
          data: weight.data.map((_, i) => weight.data[(i + weight.columns) % weight.data.length]),
        },
    },
    point: "blk.1.ffn_up",
    implied: /row \d+ of blk\.1\.ffn_up\.weight gives it, at all \d+ positions/,
  },
  add_bias: {
    mistakes: { weight: (name, weight) => name === "attn_k.bias" ? undefined : weight },
    ...{ point: "blk.1.k", implied: /b would be -?0$/ },
  },
  rope: {
    mistakes: { rope: () => ({ factor: 4 }) },
    ...{ point: "blk.1.q_rope", implied: /its pair turned by / },
  },
  store: {
    mistakes: made("cache_v", (x, { start }) => {
      if (start > 0) return x;
      const width = shape.kvHeads * shape.headWidth;
      const moved = x.slice();
      moved.copyWithin(width, 0, x.length - width);
      return moved;
    }),
    ...{ point: "blk.1.cache_v", implied: /it is what position \d+ wrote/ },
  },
  scores: {
    mistakes: { scale: 0.5 },
    ...{ point: "blk.1.attn_scores", implied: /the scale would be 0\.125$/m },
  },
  softmax: {
    mistakes: { future: 1 },
    ...{ point: "blk.1.attn_probs", implied: /keys that may be seen sum to 0\.\d+/ },
  },
  mix: {
    mistakes: made("head_out", (x) => {
      // Heads backwards.
      const { heads, headWidth } = shape;
      return x.map((_, i) => {
        const head = Math.floor(i / headWidth) % heads;
        return x[i + (heads - 1 - 2 * head) * headWidth];
      });
    }),
    ...{ point: "blk.1.head_out", implied: /head \d with key\/value head \d gives it/ },
  },
  glu: {
    mistakes: { activation: (gate, up) => Math.max(0, gate) * up },
    ...{ point: "blk.1.ffn_act", implied: /silu\(g\) would be / },
  },
  add: {
    mistakes: { residual: { ffn_inp: 0 } },
    ...{ point: "blk.1.ffn_inp", implied: /or a -?0$/m },
  },
  "linear, logits": {
    ...{ mistakes: times("output.weight", 1.5), point: "logits", outside: true },
  },
};

for (const [name, { mistakes, point, outside, implied }] of Object.entries(FAULTS)) {
  Deno.test(`an engine's fault in ${name}: ours is right, and its number says why`, async () => {
    const { evidence, report } = await withFault(mistakes, { outside });
    const last = evidence.operations.at(-1)!;
    assert.equal(evidence.point, point);
    assert.equal(last.operation, name.replace(/, .*/, ""));
    const found = recompute(evidence);
    assert.equal(found.right, "ours", found.says);
    assert.ok(Math.abs(found.formula.value! - found.ours) <= found.allowed);
    assert.ok(Math.abs(found.reference - found.ours) > found.allowed);
    assert.equal(found.ours, report.first!.row!.local!.ours);
    assert.equal(found.reference, report.first!.row!.local!.reference);
    if (implied) assert.match(found.implied.join("\n"), implied);
    assertFormulas(evidence);
  });
}

/** At places drawn by a seed each operation's formula gives what its twin made. */
function assertFormulas(evidence: OperationEvidence): void {
  const draw = new Random(3);
  const { start } = evidence.pass;
  for (const operation of evidence.operations) {
    const { output } = operation;
    const placeOf = placesOf(output.name, output, start);
    for (let i = 0; i < 40; i++) {
      const element = draw.integer(0, output.data.length);
      const { value } = formulaAt(operation, operation, evidence.pass, placeOf(element))!;
      const expected = output.data[element];
      assert.ok(
        Math.abs(value! - expected) <= 1e-6 * Math.max(1, Math.abs(expected)),
        `${operation.point}[${element}]: ${value} and ${expected}`,
      );
    }
  }
}

/** Files that are broken, and what is seen side by side. */
const FILES: Readonly<Record<string, readonly [fault: FileFault, point: string, seen: RegExp]>> = {
  "a damaged block": [
    blockChanged("blk.1.ffn_down.weight", 7, (bytes) => bytes.subarray(2).reverse()),
    "blk.1.ffn_out",
    /^blk\.1\.ffn_down\.weight, row 1: \d+ of 192 numbers differ \(columns 3\d to 6\d\)[^]*bytes from 3\d of the row \(Q8_0\):\n\s+here {2}(\w\w ){23}\w\w\n\s+there (\w\w ){23}\w\w$/,
  ],
  "numbers of a norm": [
    mapped("blk.1.attn_norm.weight", (w) => w.map((x, i) => i === 5 ? -x : x)),
    "blk.1.attn_norm",
    /blk\.1\.attn_norm\.weight: 1 of 64 numbers differ \(columns 5 to 5\)/,
  ],
  "a row of the embedding": [
    blockChanged("token_embd.weight", 2 * 120, (bytes) => bytes.subarray(2).reverse()),
    "token_embd",
    /token_embd\.weight, row 120: 32 of 64 numbers differ/,
  ],
  "another epsilon": [
    metadata("llama.attention.layer_norm_rms_epsilon", 1e-3),
    "blk.0.attn_norm_rms",
    /^epsilon: 0\.001 here, 0\.00001 there$/m,
  ],
  "another RoPE base": [
    metadata("llama.rope.freq_base", 1e6),
    "blk.0.q_rope",
    /^RoPE: base 1000000, .* here; base 10000, .* there$/,
  ],
};

for (const [name, [fault, point, seen]] of Object.entries(FILES)) {
  Deno.test(`a broken file, ${name}: each side is right with its own, and both are seen`, async () => {
    const path = folder.at(`${++count}.gguf`);
    await breakFile(random.path, path, fault);
    // One of the prompt's letters has the row that is damaged.
    const { evidence } = await diverged(next(), path, [...random.ids, 120], {
      against: random.path,
      generate: 1,
    });
    assert.equal(evidence.point, point);
    const found = recompute(evidence);
    assert.equal(found.right, "each", found.says);
    assert.ok(Math.abs(found.other!.value! - found.reference) <= found.allowed);
    assert.match(found.files.join("\n"), seen);
    assertFormulas(evidence);
  });
}

Deno.test("behind what is not shown, each operation is there as it was computed", async () => {
  const mistakes = times("ffn_up.weight", 1.5);
  const { evidence } = await withFault(mistakes, { shown: /\.out$/ });
  assert.equal(evidence.point, "blk.1.out");
  const points = evidence.operations.map(({ point }) => point);
  assert.deepEqual([points[0], points.at(-1)], ["blk.1.attn_norm_rms", "blk.1.out"]);
  assert.ok(points.includes("blk.1.cache_k") && points.includes("blk.1.ffn_up"));
  assertFormulas(evidence);
  const found = recompute(evidence);
  assert.equal(found.right, "ours");
  assert.match(
    found.says,
    / is not what 2\d operations, blk\.1\.attn_norm_rms to blk\.1\.out, make/,
  );
  assert.deepEqual(found.before.map(({ point }) => point), [
    "blk.1.attn_out_product",
    "blk.1.attn_out",
    "blk.1.ffn_inp",
    "blk.1.ffn_out",
  ]);
});

Deno.test("files that differ before the last operation are both right, each with its own", async () => {
  const path = folder.at(`${++count}.gguf`);
  // The product is not shown: q is what a bias is added to.
  await breakFile(random.path, path, inHalves("blk.1.attn_q.weight", shape.headWidth, 12));
  const against = { against: random.path, generate: 1 };
  const { evidence } = await diverged(next(), path, random.ids, against);
  assert.deepEqual(evidence.operations.map(({ point }) => point), ["blk.1.q_product", "blk.1.q"]);
  const found = recompute(evidence);
  assert.equal(found.right, "each", found.says);
  assert.ok(Math.abs(found.other!.value! - found.reference) <= found.allowed);
  assert.match(found.files.join("\n"), /^blk\.1\.attn_q\.weight, row \d+: 64 of 64 numbers differ/);
  assert.match(found.implied.join("\n"), /^blk\.1\.q_product: row \d+ of .* gives it/);

  // A bias that one file has not makes the point by other operations: nobody is called wrong.
  const biased = folder.at(`${++count}.gguf`);
  await breakFile(random.path, biased, without(...[0, 1, 2].map((i) => `blk.${i}.attn_v.bias`)));
  const other = await diverged(next(), biased, random.ids, against);
  assert.equal(other.evidence.point, "blk.0.v");
  assert.equal(recompute(other.evidence).right, "unknown");
});

Deno.test("while decoding, the position of the step is recomputed with the cache before it", async () => {
  const mistakes = made("attn_scores", (x, { start }) => start > 0 ? x.map((v) => v * 0.9) : x);
  const { evidence } = await withFault(mistakes);
  assert.deepEqual([evidence.step, evidence.point], [1, "blk.1.attn_scores"]);
  assert.deepEqual(evidence.pass, { tokens: 1, start: IDS.length, rows: 1 });
  assert.equal(recompute(evidence).right, "ours");
  assertFormulas(evidence);
});
