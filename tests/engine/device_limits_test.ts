/** Devices with the limits that WebGPU guarantees: what does not fit in one binding is made in smaller passes, or refused beforehand. */
import assert from "node:assert/strict";
import type { Engine, Session } from "../../engine/backend.ts";
import type { PassRequest } from "../../engine/pass_request.ts";
import { CapacityError } from "../../engine/model/capacity.ts";
import { EditError, type LinearEdit } from "../../engine/plan/edits.ts";
import { type PassKind, passTokens } from "../../engine/plan/pass_size.ts";
import { Device } from "../../engine/webgpu/device.ts";
import { type Run, scale } from "../../mod.ts";
import { randomModel } from "../support/models/random_model.ts";

const MIB = 2 ** 20;

/** 8 storage buffers a stage, bindings of 128 MiB, buffers of 256 MiB. */
const device = await Device.open(undefined, {
  maxStorageBuffersPerShaderStage: 8,
  maxStorageBufferBindingSize: 128 * MIB,
  maxBufferSize: 256 * MIB,
});
addEventListener("unload", () => device.dispose());

function ids(length: number, seed = 0): number[] {
  return Array.from({ length }, (_, i) => 3 + (i * 7 + seed * 11) % 90);
}

function close(actual: ArrayLike<number>, expected: ArrayLike<number>, what: string): void {
  assert.equal(actual.length, expected.length, what);
  const values = Array.from(expected);
  const size = values.reduce((most, x) => Math.max(most, x > -1e29 ? Math.abs(x) : 0), 0);
  values.forEach((value, i) => {
    const error = Math.abs(actual[i] - value);
    if (!(error <= 1e-4 * size)) assert.fail(`${what}[${i}]: ${actual[i]} for ${value}`);
  });
}

function lastLogits({ sequences: [{ lastLogits }] }: Run): Float32Array {
  return lastLogits!;
}

/** The requests of a model's passes while something runs. */
async function requestsOf(engine: Engine, run: () => Promise<unknown>): Promise<PassRequest[]> {
  const requests: PassRequest[] = [];
  const { session } = engine;
  const watched: Engine["session"] = (options) => {
    const made: Session = session(options);
    const pass = made.pass.bind(made);
    made.pass = (request) => {
      requests.push(request);
      return pass(request);
    };
    return made;
  };
  Object.assign(engine, { session: watched });
  await run().finally(() => Object.assign(engine, { session }));
  return requests;
}

Deno.test("several prompts in one pass bind 8 buffers, and runs go on after them", async () => {
  using limited = await randomModel({ layers: 2 }, device);
  using reference = await randomModel({ layers: 2 });
  const prompts = [ids(9), ids(3, 1), ids(20, 2)];
  for (const capture of [["blk.*.out"], ["blk.*.out", "blk.*.k_rope", "blk.*.attn_probs"]]) {
    const run = await limited.model.run(prompts, { capture });
    const expected = await reference.model.run(prompts, { capture });
    for (const point of run.captured) {
      const pieces = expected.pieces(point);
      assert.ok(pieces.length > 0);
      run.pieces(point).forEach(({ data }, i) => close(data, pieces[i].data, point));
    }
  }
  await limited.model.run([prompts[0]]);
  device.check();
});

Deno.test("attention of a short prompt is captured and edited whatever room is left to generate in", async () => {
  const options = { layers: 1, width: 512, heads: 256, kvHeads: 1, contextLength: 4096 };
  using limited = await randomModel(options, device);
  using reference = await randomModel(options);
  const asked = {
    capture: "blk.0.attn_probs",
    positions: [-1],
    edit: [["blk.0.attn_scores", scale(0.5)]] as const,
    ignoreEos: true,
  };
  const generation = limited.model.generate(ids(5), { ...asked, maxTokens: 2000 });
  let taken = 0;
  for await (const _ of generation) if (++taken === 2) break;
  const expected = reference.model.generate(ids(5), { ...asked, maxTokens: 2 });
  for await (const _ of expected);
  assert.deepEqual(generation.ids, expected.ids);
  const [piece] = generation.run.pieces("blk.0.attn_probs");
  close(piece.data, expected.run.pieces("blk.0.attn_probs")[0].data, "attn_probs");
});

