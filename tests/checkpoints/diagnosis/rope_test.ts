/** The causes of wrong turns: what RoPE does instead is measured, and said in words. */
import assert from "node:assert/strict";
import { explained } from "../../support/engines/explained.ts";
import type { Mistakes, Rope } from "../../support/engines/engine_mistakes.ts";
import { ForeignEngine } from "../../support/engines/faulty_engine.ts";
import { faultModels } from "../../support/models/fault_models.ts";
import { randomLlama } from "../../support/models/random_llama.ts";
import { Folder } from "../../support/folder.ts";

const folder = new Folder();
globalThis.addEventListener("unload", () => folder[Symbol.dispose]());
const { random } = await faultModels(folder.path);
const path = folder.at("whole.gguf");
await Deno.writeFile(path, randomLlama({ layers: 1, heads: 2, headWidth: 32, seed: 3 }));
/** Whole heads turn, without frequency factors. */
const whole = {
  path,
  engine: await ForeignEngine.open(path),
  ids: random.ids.map((id) => id % 96),
};
const T = whole.ids.length;

/** How a pair turns: the places of its numbers in a head, and its angle at a position. */
interface Turn {
  readonly places?: (pair: number) => [number, number];
  readonly pairs?: number;
  readonly angle?: (position: number, pair: number, start: number) => number;
  readonly round?: (number: number) => number;
}

/** q turned in another way: by a rotation that is written apart from the engine's. */
function turning(
  d: number,
  heads: number,
  { places = (pair) => [2 * pair, 2 * pair + 1], pairs = d / 2, angle = right, round = (x) => x }:
    Turn,
): Mistakes {
  let q = new Float32Array();
  return {
    made(point, numbers, { start }) {
      if (point === "q") q = Float32Array.from(numbers);
      if (point !== "q_rope") return numbers;
      const out = q.slice();
      for (let head = 0; head < out.length / d; head++) {
        for (let pair = 0; pair < pairs; pair++) {
          const theta = angle(start + Math.floor(head / heads), pair, start);
          const [a, b] = places(pair).map((place) => head * d + place);
          const [cos, sin] = [round(Math.cos(theta)), round(Math.sin(theta))];
          out[a] = q[a] * cos - q[b] * sin;
          out[b] = q[a] * sin + q[b] * cos;
        }
      }
      return out;
    },
  };
}

const right = (position: number, pair: number) => position * 1e4 ** (-2 * pair / 32);
const to = (digits: number) => (x: number) => {
  const unit = 2 ** (Math.floor(Math.log2(Math.abs(x) || 1)) - digits + 1);
  return Math.round(x / unit) * unit;
};
/** Factors as Llama 3.1 has them: the fast pairs as they are, the slow ones stretched by 8, between them gradually. */
const llama3 = (pair: number) => pair < 6 ? 1 : pair > 9 ? 8 : 1 + 7 * (pair - 5) / 5;

const FAULTS: [string, Turn, string, RegExp][] = [
  [
    "half a head, by its own frequencies",
    {
      pairs: 8,
      angle: (position, pair) => position * 1e4 ** (-2 * pair / 16),
    },
    "rope-pairing",
    /^turns only the first 16 of 32 numbers of a head$/,
  ],
  [
    "half a head, by the whole head's frequencies",
    { pairs: 8 },
    "rope-pairing",
    /^turns only the first 16 of 32 numbers of a head, with the frequencies of 32$/,
  ],
  [
    "the last half",
    {
      pairs: 8,
      places: (pair) => [16 + 2 * pair, 17 + 2 * pair],
      angle: (position, pair) => position * 1e4 ** (-2 * pair / 16),
    },
    "rope-pairing",
    /^turns only the last 16 of 32 numbers of a head$/,
  ],
  [
    "halves of half a head",
    {
      pairs: 8,
      places: (pair) => [pair, pair + 8],
      angle: (position, pair) => position * 1e4 ** (-2 * pair / 16),
    },
    "rope-pairing",
    /^halves instead of neighbours, turns only the first 16 of 32 numbers of a head$/,
  ],
  [
    "halves",
    { places: (pair) => [pair, pair + 16] },
    "rope-pairing",
    /^halves instead of neighbours$/,
  ],
  [
    "halves and another base",
    {
      places: (pair) => [pair, pair + 16],
      angle: (position, pair) => position * 5e5 ** (-2 * pair / 32),
    },
    "rope-pairing",
    /^halves instead of neighbours; 500000 instead of 10000$/,
  ],
  ["backwards", { angle: (p, i) => -right(p, i) }, "rope-pairing", /^pairs turn backwards$/],
  ["degrees", { angle: (p, i) => right(p, i) * Math.PI / 180 }, "scaled", /degrees.* π\/180$/],
  [
    "twice",
    { angle: (p, i) => 2 * right(p, i) },
    "rope-scaling",
    /^positions divided by 0\.5 instead of 1: RoPE is applied twice$/,
  ],
  ["left out", { pairs: 0 }, "left-out", /^RoPE is left out: nothing turns$/],
  [
    "base 23456.789",
    { angle: (p, i) => p * 23456.789 ** (-i / 16) },
    "rope-base",
    /^23456\.8 instead of 10000$/,
  ],
  [
    "base 10100",
    { angle: (p, i) => p * 10100 ** (-i / 16) },
    "rope-base",
    /^10100 instead of 10000$/,
  ],
  [
    "NTK by 4",
    { angle: (p, i) => p * (1e4 * 4 ** (32 / 30)) ** (-i / 16) },
    "rope-base",
    /^43873(\.\d)? instead of 10000 \(NTK: as for positions stretched by 4\)$/,
  ],
  [
    "exponents of another width",
    { angle: (p, i) => p * 1e4 ** (-2 * i / 64) },
    "rope-base",
    /^100 instead of 10000$/,
  ],
  [
    "divided by 3.7",
    { angle: (p, i) => right(p, i) / 3.7 },
    "rope-scaling",
    /^positions divided by 3\.7 instead of 1$/,
  ],
  [
    "Llama 3.1's factors",
    { angle: (p, i) => right(p, i) / llama3(i) },
    "rope-scaling",
    /^every pair turns by a share of its own: pairs 0 to 5 at 1, pairs 10 to 15 at 0\.125, between them gradually$/,
  ],
  ["from 1", { angle: (p, i) => right(p + 1, i) }, "position-offset", /^positions are off by 1$/],
  ["cosines in bf16", { round: to(8) }, "rounded", /^cosines and sines are kept in bf16$/],
  ["cosines in f16", { round: to(11) }, "rounded", /^cosines and sines are kept in f16$/],
  [
    "frequencies in bf16",
    { angle: (p, i) => p * to(8)(1e4 ** (-i / 16)) },
    "rounded",
    /^frequencies are kept in bf16$/,
  ],
];

