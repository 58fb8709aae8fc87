/** Folders of somebody else's tensors that are wrong: one line each, in little memory and time. */
import assert from "node:assert/strict";
import { folderReference } from "../../../checkpoints/references/engine_folder/engine_folder.ts";
import { decodeNpy, readNpy, writeNpy } from "../../../checkpoints/files/npy.ts";
import { sizeOf } from "../../../base/shape.ts";
import { ReferenceFailure } from "../../../checkpoints/references/reference.ts";
import { writeTable } from "../../../inspect/tables/files.ts";
import { Folder } from "../../support/folder.ts";
import { Random } from "../../../checkpoints/files/random.ts";
import {
  bin,
  config,
  H,
  manifest,
  numbers,
  refused,
  request,
  run,
  T,
  WIDTH,
} from "../../support/engines/engine_folder_samples.ts";

Deno.test("engine folder: folders and manifests that are wrong are one line", async () => {
  using folder = new Folder();
  await refused(folder, /: no manifest.json and no \.arrow, \.npy or \.bin file in it$/);
  const none = await folderReference(folder.at("none"), config).catch((error) => error);
  assert.equal(none.message, "none: no such folder");

  const tensor = (name: string, more: Record<string, unknown>) => manifest({ [name]: more });
  const q = (more: Record<string, unknown>) => tensor("blk.0.q", more);
  const twice = { "blk.0.q": { file: "a.npy" }, "Qcur-0#pre_rope": { file: "b.npy" } };
  const cases: [string, RegExp][] = [
    ["{,\n}", /: manifest\.json: not JSON: /],
    ["[]", /manifest\.json: the whole is no object/],
    ['{"format": "gguf"}', /format is "gguf"/],
    [manifest({}, { version: 2 }), /version is 2; this Lamina reads version 1/],
    [manifest({}, { rope: "odd" }), /rope is "odd"; it must be one of adjacent, half/],
    [manifest({}, { prompt_ids: [1, -1] }), /prompt_ids is \[1,-1\]; it must be a list of/],
    [manifest({}, { passes: [{ step: 0 }] }), /passes\[0\]\.start is missing/],
    [manifest({}, { prompt_ids: [1] }), /step 0 ran ids that are not those of prompt_ids/],
    [
      tensor("blk.0.qq", { file: "q.npy" }),
      /manifest\.json: No point "blk\.0\.qq" .*did you mean blk\.0\.q/,
    ],
    [tensor("blk.*.q", { file: "q.npy" }), /"blk\.\*\.q" is a pattern, not a point/],
    [q({ file: "../q.npy" }), /\.\.\/q\.npy is outside of the folder/],
    [q({ file: "q.txt" }), /q\.txt is no \.arrow, \.npy or \.bin file/],
    [q({ file: "none.npy" }), /: none\.npy: no such file/],
    [manifest(twice), /blk\.0\.q \(a\.npy\) and Qcur-0#pre_rope \(b\.npy\) are the same point/],
    [q({ file: "a.npy", positions: [9] }), /tensors\.blk\.0\.q\.positions leave the pass/],
  ];
  for (const [text, message] of cases) {
    folder.write("manifest.json", text);
    await refused(folder, message);
  }
  folder.write("manifest.json", manifest({}));
  await refused(
    folder,
    /it holds the prompt \[1, 5, 9, 2, 7\], not \[1, 2\]/,
    request([], { ids: [1, 2] }),
  );
  const passes = [{ step: 1, start: T, ids: [4], tensors: {} }];
  folder.write("manifest.json", manifest({}, { passes }));
  const forced = { generate: 1, steps: [1], forced: [8] };
  await refused(folder, /its pass of step 1 ran token 4, not 8/, request([], forced));
});

Deno.test("engine folder: files that are wrong are one line that names them", async () => {
  using folder = new Folder();
  const q = numbers(run, "blk.0.q").data;
  const wrong = async (file: string, bytes: Uint8Array, message: RegExp) => {
    folder.write(file, bytes);
    await refused(folder, message);
    Deno.removeSync(folder.at(file));
  };
  const good = bin(q, [WIDTH, H, T]);
  await wrong("q.bin", good, /: q\.bin: No point "q"/);
  const bins: [Uint8Array, string][] = [
    [good.subarray(0, -1), "shape .* needs 1280 bytes of numbers, the file has 1279"],
    [good.subarray(0, 20), "it ends within its header"],
    [good.subarray(0, 2), "it ends within its header"],
    [bin(q, [WIDTH, H, T], 1e9), "1000000000 dimensions"],
    [bin(q, [WIDTH, H, 2 ** 53]), "shape .* needs \\d+ bytes"],
    [bin(q, [-WIDTH, -H, T]), "shape \\[-16, -4, 5\\]"],
    [
      bin(q, [WIDTH, T, H]),
      "shape \\[4, 5, 16\\] where blk\\.0\\.q has \\[position 5, head 4, feature 16\\]; name its axes",
    ],
  ];
  for (const [bytes, said] of bins) {
    const message = new RegExp(`: checkpoint_blk\\.0\\.q\\.bin: ${said}`);
    await wrong("checkpoint_blk.0.q.bin", bytes, message);
  }

  const bytes = new Uint8Array(await npyBytes([T, H, WIDTH], q));
  const text = (from: string, to: string) => {
    const header = String.fromCharCode(...bytes.subarray(0, 128)).replace(
      from,
      to.padEnd(from.length),
    );
    return Uint8Array.from(
      [...header].map((c) => c.charCodeAt(0)).concat([...bytes.subarray(128)]),
    );
  };
  const npys: [Uint8Array, string][] = [
    [bytes.subarray(0, 5), "no \\.npy file"],
    [bytes.subarray(0, 9), "it ends within its header"],
    [bytes.subarray(0, 90), "it ends within its header"],
    [bytes.subarray(0, 900), "shape .* needs 1280 bytes of numbers, the file has 772"],
    [text("'<f4'", "'<i4'"), 'numbers of type "<i4"; write float32'],
    [text("'shape'", "'shope'"), "a damaged \\.npy header"],
    [text("(5, 4, 16)", "(999999999)"), "shape .* needs 3999999996 bytes"],
  ];
  for (const [bytes, said] of npys) {
    await wrong("blk.0.q.npy", bytes, new RegExp(`: blk\\.0\\.q\\.npy: ${said}`));
  }

  await writeTable(folder.at("whole.arrow"), run.table("blk.0.q"));
  const arrow = Deno.readFileSync(folder.at("whole.arrow"));
  Deno.removeSync(folder.at("whole.arrow"));
  await wrong(
    "blk.0.q.arrow",
    arrow.subarray(0, arrow.length / 2),
    /: blk\.0\.q\.arrow: a damaged/,
  );
  await wrong(
    "blk.0.q.arrow",
    new Uint8Array(100),
    /: blk\.0\.q\.arrow: no message of an Arrow stream/,
  );
  const cut = run.table("blk.0.q").slice(0, 7);
  await writeTable(folder.at("blk.0.q.arrow"), cut);
  await refused(folder, /: blk\.0\.q\.arrow: 7 rows where blk\.0\.q needs 8/);
  await writeTable(folder.at("blk.0.q.arrow"), run.table("blk.0.q").select(["value"]) as never);
  await refused(folder, /: blk\.0\.q\.arrow: it has no column /);
});

Deno.test("engine folder: damaged bytes give numbers or one line, in little memory and time", async () => {
  using whole = new Folder();
  await writeTable(whole.at("blk.0.attn_probs.arrow"), run.table("blk.0.attn_probs"));
  await writeNpy(
    whole.at("blk.0.attn_probs.npy"),
    [H, T, T],
    numbers(run, "blk.0.attn_probs").data,
  );
  const probs = numbers(run, "blk.0.attn_probs");
  whole.write("checkpoint_blk.0.attn_probs.bin", bin(probs.data, [T, T, H]));
  const random = new Random(12);
  const { rss } = Deno.memoryUsage();
  for (const name of whole.names()) {
    const bytes = Deno.readFileSync(whole.at(name));
    for (let i = 0; i < 150; i++) {
      using folder = new Folder();
      const damaged = bytes.slice(0, i % 3 === 0 ? random.integer(0, bytes.length) : undefined);
      // Headers and the metadata at the end are where damage does harm.
      const near = () =>
        Math.floor(Math.min(...[0, 0, 0].map(() => random.uniform(0, bytes.length))));
      for (let flips = 0; flips < 3; flips++) {
        const at = random.bits() % 2 ? near() : bytes.length - 1 - near();
        damaged[at] = random.bits();
      }
      folder.write(name, damaged);
      const error = await folderReference(folder.path, config)
        .then((reference) => reference.run(request(["blk.0.attn_probs"])))
        .then(() => undefined, (reason) => reason);
      assert.ok(
        error === undefined || error instanceof ReferenceFailure,
        `${name}: ${error?.stack}`,
      );
    }
  }
  assert.ok(Deno.memoryUsage().rss - rss < 2 ** 28);
});

async function npyBytes(shape: readonly number[], data: Float32Array): Promise<Uint8Array> {
  using folder = new Folder();
  await writeNpy(folder.at("x.npy"), shape, data);
  return Deno.readFileSync(folder.at("x.npy"));
}

Deno.test("npy: what is written is read, and what NumPy wrote in other types and orders", async () => {
  using folder = new Folder();
  const data = Float32Array.from({ length: 24 }, (_, i) => i - 7.5);
  for (const shape of [[24], [2, 3, 4], [1, 24, 1], [0, 4]]) {
    const some = data.subarray(0, sizeOf(shape));
    await writeNpy(folder.at("x.npy"), shape, some);
    const bytes = Deno.readFileSync(folder.at("x.npy"));
    assert.equal(bytes.length % 64, some.byteLength % 64, "numbers begin on a multiple of 64");
    assert.deepEqual(await readNpy(folder.at("x.npy")), { shape, data: some.slice() });
  }
  await assert.rejects(writeNpy(folder.at("x.npy"), [5], data), RangeError);
  const wide = Float64Array.of(Math.PI, NaN, -0);
  await writeNpy(folder.at("x.npy"), [3], wide);
  assert.deepEqual((await readNpy(folder.at("x.npy"))).data, wide);

  // numpy.save of NumPy 1.26: np.arange(6).reshape(2, 3), as '>f4', as asfortranarray of '<f2', and of version 2.0.
  const header = (descr: string, fortran: string) =>
    `{'descr': '${descr}', 'fortran_order': ${fortran}, 'shape': (2, 3), }`.padEnd(117) + "\n";
  const file = (version: number, head: string, numbers: Uint8Array) => {
    const length = version === 1 ? [head.length, 0] : [head.length, 0, 0, 0];
    const prefix = [0x93, ...new TextEncoder().encode("NUMPY"), version, 0, ...length];
    return Uint8Array.from([...prefix, ...new TextEncoder().encode(head), ...numbers]);
  };
  const big = new Uint8Array(24);
  for (let i = 0; i < 6; i++) new DataView(big.buffer).setFloat32(4 * i, i, false);
  assert.deepEqual(decodeNpy(file(1, header(">f4", "False"), big)), {
    shape: [2, 3],
    data: Float32Array.of(0, 1, 2, 3, 4, 5),
  });
  const halves = new Uint8Array(Float16Array.of(0, 3, 1, 4, 2, 5).buffer);
  assert.deepEqual(decodeNpy(file(2, header("<f2", "True"), halves)), {
    shape: [2, 3],
    data: Float32Array.of(0, 1, 2, 3, 4, 5),
  });
});
