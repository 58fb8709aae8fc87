/** CPU kernels without packed weights against their 64-bit twins. */
import assert from "node:assert/strict";
import { allowedErrors } from "../../engine/check/bounds.ts";
import type { KernelCase } from "../../engine/check/case.ts";
import { kernelCases } from "../../engine/check/cases.ts";
import { Noise, numbersReader } from "../../engine/check/data.ts";
import { MASKED } from "../../kernels/attention/scoring/score.ts";
import { partsOf } from "../../kernels/attention/scoring/seen.ts";
import type { Kernel } from "../../kernels/kernel.ts";
import { KERNELS } from "../../kernels/mod.ts";
import {
  exponentOf,
  FARTHEST,
  LOG2E,
  type SamplingNumbers,
  samplingWords,
} from "../../kernels/sampling/sampling.ts";
import { endWorkers, exp1, Laid, OPERATIONS, twinOutputs, UNTOUCHED } from "./cpu_kernels.ts";

const kernels = [...KERNELS.values()].filter(({ operation }) => OPERATIONS.has(operation));

/** Sums that each kernel makes side by side, at least: 16 in norms, 4 in softmax. */
const LANES = 4;

/** Compares outputs with the twin's; the largest error as a share of what is allowed. */
function worstShare(each: KernelCase, outputs: readonly (Float32Array | null)[]): number {
  const expected = twinOutputs(each);
  const allowed = allowedErrors({
    ...each,
    outputs: expected,
    lanes: LANES,
    columnLanes: LANES,
    broadcast: false,
    whole: each.kind === "whole",
  });
  let worst = 0;
  outputs.forEach((output, i) =>
    output?.forEach((value, at) => {
      const error = Math.abs(value - expected[i][at]);
      const share = error === 0 || Object.is(value, expected[i][at]) ? 0 : error / allowed[i][at];
      if (!(share <= worst) && !Number.isNaN(worst)) worst = share;
    })
  );
  return worst;
}

function check(each: KernelCase): void {
  const laid = new Laid(each);
  laid.run();
  assert.ok(laid.withinBounds, `${each.kernel.name}, ${each.name}: wrote behind an output`);
  const share = worstShare(each, laid.outputs());
  assert.ok(share <= 1, `${each.kernel.name}, ${each.name}: ${share} of what is allowed`);
}

Deno.test("each kernel gives its twin's numbers over odd shapes", async (t) => {
  assert.equal(kernels.length, 49);
  for (const kernel of kernels) {
    await t.step(kernel.name, () => {
      let cases = 0;
      for (const each of kernelCases(kernel, { full: true })) {
        check(each);
        cases++;
      }
      assert.ok(cases >= 7, `${cases}`);
    });
  }
});

/** Heads, key/value heads, head width, positions, positions in the cache before. */
const MODELS = [
  [9, 3, 64, 1, 1000],
  [9, 3, 64, 3, 700],
  [3, 1, 64, 33, 700],
  [3, 1, 64, 128, 0],
  [4, 1, 128, 30, 5],
  [3, 3, 16, 64, 5],
  [2, 2, 80, 64, 0],
  [4, 4, 80, 1, 700],
  [4, 1, 8, 3, 1000],
  [5, 1, 24, 7, 90],
  [7, 1, 16, 2, 2500],
  [3, 1, 7, 3, 700],
  [3, 3, 13, 64, 5],
] as const;

