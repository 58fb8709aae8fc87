/** Who a model's file is: what is loaded, copied and told of it is of all its parts, as they are now. */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { breakModel } from "../../checkpoints/diagnosis/without_reference/broken_copy.ts";
import { f32Copy } from "../../checkpoints/files/f32_copy.ts";
import { parity } from "../../checkpoints/comparisons/parity.ts";
import { quantizeModel } from "../../checkpoints/quantization/quantize.ts";
import { openGguf } from "../../engine/gguf/reader.ts";
import { bytesSource } from "../../engine/gguf/source.ts";
import { load } from "../../inspect/run/loading.ts";
import { loadModel, type Model } from "../../inspect/run/model.ts";
import { identityOf } from "../../models/identity.ts";
import { verifyModel } from "../../models/mod.ts";
import { Folder } from "../support/folder.ts";
import {
  type WriterTensor,
  type WriterValue,
  writeSplitGguf,
} from "../support/models/gguf_writer.ts";
import { randomLlama } from "../support/models/random_llama.ts";

const CPU = { backend: "cpu" } as const;

/** The parts of a small model; those of two seeds are as large. */
async function partsOf(seed: number): Promise<Uint8Array[]> {
  let all: WriterTensor[] = [];
  const bytes = randomLlama({ layers: 1, type: "F16", seed, tensors: (given) => all = given });
  const file = await openGguf(bytesSource("whole", bytes));
  const metadata = Object.fromEntries(
    [...file.metadata].map(([key, value]) => [key, { type: file.metadataTypes.get(key), value }]),
  ) as Record<string, WriterValue>;
  return writeSplitGguf({ metadata }, [all.slice(0, 3), all.slice(3)]);
}

const NAMES = ["split-00001-of-00002.gguf", "split-00002-of-00002.gguf"];

class Split extends Folder {
  readonly env = (name: string) => name === "LAMINA_HOME" ? this.at("home") : undefined;
  readonly paths = NAMES.map((name) => this.at(name));

  static async make(): Promise<Split> {
    const split = new Split();
    for (const [i, bytes] of (await partsOf(1)).entries()) split.write(NAMES[i], bytes);
    return split;
  }

  /** Puts another model's second part in place of this one's, as a download does: a new file of the same size and time. */
  async replaceSecond(): Promise<void> {
    const [, other] = await partsOf(2);
    const { mtime, size } = Deno.statSync(this.paths[1]);
    assert.equal(other.length, size);
    Deno.utimeSync(this.write("new", other), mtime!, mtime!);
    Deno.renameSync(this.at("new"), this.paths[1]);
  }
}

async function logits(model: Model): Promise<Float32Array> {
  return (await model.run([[1, 5, 9]], { capture: ["logits"] })).tensor("logits").toFloat32Array();
}

function sha256Of(bytes: Uint8Array | string): string {
  return createHash("sha256").update(bytes).digest("hex");
}

/** As `sha256sum PARTS | cut -c1-64 | sha256sum` prints it. */
function sha256OfParts(paths: readonly string[]): string {
  return sha256Of(paths.map((path) => `${sha256Of(Deno.readFileSync(path))}\n`).join(""));
}

async function toldSha256(model: Model): Promise<string | undefined> {
  const run = await model.run([[1]], { capture: ["logits"] });
  return run.table("logits").metadata.get("sha256");
}

Deno.test("a split model is loaded anew when another part than the named one has changed", async () => {
  using split = await Split.make();
  using before = await loadModel(split.paths[0], CPU);
  const old = await logits(before);
  await split.replaceSecond();
  using after = await loadModel(split.paths[0], CPU);
  assert.notDeepEqual(await logits(after), old);
  // In place, too: the same file with another content.
  const [, first] = await partsOf(1);
  Deno.writeFileSync(split.paths[1], first);
  using again = await loadModel(split.paths[0], CPU);
  assert.deepEqual(await logits(again), old);
});

Deno.test("a split model is the same one by whichever part it is named", async () => {
  using split = await Split.make();
  const [first, second] = [await load(split.paths[0], CPU), await load(split.paths[1], CPU)];
  try {
    assert.ok(first.file === second.file);
  } finally {
    first.release();
    second.release();
  }
});

Deno.test("other bytes under the same name are another model", async () => {
  const found = [1, 2].map((seed) => ({ name: "same", bytes: randomLlama({ layers: 1, seed }) }));
  const [first, second] = [await load(found[0], CPU), await load(found[1], CPU)];
  try {
    assert.ok(first.file !== second.file);
  } finally {
    first.release();
    second.release();
  }
});

Deno.test("32-bit copies are of all parts", async () => {
  using split = await Split.make();
  const model = { name: "split", path: split.paths[0] };
  const before = await f32Copy(model, split);
  assert.equal(await f32Copy({ name: "split", path: split.paths[1] }, split), before);
  await split.replaceSecond();
  assert.notEqual(await f32Copy(model, split), before);
});

