/** Files that are given as models and are none, and folders that cannot be written: one line each, and nothing waits or is lost. */
import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";
import { ReferenceFailure } from "../../checkpoints/references/reference.ts";
import { pyTorchReference } from "../../checkpoints/references/pytorch/reference.ts";
import { readConfig } from "../../engine/plan/tensors.ts";
import { GgufError, openGguf, openGgufFile } from "../../engine/gguf/reader.ts";
import { bytesSource } from "../../engine/gguf/source.ts";
import { findModel, ModelError } from "../../models/mod.ts";
import { Folder } from "../support/folder.ts";
import { writeGguf } from "../support/models/gguf_writer.ts";
import { writeSafetensors } from "../support/models/safetensors_writer.ts";
import { deno, ROOT } from "../support/command.ts";

const TINY = fileURLToPath(new URL("models/tiny/tiny.gguf", ROOT));
const MODEL = "checkpoints/commands/model.ts";
const PARITY = "checkpoints/commands/parity.ts";

/** Runs a program of the repository; one that waits for ever is ended, and its exit code is none of ours. */
function run(
  program: string,
  args: readonly string[],
  { env = {}, permissions = ["-A"] }: {
    env?: Record<string, string>;
    permissions?: readonly string[];
  } = {},
) {
  const signal = AbortSignal.timeout(240_000);
  return deno(["run", "-q", "--no-prompt", ...permissions, program, ...args], { env, signal });
}

const OTHERS: readonly [Record<string, string>, RegExp][] = [
  [
    { "general.type": "adapter", "general.architecture": "llama", "adapter.type": "lora" },
    /: this is a LoRA adapter, not a model: merge it into its base model .* and give the result$/,
  ],
  [
    { "general.type": "imatrix" },
    /: this is an importance matrix \(imatrix\), not a model: .* give the model's own GGUF file$/,
  ],
  [
    { "general.type": "mmproj", "general.architecture": "clip" },
    /: this is a multimodal projector \(mmproj, clip\), not a language model: give the GGUF/,
  ],
  [
    { "general.type": "clip-vision", "general.architecture": "clip" },
    /: this is a multimodal projector/,
  ],
  [{ "general.architecture": "clip" }, /: this is a multimodal projector/],
  [{ "general.architecture": "controlvector" }, /: this is a control vector, not a model: give/],
];

Deno.test("GGUF files of adapters, imatrices, projectors and control vectors say what they are", async () => {
  using folder = new Folder();
  for (const [metadata, message] of OTHERS) {
    const bytes = writeGguf({ metadata, tensors: [] });
    const file = await openGguf(bytesSource("other.gguf", bytes));
    assert.throws(() => readConfig(file), (error) => {
      assert.ok(error instanceof GgufError);
      assert.match(error.message, message);
      assert.doesNotMatch(error.message, /\n/);
      return true;
    });
  }
  const adapter = folder.write("lora.gguf", writeGguf({ metadata: OTHERS[0][0], tensors: [] }));
  for (
    const [program, ...args] of [
      ["generate.ts", "--model", adapter, "x"],
      [MODEL, "tokenize", adapter, "x"],
      [MODEL, "diff", "tiny", adapter],
      [MODEL, "diagnose", adapter],
    ]
  ) {
    const { code, out, err } = await run(program, args);
    assert.deepEqual([code, out], [1, ""], err);
    assert.match(err, /^error: \S+lora\.gguf: this is a LoRA adapter[^\n]*\n$/);
  }
  // Two of them may be compared, and any may be looked at.
  assert.equal((await run(MODEL, ["diff", adapter, adapter])).code, 0);
  assert.equal((await run(MODEL, ["info", adapter])).code, 0);
  const name = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight";
  const tensor = { name, dtype: "F32" as const, shape: [1, 2], data: Float32Array.of(1, 2) };
  const path = folder.write("adapter_model.safetensors", writeSafetensors([tensor]));
  for (const each of [path, folder.path]) {
    const { code, err } = await run(MODEL, ["diff", "tiny", each]);
    assert.equal(code, 1);
    assert.match(err, /^error: [^\n]*: this is a LoRA adapter, not a model[^\n]*\n$/);
  }
  assert.equal((await run(MODEL, ["diff", path, path])).code, 0);
});

Deno.test("hf:DIR: a config that cannot be read is a failure that says so, before Python is asked", async () => {
  using folder = new Folder();
  const file = await openGgufFile(TINY);
  try {
    const wrong = [["{]", /this is not JSON/], ["[]", /this is no JSON object/]] as const;
    for (const [config, message] of wrong) {
      folder.write("config.json", config);
      await assert.rejects(
        pyTorchReference({ file, weights: { folder: folder.path } }),
        (error) => {
          assert.ok(error instanceof ReferenceFailure);
          assert.match(error.message, /^PyTorch: \S+config\.json: /);
          assert.match(error.message, message);
          return true;
        },
      );
    }
  } finally {
    file.close();
  }
});