/** A case of attention, fused or in one of its steps; the cache ends in slots of NaN. */
function attentionCase(name: string, [heads, kv_heads, width, tokens, start]: readonly number[]) {
  const kernel = KERNELS.get(name)!;
  const noise = new Noise(`${name} ${heads} ${width} ${start}`);
  const cached = start + tokens, row = kv_heads * width;
  const q = () => noise.numbers(tokens * heads * width).map((x) => x * 2);
  const cache = () => {
    const slots = new Float32Array((cached + 2) * row).fill(NaN);
    slots.set(noise.numbers(cached * row));
    return slots;
  };
  const square = () => noise.numbers(heads * tokens * cached).map((x) => x * 8);
  const parts = partsOf({ tokens, start, rows: 1 }).count;
  const partNumbers = tokens * heads * parts * (width + 4);
  const outputs: Record<string, number> = {
    scores: heads * tokens * cached,
    softmax: heads * tokens * cached,
    attention_split: partNumbers,
  };
  const inputs: Record<string, () => Float32Array[]> = {
    scores: () => [q(), cache()],
    softmax: () => [square()],
    mix: () => [square().map(Math.abs), cache()],
    attention_merge: () => [
      noise.numbers(partNumbers).map((x, at) => at % (width + 4) === width + 1 ? 3 + x : x),
    ],
  };
  // Branches of three positions: from all that is cached, from nothing, from a third.
  const gaps = Float32Array.from({ length: 2 * tokens }, (_, i) => {
    const branch = Math.floor(i / 6);
    return i % 2 ? start + branch * 3 : [start, 0, Math.ceil(start / 3)][branch % 3];
  });
  return {
    kernel,
    name: `${heads}/${kv_heads} heads of ${width}, ${tokens} positions after ${start}`,
    kind: "real",
    pass: { tokens, start, rows: 1 },
    constants: {
      heads,
      kv_heads,
      head_width: width,
      scale: Math.fround(1 / Math.sqrt(width)),
      ...{ window: 0, chunk: 0, cap: 0, max_bias: 0, value_width: 0 },
      columns: heads,
      causal: 1,
    },
    inputs: [
      ...(inputs[kernel.operation]?.() ?? [q(), cache(), cache()]),
      ...(kernel.branches ? [gaps] : []),
    ],
    weights: kernel.sinks ? [numbersReader(noise.numbers(heads), heads)] : [],
    outputs: [outputs[kernel.operation] ?? tokens * heads * width],
    parts: 1,
    taps: true,
  } satisfies KernelCase;
}

const ATTENTION = kernels.filter(({ operation }) => /scores|softmax|mix|attention/.test(operation));

Deno.test("attention over the shapes of models", async (t) => {
  assert.equal(ATTENTION.length, 17);
  for (const { name } of ATTENTION) {
    await t.step(name, () => {
      for (const shape of MODELS) check(attentionCase(name, shape));
    });
  }
});

/** A few cases of a kernel, those of models among them. */
function someCases(kernel: Kernel): KernelCase[] {
  const cases: KernelCase[] = [...kernelCases(kernel, { full: true })].slice(-7);
  if (ATTENTION.includes(kernel)) {
    for (const i of [0, 1, 2, 8, 12]) cases.push(attentionCase(kernel.name, MODELS[i]));
  }
  return cases;
}

function bits(numbers: Float32Array): Uint32Array {
  return new Uint32Array(numbers.buffer, numbers.byteOffset, numbers.length);
}

Deno.test("whoever takes an item of the work computes the same bits", () => {
  for (const kernel of kernels) {
    for (const each of someCases(kernel)) {
      const laid = new Laid(each);
      laid.run();
      const whole = laid.outputs();
      for (const threads of [2, 3]) {
        // Each thread takes all that is left, beginning at an item of its own: the last items first.
        laid.reset();
        for (let thread = threads - 1; thread > 0; thread--) {
          laid.run(thread, threads, thread * (kernel.operation === "add" ? 4096 : 2));
          const part = laid.outputs();
          part.forEach((output, i) => {
            const [found, expected] = [bits(output!), bits(whole[i]!)];
            found.forEach((value, at) => {
              const computed = output![at] !== UNTOUCHED;
              if (computed) assert.equal(value, expected[at], `${kernel.name}, ${each.name}`);
            });
          });
        }
        laid.run(0, threads);
        laid.outputs().forEach((output, i) =>
          assert.deepEqual(bits(output!), bits(whole[i]!), `${kernel.name}, ${each.name}`)
        );
      }
    }
  }
});

