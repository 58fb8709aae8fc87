/** Engines that round: right ones pass when they say so, whatever they show; wrong ones are found; what is not declared is noticed. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { parity, type ParityReport } from "../../../checkpoints/comparisons/parity.ts";
import { Random } from "../../../checkpoints/files/random.ts";
import { roundedBlocks, toBf16 } from "../../../checkpoints/parity/rounded_engines/rounding.ts";
import type { ActivationType } from "../../../checkpoints/references/reference.ts";
import { loadModel, type Model } from "../../../inspect/run/model.ts";
import { KNOWN_FAULTS } from "../../support/faults/engines/known.ts";
import { dump, ForeignEngine, type RunOptions } from "../../support/engines/faulty_engine.ts";
import { Folder } from "../../support/folder.ts";
import { faultModels } from "../../support/models/fault_models.ts";
import { randomLlama } from "../../support/models/random_llama.ts";

const folder = new Folder();
globalThis.addEventListener("unload", () => folder[Symbol.dispose]());
const models = await faultModels(folder.path);

/** How right engines round. */
const ROUNDED = {
  bf16: { round: toBf16 },
  f16: { round: Math.f16round },
  q8: { roundInput: (x: Float32Array) => roundedBlocks(x, 32) },
} satisfies Partial<Record<ActivationType, RunOptions>>;

/** What engines show. */
const SHOWN: Readonly<Record<string, (point: string) => boolean>> = {
  "all that it makes": () => true,
  "what a Hugging Face model's modules make": (point) =>
    !/rope|cache|scores|probs|head_out|ffn_inp|ffn_act/.test(point),
  "no probabilities": (point) => !/scores|probs/.test(point),
  "the stream alone": (point) => /\.out$/.test(point),
  "logits alone": (point) => point === "logits",
};

let count = 0;

/** What parity says of an engine that runs a model so. */
async function judged(
  { engine, ids }: { readonly engine: ForeignEngine; readonly ids: readonly number[] },
  model: Model,
  { shown = () => true, activations, generate = 1, ...how }: RunOptions & {
    readonly shown?: (point: string) => boolean;
    readonly activations: ActivationType;
    readonly generate?: number;
  },
): Promise<ParityReport> {
  const dir = join(folder.path, `engine${++count}`);
  const run = engine.run(ids, generate, how);
  await dump(run, dir, { activations, without: (point) => !shown(point) });
  return await parity(model, undefined, { engine: dir });
}

for (const key of ["tiny", "random"] as const) {
  Deno.test(`${key}: a right engine that rounds and says so passes, whatever it shows`, async (t) => {
    using model = await loadModel(models[key].path);
    for (const type of ["bf16", "f16", "q8"] as const) {
      for (const [what, shown] of Object.entries(SHOWN)) {
        // Behind tiny's logits alone lies all of it: minutes of 64-bit loops on a busy machine.
        if (key === "tiny" && what === "logits alone") continue;
        await t.step(`${type}: ${what}`, async () => {
          const report = await judged(models[key], model, {
            ...{ ...ROUNDED[type], shown, activations: type },
          });
          assert.ok(report.passed, `${report}`);
        });
      }
    }
  });
}

Deno.test("an engine that rounds only what it shows passes", async () => {
  using model = await loadModel(models.random.path);
  const { engine, ids } = models.random;
  const dir = join(folder.path, "fused");
  const right = engine.run(ids, 1);
  const passes = right.passes.map((pass) => ({
    ...pass,
    tensors: new Map(
      [...pass.tensors].map(([point, tensor]) =>
        [point, { ...tensor, data: tensor.data.map(toBf16) }] as const
      ),
    ),
  }));
  await dump({ ...right, passes }, dir, {
    activations: "bf16",
    without: (point) => !SHOWN["no probabilities"](point),
  });
  const report = await parity(model, undefined, { engine: dir });
  assert.ok(report.passed, `${report}`);
});

/** Faults that rounding to bf16 does not hide, tried on the smaller model; each is found where it is. */
const FOUND = [
  "rows of K in the other RoPE order",
  "RoPE turns halves",
  "RoPE's base is a usual one",
  "frequency factors ignored",
  "positions begin at 1",
  "LayerNorm",
  "gate's and up's weights exchanged",
  "GELU",
  "attention output transposed",
  "query head h reads key/value head h mod Hkv",
  "heads joined backwards",
  "no bias on Q",
  "no residual after attention",
];

Deno.test("random: what is wrong is found where it is, though numbers are rounded", async (t) => {
  using model = await loadModel(models.random.path);
  const where = 1;
  for (const type of ["bf16", "f16"] as const) {
    for (const name of FOUND) {
      await t.step(`${type}: ${name}`, async () => {
        const { make, point, causes } = KNOWN_FAULTS[name];
        const { engine: { shape } } = models.random;
        const mistakes = make({ model: models.random, shape, layer: where, draw: new Random(3) });
        const report = await judged(models.random, model, {
          ...{ ...ROUNDED[type], mistakes, where, activations: type },
        });
        const found = report.firstDivergence;
        assert.equal(found?.point, `blk.${where}.${point}`, `${report}`);
        assert.ok([...causes, "unknown"].some((cause) => cause === found.cause), `${report}`);
      });
    }
    for (
      const [name, point, mistakes] of [
        ["a larger epsilon", "attn_norm", { epsilon: 3e-2 }],
        ["no scale of scores", "attn_scores", {
          scale: Math.sqrt(models.random.engine.shape.headWidth),
        }],
      ] as const
    ) {
      await t.step(`${type}: ${name}`, async () => {
        const report = await judged(models.random, model, {
          ...{ ...ROUNDED[type], mistakes, where, activations: type },
        });
        assert.equal(report.firstDivergence?.point, `blk.${where}.${point}`, `${report}`);
      });
    }
  }
});

