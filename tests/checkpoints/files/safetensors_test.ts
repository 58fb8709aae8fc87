/** safetensors files and JSON of other makers: numbers as they were written, and what is wrong in one line. */
import assert from "node:assert/strict";
import { parseManifest } from "../../../checkpoints/references/engine_folder/manifest.ts";
import { openSafetensors, SafetensorsError } from "../../../checkpoints/files/safetensors.ts";
import { parseForeignJson } from "../../../models/foreign_json.ts";
import { GgufError } from "../../../engine/gguf/reader.ts";
import { Folder } from "../../support/folder.ts";
import { withHeader, writeSafetensors } from "../../support/models/safetensors_writer.ts";
import { asHuggingFace } from "../../support/models/diff_samples.ts";

Deno.test("foreign JSON: indexes, headers and manifests may begin with a byte order mark, too", async () => {
  using folder = new Folder();
  const [tensor] = asHuggingFace("F32").filter(({ name }) => name === "model.norm.weight");
  folder.write("x.safetensors", writeSafetensors([tensor]));
  const map = { weight_map: { [tensor.name]: "x.safetensors" } };
  const index = folder.write("x.index.json", "\ufeff" + JSON.stringify({ size: NaN, ...map }));
  const file = await openSafetensors(index);
  assert.deepEqual([...file.tensors.keys()], [tensor.name]);
  file.close();
  folder.write("bad.index.json", "{]");
  await assert.rejects(
    openSafetensors(folder.at("bad.index.json")),
    /bad\.index\.json: this is not/,
  );
  const header = '\ufeff{"__metadata__":{"limit":Infinity}}';
  const marked = await openSafetensors(folder.write("y.safetensors", withHeader(header, [])));
  assert.equal(marked.tensors.size, 0);
  marked.close();
  const manifest = {
    format: "lamina-engine-tensors",
    version: 1,
    model: "tiny",
    prompt_ids: [1],
    passes: [],
  };
  assert.equal(parseManifest("\ufeff" + JSON.stringify(manifest)).model, "tiny");
  const notes = JSON.stringify(manifest).replace("{", '{"loss":NaN,');
  assert.equal(parseManifest(new TextEncoder().encode(notes)).model, "tiny");
});

Deno.test("foreign JSON: words in strings stay, and so do errors", () => {
  assert.deepEqual(
    parseForeignJson('{"a NaN":"Infinity \\"NaN\\"","b":[NaN,-Infinity,Infinity]}'),
    {
      "a NaN": 'Infinity "NaN"',
      b: [NaN, -Infinity, Infinity],
    },
  );
  for (const wrong of ["", "{", "xNaN", "[Infinityx]", "[--Infinity]"]) {
    assert.throws(() => parseForeignJson(wrong), SyntaxError, wrong);
  }
});

Deno.test("safetensors: numbers as they were written, and files that are wrong in one line", async () => {
  using folder = new Folder();
  const data = Float32Array.of(1, -2.5, 0.15625, 3);
  const path = folder.write(
    "x.safetensors",
    writeSafetensors([
      { name: "a", dtype: "BF16", shape: [4], data },
      { name: "b", dtype: "F32", shape: [2, 2], data },
      { name: "c", dtype: "F16", shape: [], data: data.slice(1, 2) },
    ]),
  );
  const file = await openSafetensors(path);
  for (const name of ["a", "b"]) {
    assert.deepEqual(await file.tensors.get(name)!.read!(1, 3), data.slice(1));
  }
  assert.deepEqual(await file.tensors.get("c")!.read!(0, 1), Float32Array.of(-2.5));
  file.close();

  const bytes = Deno.readFileSync(path);
  const entry = (more: Record<string, unknown>) =>
    JSON.stringify({ t: { dtype: "F32", shape: [2], data_offsets: [0, 8], ...more } });
  const eight = [new Uint8Array(8)];
  const cases: [Uint8Array, RegExp][] = [
    [new Uint8Array(3), /too short for a safetensors file/],
    [bytes.subarray(0, 20), /no safetensors file, or a truncated one: a header of \d+ bytes/],
    [withHeader("{}", [], 2n ** 63n), /a header of 9223372036854776000 bytes/],
    [withHeader("{]", []), /its header is not JSON/],
    [withHeader("[1]", []), /its header is no JSON object/],
    [
      bytes.subarray(0, bytes.length - 1),
      /tensor "c" ends at byte \d+ but the file has \d+; it is truncated/,
    ],
    [withHeader(entry({ shape: [3] }), eight), /tensor "t", F32 \[3\], takes 8 bytes/],
    [withHeader(entry({ shape: [2 ** 40, 2 ** 40] }), eight), /takes 8 bytes/],
    [withHeader(entry({ shape: [-2] }), eight), /tensor "t" has no dtype, shape or data_offsets/],
    [withHeader(entry({ data_offsets: [8, 0] }), eight), /data_offsets \[8,0\]/],
    [withHeader(entry({ data_offsets: [0, 1e15] }), eight), /ends at byte 10000000000000\d\d/],
    [withHeader('{"t":null}', eight), /tensor "t" has no dtype/],
  ];
  for (const [wrong, message] of cases) {
    folder.write("wrong.safetensors", wrong);
    const error = await openSafetensors(folder.at("wrong.safetensors")).catch((error) => error);
    assert.ok(error instanceof SafetensorsError, `${error}`);
    assert.match(error.message, message);
    assert.match(error.message, /wrong\.safetensors: [^\n]+$/);
  }
  const index = (map: unknown) => folder.write("i.index.json", JSON.stringify({ weight_map: map }));
  for (
    const [map, message] of [
      [{ a: "../x.safetensors" }, /"a" is in "\.\.\/x\.safetensors"/],
      [{ z: "x.safetensors" }, /x\.safetensors has no tensor "z"/],
      [{ a: "none.safetensors" }, /none\.safetensors: no such file/],
      [[], /an index without weight_map/],
    ] as const
  ) {
    const error = await openSafetensors(index(map)).catch((error) => error);
    assert.ok(error instanceof SafetensorsError || error instanceof GgufError, `${error}`);
    assert.match(error.message, message);
  }
});
