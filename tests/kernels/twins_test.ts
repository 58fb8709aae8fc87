/** The kernels' 64-bit twins against closed forms and computations of a few lines. */
import assert from "node:assert/strict";
import { slopeOf } from "../../kernels/attention/scoring/score.ts";
import { Random } from "../../checkpoints/files/random.ts";
import { assertClose, run, tokens, W, WX, X } from "./run_twin.ts";

Deno.test("products", () => {
  for (const many of ["", "_many"]) {
    const pass = tokens(2);
    assert.deepEqual(run(`linear${many}`, { pass, inputs: [X], weights: [W] }, 6), [WX]);
    assert.deepEqual(
      run(
        `linear_residual${many}`,
        { pass, inputs: [X, [1, 2, 3, 4, 5, 6]], weights: [W] },
        6,
        6,
      ),
      [[22, 45, 68, 7, 10, 13], WX],
    );
    assert.deepEqual(
      run(
        `linear_qkv${many}`,
        { pass, inputs: [X], weights: [W, [[0, 1]], [[1, 0]]] },
        6,
        2,
        2,
      ),
      [WX, [10, 2], [1, -1]],
    );
    const [act, gate, up] = run(
      `linear_glu${many}`,
      {
        constants: { activation: 0 },
        inputs: [[1, 2]],
        weights: [[[1, 0], [0, -1]], [[3, 0], [0, 4]]],
      },
      2,
      2,
      2,
    );
    assert.deepEqual([gate, up], [[1, -2], [3, 8]]);
    // silu(1) = 0.731…, silu(−2) = −0.238…
    assertClose(act, [3 * 0.7310585786300049, 8 * -0.2384058440442351]);
  }
});

Deno.test("heads' own results add up to the product over all of them", () => {
  const random = new Random(5);
  const numbers = (count: number) => Array.from({ length: count }, () => random.integer(-9, 9));
  const weight = Array.from({ length: 4 }, () => numbers(6));
  const x = numbers(12);
  const given = { pass: tokens(2), constants: { heads: 3 }, inputs: [x], weights: [weight] };
  const [heads] = run("head_result", given, 2 * 3 * 4); // [2, 3, 4]
  const [whole] = run("linear", given, 8);
  for (let token = 0; token < 2; token++) {
    for (let row = 0; row < 4; row++) {
      const parts = [0, 1, 2].map((head) => heads[(token * 3 + head) * 4 + row]);
      assert.equal(parts.reduce((a, b) => a + b), whole[token * 4 + row]);
    }
  }
  // Head 1 owns columns 2 and 3.
  assert.equal(heads[4], weight[0][2] * x[2] + weight[0][3] * x[3]);
});

Deno.test("embedding rows, of ids and of positions", () => {
  assert.deepEqual(run("embed", { inputs: [[2, 0, 2]], weights: [W] }, 6), [[5, 6, 1, 2, 5, 6]]);
  assert.deepEqual(run("embed_positions", { pass: tokens(2, 1), weights: [W] }, 4), [[3, 4, 5, 6]]);
  // Two branches after two positions: one goes on from both, one from none.
  const branches = { pass: tokens(2, 2), inputs: [[2, 2, 0, 3]], weights: [W] };
  assert.deepEqual(run("embed_positions_branches", branches, 4), [[5, 6, 1, 2]]);
});

Deno.test("RMSNorm, whole and in its three steps", () => {
  const constants = { columns: 2, groups: 1, epsilon: 0.5 };
  const x = [3, 4, 0, 1];
  const roots = [Math.sqrt(13), 1];
  const pre = [3 / roots[0], 4 / roots[0], 0, 1];
  const norm = [30 / roots[0], -4 / roots[0], 0, -1];
  const weights = [[[10, -1]]];
  assertClose(run("rms", { constants, inputs: [x] }, 2)[0], roots);
  assertClose(run("normalize", { constants, inputs: [x, roots] }, 4)[0], pre);
  assertClose(run("scale_columns", { constants, inputs: [pre], weights }, 4)[0], norm);
  const fused = run("rms_norm", { constants, inputs: [x], weights }, 4, 2, 4);
  assertClose(fused.flat(), [...norm, ...roots, ...pre]);
  // Two rows of one position are normed as two positions are.
  const heads = { ...constants, groups: 2 };
  assert.deepEqual(run("rms_norm", { constants: heads, inputs: [x], weights }, 4, 2, 4), fused);
  assert.deepEqual(
    run("scale_columns", { constants: heads, inputs: [[1, 2, 3, 4]], weights }, 4),
    [[10, -2, 30, -4]],
  );
});