Deno.test("rounding that is far worse than declared fails", async (t) => {
  using model = await loadModel(models.random.path);
  /** Rounds to so many significant bits. */
  const bits = (count: number) => (value: number) => {
    if (value === 0 || !Number.isFinite(value)) return value;
    const unit = 2 ** (Math.floor(Math.log2(Math.abs(value))) - count + 1);
    return Math.round(value / unit) * unit;
  };
  for (const [activations, significant] of [["bf16", 4], ["f16", 7], ["q8", 5]] as const) {
    await t.step(`${activations}: ${significant} bits`, async () => {
      const report = await judged(models.random, model, { round: bits(significant), activations });
      assert.equal(report.passed, false, `${report}`);
    });
  }
});

Deno.test("rounding that is not declared is noticed, and what to declare is said", async (t) => {
  using model = await loadModel(models.random.path);
  for (const type of ["bf16", "f16"] as const) {
    for (const what of ["all that it makes", "no probabilities"]) {
      await t.step(`${type}: ${what}`, async () => {
        const how = { ...ROUNDED[type], shown: SHOWN[what], activations: "f32" } as const;
        const report = await judged(models.random, model, how);
        const { cause, detail } = report.firstDivergence!;
        assert.equal(report.passed, false);
        assert.equal(cause, "rounded", `${report}`);
        assert.match(
          detail,
          new RegExp(`every number is ${type}; with "activations": "${type}" .* passes`),
        );
      });
    }
  }
  await t.step("what is wrong besides is found", async () => {
    const mistakes = { rope: () => ({ base: 5e5 }) };
    const report = await judged(models.random, model, {
      ...{ ...ROUNDED.bf16, mistakes, where: 1, activations: "f32" },
    });
    const { point, cause, detail } = report.firstDivergence!;
    assert.deepEqual([point, cause], ["blk.1.q_rope", "rope-base"], detail);
    assert.match(detail, /every number is bf16, which it does not declare/);
  });
});

Deno.test("one outcome, one weight or one input alone that is rounded is named", async (t) => {
  using model = await loadModel(models.random.path);
  const where = 1;
  const faults: [name: string, point: string, detail: RegExp, RunOptions["mistakes"]][] = [
    ["an outcome", "q", /every number is bf16 there/, {
      made: (point, numbers) => point === "q" ? numbers.map(toBf16) : numbers,
    }],
    ["a weight", "attn_out", /attn_output\.weight: rounded to bf16 there/, {
      weight: (name, weight) =>
        name === "attn_output.weight" ? { ...weight, data: weight.data.map(toBf16) } : weight,
    }],
    ["an input", "ffn_out", /what it reads is rounded to 8 bits there, in blocks of 32/, {
      input: (name, x) => name === "ffn_down" ? roundedBlocks(x, 32) : x,
    }],
  ];
  for (const [name, point, expected, mistakes] of faults) {
    await t.step(name, async () => {
      const report = await judged(models.random, model, { mistakes, where, activations: "f32" });
      const found = report.firstDivergence!;
      assert.deepEqual(
        [found.point, found.cause],
        [`blk.${where}.${point}`, "rounded"],
        `${report}`,
      );
      assert.match(found.detail, expected);
    });
  }
});

Deno.test("massive numbers at the first position do not break the verdict", async () => {
  // As in SmolLM2, whose residual stream reaches 22,500 there.
  const path = folder.write(
    "massive.gguf",
    randomLlama({
      layers: 3,
      vocab: 96,
      tensors: (tensors) =>
        tensors.map((tensor) => {
          if (tensor.name !== "token_embd.weight") return tensor;
          const data = new Float32Array(tensor.data.slice().buffer);
          data[5] = 22_500;
          data[9] = -3_000;
          return { ...tensor, data: new Uint8Array(data.buffer) };
        }),
    }),
  );
  const engine = await ForeignEngine.open(path);
  using model = await loadModel(path);
  // Token 0 has them.
  const ids = [0, ...Array.from({ length: 47 }, (_, i) => 1 + (7 * i) % 90)];
  for (const type of ["bf16", "f16"] as const) {
    for (const what of ["all that it makes", "no probabilities", "the stream alone"]) {
      const report = await judged({ engine, ids }, model, {
        ...{ ...ROUNDED[type], shown: SHOWN[what], activations: type },
      });
      assert.ok(report.passed, `${type}, ${what}: ${report}`);
    }
  }
});

Deno.test("what leaves the range of f16 is named so, though f16 is declared", async () => {
  using model = await loadModel(models.large.path);
  const report = await judged(models.large, model, { ...ROUNDED.f16, activations: "f16" });
  assert.equal(report.firstDivergence?.cause, "f16-overflow", `${report}`);
});
