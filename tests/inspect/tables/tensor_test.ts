import assert from "node:assert/strict";
import { TensorError, TensorView } from "../../../inspect/tensor/tensor.ts";
import { Random } from "../../../checkpoints/files/random.ts";

/** Numbers 0, 1, 2, …, so that every place tells where it lies. */
function counting(shape: number[], axes: string[]): TensorView {
  const size = shape.reduce((a, b) => a * b, 1);
  return new TensorView(Float32Array.from({ length: size }, (_, i) => i), shape, axes);
}

function randomTensor(shape: number[], axes: string[], seed: number): TensorView {
  const random = new Random(seed);
  return new TensorView(counting(shape, axes).data.map(() => random.normal()), shape, axes);
}

function close(found: number, expected: number, message?: string): void {
  const limit = 1e-6 * Math.max(1, Math.abs(expected));
  assert.ok(Math.abs(found - expected) <= limit, `${message ?? ""} ${found} for ${expected}`);
}

/** Fails unless the call throws a TensorError with these facts, in one line that fits the pattern. */
function refuses(call: () => unknown, axes: string[], shape: number[], message: RegExp): void {
  assert.throws(call, (error) => {
    assert.ok(error instanceof TensorError);
    assert.ok(error instanceof RangeError);
    assert.deepEqual([error.axes, error.shape], [axes, shape]);
    assert.match(error.message, message);
    assert.ok(!error.message.includes("\n"));
    return true;
  });
}

const ATTENTION = ["head", "query", "key"];

Deno.test("split parts an axis in place, join puts axes side by side again", () => {
  const x = counting([2, 6], ["position", "row"]);
  const heads = x.split("row", { head: 3, feature: 2 });
  assert.deepEqual([heads.axes, heads.shape], [["position", "head", "feature"], [2, 3, 2]]);
  assert.equal(heads.data, x.data);
  assert.deepEqual(heads.at({ position: 1, head: 2 }).toArray(), [10, 11]);
  const slow = counting([6, 2], ["row", "x"]).split("row", { a: 2, b: 3 });
  assert.deepEqual(slow.at({ a: 1, b: 0 }).toArray(), [6, 7]);
  assert.deepEqual(heads.join("head", "row").toArray(), x.toArray());
  assert.deepEqual(heads.at({ position: 1 }).slice({ head: [1] }).join("head", "f").toArray(), [
    8,
    9,
    10,
    11,
  ]);
  refuses(
    () => x.split("row", { head: 4, feature: 2 }),
    ["position", "row"],
    [2, 6],
    /4 × 2.*has 6/,
  );
  refuses(() => x.join("head", "row"), ["position", "row"], [2, 6], /no axis "head"/);
});

Deno.test("at chooses places, from either end, in the same buffer", () => {
  const x = counting([2, 3, 4], ATTENTION);
  const row = x.at({ head: 1, query: -1 });
  assert.deepEqual([row.axes, row.shape], [["key"], [4]]);
  assert.deepEqual(row.toArray(), [20, 21, 22, 23]);
  assert.equal(row.data, x.data);
  const column = x.at({ key: 2 });
  assert.deepEqual(column.toArray(), [[2, 6, 10], [14, 18, 22]]);
  assert.equal(column.at({ query: 1 }).at({ head: -2 }).item(), 6);
  assert.equal(x.at({ head: 0, query: 0, key: 3 }).toArray(), 3);
  x.data[23] = -1;
  assert.equal(row.at({ key: 3 }).item(), -1);
});

Deno.test("slice keeps ranges, in the same buffer", () => {
  const x = counting([2, 3, 4], ATTENTION);
  const part = x.slice({ query: [-2], key: [1, 3] });
  assert.deepEqual([part.axes, part.shape], [ATTENTION, [2, 2, 2]]);
  assert.deepEqual(part.toArray(), [[[5, 6], [9, 10]], [[17, 18], [21, 22]]]);
  assert.equal(part.data, x.data);
  assert.deepEqual(part.slice({ query: [1] }).at({ head: 1 }).toArray(), [[21, 22]]);
  assert.deepEqual(x.slice({ key: [2, 99] }).shape, [2, 3, 2]);
  assert.deepEqual(x.slice({ key: [-99, 1] }).shape, [2, 3, 1]);
  assert.deepEqual(x.slice({ key: [3, 1] }).shape, [2, 3, 0]);
  assert.deepEqual(x.at({ head: 0 }).slice({ query: [3] }).toArray(), []);
  assert.deepEqual(x.slice({ key: [0, 0] }).at({ head: 0 }).toArray(), [[], [], []]);
});

