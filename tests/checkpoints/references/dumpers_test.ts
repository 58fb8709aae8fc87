/** What other engines are given to write their tensors with: what it writes comes back by value. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { folderReference } from "../../../checkpoints/references/engine_folder/engine_folder.ts";
import { parity } from "../../../checkpoints/comparisons/parity.ts";
import { loadModel } from "../../../inspect/run/model.ts";
import { findModel } from "../../../models/mod.ts";
import { toHalf } from "../../../inspect/points/points.ts";
import { Folder } from "../../support/folder.ts";
import { needed } from "../../support/needed.ts";
import { pyTorch, run as runProgram } from "../../support/engines/python_venv.ts";
import { modelOf } from "../../support/models/random_model.ts";
import {
  config,
  D,
  H,
  IDS,
  numbers,
  request,
  V,
  visible,
  WIDTH,
} from "../../support/engines/engine_folder_samples.ts";

const output = (program: string, ...args: string[]) => runProgram(program, args);

const DUMPERS = new URL("../../../checkpoints/references/engine_folder/dumpers/", import.meta.url);
const dumper = (name: string) =>
  join(import.meta.dirname!, "../../../checkpoints/references/engine_folder/dumpers", name);

/** What each dumper's test writes: q [2, 2, 16] counting up, in halves, and logits of a generated token. */
async function assertDumped(folder: Folder): Promise<void> {
  const reference = await folderReference(folder.path, config);
  assert.deepEqual(reference.promptIds, [1, 5]);
  const found = await reference.run({
    ids: [1, 5],
    generate: 1,
    steps: [0, 1],
    points: ["blk.0.q", "logits"],
  });
  const counted = Float32Array.from({ length: 2 * H * WIDTH }, (_, i) => i / 4);
  const q = found.passes[0].tensors.get("blk.0.q")!;
  assert.deepEqual(q.shape, [2, H, WIDTH]);
  assert.deepEqual(toHalf(q.data, WIDTH), counted);
  assert.deepEqual(found.passes[1].tensors.get("logits")!.shape, [1, V]);
  assert.deepEqual(found.passes.map(({ step, start, ids }) => [step, start, ids]), [
    [0, 0, [1, 5]],
    [1, 2, [9]],
  ]);
}

Deno.test("dumpers: each is under 40 lines", async () => {
  for (const name of ["dump.py", "dump.h", "dump.rs"]) {
    const text = await Deno.readTextFile(new URL(name, DUMPERS));
    assert.ok(text.trimEnd().split("\n").length < 40, name);
    assert.ok(text.split("\n").every((line) => line.length <= 140), `${name} has long lines`);
  }
});

const python = await needed("python3", () => output("python3", "--version"));
Deno.test({
  name: "dumpers: dump.py, with what torch has of a tensor",
  ignore: python === undefined,
  async fn() {
    using folder = new Folder();
    using code = new Folder();
    const program = code.write(
      "use.py",
      `import sys
sys.path.insert(0, sys.argv[1])
sys.dont_write_bytecode = True
from dump import Dump

class Tensor:  # the part of torch.Tensor that dump.py uses
    def __init__(self, numbers, shape): self.numbers, self.shape = numbers, shape
    detach = float = cpu = lambda self: self
    def reshape(self, _): return self
    def tolist(self): return self.numbers

class Module:
    def __init__(self, out): self.out, self.hooks = out, []
    def register_forward_hook(self, hook): self.hooks.append(hook)
    def run(self): [hook(self, (), self.out) for hook in self.hooks]

class Model:
    def __init__(self, modules): self.modules = modules
    def named_modules(self): return self.modules.items()

q = Tensor([i / 4 for i in range(${2 * H * WIDTH})], (1, 2, ${H * WIDTH}))
model = Model({"": Module(None), "model": Module(None), "model.layers.0.self_attn.q_proj": Module(q),
               "model.layers.0.self_attn": Module(None), "model.layers.0": Module((Tensor([0.0] * ${
        2 * D
      }, (1, 2, ${D})),))})
dump = Dump(sys.argv[2], "random")
dump.attach(model)
dump.begin(0, 0, [1, 5])
for module in model.modules.values(): module.run()
dump.begin(1, 2, [9])
dump.tensor("logits", Tensor([0.5] * ${V}, (1, 1, ${V})), ["batch", "position", "feature"])
dump.end([9, 4])
`,
    );
    await output("python3", program, dumper(""), folder.path);
    await assertDumped(folder);
    assert.deepEqual((await folderReference(folder.path, config)).generatedIds, [9, 4]);
  },
});

const torch = await pyTorch();

/** Runs a program of Python on tiny, which is `model` in it; `sys.argv[2]` is the folder for its dumps. Gives tiny's path in `code`. */
async function runOnTiny(
  code: Folder,
  folder: Folder,
  dtype: "float32" | "bfloat16",
  body: string,
): Promise<string> {
  const path = code.write("tiny.gguf", (await findModel("tiny")).bytes!);
  const program = code.write(
    "use.py",
    `import sys, torch, transformers
sys.path.insert(0, sys.argv[1])
sys.dont_write_bytecode = True
from dump import Dump
model = transformers.AutoModelForCausalLM.from_pretrained(
    sys.argv[3], gguf_file="tiny.gguf", dtype=torch.${dtype}, attn_implementation="eager")
${body}`,
  );
  const { command, args } = torch!.start([program, dumper(""), folder.path, code.path]);
  await output(command, ...args);
  return path;
}