Deno.test("real threads leave the same bits as one", async () => {
  for (const kernel of kernels) {
    for (const each of someCases(kernel).slice(-2)) {
      const laid = new Laid(each);
      laid.run();
      const whole = laid.outputs();
      for (let round = 0; round < 3; round++) {
        laid.reset();
        await laid.runAtOnce();
        laid.outputs().forEach((output, i) =>
          assert.deepEqual(bits(output!), bits(whole[i]!), `${kernel.name}, ${each.name}`)
        );
      }
    }
  }
  endWorkers();
});

Deno.test("taps change nothing: what is computed has the same bits", () => {
  const tapped = kernels.filter(({ bindings }) => bindings.some(({ kind }) => kind === "tap"));
  assert.equal(tapped.length, 5);
  for (const kernel of tapped) {
    for (const each of someCases(kernel)) {
      const [on, off] = [true, false].map((taps) => {
        const laid = new Laid({ ...each, taps });
        laid.run();
        assert.ok(laid.withinBounds);
        return laid.outputs();
      });
      assert.ok(off.includes(null));
      off.forEach((output, i) => output && assert.deepEqual(bits(output), bits(on[i]!)));
    }
  }
});

Deno.test("exponentials are good to one unit in the last place", () => {
  for (let x = -87.3; x < 88.7; x += 0.00731) {
    const exact = Math.exp(Math.fround(x));
    const unit = 2 ** (Math.floor(Math.log2(exact)) - 23);
    assert.ok(Math.abs(exp1(x) - exact) < unit, `${x}`);
  }
  assert.deepEqual([0, -0, -104, -Infinity, 89, Infinity, NaN].map((x) => exp1(x)), [
    ...[1, 1, 0, 0, Infinity, Infinity, NaN],
  ]);
  assert.equal(exp1(-100), Math.fround(Math.exp(-100))); // subnormal
});

Deno.test("what is not a number stays with those who see it", () => {
  for (const [shape, bad] of [[[9, 3, 64, 30, 100], 110], [[3, 1, 64, 4, 300], 301]] as const) {
    const [heads, kvHeads, width, tokens, start] = shape;
    for (const name of ["attention", "attention_split", "mix", "scores", "attention_branches"]) {
      const each = attentionCase(name, shape);
      for (const [input, value] of [[1, NaN], [1, Infinity], [2, NaN], [2, -Infinity]] as const) {
        const cache = each.inputs[input];
        if (!cache || cache.length < start * kvHeads * width) continue;
        const at = bad * kvHeads * width + 1;
        const before = cache[at];
        cache[at] = value;
        const laid = new Laid(each);
        laid.run();
        const [expected] = twinOutputs(each), [found] = laid.outputs();
        let wrong = 0;
        expected.forEach((number, i) => {
          // Beside a sum that is NaN, a part's largest score may be any.
          if (name === "attention_split" && i % (width + 4) === width) return;
          // An infinite score makes weights NaN; the numbers themselves are judged above.
          assert.equal(Number.isFinite(found![i]), Number.isFinite(number), `${name} ${i}`);
          if (!Number.isFinite(number)) wrong++;
        });
        assert.ok(wrong > 0 && wrong < expected.length, `${name}, input ${input}: ${wrong}`);
        cache[at] = before;
      }
    }
    assert.ok(heads > 0 && tokens > 0);
  }
});

