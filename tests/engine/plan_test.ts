/** The plan of a forward pass, and the passes that turn it into work: select, fuse, place. */
import assert from "node:assert/strict";
import type { Config } from "../../engine/model/config.ts";
import { readConfig } from "../../engine/plan/tensors.ts";
import { forward } from "../../engine/plan/forward.ts";
import { fuse } from "../../engine/plan/passes/fuse.ts";
import { place } from "../../engine/plan/passes/place.ts";
import { select } from "../../engine/plan/passes/select.ts";
import {
  type Dim,
  elementCount,
  onLastRows,
  type Plan,
  planValues,
  resolveShape,
  type Step,
  stepName,
  type Value,
} from "../../engine/plan/plan.ts";
import { computationName, type Dtype } from "../../kernels/kernel.ts";
import { kernelOf } from "../../kernels/mod.ts";
import { Random } from "../../checkpoints/files/random.ts";
import { randomFile, type RandomLlamaOptions } from "../support/models/random_llama.ts";
import { BLOCK_POINTS, OUTER_POINTS, type PointRow, sized } from "../support/tables/point_table.ts";

const [D, F, H, Hkv, d, V] = [48, 80, 6, 2, 8, 70];

async function configOf(options: RandomLlamaOptions = {}): Promise<Config> {
  return readConfig(
    await randomFile({
      layers: 2,
      width: D,
      ffnWidth: F,
      heads: H,
      kvHeads: Hkv,
      vocab: V,
      ...options,
    }),
  );
}

Deno.test("forward() names the design's points, in model order, with their shapes", async () => {
  const plan = forward(await configOf());
  const dims: Record<string, Dim> = { T: "T", S: "S", R: "R", D, F, H, Hkv, d, V };
  const row = (
    [kind, kernel, , sizes]: PointRow,
    at = "",
  ) => [at + kind, kernel, sized(sizes, dims)];
  const [embedding, ...ends] = OUTER_POINTS.map((each) => row(each));
  const expected = [
    embedding,
    ...[0, 1].flatMap((layer) => BLOCK_POINTS.map((each) => row(each, `blk.${layer}.`))),
    ["last_rows", "take_rows", ["R", D]],
    ...ends,
    ["argmax", "argmax", ["R"]],
    ["sample", "sample", [1]],
  ];
  assert.deepEqual(
    plan.map((step) => [stepName(step), computationName(step), step.outputs[0]!.shape]),
    expected,
  );
  for (const step of plan) assert.equal(step.outputs.length, 1);
  assert.deepEqual([...planValues(plan).keys()], expected.map(([name]) => name));
});

Deno.test("each step reads what was made before it, and its kernel knows its constants", async () => {
  for (const options of [{}, { tied: true, biases: true, kvHeads: H }]) {
    const plan = forward(await configOf(options));
    const made = new Set(["ids", "rope_table", "history", "sampling"]);
    for (const step of plan) {
      for (const { name } of step.inputs) assert.ok(made.has(name), `${stepName(step)}: ${name}`);
      made.add(stepName(step));
      const kernel = kernelOf(step)!;
      const of = (kind: string) => kernel.bindings.filter((binding) => binding.kind === kind);
      const dtypes = (list: readonly { dtype: Dtype }[]) => list.map(({ dtype }) => dtype);
      assert.deepEqual(dtypes(step.inputs), dtypes(of("input")));
      assert.deepEqual(dtypes(step.outputs.map((output) => output!)), dtypes(of("output")));
      assert.equal(step.weights.length, of("weight").length);
      if (!kernel.packed) {
        assert.deepEqual(Object.keys(step.constants), Object.keys(kernel.constants));
      }
    }
    // What belongs to the last rows only comes after they are taken.
    const last = plan.findIndex(({ operation }) => operation === "take_rows");
    plan.forEach((step, i) => assert.equal(onLastRows(step), i > last, stepName(step)));
  }
});