Deno.test("a copy is not written over any part of the model", async () => {
  using split = await Split.make();
  const [, second] = split.paths;
  const before = Deno.readFileSync(second);
  await assert.rejects(
    breakModel(split.paths[0], second, { cause: "gate-up-swapped" }),
    /it is the model itself/,
  );
  Deno.linkSync(second, split.at("linked.gguf"));
  for (const out of [second, split.at("linked.gguf")]) {
    await assert.rejects(quantizeModel(split.paths[0], "Q8_0", { out }), /it is the model itself/);
  }
  assert.deepEqual(Deno.readFileSync(second), before);
});

Deno.test("tables tell the SHA-256 of what was loaded, whatever a record says", async () => {
  using folder = new Folder();
  const bytes = randomLlama({ layers: 1 });
  const path = folder.write("x.gguf", bytes);
  folder.write("x.gguf.sha256", `${"ab".repeat(32)}  x.gguf\n`);
  using model = await loadModel(path, CPU);
  assert.equal(await toldSha256(model), sha256Of(bytes));

  // What was loaded is not there any more when it is asked for the first time.
  const other = folder.write("y.gguf", randomLlama({ layers: 1, seed: 2 }));
  using gone = await loadModel(other, CPU);
  folder.write("new", randomLlama({ layers: 1, seed: 3 }));
  Deno.renameSync(folder.at("new"), other);
  assert.equal(await toldSha256(gone), undefined);
});

Deno.test("a model whose file has changed since is not compared with the file, nor is the file quantized", async () => {
  using split = await Split.make();
  using model = await loadModel(split.paths[0], CPU);
  await split.replaceSecond();
  const compared = parity(model, [1, 5], { reference: "oracle", generate: 0, layers: [0, 0] });
  const changed = {
    name: "ModelError",
    message: /: its file has changed since it was opened; open it again$/,
  };
  await assert.rejects(compared, changed);
  await assert.rejects(quantizeModel(model, "Q8_0", { out: split.at("copy.gguf") }), changed);
});

Deno.test("tables tell the SHA-256 of all parts", async () => {
  using split = await Split.make();
  for (const path of split.paths) {
    using model = await loadModel(path, CPU);
    assert.equal(await toldSha256(model), sha256OfParts(split.paths));
  }
});

Deno.test("a large file is hashed where a record is to be checked, and its hash is remembered while it stays", async () => {
  using folder = new Folder();
  const env = (name: string) => name === "LAMINA_HOME" ? folder.at("home") : undefined;
  const path = folder.write("large.gguf", "GGUF");
  Deno.truncateSync(path, 64 * 2 ** 20);
  const sha256 = async (atMost?: number) => (await identityOf({ path }, env)).sha256({ atMost });
  assert.equal(await sha256(2 ** 20), undefined);
  assert.deepEqual(folder.names(), ["large.gguf"]);
  folder.write("large.gguf.sha256", `${"ab".repeat(32)}  large.gguf\n`);
  const digest = sha256Of(Deno.readFileSync(path));
  assert.equal(await sha256(2 ** 20), digest);
  Deno.removeSync(folder.at("large.gguf.sha256"));
  assert.equal(await sha256(2 ** 20), digest);

  // Another process finds the note that was left, and what it says is of this content alone.
  const [note] = [...Deno.readDirSync(folder.at("home/checksums"))].map(({ name }) => name);
  assert.equal(Deno.readTextFileSync(folder.at(`home/checksums/${note}`)), `${digest}  ${path}\n`);
  const told = async () => {
    const script = `import { identityOf } from ${
      JSON.stringify(import.meta.resolve("../../models/identity.ts"))
    }; console.log(await (await identityOf({ path: Deno.args[0] })).sha256({ atMost: 1 }));`;
    const { stdout } = await new Deno.Command(Deno.execPath(), {
      args: ["eval", "--ext=ts", script, path],
      env: { LAMINA_HOME: folder.at("home") },
    }).output();
    return new TextDecoder().decode(stdout).trim();
  };
  assert.equal(await told(), digest);
  Deno.writeFileSync(path, new Uint8Array([1]), { append: true });
  assert.equal(await told(), "undefined");
});

Deno.test("verification is of all parts, each with its own record", async () => {
  using split = await Split.make();
  const paths = split.paths;
  for (const path of paths) {
    Deno.writeTextFileSync(`${path}.sha256`, `${sha256Of(Deno.readFileSync(path))}\n`);
  }
  const verify = () => verifyModel(paths[0], split);
  const whole = sha256OfParts(paths);
  const { sha256, expected, parts } = await verify();
  assert.deepEqual([sha256, expected], [whole, whole]);
  assert.deepEqual(parts?.map(({ path }) => path), paths);

  await split.replaceSecond();
  const changed = await verify();
  assert.equal(changed.expected, whole);
  assert.equal(changed.sha256, sha256OfParts(paths));
  const command = new URL("../../checkpoints/commands/model.ts", import.meta.url).pathname;
  const { code, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["run", "-q", "-A", command, "verify", paths[0]],
  }).output();
  assert.equal(code, 1);
  assert.match(
    new TextDecoder().decode(stderr),
    /split-00002-of-00002\.gguf: checksum mismatch, SHA-256 is [0-9a-f]{64} where /,
  );

  Deno.removeSync(paths[1]);
  await assert.rejects(verify(), {
    name: "ModelError",
    message: `${paths[1]}: this part of the split file is missing; put all parts in one folder`,
  });
});
