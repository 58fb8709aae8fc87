/** A cause is named only when what it leaves is within what is allowed: what explains most of a difference is told, and not named. */
import assert from "node:assert/strict";
import { faultModels } from "../../support/models/fault_models.ts";
import { explained } from "../../support/engines/explained.ts";
import type { Mistakes } from "../../support/engines/engine_mistakes.ts";
import { Folder } from "../../support/folder.ts";

const folder = new Folder();
globalThis.addEventListener("unload", () => folder[Symbol.dispose]());
const models = await faultModels(folder.path);
const LAYER = 1;
const ALL = /./;

async function found(
  mistakes: Mistakes,
  from: string,
  shown = ALL,
  key: "tiny" | "random" = "random",
) {
  const model = models[key];
  const run = model.engine.run(model.ids, 0, { mistakes, where: LAYER });
  return await explained(model, run, `blk.${LAYER}.${from}`, { shown });
}

const gelu = (x: number) => x / (1 + Math.exp(-1.702 * x));

Deno.test("a named cause says what it leaves", async () => {
  const { cause, leaves } = await found({ rope: () => ({ base: 5e5 }) }, "q_rope");
  assert.equal(cause, "rope-base");
  assert.match(leaves!, /^\d\.\de[-+]\d of \d\.\de-\d allowed$/);
});

Deno.test("RoPE on a part of each head is no other base", async () => {
  for (const width of [4, 6, 8]) {
    const { cause, detail } = await found({ rope: () => ({ width }) }, "q_rope", ALL, "tiny");
    assert.equal(cause, "rope-pairing", `${width}: ${detail}`);
    assert.equal(detail, `turns only the first ${width} of 32 numbers of a head`);
  }
});

Deno.test("what explains most, and leaves too much, is told with what it leaves", async () => {
  // All numbers are another base's, but those of one position are a little off.
  const mistakes: Mistakes = {
    rope: () => ({ base: 5e5 }),
    made: (point, x) => point === "q_rope" ? x.map((v, i) => i < 64 ? v + 1e-3 : v) : x,
  };
  const { cause, detail, explained: share } = await found(mistakes, "q_rope");
  assert.equal(cause, "unknown");
  assert.equal(share, 0);
  assert.match(
    detail,
    /rope-base \(500000 instead of 10000\) would explain 99\.\d+ %, but leaves 1\.0e-3 of \d\.\de-5 allowed/,
  );
});

Deno.test("two faults in a row stay unknown, whatever one of them explains", async (t) => {
  const faults: Record<string, [Mistakes, from: string, shown: RegExp]> = {
    "GELU, and a stream that is added twice": [
      { activation: (gate, up) => gelu(gate) * up, residual: { out: 2 } },
      "out",
      /\.(ffn_norm|ffn_inp|out)$/,
    ],
    "another base, and its scores": [
      { rope: () => ({ base: 5e5 }), scale: 0.97 },
      "attn_out",
      /\.(q|k|v|attn_out|out)$/,
    ],
    "a bias that lacks, and noise": [
      {
        weight: (name, right) => name === "attn_q.bias" ? undefined : right,
        made: (point, x) => point === "q" ? x.map((v, i) => v + 1e-3 * Math.sin(i)) : x,
      },
      "q",
      ALL,
    ],
  };
  for (const [name, [mistakes, from, shown]] of Object.entries(faults)) {
    await t.step(name, async () => {
      const { cause, detail } = await found(mistakes, from, shown);
      assert.equal(cause, "unknown", detail);
    });
  }
});

Deno.test("where numbers are rounded, a cause is named when what it leaves is rounding", async () => {
  const { tiny } = models;
  const bf16 = (x: number) => {
    const bits = new Uint32Array(Float32Array.of(x).buffer)[0];
    const even = (bits + 0x7fff + (bits >>> 16 & 1)) >>> 16 << 16;
    return new Float32Array(Uint32Array.of(even).buffer)[0];
  };
  const run = (mistakes: Mistakes) =>
    tiny.engine.run(tiny.ids, 0, { mistakes, where: LAYER, round: bf16 });
  const options = { shown: ALL, activations: "bf16" } as const;
  const right = await explained(
    tiny,
    run({ residual: { out: 2 } }),
    `blk.${LAYER}.out`,
    options,
  );
  assert.equal(right.cause, "residual-missing", right.detail);
  const both = await explained(
    tiny,
    run({
      residual: { out: 2 },
      made: (point, x) => point === "out" ? x.map((v) => 1.1 * v) : x,
    }),
    `blk.${LAYER}.out`,
    options,
  );
  assert.equal(both.cause, "unknown", both.detail);
});

Deno.test("an operation that is right in 64 bits has no cause", async () => {
  const { cause, detail } = await found({}, "ffn_out");
  assert.equal(cause, "unknown");
  assert.match(detail, /the operation is right there/);
});

Deno.test("what nothing explains is told by where it differs", async () => {
  const noise = (isWrong: (i: number) => boolean): Mistakes => ({
    made: (point, x) =>
      point === "ffn_up" ? x.map((v, i) => isWrong(i) ? v + Math.sin(i * i) : v) : x,
  });
  const { ffnWidth } = models.random.engine.shape;
  const details = await Promise.all([
    noise((i) => i >= 5 * ffnWidth && i < 7 * ffnWidth),
    noise((i) => i % ffnWidth >= 100 && i % ffnWidth < 180),
    noise(() => true),
  ].map(async (mistakes) => (await found(mistakes, "ffn_up")).detail));
  assert.match(details[0], /; only positions 5 to 6 differ$/);
  assert.match(details[1], /; only features 100 to 179 differ$/);
  assert.match(details[2], /the numbers$/);
});