Deno.test("biases are steps of their own, a tied output reads the embedding", async () => {
  const plain = forward(await configOf());
  assert.deepEqual(plain.find((step) => stepName(step) === "logits")!.weights, ["output.weight"]);
  const plan = forward(await configOf({ tied: true, biases: true }));
  assert.deepEqual(plan.find((step) => stepName(step) === "logits")!.weights, [
    "token_embd.weight",
  ]);
  const names = plan.map(stepName);
  for (const name of ["q", "k", "v", "attn_out"]) {
    const at = names.indexOf(`blk.1.${name}`);
    assert.equal(plan[at].operation, "add_bias");
    assert.equal(names[at - 1], `blk.1.${name}_product`);
    const tensor = name === "attn_out" ? "attn_output" : `attn_${name}`;
    assert.deepEqual(plan[at].weights, [`blk.1.${tensor}.bias`]);
    assert.deepEqual(plan[at - 1].weights, [`blk.1.${tensor}.weight`]);
  }
});

Deno.test("shapes take their lengths from a pass", () => {
  const lengths = { T: 3, S: 7, R: 2 };
  assert.deepEqual(resolveShape([4, "T", "S"], lengths), [4, 3, 7]);
  assert.equal(elementCount(["R", 5], lengths), 10);
});

Deno.test("select keeps what is wanted, what that needs, and the cache", async () => {
  const plan = forward(await configOf());
  const names = (wanted: string[], given: string[] = []) =>
    select(plan, new Set(wanted), new Set(given)).map(stepName);

  const decoding = names(["argmax"]);
  assert.ok(!decoding.includes("probs") && !decoding.includes("blk.0.head_result"));
  assert.deepEqual(
    plan.map(stepName).filter((name) => !decoding.includes(name)),
    ["blk.0.head_result", "blk.1.head_result", "probs", "sample"],
  );
  // The cache of the last layer is written even where nobody asks for logits; what follows it is left out.
  const early = names(["blk.0.attn_norm"]);
  assert.equal(early.at(-1), "blk.1.cache_v");
  assert.ok(!early.includes("blk.1.q") && early.includes("blk.1.k_rope"));
  // From a given value on nothing before it runs.
  assert.deepEqual(names(["blk.1.out"], ["blk.1.ffn_act", "blk.1.ffn_inp"]), [
    "blk.1.ffn_out",
    "blk.1.out",
  ]);
});

function fused(
  plan: Plan,
  wanted: string[],
  adjacent: (names: readonly string[]) => boolean,
  few?: () => boolean,
) {
  const points = new Set(wanted);
  return fuse(select(plan, points), { wanted: points, adjacent, few });
}

const together = () => true;

Deno.test("no fused kernel binds more buffers than the device allows", async () => {
  const plan = forward(await configOf());
  const wanted = new Set(["argmax"]);
  for (const buffers of [8, 9, 12]) {
    const steps = fuse(select(plan, wanted), {
      wanted,
      adjacent: together,
      few: () => true,
      buffers,
    });
    for (const step of steps) {
      const { length } = kernelOf(step)!.bindings;
      assert.ok(length <= buffers, `${computationName(step)} binds ${length} of ${buffers}`);
    }
  }
});

Deno.test("sinks and values of their own width go into fused attention; a part of the keys has no sink", async () => {
  const weights = ["blk.0.attn_sinks.weight"];
  const plan = forward(await configOf()).map((step) => {
    const { operation, constants } = step;
    if (operation === "softmax" && constants.causal) return { ...step, sinks: true, weights };
    return operation === "mix" ? { ...step, constants: { ...constants, value_width: 4 } } : step;
  });
  const steps = fused(plan, ["argmax"], together, () => true)
    .filter(({ operation }) => operation.startsWith("attention")).slice(0, 3);
  const names = ["attention_sinks_few", "attention_split", "attention_merge_sinks"];
  assert.deepEqual(steps.map(computationName), names);
  assert.deepEqual(steps.map((step) => step.weights), [weights, [], weights]);
  for (const step of steps) {
    assert.ok(kernelOf(step));
    assert.equal(step.constants.value_width, 4);
  }
  assert.deepEqual(steps[1].outputs[0]!.shape.at(-1), 4 + 4);
});

