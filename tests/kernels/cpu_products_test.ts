/** The CPU's products with weights against their 64-bit twins: every weight type, epilogue and odd shape. */
import assert from "node:assert/strict";
import { Noise } from "../../engine/check/data.ts";
import { KERNELS } from "../../kernels/mod.ts";
import { PACKINGS } from "../../kernels/weights/packings.ts";
import { TILES } from "../../kernels/weights/tiles.ts";
import {
  clearRoom,
  columnsOf,
  type Epilogue,
  EPILOGUES,
  floats,
  HALF_ULP,
  judge,
  kernels,
  made,
  matrix,
  productErrors,
  put,
  room,
  run,
  runProduct,
  UNTOUCHED,
  words,
} from "./cpu_products.ts";

/** Starts the room anew. */
function test(name: string, body: (t: Deno.TestContext) => Promise<void> | void) {
  Deno.test(name, async (t) => {
    clearRoom();
    await body(t);
  });
}

test("tiles hold each type of the packings, in whole blocks", () => {
  assert.deepEqual([...TILES.keys()], [...PACKINGS.keys()]);
  for (const [name, { blockSize, blockBytes, tileBytes }] of TILES) {
    const packing = PACKINGS.get(name)!;
    assert.deepEqual([blockSize, blockBytes], [packing.blockSize, packing.blockBytes]);
    for (const columns of columnsOf(packing)) assert.equal(tileBytes(columns) % 16, 0);
  }
});

test("packing changes no number: a row that is read has the packings' bits", () => {
  for (const packing of PACKINGS.values()) {
    for (const columns of columnsOf(packing)) {
      for (const rows of [1, 8, 13]) {
        clearRoom();
        const { descriptor, reader } = made(packing, rows, columns);
        const out = room(columns * 4 + 4), expected = new Float32Array(columns);
        for (let row = 0; row < rows; row++) {
          floats(out, columns + 1).fill(UNTOUCHED);
          kernels.read_row(descriptor, row, out);
          reader.read(row, expected);
          assert.deepEqual(
            words(out, columns).slice(),
            new Uint32Array(expected.buffer),
            `${packing.name} ${rows}x${columns}, row ${row}`,
          );
          assert.equal(floats(out, columns + 1)[columns], UNTOUCHED);
        }
      }
    }
  }
});

test("all halves are read as they are, those of small tiles and those of large ones", () => {
  const packing = PACKINGS.get("F16")!;
  for (const [first, count] of [[0, 0x5400], [0, 0x7c00], [0x5400, 0x2c00]]) {
    for (const sign of [0, 0x8000]) {
      clearRoom();
      const rows = 8, columns = count / 8;
      const halves = Uint16Array.from({ length: count }, (_, i) => (first + i) | sign);
      const { descriptor } = matrix(packing, new Uint8Array(halves.buffer), rows, columns);
      const out = room(columns * 4), values = new Float16Array(halves.buffer);
      for (let row = 0; row < rows; row++) {
        kernels.read_row(descriptor, row, out);
        for (let i = 0; i < columns; i++) {
          assert.ok(Object.is(floats(out, columns)[i], values[row * columns + i]), `${halves[i]}`);
        }
      }
    }
  }
});

test("products of each type with each number of positions", async (t) => {
  for (const packing of PACKINGS.values()) {
    await t.step(packing.name, () => {
      for (const columns of columnsOf(packing)) {
        for (const tokens of [1, 2, 5, 7, 8, 13, 17, 128]) {
          if (tokens === 128 && columns > 600) continue;
          clearRoom();
          const rows = tokens === 128 ? 9 : 21;
          const matrices = [made(packing, rows, columns)];
          const x = new Noise(`x ${columns}`).numbers(tokens * columns);
          const result = runProduct(
            { epilogue: "plain", normed: false, tokens, matrices, x, wanted: () => true },
          );
          judge(result, `${packing.name} ${tokens}x${rows}x${columns}`);
        }
      }
    });
  }
});

test("errors are on the average less than two fifths of those of one sum in f32", () => {
  // Bounds hold for the worst that rounding can do; what it does is much less, and a coarser x would hide there.
  for (const packing of PACKINGS.values()) {
    for (const tokens of [15, 16]) {
      clearRoom();
      const columns = 4096, rows = 32;
      const each = made(packing, rows, columns);
      const x = new Noise("average").numbers(tokens * columns);
      const { outputs: [y] } = runProduct(
        { epilogue: "plain", normed: false, tokens, matrices: [each], x, wanted: () => true },
      );
      let squares = 0, squaresInF32 = 0;
      const w = new Float32Array(columns);
      for (let row = 0; row < rows; row++) {
        each.reader.read(row, w);
        for (let t = 0; t < tokens; t++) {
          let sum = 0, inF32 = 0, magnitude = 0;
          for (let i = 0; i < columns; i++) {
            const term = w[i] * x[t * columns + i];
            sum += term;
            magnitude += Math.abs(term);
            inF32 = Math.fround(inF32 + Math.fround(term));
          }
          squares += ((y![t * rows + row] - sum) / magnitude) ** 2;
          squaresInF32 += ((inF32 - sum) / magnitude) ** 2;
        }
      }
      const ratio = Math.sqrt(squares / squaresInF32);
      assert.ok(ratio < 0.4, `${packing.name} ${tokens}: ${ratio}`);
    }
  }
});