Deno.test("toFloat32Array gives the buffer where it can, else the view's numbers", () => {
  const x = counting([2, 3], ["position", "feature"]);
  assert.equal(x.toFloat32Array().buffer, x.data.buffer);
  assert.equal(x.at({ position: 1 }).toFloat32Array().buffer, x.data.buffer);
  assert.deepEqual(x.at({ position: 1 }).toFloat32Array(), Float32Array.of(3, 4, 5));
  assert.deepEqual(x.at({ feature: 1 }).toFloat32Array(), Float32Array.of(1, 4));
  assert.deepEqual(x.slice({ feature: [2] }).toFloat32Array(), Float32Array.of(2, 5));
});

Deno.test("strides and offset lie over any buffer", () => {
  // Columns of a 2 x 3 matrix, its first number left out.
  const x = new TensorView(counting([6], ["x"]).data, [2, 2], ["column", "row"], {
    strides: [1, 3],
    offset: 1,
  });
  assert.deepEqual(x.toArray(), [[1, 4], [2, 5]]);
  assert.deepEqual(x.sum("row").toArray(), [5, 7]);
  assert.deepEqual(x.sum("column").toArray(), [3, 9]);
});

Deno.test("labels: places are absolute positions", () => {
  const x = new TensorView(counting([3, 2], ["position", "feature"]).data, [3, 2], [
    "position",
    "feature",
  ], { labels: { position: [3, 7, 9] } });
  assert.deepEqual(x.at({ position: 7 }).toArray(), [2, 3]);
  assert.deepEqual(x.at({ position: -1 }).toArray(), [4, 5]);
  assert.deepEqual(x.slice({ position: [4, 9] }).toArray(), [[2, 3]]);
  const tail = x.slice({ position: [7] });
  assert.deepEqual(tail.at({ position: 9 }).toArray(), [4, 5]);
  refuses(() => tail.at({ position: 3 }), ["position", "feature"], [2, 2], /position is 7, 9/);
  assert.deepEqual(x.at({ feature: 1 }).topk(1), { indices: [9], values: [5] });
  assert.equal(x.norm("feature").at({ position: 3 }).item(), 1);
  assert.equal(
    x.add(x.norm("feature")).rename({ position: "query" }).at({ query: 3, feature: 1 })
      .item(),
    2,
  );

  const other = new TensorView(x.data, [3, 2], x.axes, { labels: { position: [3, 7, 8] } });
  refuses(() => x.sub(other), ["position", "feature"], [3, 2], /is 3, 7, 9 here and 3, 7, 8 there/);
});

Deno.test("sum, mean and norm, over an axis or everything", () => {
  const x = randomTensor([3, 4, 5], ATTENTION, 1);
  for (let head = 0; head < 3; head++) {
    for (let key = 0; key < 5; key++) {
      const values = [0, 1, 2, 3].map((query) => x.data[(head * 4 + query) * 5 + key]);
      const place = { head, key };
      close(x.sum("query").at(place).item(), values.reduce((a, b) => a + b));
      close(x.mean("query").at(place).item(), values.reduce((a, b) => a + b) / 4);
      close(x.norm("query").at(place).item(), Math.hypot(...values));
    }
  }
  assert.deepEqual(x.mean("query").axes, ["head", "key"]);
  assert.deepEqual(x.mean().shape, []);
  close(x.norm().item(), Math.hypot(...x.data));
  close(x.slice({ head: [1, 2] }).sum().item(), x.data.slice(20, 40).reduce((a, b) => a + b));
});

Deno.test("sums are made in 64 bits", () => {
  // In 32 bits every 1 after 2^24 is lost.
  const x = new TensorView(new Float32Array(1001).fill(1), [1001], ["feature"]);
  x.data[0] = 2 ** 24;
  assert.equal(x.sum().item(), 2 ** 24 + 1000);
  const ones = new TensorView(new Float32Array(1001).fill(1), [1001], ["feature"]);
  assert.equal(x.matmul(ones).item(), 2 ** 24 + 1000);
});