for (const [name, turn, cause, detail] of FAULTS) {
  Deno.test(`rope: ${name}`, async () => {
    const run = whole.engine.run(whole.ids, 0, { mistakes: turning(32, 2, turn), where: 0 });
    const found = await explained(whole, run, "blk.0.q_rope");
    assert.equal(found.cause, cause, found.detail);
    assert.match(found.detail, detail);
    assert.ok(found.before > 1e-4 && found.after < 2e-6, `${found.before} → ${found.after}`);
  });
}

Deno.test("rope: while decoding, at one position", async () => {
  const cases: [Turn, string, RegExp][] = [
    [
      { angle: (p, i, start) => right(start > 0 ? p - 1 : p, i) },
      "position-offset",
      /^positions are off by -1$/,
    ],
    [
      { angle: (p, i, start) => right(p - start, i) },
      "position-offset",
      new RegExp(`off by -${T}$`),
    ],
    [{ angle: (p, i, start) => right(p, i) * (start > 0 ? -1 : 1) }, "rope-pairing", /backwards$/],
  ];
  for (const [turn, cause, detail] of cases) {
    const run = whole.engine.run(whole.ids, 1, { mistakes: turning(32, 2, turn), where: 0 });
    const found = await explained(whole, run, "blk.0.q_rope", { step: 1 });
    assert.equal(found.cause, cause, found.detail);
    assert.match(found.detail, detail);
    assert.ok(found.after < 2e-6, `${found.after}`);
  }
});

Deno.test("rope: frequency factors, and heads that turn in part", async () => {
  const cases: [Partial<Rope>, string, RegExp][] = [
    [{ divisors: undefined }, "rope-scaling", /^without the file's rope_freqs$/],
    [
      { width: 16, divisors: undefined },
      "rope-pairing",
      /^turns all 16 numbers of a head instead of the first 12/,
    ],
    [{ width: 8 }, "rope-pairing", /^turns only the first 8 of 16 numbers of a head$/],
    [{ base: 23456 }, "rope-base", /^23456 instead of 10000$/],
  ];
  for (const [rope, cause, detail] of cases) {
    const mistakes: Mistakes = { rope: () => rope };
    const run = random.engine.run(random.ids, 0, { mistakes, where: 1 });
    const found = await explained(random, run, "blk.1.q_rope");
    assert.equal(found.cause, cause, found.detail);
    assert.match(found.detail, detail);
    assert.ok(found.after < 2e-6, `${found.after}`);
  }
});

Deno.test("rope: what is no turn of pairs gets no name", async () => {
  const noise: Mistakes = {
    made: (point, x) => point === "q_rope" ? x.map((v, i) => v + Math.sin(i * i) / 10) : x,
  };
  const run = whole.engine.run(whole.ids, 0, { mistakes: noise, where: 0 });
  assert.equal((await explained(whole, run, "blk.0.q_rope")).cause, "unknown");
});