Deno.test("LayerNorm takes the mean off first", () => {
  const constants = { columns: 4, groups: 2, epsilon: 0 };
  const x = [1, 2, 3, 6, -5, -5, -5, 5];
  const [centered] = run("center", { constants, inputs: [x] }, 8);
  assert.deepEqual(centered, [-2, -1, 0, 3, -2.5, -2.5, -2.5, 7.5]);
  // The root mean square of what is centered is the standard deviation.
  assertClose(run("rms", { constants, inputs: [centered] }, 2)[0], [
    ...[Math.sqrt(14 / 4), Math.sqrt(75 / 4)],
  ]);
});

Deno.test("sums, gates, rows", () => {
  const constants = { columns: 2 };
  assert.deepEqual(run("add", { constants, inputs: [[1, 2], [10, 20]] }, 2), [[11, 22]]);
  assert.deepEqual(
    run("add_bias", { constants, inputs: [[1, 2, 3, 4]], weights: [[[10, 20]]] }, 4),
    [[11, 22, 13, 24]],
  );
  assert.deepEqual(
    run("add_bias", {
      constants: { columns: 2, groups: 2 },
      inputs: [[1, 2, 3, 4]],
      weights: [[[10, 20]]],
    }, 4),
    [[11, 22, 13, 24]],
  );
  const silu = { ...constants, activation: 0 };
  const [act] = run("glu", { constants: silu, inputs: [[0, 1, -200, 200], [5, 2, 1, 1]] }, 4);
  assertClose(act, [0, 2 * 0.7310585786300049, 0, 200]);
  assert.deepEqual(
    run("take_rows", { constants, pass: tokens(3, 0, 2), inputs: [[1, 2, 3, 4, 5, 6]] }, 4),
    [[3, 4, 5, 6]],
  );
});

Deno.test("the first of the largest is chosen", () => {
  const inputs = [[1, 3, 3, -1, -2, -1, 0, 0, 0]];
  assert.deepEqual(run("argmax", { constants: { columns: 3 }, inputs }, 3), [[1, 0, 0]]);
  const none = [[NaN, 1, 2, 2, 1, NaN, 1, Infinity, 2, ...Array(3).fill(-Infinity)]];
  assert.deepEqual(
    run("argmax", { constants: { columns: 3 }, inputs: none }, 4),
    [[-1, -1, -1, -1]],
  );
});