Deno.test("softmax along any axis; minus infinity counts for nothing", () => {
  const x = randomTensor([2, 3, 4], ATTENTION, 2);
  x.data[3] = -Infinity;
  x.data[4] = 1000; // overflows without the shift
  for (const [axis, size, stride] of [["head", 2, 12], ["query", 3, 4], ["key", 4, 1]] as const) {
    const y = x.softmax(axis);
    for (let i = 0; i < 24; i++) {
      if (Math.floor(i / stride) % size !== 0) continue;
      const values = Array.from({ length: size }, (_, n) => x.data[i + n * stride]);
      const sum = (j: number) =>
        values.reduce((total, value) => total + Math.exp(value - values[j]), 0);
      values.forEach((_, j) =>
        close(y.data[i + j * stride], values[j] === -Infinity ? 0 : 1 / sum(j), axis)
      );
    }
  }
  assert.deepEqual(x.softmax().data, x.softmax("key").data);
  assert.equal(x.data[4], 1000, "x is as it was");
  close(x.at({ query: 0 }).softmax("head").sum("head").at({ key: 1 }).item(), 1);
});

Deno.test("matmul: last axis with first, shared axes go along", () => {
  const probs = randomTensor([2, 3, 4], ATTENTION, 3);
  const values = randomTensor([4, 2, 5], ["key", "head", "feature"], 4);
  const y = probs.matmul(values);
  assert.deepEqual([y.axes, y.shape], [["head", "query", "feature"], [2, 3, 5]]);
  for (let head = 0; head < 2; head++) {
    for (let query = 0; query < 3; query++) {
      for (let feature = 0; feature < 5; feature++) {
        let sum = 0;
        for (let key = 0; key < 4; key++) {
          sum += probs.data[(head * 3 + query) * 4 + key] *
            values.data[(key * 2 + head) * 5 + feature];
        }
        close(y.at({ head, query, feature }).item(), sum);
      }
    }
  }
});

Deno.test("matmul over named axes: attention scores in two lines", () => {
  const q = randomTensor([3, 2, 4], ["position", "head", "feature"], 5);
  const k = randomTensor([3, 2, 4], ["position", "head", "feature"], 6);
  const scores = q.rename({ position: "query" })
    .matmul(k.rename({ position: "key" }), { over: "feature" });
  assert.deepEqual([scores.axes, scores.shape], [["query", "head", "key"], [3, 2, 3]]);
  for (const [query, head, key] of [[0, 0, 0], [2, 1, 0], [1, 0, 2]]) {
    let sum = 0;
    for (let i = 0; i < 4; i++) {
      sum += q.data[(query * 2 + head) * 4 + i] * k.data[(key * 2 + head) * 4 + i];
    }
    close(scores.at({ query, head, key }).item(), sum);
  }
  const view = scores.at({ head: 1 }); // [query, key], strided
  assert.deepEqual(
    view.matmul(q.at({ head: 0 }), { over: ["key", "position"] }).axes,
    ["query", "feature"],
  );
});

Deno.test("matmul: the other's summed axis may be named like one of this tensor's rows", () => {
  const a = counting([2, 3], ["position", "feature"]);
  const b = counting([3, 4], ["position", "column"]);
  const y = a.matmul(b); // feature with position
  assert.deepEqual(y.axes, ["position", "column"]);
  assert.deepEqual(y.toArray(), [[20, 23, 26, 29], [56, 68, 80, 92]]);
});

Deno.test("arithmetic matches axes by name", () => {
  const x = counting([2, 3], ["position", "feature"]);
  const weight = new TensorView(Float32Array.of(1, 10, 100), [3], ["feature"]);
  assert.deepEqual(x.mul(weight).toArray(), [[0, 10, 200], [3, 40, 500]]);
  assert.deepEqual(weight.mul(x).axes, ["feature", "position"]);
  assert.deepEqual(weight.mul(x).toArray(), [[0, 3], [10, 40], [200, 500]]);
  const rms = new TensorView(Float32Array.of(2, 4), [2, 1], ["position", "feature"]);
  assert.deepEqual(x.div(rms).toArray(), [[0, 0.5, 1], [0.75, 1, 1.25]]);
  assert.deepEqual(x.sub(x.at({ position: 0 })).toArray(), [[0, 0, 0], [3, 3, 3]]);
  assert.deepEqual(x.add(1).toArray(), [[1, 2, 3], [4, 5, 6]]);
  assert.deepEqual(x.map((value) => -value).at({ feature: 1 }).toArray(), [-1, -4]);
  // Any order of axes.
  const turned = new TensorView(x.data, [3, 2], ["feature", "position"], { strides: [1, 3] });
  assert.deepEqual(x.sub(turned).toArray(), [[0, 0, 0], [0, 0, 0]]);
});