Deno.test("a decoding pass is five dispatches a layer, six after long contexts", async () => {
  const plan = forward(await configOf());
  const layer = [
    "linear_qkv_rope_normed",
    "attention_few", // or the two behind it: one part of the keys, or several
    "attention_split",
    "attention_merge",
    "linear_residual",
    "linear_glu_normed",
    "linear_residual",
  ];
  const steps = fused(plan, ["argmax"], together, () => true);
  assert.deepEqual(
    steps.map(computationName),
    ["embed", ...layer, ...layer, "take_rows", "rms_norm", "linear", "argmax"],
  );
  const [qkv] = steps.filter(({ epilogue, normed }) => epilogue === "qkv_rope" && normed);
  assert.deepEqual(qkv.outputs.slice(3), new Array(7).fill(null), "q, k, v, the norm, … are taps");
  const all = fused(
    plan,
    ["argmax", "blk.0.attn_norm", "blk.0.attn_norm_rms"],
    together,
    () => true,
  );
  assert.deepEqual(
    all.find(({ epilogue, normed }) => epilogue === "qkv_rope" && normed)!.outputs
      .map((value) => value?.name),
    [
      ...["blk.0.q_rope", "blk.0.cache_k", "blk.0.cache_v"],
      ...[undefined, undefined, undefined, undefined],
      ...["blk.0.attn_norm", "blk.0.attn_norm_rms", undefined],
    ],
  );
});

Deno.test("a prompt's pass is eight dispatches a layer", async () => {
  const plan = forward(await configOf());
  const layer = [
    "rms_norm",
    "linear_qkv",
    "rope_store",
    "attention",
    "linear_residual",
    "rms_norm",
    "linear_glu",
    "linear_residual",
  ];
  assert.deepEqual(
    fused(plan, ["argmax"], together).map(computationName),
    ["embed", ...layer, ...layer, "take_rows", "rms_norm", "linear", "argmax"],
  );
});

Deno.test("fused steps agree with their kernels, and what is wanted is made, as a tap or by a step of its own", async () => {
  const random = new Random(4);
  for (const options of [{}, { biases: true, tied: true }]) {
    const plan = forward(await configOf(options));
    const points = [...planValues(plan).keys()];
    for (let round = 0; round < 60; round++) {
      const wanted = points.filter(() => random.bits() % (1 + round) < 2);
      const adjacent = () => random.bits() % 3 > 0;
      const steps = fused(plan, wanted, adjacent);
      const made = new Set(["ids", "rope_table", "history", "sampling"]);
      for (const step of steps) {
        for (const { name } of step.inputs) assert.ok(made.has(name), `${stepName(step)}: ${name}`);
        for (const output of step.outputs) if (output) made.add(output.name);
        const { bindings } = kernelOf(step)!;
        const outputs = bindings.filter(({ kind }) => kind === "output" || kind === "tap");
        assert.equal(step.outputs.length, outputs.length, computationName(step));
        outputs.forEach(({ kind }, i) => {
          // Taps are on where they are wanted, and nowhere else; what else a kernel makes always has a place.
          const output = step.outputs[i];
          assert.ok(output || kind === "tap");
          if (kind === "tap" && output) assert.ok(wanted.includes(output.name));
        });
        assert.equal(
          step.inputs.length,
          bindings.filter(({ kind }) => kind === "input").length,
          computationName(step),
        );
      }
      for (const name of wanted) assert.ok(made.has(name), `${name} is not made`);
      for (const name of ["blk.0.cache_k", "blk.1.cache_v"]) assert.ok(made.has(name));
    }
  }
});

Deno.test("taps do not change which kernels run", async () => {
  const plan = forward(await configOf());
  const plain = fused(plan, ["logits"], together);
  const taps = [
    "attn_norm_rms",
    "attn_norm_pre",
    "k_rope",
    "attn_out",
    "ffn_gate",
    "ffn_up",
    "ffn_out",
  ]
    .map((name) => `blk.1.${name}`);
  const tapped = fused(plan, ["logits", ...taps], together);
  assert.deepEqual(tapped.map(computationName), plain.map(computationName));
  const names = tapped.flatMap((step) => step.outputs.map((output) => output?.name));
  for (const tap of taps) assert.ok(names.includes(tap), tap);
});