test("whole numbers come out exactly", () => {
  for (const packing of PACKINGS.values()) {
    for (const columns of columnsOf(packing)) {
      for (const tokens of [1, 3, 9]) {
        clearRoom();
        const matrices = [made(packing, 11, columns, "whole")];
        const x = new Noise(`whole ${columns}`).numbers(tokens * columns, "whole");
        const { outputs, expected } = runProduct(
          { epilogue: "plain", normed: false, tokens, matrices, x, wanted: () => true },
        );
        // + 0: whether a sum of zeros is −0 does not matter.
        assert.deepEqual(
          outputs[0]!.map((each) => each + 0),
          expected[0]!.map((each) => each + 0),
          `${packing.name} ${tokens}x${columns}`,
        );
      }
    }
  }
});

test("x of very different and of extreme sizes", () => {
  for (const packing of PACKINGS.values()) {
    const columns = packing.blockSize === 1 ? 66 : 256;
    for (const tokens of [1, 8]) {
      for (const size of [2 ** -90, 2 ** -40, 1, 2 ** 40, 2 ** 90]) {
        clearRoom();
        const matrices = [made(packing, 9, columns)];
        const noise = new Noise(`sizes ${size}`);
        const x = noise.numbers(tokens * columns)
          .map((each) => each * size * 2 ** -(noise.bits() % 20));
        x[5] = 2 * size * (1 - 2 ** -24); // the largest mantissa
        judge(
          runProduct({ epilogue: "plain", normed: false, tokens, matrices, x, wanted: () => true }),
          `${packing.name} ${size}`,
        );
      }
    }
  }
});

test("every epilogue, with and without norm, with all taps, some and none", async (t) => {
  const types: Record<Epilogue, string[][]> = {
    plain: [["Q4_1"], ["F16"]],
    residual: [["Q4_0"], ["Q6_K"], ["F32"]],
    qkv: [["Q8_0", "Q8_0", "Q8_0"], ["Q4_K", "Q4_K", "Q6_K"], ["Q8_0", "F16", "BF16"]],
    glu: [["Q5_0", "Q5_0"], ["Q4_K", "Q8_0"], ["BF16", "BF16"]],
  };
  const taps: ((i: number) => boolean)[] = [() => true, (i) => i % 2 === 0, (i) => i < 1];
  for (const epilogue of EPILOGUES) {
    for (const names of types[epilogue]) {
      for (const normed of epilogue === "residual" ? [false] : [false, true]) {
        await t.step(`${epilogue} ${names} ${normed ? "normed" : ""}`, () => {
          for (const tokens of [1, 2, 5, 8, 13, ...(normed ? [] : [128])]) {
            for (
              const wanted of epilogue === "qkv"
                ? [(i: number) => i < 3, ...taps.slice(0, 1)]
                : taps
            ) {
              clearRoom();
              const columns = 256, rows = epilogue === "qkv" ? [20, 9, 1] : [19, 19];
              const matrices = names.map((name, i) => made(PACKINGS.get(name)!, rows[i], columns));
              const x = new Noise(`${epilogue} ${tokens}`).numbers(tokens * columns);
              judge(
                runProduct({ epilogue, normed, tokens, matrices, x, wanted }),
                `${epilogue} ${names} ${tokens}`,
              );
            }
          }
        });
      }
    }
  }
});

test("infinities and NaN in x never become finite numbers", () => {
  for (const packing of PACKINGS.values()) {
    const columns = packing.blockSize === 1 ? 66 : 256;
    for (const tokens of [1, 3, 8, 9]) {
      for (const special of [NaN, Infinity, -Infinity]) {
        for (const at of [0, 31, columns - 1]) {
          clearRoom();
          // Whole numbers of all signs, zeros among them: 0 · ∞ is NaN.
          const matrices = [made(packing, 9, columns)];
          const x = new Noise("special").numbers(tokens * columns);
          x[(tokens - 1) * columns + at] = special;
          const { outputs: [y], expected: [twin], allowed: [allowed] } = runProduct(
            { epilogue: "plain", normed: false, tokens, matrices, x, wanted: () => true },
          );
          y!.forEach((value, i) => {
            const what = `${packing.name} ${tokens} ${special} ${at}: ${value}, ${twin![i]}`;
            if (i >= (tokens - 1) * 9) assert.ok(!Number.isFinite(value), what);
            else assert.ok(Math.abs(value - twin![i]) <= allowed![i] + 1e-6, what);
          });
        }
      }
    }
  }
});

