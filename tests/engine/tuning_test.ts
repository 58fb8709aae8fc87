/** Tuning: every candidate is right, the fastest is chosen and remembered, and what a model computes stays what it is. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { parity } from "../../mod.ts";
import { readConfig } from "../../engine/plan/tensors.ts";
import { forward } from "../../engine/plan/forward.ts";
import { openGguf } from "../../engine/gguf/reader.ts";
import { bytesSource } from "../../engine/gguf/source.ts";
import { kernelCases } from "../../engine/check/cases.ts";
import { Device } from "../../engine/webgpu/device.ts";
import { webgpuEngine } from "../../engine/webgpu/engine.ts";
import { checkKernels } from "../../engine/webgpu/check/kernel_check.ts";
import { candidates, tune } from "../../engine/webgpu/tuning/tuning.ts";
import { knobsText, readTuning, writeTuning } from "../../engine/webgpu/tuning/tuning_file.ts";
import { loadWeights } from "../../engine/model/weights.ts";
import { loadModel } from "../../inspect/run/model.ts";
import { PACKINGS } from "../../kernels/weights/packings.ts";
import { KERNELS } from "../../kernels/mod.ts";
import { randomFile, randomLlama } from "../support/models/random_llama.ts";
import { Folder } from "../support/folder.ts";

const device = await Device.open();

async function withFile(run: (path: string) => Promise<void>): Promise<void> {
  using folder = new Folder();
  await run(folder.at("home/tuning.json"));
}

async function smallModel() {
  const file = await randomFile({ layers: 2 });
  const config = readConfig(file);
  const plan = forward(config);
  return { file, config, plan, weights: await loadWeights(file, plan, device) };
}

const products = [...KERNELS.values()].filter(({ operation }) => operation === "linear");

Deno.test("every candidate of every product gives its twin's numbers", async (t) => {
  for (const kernel of products) {
    const others = candidates(device, kernel).slice(1);
    assert.ok(others.length >= 1);
    for (const knobs of others) {
      await t.step(`${kernel.name}: ${knobsText(knobs)}`, async () => {
        const packings = [PACKINGS.get(kernel.epilogue === "glu" ? "F16" : "Q4_1")!];
        const cases = [...kernelCases(kernel, { full: true, packings })];
        const results = await checkKernels(device, cases.map((each) => ({ ...each, knobs })));
        for (const each of results) assert.ok(each.passed, JSON.stringify(each));
      });
    }
  }
});

Deno.test("the fastest candidates are remembered, and taken again without being timed", async () => {
  await withFile(async (file) => {
    const { plan, weights } = await smallModel();
    let timed = 0;
    const onProgress = (done: number) => timed = done;
    await tune(device, plan, weights, { mode: "now", file, onProgress });
    const known = await readTuning(file, device.info);
    assert.ok(timed >= 6, `${timed} products`);
    assert.equal(known.size, timed);
    for (const [key, { knobs, times }] of known) {
      const kernel = KERNELS.get(key.split(" ")[0])!;
      assert.equal(times.length, candidates(device, kernel).length, key);
      const chosen = times.find((each) => knobsText(each.knobs) === knobsText(knobs))!;
      // The built-in setting, or a faster one.
      assert.ok(chosen === times[0] || chosen.ms * 1.03 < times[0].ms, key);
    }
    // Another choice than any that was found: what is in the file counts.
    const [[key, found]] = known;
    const [name, packing, shape] = key.split(" ");
    const [rows, columns] = shape.split("×").map(Number);
    const other = found.times.find(({ knobs }) => knobsText(knobs) !== knobsText(found.knobs))!;
    assert.ok(
      await writeTuning(file, device.info, new Map([[key, { ...found, knobs: other.knobs }]])),
    );
    const again = await tune(device, plan, weights, { file });
    const knobs = again(KERNELS.get(name)!, PACKINGS.get(packing)!, rows, columns);
    assert.equal(knobsText(knobs), knobsText(other.knobs));
    assert.equal(
      knobsText((await tune(device, plan, weights, { mode: "never", file }))(
        KERNELS.get(name)!,
        PACKINGS.get(packing)!,
        rows,
        columns,
      )),
      knobsText(device.knobs),
    );
    // Knobs that are no candidates have not been checked.
    const edited = { dotLanes: 128, columnLanes: 2, broadcast: false };
    assert.ok(await writeTuning(file, device.info, new Map([[key, { ...found, knobs: edited }]])));
    const unchecked = await tune(device, plan, weights, { mode: "known", file });
    assert.equal(
      knobsText(unchecked(KERNELS.get(name)!, PACKINGS.get(packing)!, rows, columns)),
      knobsText(device.knobs),
    );
    // Sources that have changed: what was found about others does not count.
    const stale = new Map([[key, { ...found, knobs: other.knobs, source: "other" }]]);
    assert.ok(await writeTuning(file, device.info, stale));
    const fallback = await tune(device, plan, weights, { file });
    if (device.info.fallback) {
      const built = fallback(KERNELS.get(name)!, PACKINGS.get(packing)!, rows, columns);
      assert.equal(knobsText(built), knobsText(device.knobs));
    }
    weights.destroy();
  });
});

Deno.test("nothing is tuned that could not be remembered, and a damaged file is written anew", async () => {
  const { plan, weights } = await smallModel();
  let told = 0;
  const onProgress = () => void told++;
  await tune(device, plan, weights, { mode: "now", onProgress });
  assert.equal(told, 0, "no file");
  await withFile(async (file) => {
    for (const text of ["{", "[1]", '{"a": 1}', "null"]) {
      await Deno.mkdir(join(file, ".."), { recursive: true });
      await Deno.writeTextFile(file, text);
      assert.equal((await readTuning(file, device.info)).size, 0, text);
    }
    const wrong = {
      source: "s",
      knobs: { dotLanes: 7, columnLanes: 1, broadcast: false },
      times: [],
    };
    assert.ok(await writeTuning(file, device.info, new Map([["linear F16 64×64", wrong]])));
    assert.equal((await readTuning(file, device.info)).size, 0, "no such knobs");
  });
  weights.destroy();
});

Deno.test("what is known is taken, and nothing else is tuned", async () => {
  await withFile(async (file) => {
    const { plan, weights } = await smallModel();
    let told = 0;
    await tune(device, plan, weights, { mode: "known", file, onProgress: () => void told++ });
    assert.equal(told, 0);
    assert.equal((await readTuning(file, device.info)).size, 0);
    weights.destroy();
  });
});

Deno.test("an aborted tuning ends with the signal's reason", async () => {
  await withFile(async (file) => {
    const { plan, weights } = await smallModel();
    const controller = new AbortController();
    const onProgress = (done: number) => done === 1 && controller.abort(new Error("enough"));
    await assert.rejects(
      tune(device, plan, weights, { mode: "now", file, onProgress, signal: controller.signal }),
      /enough/,
    );
    assert.equal((await readTuning(file, device.info)).size, 1, "what was found is kept");
    weights.destroy();
  });
});

/** Writes a file in which each product has the candidate that differs most from the built-in one. */
async function tuneOtherwise(path: string, run: () => Promise<unknown>): Promise<void> {
  await run();
  const known = await readTuning(path, device.info);
  assert.ok(known.size > 0);
  const others = [...known].map(([key, found]) =>
    [key, { ...found, knobs: found.times.at(-1)!.knobs }] as const
  );
  assert.ok(await writeTuning(path, device.info, new Map(others)));
}