Deno.test("topk: largest first, the lower index of equal ones, NaN last", () => {
  const x = new TensorView(Float32Array.of(1, 5, 5, 2, 9, NaN, 0, 9), [2, 4], [
    "position",
    "feature",
  ]);
  assert.deepEqual(x.topk(2), { indices: [[1, 2], [0, 3]], values: [[5, 5], [9, 9]] });
  assert.deepEqual(x.at({ position: 0 }).topk(1), { indices: [1], values: [5] });
  assert.deepEqual(x.topk(9).indices, [[1, 2, 3, 0], [0, 3, 2, 1]]);
  assert.deepEqual(x.at({ feature: 0 }).topk(1), { indices: [1], values: [9] });
});

Deno.test("errors name axes, shape and what was asked", () => {
  const x = counting([2, 3, 4], ATTENTION);
  const shape = [2, 3, 4];
  refuses(() => x.at({ layer: 0 }), ATTENTION, shape, /head 2, query 3, key 4.*no axis "layer"/);
  refuses(() => x.at({ head: 2 }), ATTENTION, shape, /take head 2 .*head goes from 0 to 1/);
  refuses(() => x.at({ head: -3 }), ATTENTION, shape, /take head -3 /);
  refuses(() => x.at({ head: 0.5 }), ATTENTION, shape, /take head 0.5 /);
  refuses(() => x.slice({ layer: [0] }), ATTENTION, shape, /no axis "layer"/);
  refuses(() => x.slice({ key: [0, 1.5] }), ATTENTION, shape, /slice key at 1.5/);
  refuses(() => x.rename({ layer: "head" }), ATTENTION, shape, /no axis "layer"/);
  refuses(() => x.rename({ key: "query" }), ["head", "query", "query"], shape, /twice/);
  refuses(() => x.mean("feature"), ATTENTION, shape, /Cannot mean .*no axis "feature"/);
  refuses(() => x.softmax("feature"), ATTENTION, shape, /Cannot softmax/);
  refuses(() => x.item(), ATTENTION, shape, /24 numbers/);
  refuses(() => x.topk(0), ATTENTION, shape, /top 0/);
  refuses(
    () => x.add(counting([3], ["head"])),
    ATTENTION,
    shape,
    /add \[head 3\] .*head differs in size/,
  );
  refuses(
    () => x.matmul(counting([3], ["key"])),
    ATTENTION,
    shape,
    /key and the other's key differ/,
  );
  refuses(
    () => x.matmul(counting([4, 3], ["key", "head"])),
    ATTENTION,
    shape,
    /matmul by \[key 4, head 3\].*head differs in size/,
  );
  refuses(() => x.mean().softmax(), [], [], /it has no axis/);
  refuses(
    () => new TensorView(new Float32Array(5), [2, 3], ["a", "b"]),
    ["a", "b"],
    [2, 3],
    /only 5 numbers/,
  );
  refuses(() => new TensorView(new Float32Array(5), [5], []), [], [5], /0 axes for 1 sizes/);
  refuses(
    () => new TensorView(new Float32Array(5), [5], ["a"], { labels: { a: [1] } }),
    ["a"],
    [5],
    /1 labels for a/,
  );
});

Deno.test("a tensor shows itself in one line", () => {
  const x = new TensorView(counting([2, 4], ["position", "feature"]).data, [2, 4], [
    "position",
    "feature",
  ], { name: "blk.0.out" });
  const line = "blk.0.out [position 2, feature 4] 0 to 7, mean 3.5: 0, 1, 2, 3, 4, 5, …";
  assert.equal(`${x}`, line);
  assert.equal(Deno.inspect(x), line);
  const display = Reflect.get(x, Symbol.for("Jupyter.display")) as () => Record<string, string>;
  assert.deepEqual(display.call(x), { "text/plain": line });
  assert.equal(`${x.at({ position: 1, feature: 2 })}`, "blk.0.out []: 6");
  assert.equal(`${x.slice({ feature: [4] })}`, "blk.0.out [position 2, feature 0]: empty");
});