test("halves of any size, infinities and NaN among them: tiles that are stored in two ways", () => {
  const packing = PACKINGS.get("F16")!, columns = 12, rows = 44;
  for (const special of [NaN, Infinity, -Infinity, 65504, -64]) {
    clearRoom();
    const values = Float16Array.from({ length: rows * columns }, (_, i) => i % 7 - 3);
    // In the third and the last of six tiles.
    for (const row of [19, 43]) values[row * columns + 5] = special;
    const { descriptor } = matrix(packing, new Uint8Array(values.buffer), rows, columns);
    for (const tokens of [1, 2, 8]) {
      const y = room(tokens * rows * 4);
      const x = put(new Float32Array(tokens * columns).fill(2));
      run(kernels.linear, tokens, {
        inputs: [x],
        weights: [descriptor],
        outputs: [y],
        constants: [columns, 0, 0],
      }, [0]);
      for (let i = 0; i < tokens * rows; i++) {
        const row = i % rows;
        const sum = values.subarray(row * columns, (row + 1) * columns)
          .reduce((total, each) => total + 2 * each, 0);
        assert.equal(floats(y, tokens * rows)[i], sum, `${special} ${row}`);
      }
    }
  }
});

test("results do not depend on the number of threads, nor on their order", () => {
  for (const name of ["F16", "Q4_1", "Q8_0", "Q6_K"]) {
    for (const [tokens, rows] of [[1, 301], [3, 173], [9, 61]]) {
      clearRoom();
      const columns = 512, packing = PACKINGS.get(name)!;
      const matrices = [made(packing, rows, columns), made(packing, rows, columns)];
      const x = new Noise("threads").numbers(tokens * columns);
      const of = (order: number[]) =>
        runProduct({
          epilogue: "glu",
          normed: true,
          tokens,
          matrices,
          x,
          wanted: () => true,
          order,
        })
          .outputs.map((each) => new Uint32Array(each!.buffer));
      const one = of([0]);
      // Whoever comes first takes all: others are still to make their x and find nothing left.
      for (const order of [[0, 1], [1, 0], [2, 0, 1]]) assert.deepEqual(of(order), one);
    }
  }
});

test("rows of the embedding matrix; an id without a row gives NaN", () => {
  for (const packing of PACKINGS.values()) {
    clearRoom();
    const columns = packing.blockSize === 1 ? 9 : 256, rows = 21;
    const { descriptor, reader } = made(packing, rows, columns);
    const ids = [20, 0, 8, 8, rows, -1];
    const y = room(ids.length * columns * 4), idsAt = room(ids.length * 4);
    words(idsAt, ids.length).set(ids);
    run(kernels.embed, ids.length, {
      inputs: [idsAt],
      weights: [descriptor],
      outputs: [y],
      constants: [columns],
    }, [0, 1]);
    const expected = new Float32Array(columns);
    ids.forEach((id, t) => {
      if (id >= 0 && id < rows) reader.read(id, expected);
      else expected.fill(NaN);
      assert.deepEqual(floats(y + t * columns * 4, columns).slice(), expected);
    });
  }
});

test("each head's part of a product", () => {
  for (const packing of PACKINGS.values()) {
    for (
      const [heads, width] of packing.blockSize === 1
        ? [[3, 5], [2, 64], [1, 7]]
        : [[2, 128], [8, 32]]
    ) {
      for (const tokens of [1, 3, 4, 9]) {
        clearRoom();
        const columns = heads * width, rows = 19;
        const each = made(packing, rows, columns);
        const x = new Noise("heads").numbers(tokens * columns);
        const y = room(tokens * heads * rows * 4);
        run(kernels.head_result, tokens, {
          inputs: [put(x)],
          weights: [each.descriptor],
          outputs: [y],
          constants: [heads, columns, rows],
        }, [0, 1]);
        const expected = new Float32Array(tokens * heads * rows);
        KERNELS.get("head_result")!.twin({
          pass: { tokens, start: 0, rows: 1 },
          constants: { heads },
          inputs: [x],
          weights: [each.reader],
          outputs: [expected],
        });
        for (let head = 0; head < heads; head++) {
          // The others' columns of x count for nothing.
          const own = x.map((value, i) => Math.floor(i % columns / width) === head ? value : 0);
          const errors = productErrors(each, own, tokens, 0);
          for (let t = 0; t < tokens; t++) {
            for (let row = 0; row < rows; row++) {
              const at = (t * heads + head) * rows + row;
              const error = Math.abs(floats(y, expected.length)[at] - expected[at]);
              assert.ok(
                error <= errors[t * rows + row] + HALF_ULP * Math.abs(expected[at]),
                `${packing.name} ${heads}x${width}, ${tokens} positions: ${at}`,
              );
            }
          }
        }
      }
    }
  }
});