Deno.test("scores and probabilities that are wanted keep attention in its steps", async () => {
  const plan = forward(await configOf());
  for (const wanted of ["attn_scores", "attn_probs"]) {
    const kernels = fused(plan, ["logits", `blk.1.${wanted}`], together);
    const steps = kernels.filter((step) =>
      stepName(step).startsWith("blk.1.") || step.operation === "attention"
    );
    assert.equal(
      kernels.filter(({ operation }) => operation === "attention").length,
      1,
      "layer 0 only",
    );
    for (const kernel of ["scores", "softmax", "mix"]) {
      assert.ok(steps.some((step) => computationName(step) === kernel), kernel);
    }
  }
  // Wider heads than the fused kernel's workgroup memory holds.
  const wide = forward(await configOf({ heads: 1, kvHeads: 1, headWidth: 258 }));
  assert.ok(!fused(wide, ["logits"], together).some(({ operation }) => operation === "attention"));
});

Deno.test("matrices that lie apart are multiplied apart, biased ones too", async () => {
  const plan = forward(await configOf());
  const apart = fused(plan, ["logits"], () => false).map(computationName);
  assert.ok(!apart.includes("linear_qkv") && !apart.includes("linear_glu"));
  assert.ok(
    apart.includes("linear") && apart.includes("glu") && apart.includes("linear_residual"),
  );
  // Only those that are asked about: q, k, v together and gate, up together.
  const asked: string[] = [];
  fused(plan, ["logits"], (names) => {
    asked.push(names.join(" "));
    return true;
  });
  assert.deepEqual(asked.filter((names) => names.startsWith("blk.0.")), [
    "blk.0.attn_q.weight blk.0.attn_k.weight blk.0.attn_v.weight",
    "blk.0.ffn_gate.weight blk.0.ffn_up.weight",
  ]);

  const biased = forward(await configOf({ biases: true }));
  const kernels = fused(biased, ["logits"], together).map(computationName);
  assert.ok(!kernels.includes("linear_qkv"), "a bias stands between the products");
  assert.equal(kernels.filter((kernel) => kernel === "linear_residual").length, 2, "ffn_out only");
});

Deno.test("steps that only look alike are not fused", async () => {
  const plan = forward(await configOf());
  const at = (name: string) => plan.findIndex((step) => stepName(step) === name);
  const other: Value = { name: "other", shape: ["T", D], dtype: "f32", kind: "result" };
  const changed = (name: string, inputs: (inputs: readonly Value[]) => Value[]) =>
    plan.with(at(name), { ...plan[at(name)], inputs: inputs(plan[at(name)].inputs) });
  const kernels = (steps: Plan) =>
    fuse(steps, { wanted: new Set(), adjacent: together }).map(computationName);

  const count = (steps: Plan, kernel: string) =>
    kernels(steps).filter((each) => each === kernel).length;
  const cases: [string, string, (inputs: readonly Value[]) => Value[]][] = [
    ["blk.0.attn_norm_pre", "rms_norm", ([x]) => [x, other]],
    ["blk.0.attn_norm_pre", "rms_norm", ([, rms]) => [other, rms]],
    ["blk.0.attn_norm", "rms_norm", () => [other]],
    ["blk.0.k", "linear_qkv", () => [other]],
    ["blk.0.cache_k", "rope_store", () => [other]],
    ["blk.0.attn_probs", "attention", () => [other]],
    ["blk.0.head_out", "attention", ([, values]) => [other, values]],
    ["blk.0.ffn_up", "linear_glu", () => [other]],
    ["blk.0.ffn_act", "linear_glu", ([gate, up]) => [up, gate]],
    ["blk.0.ffn_inp", "linear_residual", ([x]) => [x, other]],
  ];
  for (const [name, kernel, inputs] of cases) {
    assert.equal(
      count(changed(name, inputs), kernel),
      count(plan, kernel) - 1,
      `${name}, ${kernel}`,
    );
  }
});