Deno.test("folders and empty files that are given as models are one line", async () => {
  using folder = new Folder();
  const empty = folder.write("empty.gguf", "");
  await assert.rejects(openGgufFile(empty), /^GgufError: .*: the file is empty; get it again/);
  await assert.rejects(openGgufFile(folder.path), /this is a folder; name a \.gguf file in it$/);
  await assert.rejects(openGgufFile(`${empty}/x.gguf`), /no such file; check the path$/);
});

Deno.test({
  name: "pipes and devices that are given as models are one line, and nobody waits",
  ignore: Deno.build.os === "windows",
  async fn() {
    using folder = new Folder();
    const fifo = (name: string) => {
      assert.ok(new Deno.Command("mkfifo", { args: [folder.at(name)] }).outputSync().success);
      return folder.at(name);
    };
    const model = fifo("pipe.gguf");
    await assert.rejects(findModel(model), (error) => {
      assert.ok(error instanceof ModelError);
      assert.match(error.message, /this is a pipe or a device; give the path of a GGUF file$/);
      return true;
    });
    await assert.rejects(findModel("/dev/null"), /this is a pipe or a device/);
    const cases = [
      ["generate.ts", "--model", model, "x"],
      [MODEL, "info", model],
      [MODEL, "diff", "tiny", fifo("pipe.safetensors")],
      [MODEL, "diff", "tiny", fifo("pipe.index.json")],
      [MODEL, "diff", "tiny", "/dev/null"],
    ];
    for (const [program, ...args] of cases) {
      const { code, out, err } = await run(program, args);
      assert.deepEqual([code, out], [1, ""], args.join(" "));
      assert.match(err, /^error: \S+: this is (?:a pipe or a device; give|no file)[^\n]*\n$/);
    }
  },
});

Deno.test("task parity: a LAMINA_HOME that cannot be written costs the references that need it, and no more", async () => {
  using folder = new Folder();
  const home = `${folder.write("file", "")}/home`;
  const junit = folder.at("junit.xml");
  const args = ["--json", "--determinism", "0", "--layers", "0", "--junit", junit];
  const { code, out, err } = await run(
    PARITY,
    [...args, "--reference", "oracle,llama.cpp,pytorch", "--prompt-ids", "1,2"],
    { env: { LAMINA_HOME: home, LAMINA_PROOF_DIR: folder.path } },
  );
  assert.equal(code, 0, err);
  const report = JSON.parse(out);
  assert.deepEqual(report.references.map(({ name }: { name: string }) => name), ["oracle"]);
  assert.equal(report.failures.length, 2);
  for (const { message } of report.failures) {
    assert.match(
      message,
      /cannot write .*; set LAMINA_HOME to a folder that can be written$/,
    );
  }
  assert.match(report.failures[0].message, /^llama\.cpp: .*cannot write/);
  assert.match(await Deno.readTextFile(junit), /cannot write/);

  // What may not be written because of Deno's permissions.
  const denied = await run(
    PARITY,
    [...args.slice(0, 5), "--reference", "oracle,llama.cpp", "--prompt-ids", "1,2"],
    {
      env: { LAMINA_HOME: folder.at("none"), LAMINA_PROOF_DIR: folder.at("proof") },
      permissions: ["-A", `--deny-write=${folder.at("none")}`],
    },
  );
  assert.equal(denied.code, 0, denied.err);
  assert.match(JSON.parse(denied.out).failures[0].message, /^llama\.cpp: Requires write access/);
});

Deno.test("task parity: what was found is said though the proof cannot be written", async () => {
  using folder = new Folder();
  const file = folder.write("file", "");
  const { code, out, err } = await run(
    PARITY,
    ["--json", "--determinism=0", "--layers=0", "--reference=oracle", "--prompt-ids=1,2"],
    { env: { LAMINA_PROOF_DIR: `${file}/proof` } },
  );
  assert.equal(code, 1);
  assert.match(err, /^error: [^\n]*file\/proof[^\n]*\n$/);
  const report = JSON.parse(out);
  assert.deepEqual([report.passed, report.proof], [true, null]);
});

Deno.test("other commands with a LAMINA_HOME that cannot be written: they go on, or one line", async () => {
  using folder = new Folder();
  const env = { LAMINA_HOME: `${folder.write("file", "")}/home` };
  const generated = await run("generate.ts", ["--model", TINY, "--max-tokens", "2", "Once upon"], {
    env,
  });
  assert.equal(generated.code, 0, generated.err);
  assert.doesNotMatch(generated.err, /error/);
  const pulled = await run(MODEL, ["pull", "smollm2-135m"], { env });
  assert.equal(pulled.code, 1);
  assert.match(
    pulled.err,
    /^error: smollm2-135m: cannot write [^\n]*; set LAMINA_HOME[^\n]*\n$/,
  );
  const reference = await run(
    "checkpoints/commands/reference.ts",
    ["--out", folder.at("out"), "--json", "Once"],
    { env },
  );
  assert.equal(reference.code, 1);
  assert.match(reference.err, /^error: [^\n]*cannot write [^\n]*; set LAMINA_HOME[^\n]*\n$/);
});