Deno.test("RoPE is a multiplication of complex numbers, and keeps their length", () => {
  const random = new Random(3);
  const [heads, head_width, rope_width] = [3, 8, 6];
  const [count, start] = [4, 2];
  const x = Array.from({ length: count * heads * head_width }, () => random.normal());
  const angles = Array.from({ length: (start + count) * 3 }, () => random.uniform(-9, 9));
  const table = angles.flatMap((angle) => [Math.cos(angle), Math.sin(angle)]);
  for (const half_style of [0, 1]) {
    const constants = { heads, head_width, rope_width, half_style };
    const given = { pass: tokens(count, start), constants, inputs: [x, table] };
    const [y] = run("rope", given, x.length);
    // From the third number on: what is turned moves by two.
    const moved = (numbers: number[]) => numbers.map((_, i) => numbers[i % 8 < 2 ? i + 6 : i - 2]);
    const later = {
      ...given,
      constants: { ...constants, rope_start: 2 },
      inputs: [moved(x), table],
    };
    assert.deepEqual(run("rope", later, x.length), [moved(y)]);
    for (let head = 0; head < count * heads; head++) {
      const at = head * head_width;
      const position = start + Math.floor(head / heads);
      for (let pair = 0; pair < 3; pair++) {
        const [i, j] = half_style ? [at + pair, at + pair + 3] : [at + 2 * pair, at + 2 * pair + 1];
        // In polar form: the angle grows, the length stays.
        const length = Math.hypot(x[i], x[j]);
        const turned = Math.atan2(x[j], x[i]) + angles[position * 3 + pair];
        assertClose([y[i], y[j]], [length * Math.cos(turned), length * Math.sin(turned)]);
      }
      assertClose(y.slice(at + 6, at + 8), x.slice(at + 6, at + 8));
    }
    // Fused: queries and keys turned, keys and values into slots from `start` on; other slots are left alone.
    const kv = x.slice(0, count * head_width);
    const v = kv.map((value) => value + 1);
    const [q, cacheK, cacheV, k] = run(
      "rope_store",
      { ...given, constants: { ...constants, kv_heads: 1 }, inputs: [x, kv, v, table] },
      x.length,
      7 * head_width,
      7 * head_width,
      kv.length,
    );
    assert.deepEqual(q, y);
    const alone = { ...given, constants: { ...constants, heads: 1 }, inputs: [kv, table] };
    assert.deepEqual([k], run("rope", alone, kv.length));
    const around = (rows: number[]) => [...Array(16).fill(9), ...rows, ...Array(8).fill(9)];
    assert.deepEqual(cacheK, around(k));
    assertClose(cacheV, around(v));
  }
});

Deno.test("the cache takes rows from the pass's first position on", () => {
  const [cache] = run(
    "store",
    { pass: tokens(2, 1), constants: { columns: 2 }, inputs: [[1, 2, 3, 4]] },
    8,
  );
  assert.deepEqual(cache, [9, 9, 1, 2, 3, 4, 9, 9]);
});

Deno.test("softmax of logarithms, and of rows of which only a part is visible", () => {
  const [ln2, ln3] = [Math.LN2, Math.log(3)];
  const rows = [0, ln2, ln3, 1001, 1000, 1000];
  const e = Math.E;
  assertClose(
    run("softmax", { constants: { columns: 3, causal: 0 }, inputs: [rows] }, 6)[0],
    [1 / 6, 2 / 6, 3 / 6, e / (e + 2), 1 / (e + 2), 1 / (e + 2)],
  );
  // Two heads, two positions after one in the cache: a query sees two keys, the next one three.
  const causal = [0, ln2, 77, 0, ln2, ln3, ln3, 0, 77, ln2, ln2, 0];
  assertClose(
    run(
      "softmax",
      { pass: tokens(2, 1), constants: { columns: 2, causal: 1 }, inputs: [causal] },
      12,
    )[0],
    [1 / 3, 2 / 3, 0, 1 / 6, 2 / 6, 3 / 6, 3 / 4, 1 / 4, 0, 2 / 5, 2 / 5, 1 / 5],
  );
});

