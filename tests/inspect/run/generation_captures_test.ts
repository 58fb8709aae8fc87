/** Generations with everything captured and with edits: the same again bit for bit, and the same on both backends. */
import assert from "node:assert/strict";
import { compareTensors, localAllowance, placeText } from "../../../checkpoints/parity/compare.ts";
import type { Piece } from "../../../inspect/run/capture.ts";
import { add, type EditList, patch, scale, zero } from "../../../inspect/run/interventions.ts";
import { loadModel, type Model } from "../../../inspect/run/model.ts";
import type { Run } from "../../../inspect/run/run.ts";
import { tableColumns } from "../../../inspect/tables/mod.ts";

const PROMPT = "Once upon a time there was a little girl";
const OTHER = "Once upon a time there was a little bird";
const POSITIONS = 10;

/** Edits of every kind. Positions of the prompt, and those that are generated first. */
async function edits(model: Model): Promise<EditList> {
  const other = await model.run(OTHER, { capture: ["blk.3.out"] });
  const steering = Array.from({ length: model.config.width }, (_, i) => Math.sin(i) / 4);
  return [
    ["blk.2.head_out", zero({ head: 1 })],
    ["blk.*.ffn_out", scale(0.9, { position: [3, POSITIONS, POSITIONS + 1] })],
    ["blk.1.out", add(steering, { position: [-1, POSITIONS + 2] })],
    ["blk.3.out", patch(other, { position: -1 })],
    ["blk.4.ffn_act", (view) => view.map((value) => Math.min(value, 1))],
  ];
}

async function generated(model: Model, count: number, edit: EditList): Promise<Run> {
  const options = { maxTokens: count, ignoreEos: true, capture: ["*"], edit };
  const generation = model.generate(PROMPT, options);
  assert.equal(generation.promptIds.length, POSITIONS);
  // deno-lint-ignore no-unused-vars -- only the run counts
  for await (const token of generation);
  return generation.run;
}

const placeOf = (
  { sequence, step, start, shape, positions }: Piece,
) => [sequence, step, start, ...shape, ...positions ?? []];

for (const edited of [false, true]) {
  const what = edited ? "edited generation" : "generation";

  for (const backend of ["webgpu", "cpu"] as const) {
    Deno.test(`the same ${what} twice: ids, tensors and tables are equal bit for bit (${backend})`, async () => {
      using model = await loadModel("tiny", { backend });
      const edit = edited ? await edits(model) : [];
      const [first, second] = [await generated(model, 24, edit), await generated(model, 24, edit)];
      assert.deepEqual(second.ids, first.ids);
      assert.deepEqual(second.captured, first.captured);
      assert.ok(first.captured.length > 5 * 22);
      for (const point of first.captured) {
        assert.deepEqual(
          second.pieces(point).map(({ data }) => data),
          first.pieces(point).map(({ data }) => data),
          point,
        );
        assert.deepEqual(
          tableColumns(second.table(point)),
          tableColumns(first.table(point)),
          point,
        );
      }
    });
  }

  Deno.test(`the same ${what} on the GPU and on the CPU, by the rule of the tolerances`, async () => {
    const runs: Run[] = [];
    for (const backend of ["webgpu", "cpu"] as const) {
      using model = await loadModel("tiny", { backend });
      runs.push(await generated(model, 12, edited ? await edits(model) : []));
    }
    const [gpu, cpu] = runs;
    assert.deepEqual(gpu.ids, cpu.ids);
    assert.deepEqual(gpu.captured, cpu.captured);
    const failures = cpu.captured.flatMap((point) => {
      const found = gpu.pieces(point);
      return cpu.pieces(point).flatMap((piece, i) => {
        assert.deepEqual(placeOf(found[i]), placeOf(piece));
        const { passed, place, ours, reference, allowed } = compareTensors(
          point,
          found[i],
          piece,
          localAllowance(point),
          piece.start,
        );
        return passed
          ? []
          : `${point}, step ${piece.step}, ${
            placeText(place)
          }: ${ours}, CPU ${reference}, allowed ${allowed}`;
      });
    });
    assert.deepEqual(failures, []);
  });
}

Deno.test("an edit in a generation changes what follows it, and nothing before", async () => {
  using model = await loadModel("tiny");
  const [plain, edited] = [
    await generated(model, 12, []),
    await generated(model, 12, await edits(model)),
  ];
  const changed = plain.captured.filter((point) =>
    plain.pieces(point)[0].data.some((value, i) => value !== edited.pieces(point)[0].data[i])
  );
  assert.equal(changed[0], "blk.0.ffn_out");
  assert.ok(changed.includes("blk.4.out"));
  assert.notDeepEqual(edited.ids, plain.ids);
});
