/** Figures of long texts: they stay small, and say what they leave out. */
import assert from "node:assert/strict";
import { logitLensMap, patchingMap, residualNormMap } from "../../../mod.ts";
import { analysisTable } from "../../../inspect/analyses/analysis_table.ts";
import { cellMap } from "../../../inspect/figures/drawing/cell_map.ts";
import { short } from "../../../inspect/figures/drawing/numbers.ts";
import { Random } from "../../../checkpoints/files/random.ts";
import { cells, heatmap } from "../../support/tables/figure_cells.ts";

Deno.test("long maps are pooled with a note: the strongest number of neighbours, with its own hover", () => {
  const places = Array.from({ length: 2000 }, (_, i) => `${i}`);
  const values = [places.map((_, i) => i === 7 ? -9 : i % 5), places.map(() => NaN)];
  const map = {
    title: { text: "t" },
    rows: { title: "layer", labels: ["0", "1"] },
    columns: { title: "position", labels: places },
    values,
    more: values.map((row) => row.map((_, i) => `of ${i}`)),
    legend: "x",
  };
  const signed = cellMap({ ...map, signed: true });
  const [first, second] = cells(signed);
  const size = Math.ceil(2000 / first.length);
  assert.ok(first.length <= 300 && first.length > 100);
  assert.equal(first[Math.floor(7 / size)], -9);
  assert.equal((heatmap(signed).customdata as string[][])[0][Math.floor(7 / size)], "of 7");
  assert.ok(second.every((value) => value === null));
  assert.match(signed.caption, /pooled/);
  assert.equal(signed.layout.xaxis!.ticktext![1], `${size} … ${2 * size - 1}`);
  assert.ok(signed.layout.width < 1200);
  assert.ok(
    cells(cellMap(map))[0].every((value) => value === 4),
    "of unsigned numbers the largest",
  );
});

const LENS = {
  sequence: "int32",
  layer: "int32",
  position: "int32",
  token: "utf8",
  rank: "int32",
  predicted_id: "int32",
  predicted: "utf8",
  value: "float64",
} as const;

/** Layers × 2,000 positions with columns of several tables. */
function longRows(layers: number) {
  const random = new Random(6);
  return Array.from({ length: layers * 2000 }, (_, i) => ({
    layer: Math.floor(i / 2000),
    position: i % 2000,
    token: ` ${i % 2000}`,
    value: random.uniform(0, 1),
    ...{ sequence: 0, head: null, rank: 0, predicted_id: i % 97, predicted: `p${i % 97}` },
    ...{ clean_token: ` ${i % 2000}`, point: `blk.${Math.floor(i / 2000)}.out` },
  }));
}

Deno.test("maps of 2,000 tokens stay small: cells are pooled, with their hovers, and the figure says so", () => {
  const rows = longRows(6);
  const schema = { ...LENS, head: "int32", clean_token: "utf8", point: "utf8" } as const;
  const table = analysisTable("long", schema, rows, { meaning: "a long text" });
  const maps = {
    lens: logitLensMap(table),
    norms: residualNormMap(table),
    patching: patchingMap(table),
  };
  for (const [name, figure] of Object.entries(maps)) {
    const { text, customdata } = heatmap(figure);
    const z = cells(figure);
    assert.deepEqual([z.length, z[0].length, text], [6, 286, undefined], name);
    assert.match(figure.caption, /pooled: a cell is the .* of 1 × 7/, name);
    assert.ok(JSON.stringify(figure).length < 400_000, name);
    assert.ok(figure.layout.width < 1100, name);
    assert.equal(figure.layout.xaxis!.ticktext![2], '"·14" (14) … "·20" (20)');
    for (const [layer, cell] of [[0, 0], [3, 100], [5, 285]]) {
      const from = 2000 * layer + 7 * cell;
      const own = rows.slice(from, Math.min(from + 7, 2000 * (layer + 1)));
      const best = own.reduce((a, b) => b.value > a.value ? b : a);
      const wanted = name === "norms" ? Math.log10(best.value) : best.value;
      assert.equal(z[layer][cell], short(wanted), name);
      if (name === "lens") {
        assert.ok((customdata as string[][])[layer][cell].startsWith(`${best.predicted} `));
      }
    }
  }
  assert.match(maps.lens.caption, /words are in the hover/);
  // All is there of a text that fits.
  const some = analysisTable("short", schema, rows.filter(({ position }) => position < 300), {
    meaning: "a text that fits",
  });
  assert.doesNotMatch(patchingMap(some).caption, /pooled/);
  assert.equal(cells(patchingMap(some))[0].length, 300);
});