Deno.test("attention, fused and in steps, is the textbook's", () => {
  const random = new Random(8);
  const numbers = (count: number) =>
    Array.from({ length: count }, () => Math.fround(random.normal()));
  const [heads, kv_heads, head_width, count, start, scale] = [6, 2, 3, 2, 3, 0.7];
  const cached = start + count;
  const q = numbers(count * heads * head_width);
  const keys = numbers(cached * kv_heads * head_width);
  const values = numbers(cached * kv_heads * head_width);

  const expected: number[] = [];
  const expectedScores = new Array(heads * count * cached).fill(Math.fround(-1e30));
  for (let token = 0; token < count; token++) {
    for (let head = 0; head < heads; head++) {
      // Heads 0, 1, 2 share the first keys and values, 3, 4, 5 the second.
      const shared = head < 3 ? 0 : 1;
      const vector = (from: number[], position: number, of: number, all: number) =>
        from.slice((position * all + of) * head_width, (position * all + of + 1) * head_width);
      const query = vector(q, token, head, heads);
      const weights: number[] = [];
      for (let key = 0; key <= start + token; key++) {
        const dot = vector(keys, key, shared, kv_heads)
          .reduce((sum, value, i) => sum + value * query[i], 0);
        expectedScores[(head * count + token) * cached + key] = dot * scale;
        weights.push(Math.exp(dot * scale));
      }
      const total = weights.reduce((a, b) => a + b);
      for (let i = 0; i < head_width; i++) {
        const mixed = weights.reduce(
          (sum, weight, key) => sum + weight / total * vector(values, key, shared, kv_heads)[i],
          0,
        );
        expected.push(mixed);
      }
    }
  }

  const pass = tokens(count, start);
  const constants = { heads, kv_heads, head_width, scale };
  const [fused] = run("attention", { pass, constants, inputs: [q, keys, values] }, q.length);
  assertClose(fused, expected);
  const [scores] = run("scores", { pass, constants, inputs: [q, keys] }, expectedScores.length);
  assertClose(scores, expectedScores);
  const [probs] = run(
    "softmax",
    { pass, constants: { columns: heads, causal: 1 }, inputs: [scores] },
    scores.length,
  );
  const [mixed] = run("mix", { pass, constants, inputs: [probs, values] }, q.length);
  assertClose(mixed, expected);
});

Deno.test("ALiBi's slopes are halves of halves, and behind a power of two those between", () => {
  const slopes = (heads: number) =>
    Array.from({ length: heads }, (_, head) => slopeOf({ heads, max_bias: 8 }, head));
  assertClose(slopes(8), [1 / 2, 1 / 4, 1 / 8, 1 / 16, 1 / 32, 1 / 64, 1 / 128, 1 / 256]);
  assertClose(slopes(6), [1 / 4, 1 / 16, 1 / 64, 1 / 256, 1 / 2, 1 / 8]);
  const between = [1, 3, 5, 7].map((n) => 2 ** (-n / 2));
  assertClose(slopes(12), [...slopes(8), ...between]);
});

Deno.test("windows, chunks, caps, biases and sinks, fused and in steps, by their definitions", () => {
  const random = new Random(9);
  const numbers = (count: number) =>
    Array.from({ length: count }, () => Math.fround(random.normal()));
  const [heads, head_width, value_width, count, start, scale] = [3, 4, 2, 3, 5, 0.5];
  const cached = start + count;
  const q = numbers(count * heads * head_width);
  const keys = numbers(cached * head_width), values = numbers(cached * value_width);
  const sinks = numbers(heads);
  const slopes = [1 / 4, 1 / 16, 1 / 2]; // of three heads with max_bias 4
  for (
    const { window, chunk, cap, max_bias, sink } of [
      { window: 2, chunk: 0, cap: 0, max_bias: 0, sink: false },
      { window: 99, chunk: 4, cap: 1.5, max_bias: 0, sink: true },
      { window: 3, chunk: 0, cap: 1.5, max_bias: 4, sink: true },
    ]
  ) {
    const expected = [], expectedScores = [], expectedProbs = [];
    for (let head = 0; head < heads; head++) {
      for (let query = start; query < cached; query++) {
        const at = ((query - start) * heads + head) * head_width;
        const row = Array.from({ length: cached }, (_, key) => {
          if (key > query || query - key >= window) return -Infinity;
          if (chunk && Math.floor(key / chunk) !== Math.floor(query / chunk)) return -Infinity;
          let s = 0;
          for (let i = 0; i < head_width; i++) s += q[at + i] * keys[key * head_width + i];
          s *= scale;
          if (cap) s = cap * Math.tanh(s / cap);
          return max_bias ? s - slopes[head] * (query - key) : s;
        });
        const total = row.reduce((sum, s) => sum + Math.exp(s), sink ? Math.exp(sinks[head]) : 0);
        const probs = row.map((s) => Math.exp(s) / total);
        expectedScores.push(...row.map((s) => Math.max(s, Math.fround(-1e30))));
        expectedProbs.push(...probs);
        for (let i = 0; i < value_width; i++) {
          expected[((query - start) * heads + head) * value_width + i] = probs
            .reduce((sum, p, key) => sum + p * values[key * value_width + i], 0);
        }
      }
    }
    const pass = tokens(count, start);
    const sizes = { heads, kv_heads: 1, head_width, value_width };
    const constants = { ...sizes, scale, window, chunk, cap, max_bias };
    const given = sink ? { weights: [[sinks]] } : {};
    const suffix = sink ? "_sinks" : "";
    const mixes = count * heads * value_width, squares = heads * count * cached;
    const all = { pass, constants, inputs: [q, keys, values], ...given };
    assertClose(run(`attention${suffix}`, all, mixes)[0], expected);
    const [scores] = run("scores", { pass, constants, inputs: [q, keys] }, squares);
    assertClose(scores, expectedScores);
    const rows = { pass, constants: { columns: heads, causal: 1 }, inputs: [scores], ...given };
    const [probs] = run(`softmax${suffix}`, rows, squares);
    assertClose(probs, expectedProbs);
    assertClose(run("mix", { pass, constants, inputs: [probs, values] }, mixes)[0], expected);
  }
});