Deno.test("masks weigh nothing, also where nothing else is seen", () => {
  const cached = 37, tokens = 5;
  const rows: ((x: Float32Array) => void)[] = [
    (x) => x.fill(MASKED),
    (x) => x.fill(-Infinity),
    (x) => x.fill(-3e38),
    (x) => x.fill(MASKED, 0, 20),
    (x) => x.fill(-Infinity, 3),
    (x) => x[2] = NaN,
    (x) => x[30] = Infinity,
    (x) => x.fill(-9e29),
  ];
  const x = new Noise("masks").numbers(rows.length * tokens * cached);
  rows.forEach((change, head) => {
    for (let token = 0; token < tokens; token++) {
      const row = (head * tokens + token) * cached;
      change(x.subarray(row, row + cached));
    }
  });
  for (const causal of [0, 1]) {
    const each: KernelCase = {
      ...attentionCase("softmax", [rows.length, 1, 8, tokens, cached - tokens]),
      constants: { columns: causal ? rows.length : cached, causal },
      pass: { tokens, start: cached - tokens, rows: rows.length * tokens },
      inputs: [x],
      outputs: [x.length],
    };
    const laid = new Laid(each);
    laid.run();
    const [expected] = twinOutputs(each), [found] = laid.outputs();
    expected.forEach((value, i) => {
      const close = Object.is(found![i], value) || Math.abs(found![i] - value) < 3e-7;
      assert.ok(close, `${i}: ${found![i]}, ${value}`);
    });
  }
});

/** What the next id is chosen from, of many kinds. */
function randomSample(noise: Noise, columns: number): KernelCase {
  const one = () => noise.bits() / 2 ** 32;
  const chance = (part: number) => one() < part;
  const spread = noise.pick([0, 0.5, 2, 5, 12, 1e30]);
  const levels = noise.pick([0, 0, 0, 3, 50]);
  const x = Float32Array.from({ length: columns }, () => {
    const normal = (one() + one() + one() + one() - 2) * 2 * spread;
    return levels ? Math.round(normal * levels / 10) : normal - 3;
  });
  if (chance(0.1)) x[noise.bits() % columns] = noise.pick([-Infinity, NaN, Infinity, 40, -0]);
  if (chance(0.1)) x.fill(-Infinity, 1 + noise.bits() % columns);
  const penalty = chance(0.5) ? 1 : Math.fround(0.7 + one());
  const numbers: SamplingNumbers = {
    penalty,
    relief: Math.fround(1 / penalty),
    window: noise.bits() % 70,
    topK: chance(0.5) ? 0 : noise.pick([1, 2, 40, 1 + noise.bits() % columns, 1_000_000]),
    topP: chance(0.5) ? 0 : Math.floor(one() * 2 ** 32),
    farthest: chance(0.5) ? FARTHEST : exponentOf(-one() * 10, 0, LOG2E),
    scale: noise.pick([LOG2E, Math.fround(LOG2E / (0.1 + one())), 2 ** 60, 0, Infinity]),
    greedy: chance(0.1),
    seed: noise.bits() * noise.pick([1, 2 ** 21 - 1]),
  };
  const history = Float32Array.from(
    { length: 1 + noise.bits() % 100 },
    () => noise.bits() % (columns + 3),
  );
  const kernel = KERNELS.get("sample")!;
  return {
    kernel,
    name: `${columns} columns ${JSON.stringify(numbers)}`,
    kind: "real",
    pass: { tokens: 1, start: history.length - 1, rows: 1 },
    constants: { columns },
    inputs: [x, new Float32Array(samplingWords(numbers).buffer), history],
    weights: [],
    outputs: [1],
    parts: 1,
    taps: true,
  };
}

Deno.test("the id that is chosen is the twin's, in thousands of cases", () => {
  const noise = new Noise("samples");
  const ids = new Set<number>();
  for (let i = 0; i < 6000; i++) {
    const size = i % 500 === 0 ? 49152 : 1 + noise.bits() % noise.pick([4, 100, 1500]);
    const each = randomSample(noise, size);
    const laid = new Laid(each);
    laid.run();
    const [[expected], [found]] = [twinOutputs(each)[0], laid.outputs()[0]!];
    assert.equal(found, expected, each.name);
    assert.ok(laid.withinBounds);
    ids.add(found);
  }
  assert.ok(ids.size > 300, `${ids.size}`);
});