Deno.test("attention of a long prompt is captured and edited in smaller passes", async () => {
  using limited = await randomModel(
    { layers: 1, width: 64, heads: 2048, headWidth: 2, kvHeads: 1 },
    device,
  );
  const { model } = limited;
  const prompt = ids(140);
  const plain = await model.run([prompt]);
  const captured = await model.run([prompt], { capture: "blk.0.attn_probs", positions: [0, 139] });
  close(lastLogits(captured), lastLogits(plain), "logits");
  const row = captured.tensor("blk.0.attn_probs").at({ head: 2047, query: -1 }).toFloat32Array();
  assert.equal(row.length, 140);
  assert.ok(Math.abs(row.reduce((a, b) => a + b) - 1) < 1e-4);
  const edited = await model.run([prompt], { edit: [["blk.0.attn_scores", scale(1)]] });
  close(lastLogits(edited), lastLogits(plain), "logits with an edit");
});

Deno.test("what comes back together is more than one buffer", async () => {
  using limited = await randomModel(
    { layers: 8, width: 256, heads: 128, kvHeads: 1, contextLength: 1024 },
    device,
  );
  const { engine } = limited.model;
  const wanted = Array.from({ length: 8 }, (_, layer) => `blk.${layer}.attn_probs`);
  assert.equal(engine.passTokens({ capacity: 600 }), 128);
  assert.equal(engine.passTokens({ capacity: 600, passes: { wanted: [...wanted, "logits"] } }), 64);

  using wide = await randomModel(
    { layers: 2, width: 64, heads: 4, headWidth: 128, contextLength: 2 ** 16 },
    device,
  );
  const slots = 33_000;
  const session = wide.model.engine.session({ capacity: slots + 1 });
  const caches = ["blk.0.cache_k", "blk.0.cache_v", "blk.1.cache_k", "blk.1.cache_v"];
  const cache = new Float32Array(slots * 512);
  caches.forEach((name, i) => {
    cache.fill(i + 1);
    session.restore(slots, new Map([[name, cache]]));
  });
  const tensors = await session.pass({ ids: [5], wanted: [...caches, "logits"] });
  caches.forEach((name, i) => {
    const { shape, data } = tensors.get(name)!;
    assert.deepEqual(shape, [slots + 1, 4, 128]);
    assert.ok(data.subarray(0, cache.length).every((value) => value === i + 1), name);
  });
  assert.ok(tensors.get("logits")!.data.every(Number.isFinite));
  session.dispose();
});

for (const [heads, headWidth] of [[64, 6], [32, 260]]) {
  Deno.test(`heads of width ${headWidth} generate with much room`, async () => {
    const options = {
      ...{ layers: 1, width: 64, heads, kvHeads: 1, headWidth, contextLength: 9000 },
    };
    using limited = await randomModel(options, device);
    using reference = await randomModel(options);
    const generate = async ({ model }: typeof limited, maxTokens: number) => {
      const generation = model.generate(ids(12), { maxTokens, ignoreEos: true });
      for await (const _ of generation) if (generation.ids.length === 3) break;
      return generation.ids;
    };
    assert.deepEqual(await generate(limited, 8900), await generate(reference, 3));
  });
}

Deno.test("logits of a large vocabulary come back for all rows of a long prompt", async () => {
  using limited = await randomModel({ layers: 1, width: 16, vocab: 300_000 }, device);
  const prompt = ids(128);
  const run = await limited.model.run([prompt]);
  const few = await limited.model.run([prompt.slice(0, 30)]);
  const [all, some] = [run, few].map(({ sequences: [{ surprisals }] }) => surprisals.slice(1, 30));
  close(all, some, "surprisals");
});

Deno.test("rows that nobody asked for are not made", async () => {
  using limited = await randomModel({ layers: 1, contextLength: 512 }, device);
  const { model } = limited;
  const asked = { capture: ["blk.0.attn_probs", "logits"], positions: [300, 402] };
  const passes = await requestsOf(
    model.engine,
    () => model.run([ids(400)], { ...asked, positions: [300] }),
  );
  const capturing = (request: PassRequest) => request.wanted!.includes("blk.0.attn_probs");
  assert.deepEqual(passes.map(capturing), [false, false, true, false]);
  const generation = model.generate(ids(400), { ...asked, maxTokens: 6, ignoreEos: true });
  const decoding = await requestsOf(model.engine, async () => {
    for await (const _ of generation);
  });
  assert.deepEqual(
    decoding.map(capturing),
    [false, false, true, false, ...[false, false, true, false, false]],
  );
  assert.deepEqual(decoding.slice(0, 4).map(({ rows }) => rows), [1, 1, 128, 1]);
  assert.deepEqual(
    generation.run.pieces("blk.0.attn_probs").flatMap(({ positions }) => positions),
    [300, 402],
  );
});