Deno.test({
  name: "dumpers: dump.py's attach takes a Hugging Face model",
  ignore: torch === undefined,
  async fn() {
    using folder = new Folder();
    using code = new Folder();
    await runOnTiny(
      code,
      folder,
      "float32",
      `dump = Dump(sys.argv[2], "tiny")
dump.attach(model)
dump.begin(0, 0, ${JSON.stringify(IDS)})
with torch.no_grad():
    out = model(torch.tensor([${JSON.stringify(IDS)}]), output_attentions=True)
for layer, attention in enumerate(out.attentions):
    dump.tensor(f"attentions[{layer}]", attention)
dump.end()
`,
    );

    using tiny = await modelOf((await findModel("tiny")).bytes!);
    const reference = await folderReference(folder.path, tiny.model.config);
    const kinds = ["attn_norm", "q", "k", "v", "attn_probs", "attn_out", "ffn_norm", "ffn_gate"];
    const points = [
      ...[0, 4].flatMap((layer) =>
        [...kinds, "ffn_up", "ffn_out", "out"].map((kind) => `blk.${layer}.${kind}`)
      ),
      ...["token_embd", "output_norm", "logits"],
    ];
    const own = await tiny.model.run([IDS], { capture: points });
    const { passes, ids } = await reference.run(request(points));
    assert.deepEqual([...passes[0].tensors.keys()].sort(), points.toSorted());
    for (const [name, tensor] of passes[0].tensors) {
      const expected = visible(name, numbers(own, name));
      const largest = Math.max(...expected.map(Math.abs));
      visible(name, tensor).forEach((value, i) =>
        assert.ok(Math.abs(value - expected[i]) <= 1e-4 * largest, `${name} ${i}`)
      );
    }
    assert.deepEqual(ids, [own.top(1)[0].id]);
  },
});

Deno.test({
  name:
    "dumpers: dump.py on a model in bf16: it passes as what it is, and is noticed as what it is not",
  ignore: torch === undefined,
  async fn() {
    using folder = new Folder();
    using code = new Folder();
    const ids = Array.from({ length: 50 }, (_, i) => 1 + (37 * i) % 500);
    const path = await runOnTiny(
      code,
      folder,
      "bfloat16",
      `dumps = [Dump(f"{sys.argv[2]}/{name}", "tiny", activations=name) for name in ["bf16", "f32"]]
for dump in dumps:
    dump.attach(model)
    dump.begin(0, 0, ${JSON.stringify(ids)})
with torch.no_grad():
    model(torch.tensor([${JSON.stringify(ids)}]))
for dump in dumps: dump.end()
`,
    );
    using model = await loadModel(path);
    const declared = await parity(model, undefined, { engine: folder.at("bf16") });
    assert.ok(declared.passed, `${declared}`);
    const silent = await parity(model, undefined, { engine: folder.at("f32") });
    const { cause, detail } = silent.firstDivergence!;
    assert.equal(cause, "rounded", detail);
    assert.match(detail, /every number is bf16; with "activations": "bf16" .*passes/);
  },
});

const cc = await needed("C compiler", () => output("cc", "--version"));
Deno.test({
  name: "dumpers: dump.h",
  ignore: cc === undefined,
  async fn() {
    using folder = new Folder();
    using code = new Folder();
    const program = code.write(
      "use.c",
      `#include "dump.h"
int main(int count, char **args) {
    static float q[${2 * H * WIDTH}], logits[${V}];
    int prompt[] = {1, 5}, next[] = {9};
    (void)count;
    for (int i = 0; i < ${2 * H * WIDTH}; i++) q[i] = i / 4.0f;
    if (dump_begin(args[1], "random", "half", prompt, 2)) return 1;
    dump_pass(0, 0, prompt, 2);
    if (dump_tensor("blk.0.q", q, 3, (int64_t[]){2, ${H}, ${WIDTH}})) return 1;
    if (dump_tensor("blk.0.out", q, 2, (int64_t[]){2, ${D}})) return 1;
    dump_pass(1, 2, next, 1);
    if (dump_tensor("logits", logits, 2, (int64_t[]){1, ${V}})) return 1;
    return dump_end();
}
`,
    );
    const flags = ["-std=c99", "-Wall", "-Wextra", "-Werror", "-I", dumper("")];
    await output("cc", ...flags, program, "-o", code.at("use"));
    await output(code.at("use"), folder.path);
    await assertDumped(folder);
  },
});

const rustc = await needed("Rust compiler", () => output("rustc", "--version"));
Deno.test({
  name: "dumpers: dump.rs",
  ignore: rustc === undefined,
  async fn() {
    using folder = new Folder();
    using code = new Folder();
    const program = code.write(
      "use.rs",
      `#[path = ${JSON.stringify(dumper("dump.rs"))}]
mod dump;
fn main() -> std::io::Result<()> {
    let folder = std::env::args().nth(1).unwrap();
    let mut dump = dump::Dump::new(folder, "random", "half", &[1, 5])?;
    // [head, position, feature]
    let q: Vec<f32> = (0..${2 * H * WIDTH})
        .map(|i| (i / ${2 * WIDTH}, i / ${WIDTH} % 2, i % ${WIDTH}))
        .map(|(head, position, feature)| ((position * ${H} + head) * ${WIDTH} + feature) as f32 / 4.0)
        .collect();
    dump.pass(0, 0, &[1, 5]);
    dump.tensor("blk.0.q", &q, &[${H}, 2, ${WIDTH}], &["head", "position", "feature"])?;
    dump.tensor("blk.0.out", &q, &[2, ${D}], &[])?;
    dump.pass(1, 2, &[9]);
    dump.tensor("logits", &vec![0.5; ${V}], &[1, ${V}], &[])?;
    dump.end()
}
`,
    );
    await output("rustc", "--edition", "2021", "-Dwarnings", program, "-o", code.at("use"));
    await output(code.at("use"), folder.path);
    await assertDumped(folder);
  },
});
