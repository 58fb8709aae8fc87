/** Orders of rows in words, and rows that are found again. */
import assert from "node:assert/strict";
import { matchRows, type Rows } from "../../../checkpoints/files/patterns/order.ts";
import { orderText } from "../../../checkpoints/files/patterns/order_text.ts";
import { runsText } from "../../../checkpoints/files/patterns/runs.ts";
import { factorText, namedFactor } from "../../../checkpoints/files/patterns/factors.ts";
import { Random } from "../../../checkpoints/files/random.ts";

const N = 24;

Deno.test("an order is said in words", () => {
  const orders: [from: (row: number) => number, said: string | undefined][] = [
    [(r) => r, undefined],
    [(r) => N - 1 - r, "rows are in reverse order"],
    [(r) => (r + 12) % N, "the two halves of the rows are exchanged"],
    [(r) => (r + 5) % N, "rows are rotated by 5: at 0 stands 5"],
    [(r) => (r + N - 1) % N, "rows are rotated by -1: at 0 stands 23"],
    [(r) => r % 2 * 12 + (r >> 1), "the two halves of the rows are interleaved"],
    [
      (r) => r % 12 * 2 + (r >= 12 ? 1 : 0),
      "even and odd rows are apart: first all even ones, then all odd ones",
    ],
    [(r) => r % 3 * 8 + Math.floor(r / 3), "rows are laid out as [8, 3] where [3, 8] belongs"],
    [(r) => r - r % 8 + 7 - r % 8, "rows are in reverse order within each 8"],
    [(r) => r - r % 8 + r % 2 * 4 + (r % 8 >> 1), "the halves of each 8 rows are interleaved"],
    [(r) => r === 3 ? 9 : r === 9 ? 3 : r, "rows 3 and 9 are exchanged"],
    [(r) => r < 4 ? r + 8 : r >= 8 && r < 12 ? r - 8 : r, "rows 0 to 3 and 8 to 11 are exchanged"],
    [
      (r) => r >= 6 && r < 10 ? 6 + (r - 6 + 1) % 4 : r,
      "rows 6 to 9 are rotated by 1: at 6 stands 7",
    ],
    [(r) => r >= 6 && r < 11 ? 16 - r : r, "rows 6 to 10 are in reverse order"],
    [
      (r) => r >= 7 ? (r === N - 1 ? -1 : r + 1) : r,
      "rows are shifted by 1 from 7 on: there stands 8; row 23 holds others",
    ],
    [(r) => r === 5 ? 4 : r, "row 5 has the numbers of 4"],
    [(r) => [8, 16, 0][r >> 3] + r % 8, "rows are rotated by 8: at 0 stands 8"],
    [
      (r) => [4, 0, 8, 16, 20, 12][r >> 2] + r % 4,
      "blocks of 4 rows are in another order: 1, 0, 2, 4, 5, 3",
    ],
    [
      (r) => [3, 7, 1, 0, 9, 2, 5][r] ?? r,
      "rows are in another order: the first that moved is 0, where 3 stands",
    ],
  ];
  for (const [from, said] of orders) {
    assert.equal(orderText(Int32Array.from({ length: N }, (_, r) => from(r)), "rows", [8]), said);
  }
  const alphabetical = Array.from({ length: 25 }, (_, i) => i).sort((a, b) =>
    `${a}` < `${b}` ? -1 : 1
  );
  assert.match(
    orderText(Int32Array.from({ length: 50 }, (_, r) => alphabetical[r >> 1] * 2 + r % 2), "rows")!,
    /^blocks of 2 rows are in the alphabetical order of their numbers: 0, 1, 10, 11, 12/,
  );
});

Deno.test("rows are found again among others, with noise too, and others are not", () => {
  const draw = new Random(2);
  const [count, length] = [300, 40];
  const rows = (data: Float32Array): Rows => ({ count, length, data });
  const numbers = Float32Array.from({ length: count * length }, () => draw.normal());
  const order = Int32Array.from({ length: count }, (_, i) => (i * 7 + 3) % count);
  const moved = (noise: number) =>
    numbers.map((_, i) => {
      const row = Math.floor(i / length);
      return numbers[order[row] * length + i % length] + draw.normal(noise);
    });
  assert.deepEqual(matchRows(rows(numbers), rows(moved(0)), 1e-8), order);
  assert.deepEqual(matchRows(rows(numbers), rows(moved(0.2)), 0.2), order);
  assert.equal(matchRows(rows(numbers), rows(moved(0.2)), 1e-8), undefined);
  assert.equal(matchRows(rows(numbers), rows(numbers), 1e-8), undefined);
  const others = numbers.map(() => draw.normal());
  assert.equal(matchRows(rows(numbers), rows(others), 0.2), undefined);
});

Deno.test("runs and factors in words", () => {
  assert.equal(runsText([3], "rows"), "row 3");
  assert.equal(runsText([3, 4, 5, 9], "rows"), "rows 3 to 5 and 9");
  assert.equal(runsText([1, 3, 5, 7, 8], "rows"), "rows 1, 3, 5 and 2 more");
  const sizes = { width: 576, headWidth: 64, layers: 30 };
  assert.equal(factorText(24, sizes), "24 (√D)");
  assert.equal(factorText(0.125, sizes), "0.125 (1/√d, 1/8)");
  assert.equal(factorText(-1, sizes), "-1");
  assert.equal(factorText(0.9417, sizes), "0.9417");
  assert.equal(factorText(1.985, sizes, 0.02), "1.985 (about 2)");
  assert.equal(namedFactor(Math.LOG2E, sizes, 1e-6)?.name, "log₂ e");
  assert.equal(namedFactor(1, sizes, 1e-3), undefined);
  assert.equal(namedFactor(0, sizes, 1e-3), undefined);
});