Deno.test("a stepper walks through as many positions as fit", async () => {
  using limited = await randomModel(
    { layers: 1, width: 512, heads: 1024, headWidth: 2, kvHeads: 1, contextLength: 512 },
    device,
  );
  const { model } = limited;
  const prompt = ids(300);
  await assert.rejects(() => model.stepper(prompt, { last: 128 }), /a pass takes 1 to 64 of/);
  const stepper = await model.stepper(prompt);
  await stepper.until("blk.0.attn_probs");
  assert.equal(stepper.start, 300 - 64);
  stepper.close();
});

Deno.test("what cannot fit is refused before anything runs, with the figure and what to lower", async () => {
  using limited = await randomModel(
    { layers: 1, width: 32, heads: 512, headWidth: 4, kvHeads: 1, contextLength: 100_000 },
    device,
  );
  const { model } = limited;
  const capture = "blk.0.attn_scores";
  const generation = model.generate(ids(5), { capture, positions: [-1], maxTokens: 70_000 });
  const passes = await requestsOf(model.engine, async () => {
    await assert.rejects(async () => {
      for await (const _ of generation);
    }, (error) => {
      assert.ok(error instanceof CapacityError);
      assert.deepEqual([error.positions, error.most], [70_004, 65_536]);
      assert.match(
        error.message,
        /^[^\n]*one position of blk\.0\.attn_scores can have 128 MiB, enough for 65536; lower --max-tokens[^\n]*$/,
      );
      return true;
    });
    await assert.rejects(
      () => model.run([ids(70_000)], { capture, positions: [0] }),
      CapacityError,
    );
  });
  assert.deepEqual(passes, []);
  const plain = model.generate(ids(5), { maxTokens: 70_000, ignoreEos: true });
  for await (const _ of plain) break;
  assert.equal(plain.ids.length, 1, "what is not asked for needs no room");
  // A session that was made for other passes refuses, and goes on.
  const session = model.engine.session({ capacity: 1000 });
  await assert.rejects(
    session.pass({ ids: ids(128), wanted: ["blk.0.attn_scores"] }),
    /Cannot run 128 positions in one pass: the device has room for 64 with these points/,
  );
  await session.pass({ ids: ids(128) });
  session.dispose();
});

Deno.test("passes take as many positions as each of their values fits for", async () => {
  using random = await randomModel({ layers: 2 });
  const { plan } = random.model;
  const most = (kind: PassKind, room: { buffer: number; together?: number }) =>
    passTokens(plan, kind, { capacity: 100, most: 128, room });
  const attention = 4 * 4 * 128; // of a row, over 128 slots
  const wanted = ["blk.1.attn_probs"];
  assert.equal(most({ wanted }, { buffer: 128 * attention }), 128);
  assert.equal(most({ wanted }, { buffer: 128 * attention - 1 }), 64);
  assert.equal(most({}, { buffer: 128 * attention - 1 }), 128, "fused attention holds no rows");
  assert.equal(most({ stepwise: true }, { buffer: 128 * attention - 1 }), 64);
  const edit: LinearEdit = { kind: "linear", point: "blk.0.attn_scores", scale: 2 };
  assert.equal(most({ edits: [edit] }, { buffer: 128 * attention - 1 }), 64);
  const three = { wanted: ["blk.0.attn_probs", "blk.0.attn_scores", "blk.1.attn_probs"] };
  assert.equal(most(three, { buffer: MIB, together: 3 * 16 * attention }), 16);
  assert.equal(most(three, { buffer: MIB, together: 1 }), 1, "they come back one by one");
  assert.throws(() => most({ wanted }, { buffer: attention - 1 }), (error) => {
    assert.ok(error instanceof CapacityError);
    assert.deepEqual([error.positions, error.most], [100, 64]);
    return true;
  });
  const rows = { data: new Float32Array(4 * 100 * 100), firstPosition: 0, keys: 100 };
  assert.throws(
    () => most({ edits: [{ ...edit, rows }] }, { buffer: 128 * attention - 1 - 2 ** 17 }),
    (error) => {
      assert.ok(error instanceof EditError);
      assert.match(error.message, /the rows given take .* give those of fewer positions/);
      return true;
    },
  );
});
