/** More positions than there is memory for are refused in one line, before anything is made for them. */
import assert from "node:assert/strict";
import { CapacityError, checkCapacity } from "../../engine/model/capacity.ts";
import { Device } from "../../engine/webgpu/device.ts";
import { loadModel } from "../../inspect/run/model.ts";
import { randomLlama } from "../support/models/random_llama.ts";
import { deno } from "../support/command.ts";
import { Folder } from "../support/folder.ts";

/** A model whose context is as long as any file can say; 2 layers, 256 bytes a position in each cache. */
async function withLongModel(run: (path: string) => Promise<void>): Promise<void> {
  using folder = new Folder();
  const shape = { layers: 2, width: 64, heads: 4, vocab: 300, vocabulary: "llama" } as const;
  await run(folder.write("long.gguf", randomLlama({ ...shape, contextLength: 2 ** 31 - 1 })));
}

function assertRefused(work: () => void, positions: number): void {
  assert.throws(work, (error) => {
    assert.ok(error instanceof CapacityError, String(error));
    assert.equal(error.positions, positions);
    assert.ok(error.most < positions);
    assert.match(error.message, /^[^\n]*lower --max-tokens \(maxTokens\)[^\n]*$/);
    return true;
  });
}

for (const backend of ["webgpu", "cpu"] as const) {
  Deno.test(`generations and sessions that do not fit are refused (${backend})`, async () => {
    await withLongModel(async (path) => {
      using model = await loadModel(path, { backend });
      for (const maxTokens of [1e8, 2e9]) {
        assertRefused(() => model.generate([1, 2], { maxTokens }), maxTokens + 1);
        const capture = { maxTokens, capture: ["blk.*.out", "logits"] };
        assertRefused(() => model.generate([1, 2], capture), maxTokens + 1);
        assertRefused(() => model.engine.session({ capacity: maxTokens }), maxTokens);
      }
      const generation = model.generate([1, 2], { maxTokens: 3, ignoreEos: true });
      for await (const _ of generation);
      assert.equal(generation.ids.length, 3, "what fits runs");
    });
  });
}

Deno.test("the largest cache and the memory for all of them both count", async () => {
  await withLongModel(async (path) => {
    using model = await loadModel(path, { backend: "cpu" });
    const { config, plan } = model;
    const all = 2 * 2 * 256 + 4 * config.ropes[0].width;
    const check = (positions: number, room: { buffer: number; total?: number }) => () =>
      checkCapacity(positions, config, plan, room);
    check(640, { buffer: 640 * 256 })();
    assertRefused(check(641, { buffer: 703 * 256 }), 641);
    check(640, { buffer: 2 ** 31, total: 640 * all })();
    assertRefused(check(641, { buffer: 2 ** 31, total: 640 * all }), 641);
  });
});

Deno.test("on the CPU the machine's free memory is the limit", async () => {
  await withLongModel(async (path) => {
    using model = await loadModel(path, { backend: "cpu" });
    const { systemMemoryInfo } = Deno;
    const available = 8 * 2 ** 20;
    Deno.systemMemoryInfo = () => ({ ...systemMemoryInfo(), available });
    try {
      assertRefused(() => model.generate([1], { maxTokens: 10_000 }), 10_000);
      model.generate([1], { maxTokens: 5_000 });
    } finally {
      Deno.systemMemoryInfo = systemMemoryInfo;
    }
  });
});

Deno.test("generate.ts says it in one line, and prints nothing", async () => {
  await withLongModel(async (path) => {
    for (const maxTokens of ["1e8", "2e9"]) {
      const args = ["--model", path, "--max-tokens", maxTokens, "Hi"];
      const { code, out, err } = await deno(["run", "-q", "-P", "generate.ts", ...args]);
      assert.match(err, /^error: Cannot keep \d+ positions: .*lower --max-tokens.*\n$/);
      assert.deepEqual([code, out], [1, ""]);
    }
  });
});

Deno.test("a device that is out of memory says what to do", async () => {
  const device = await Device.open();
  const error = new GPUOutOfMemoryError("not enough memory left");
  device.gpu.dispatchEvent(new GPUUncapturedErrorEvent("uncapturederror", { error }));
  assert.throws(() => device.check(), /out of memory: lower --max-tokens \(maxTokens\), or take/);
  device.dispose();
});