Deno.test("norms of each head are fused, but not into products; those of other rows than their weight are not", async () => {
  const plan = forward(await configOf());
  const norm = ["blk.0.attn_norm_rms", "blk.0.attn_norm_pre", "blk.0.attn_norm"];
  /** The first layer's norm over that many groups; `last` of them where the weight is another one's. */
  const grouped = (groups: number, last = groups) =>
    plan.map((step): Step => {
      const i = norm.indexOf(stepName(step));
      const own = i === 2 ? last : groups;
      const sizes = { columns: D / own, groups: own };
      return i < 0 ? step : { ...step, constants: { ...step.constants, ...sizes } };
    });
  const computed = (steps: Plan, few: boolean) =>
    fused(steps, ["logits"], together, few ? () => true : undefined).map(computationName);
  const count = (names: readonly string[], name: string) =>
    names.filter((each) => each === name).length;
  // Of two layers' norms before attention and the last one.
  assert.equal(count(computed(grouped(1), true), "rms_norm"), 1);
  assert.equal(count(computed(grouped(6), true), "rms_norm"), 2);
  assert.equal(count(computed(grouped(6), true), "linear_qkv"), 1);
  assert.equal(count(computed(grouped(6), false), "rms_norm"), 5);
  const [fusedNorm] = fused(grouped(6), ["logits"], together)
    .filter(({ operation }) => operation === "rms_norm");
  assert.deepEqual([fusedNorm.constants.columns, fusedNorm.constants.groups], [8, 6]);
  const apart = computed(grouped(6, 1), false);
  assert.equal(count(apart, "rms_norm"), 4);
  assert.ok(apart.includes("rms") && apart.includes("scale_columns"));
});

Deno.test("a gate's activation goes along", async () => {
  const plan = forward(await configOf()).map((step): Step =>
    step.operation === "glu" ? { ...step, constants: { ...step.constants, activation: 3 } } : step
  );
  for (const few of [undefined, () => true]) {
    const gates = fused(plan, ["logits"], together, few)
      .filter(({ epilogue }) => epilogue === "glu");
    assert.deepEqual(gates.map(({ constants }) => constants.activation), [3, 3]);
  }
});

Deno.test("values that are alive at once have slots of their own, kept ones to the end", () => {
  const random = new Random(9);
  const largest = { T: 5, S: 11, R: 2 };
  let shared = 0;
  for (let round = 0; round < 300; round++) {
    const plan = randomPlan(random);
    const values = planValues(plan);
    const kept = new Set([...values.keys()].filter(() => random.bits() % 8 === 0));
    const { slots, slotOf } = place(plan, largest, kept);
    // When is each value needed? From the step that makes it to the last one that reads it, or to the end.
    const lives = [...values.values()].filter(({ kind }) => kind === "result").map((value) => {
      const from = plan.findIndex(({ outputs }) => outputs.includes(value));
      const to = kept.has(value.name)
        ? plan.length
        : Math.max(from, plan.findLastIndex(({ inputs }) => inputs.includes(value)));
      return { value, from, to, slot: slotOf.get(value.name)! };
    });
    for (const { value, from, to, slot } of lives) {
      assert.ok(slots[slot] >= elementCount(value.shape, largest), `${value.name} fits its slot`);
      for (const other of lives) {
        if (other.value === value || other.slot !== slot) continue;
        shared++;
        assert.ok(to < other.from || other.to < from, `${value.name} and ${other.value.name}`);
      }
    }
    assert.equal(lives.length, slotOf.size, "caches have no slot");
  }
  assert.ok(shared > 1000, "slots are used again");
});

Deno.test("a model's activations take a few slots, however many layers it has", async () => {
  const largest = { T: 128, S: 256, R: 1 };
  const bytes = async (layers: number) => {
    const plan = fused(forward(await configOf({ layers })), ["logits"], together);
    return place(plan, largest, new Set(["logits"])).slots.reduce((a, b) => a + b) * 4;
  };
  assert.equal(await bytes(9), await bytes(3));
});

function randomPlan(random: Random): Step[] {
  const steps: Step[] = [];
  const values: Value[] = [];
  const dims: Dim[] = ["T", "S", "R", 1, 3, 40];
  for (let i = 0; i < 30; i++) {
    const inputs = Array.from(
      { length: Math.min(values.length, random.integer(0, 4)) },
      () => values[random.integer(Math.max(0, values.length - 12), values.length)],
    );
    const outputs = Array.from(
      { length: random.integer(1, 4) },
      (_, j): Value | null =>
        j > 0 && random.bits() % 3 === 0 ? null : {
          name: `${i}.${j}`,
          shape: [dims[random.integer(0, 6)], dims[random.integer(0, 6)]],
          dtype: "f32",
          kind: random.bits() % 10 === 0 ? "cache" : "result",
        },
    );
    steps.push({ operation: "add", inputs, weights: [], outputs, constants: {} });
    for (const output of outputs) if (output) values.push(output);
  }
  return steps;
}