Deno.test("a window in a branch counts positions, not slots", () => {
  // After four cached positions: a branch of two that goes on from two of them, behind another branch's slot.
  const pass = tokens(3, 4);
  const constants = { heads: 1, kv_heads: 1, head_width: 1, scale: 1, window: 2 };
  const inputs = [[1, 1, 1], [1, 2, 3, 4, 5, 6, 7], [4, 4, 2, 5, 2, 5]];
  const [scores] = run("scores_branches", { pass, constants, inputs }, 21);
  const seen = [0, 1, 2].map((row) =>
    scores.slice(7 * row, 7 * row + 7).flatMap((score, slot) => score > -1e29 ? [slot] : [])
  );
  assert.deepEqual(seen, [[3, 4], [1, 5], [5, 6]]);
});

Deno.test("edits touch what is selected", () => {
  const constants = {
    heads: 2,
    features: 3,
    scale: 10,
    operand: 1,
    operand_columns: 3,
    first_position: 0,
    some_heads: 1,
    some_features: 3,
    some_positions: 1,
  };
  const x = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]; // two positions after two
  // Head 1; features 0 and 2; position 3 of 4.
  const selected = [0, 1, 1, 0, 1, 0, 0, 0, 1];
  const pass = tokens(2, 2);
  const vector = [100, 200, 300, 400, 500, 600];
  const [some] = run("edit", { pass, constants, inputs: [x, vector, selected] }, 12);
  assert.deepEqual(some, [1, 2, 3, 4, 5, 6, 7, 8, 9, 500, 11, 720]);

  const everything = { ...constants, some_heads: 0, some_features: 0, some_positions: 0 };
  const nothing = { ...everything, scale: 0, operand: 0 };
  const [zeros] = run("edit", {
    pass,
    constants: nothing,
    inputs: [[NaN, ...x.slice(1)], [0], [0]],
  }, 12);
  assert.deepEqual(zeros, new Array(12).fill(0));

  const rows = { ...everything, scale: 0, operand: 2, first_position: 1 };
  const given = Array.from({ length: 18 }, (_, i) => i); // positions 1, 2, 3
  const [replaced] = run("edit", { pass, constants: rows, inputs: [x, given, [0]] }, 12);
  assert.deepEqual(replaced, given.slice(6));

  // Attention rows [2 heads, 2 positions, 4 keys]: key 1 of head 0.
  const attention = {
    ...everything,
    features: 0,
    operand: 0,
    scale: 0,
    some_heads: 1,
    some_features: 4,
  };
  const [cut] = run(
    "edit",
    { pass, constants: attention, inputs: [new Array(16).fill(1), [0], [1, 0, 0, 1, 0, 0]] },
    16,
  );
  assert.deepEqual(cut, [1, 0, 1, 1, 1, 0, 1, 1, ...new Array(8).fill(1)]);
});