Deno.test("other choices give other bits at most, the same from run to run", async () => {
  await withFile(async (file) => {
    const model = randomLlama({ layers: 2 });
    const logits = async (mode: "auto" | "now" | "never") => {
      const gguf = await openGguf(bytesSource("random", model));
      const engine = await webgpuEngine(gguf, readConfig(gguf), device, { tuning: { mode, file } });
      const session = engine.session({ capacity: 32 });
      const ids = Array.from({ length: 16 }, (_, i) => i + 3);
      const many = (await session.pass({ ids, rows: 16 })).get("logits")!.data;
      const one = (await session.pass({ ids: [5] })).get("logits")!.data;
      session.dispose();
      engine.dispose();
      return [...many, ...one];
    };
    await tuneOtherwise(file, () => logits("now"));
    const tuned = await logits("auto");
    assert.deepEqual(await logits("auto"), tuned);
    const built = await logits("never");
    assert.notDeepEqual(tuned, built, "the other choices are in use");
    const size = Math.max(...built.map(Math.abs));
    tuned.forEach((value, i) => assert.ok(Math.abs(value - built[i]) < 1e-5 * size));
  });
});

Deno.test("the thirteen checkpoints hold with tuning on and off", async (t) => {
  await withFile(async (file) => {
    const home = Deno.env.get("LAMINA_HOME");
    Deno.env.set("LAMINA_HOME", join(file, ".."));
    try {
      await tuneOtherwise(
        file,
        async () => (await loadModel("tiny", { backend: "webgpu", tune: "now" })).dispose(),
      );
      for (const mode of ["auto", "never"] as const) {
        await t.step(mode, async () => {
          using model = await loadModel("tiny", { backend: "webgpu", tune: mode });
          const { result } = await parity(model, undefined, { reference: "oracle", generate: 8 });
          const failed = result.checkpoints.filter(({ status }) => status !== "pass");
          assert.deepEqual(failed, []);
          assert.ok(result.passed);
        });
      }
    } finally {
      if (home === undefined) Deno.env.delete("LAMINA_HOME");
      else Deno.env.set("LAMINA_HOME", home);
    }
  });
});
