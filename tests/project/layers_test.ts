/** The one-way rule: base ← kernels ← engine ← inspect ← checkpoints ← notebooks, with text and models beside the engine. */
import assert from "node:assert/strict";
import { KERNELS } from "../../kernels/mod.ts";
import { filesBelow } from "../support/files.ts";

/** What a folder may import from, besides itself. */
const MAY_IMPORT: Readonly<Record<string, readonly string[]>> = {
  base: [],
  kernels: ["base"],
  engine: ["base", "kernels"],
  text: ["base"],
  models: ["base"],
  inspect: ["base", "kernels", "engine", "text", "models"],
  checkpoints: ["base", "kernels", "engine", "text", "models", "inspect"],
  // Notebooks are written as users write them, so they begin with the front door.
  notebooks: ["base", "kernels", "engine", "text", "models", "inspect", "checkpoints", "mod.ts"],
};

/** What the rooms of `checkpoints/` may import from each other. Two files are for all: the list of causes, and what a reference is. */
const CHECKPOINTS: Readonly<Record<string, readonly string[]>> = {
  files: [],
  parity: ["files"],
  references: ["files", "parity"],
  diagnosis: ["files", "parity"],
  quantization: ["files", "parity", "references"],
  comparisons: ["files", "parity", "references", "diagnosis"],
  bench: ["references"],
  commands: ["files", "parity", "references", "diagnosis", "quantization", "comparisons", "bench"],
};
const FOR_ALL = [
  "checkpoints/diagnosis/causes.ts",
  "checkpoints/diagnosis/block_layouts.ts",
  "checkpoints/references/reference.ts",
];

const ROOT = new URL("../../", import.meta.url);

interface Import {
  /** The importing file, from the repository's root. */
  readonly file: string;
  /** What it says. */
  readonly specifier: string;
  /** The imported file from the repository's root; undefined for packages and `node:`. */
  readonly target?: string;
  /** Whether it is an `import()`. */
  readonly dynamic: boolean;
}

async function* sources(folder: string): AsyncGenerator<string> {
  for await (const name of filesBelow(new URL(folder, ROOT))) {
    if (/\.[mc]?[tj]sx?$/.test(name)) yield `${folder}${name}`;
  }
}

/** Static, dynamic and type imports, and re-exports. */
const IMPORT = /\bfrom\s*"([^"\s]+)"|\bimport\s*"([^"\s]+)"|\bimport\s*\(\s*(?:"([^"]+)"|[^)]*)/g;

function withoutComments(text: string): string {
  return text.replaceAll(/\/\*[\s\S]*?\*\/|^\s*\/\/.*$/gm, "");
}

function importsIn(file: string, text: string): Import[] {
  return [...withoutComments(text).matchAll(IMPORT)].map(([, from, bare, dynamic]) => {
    const specifier = from ?? bare ?? dynamic ?? "";
    const relative = specifier.startsWith(".");
    const target = relative ? new URL(specifier, new URL(file, ROOT)).href : undefined;
    return {
      file,
      specifier,
      target: target?.slice(ROOT.href.length),
      dynamic: from === undefined && bare === undefined,
    };
  });
}

async function allImports(folder: string): Promise<Import[]> {
  const all: Import[] = [];
  for await (const file of sources(folder)) {
    all.push(...importsIn(file, await Deno.readTextFile(new URL(file, ROOT))));
  }
  return all;
}

const imports = new Map<string, Import[]>();
for (const folder of Object.keys(MAY_IMPORT)) imports.set(folder, await allImports(`${folder}/`));

for (const [folder, allowed] of Object.entries(MAY_IMPORT)) {
  Deno.test(`${folder}/ imports only from ${["itself", ...allowed].join(", ")}`, () => {
    for (const { file, specifier, target } of imports.get(folder)!) {
      if (target === undefined) continue;
      const to = target.split("/")[0];
      if (to === "deno.json") continue; // the project's version
      assert.ok(to === folder || allowed.includes(to), `${file} imports ${specifier}`);
    }
  });
}

Deno.test("the imports were found", () => {
  const has = (folder: string, file: string, target: string) =>
    assert.ok(imports.get(folder)!.some((each) => each.file === file && each.target === target));
  has("kernels", "kernels/norm/norm.ts", "kernels/norm/rms.wgsl");
  has("engine", "engine/plan/passes/fuse.ts", "kernels/attention/attention.ts");
  has("engine", "engine/plan/plan.ts", "kernels/kernel.ts"); // import type
  has("text", "text/tokenizer/bpe.ts", "base/file_text.ts");
  has("models", "models/mod.ts", "models/embedded.ts"); // import()
  has("models", "models/embedded.ts", "models/tiny/tiny.gguf.base64");
  assert.deepEqual(
    importsIn("a/b.ts", '// from "../no.ts"\nimport "../c.ts"; /* import "./no.ts" */ import(name)')
      .map(({ target, specifier }) => target ?? specifier),
    ["c.ts", ""],
  );
});

Deno.test("packages are pinned where they are imported, so that imports work from any folder; built-ins are node:", () => {
  const versions = new Map<string, string>();
  for (const list of imports.values()) {
    for (const { file, specifier, target } of list) {
      // What an import() computes is looked at by eye.
      if (target !== undefined || specifier === "" || specifier.startsWith("node:")) continue;
      const [, name, version] =
        specifier.match(/^npm:((?:@[^/]+\/)?[^@/]+)@(\d+\.\d+\.\d+)(?:\/|$)/) ?? [];
      assert.ok(name, `${file} imports ${specifier}`);
      assert.equal(versions.get(name) ?? version, version, `${file} imports ${specifier}`);
      versions.set(name, version);
    }
  }
  assert.ok(versions.has("apache-arrow"));
});

Deno.test("one file imports apache-arrow", () => {
  const files = [...imports.values()].flat()
    .filter(({ specifier }) => specifier.startsWith("npm:apache-arrow@")).map(({ file }) => file);
  assert.equal(new Set(files).size, 1, `${files}`);
});

Deno.test("the engine knows neither text, Arrow nor Jupyter", () => {
  for (const folder of ["kernels", "engine"]) {
    for (const { file, specifier, target } of imports.get(folder)!) {
      // The compiler of the kernels, which nothing else imports.
      if (file === "kernels/build.ts" && specifier.startsWith("npm:assemblyscript@")) continue;
      assert.ok(target !== undefined, `${file} imports ${specifier}`);
      assert.notEqual(target, "kernels/build.ts", `${file} imports ${specifier}`);
    }
  }
});

Deno.test("only commands and notebooks know the notebook; all others are told of their host", () => {
  for (const { file, target } of [...imports.values()].flat()) {
    if (!target?.startsWith("inspect/jupyter/")) continue;
    assert.match(file, /^(inspect\/jupyter|(inspect|checkpoints)\/commands|notebooks)\//);
  }
});

Deno.test("rooms of checkpoints/: parity and diagnosis know no reference by name, files nobody", () => {
  const rooms = new Set<string>();
  for (const { file, specifier, target } of imports.get("checkpoints")!) {
    const [[, from], [folder, to]] = [file, target ?? ""].map((path) => path.split("/"));
    rooms.add(from);
    if (folder !== "checkpoints" || from === to || FOR_ALL.includes(target!)) continue;
    assert.ok(CHECKPOINTS[from]?.includes(to), `${file} imports ${specifier}`);
  }
  assert.deepEqual([...rooms].sort(), Object.keys(CHECKPOINTS).sort());
});

Deno.test("what is for all rooms of checkpoints/ knows none of them", () => {
  for (const { file, target } of imports.get("checkpoints")!) {
    if (FOR_ALL.includes(file)) {
      assert.ok(!target?.startsWith("checkpoints/"), `${file}: ${target}`);
    }
  }
});

Deno.test("figures know tables, runs and points; no engine, no kernel, no model's file", () => {
  const own = imports.get("inspect")!.filter(({ file }) => file.startsWith("inspect/figures/"));
  assert.ok(own.length > 100);
  for (const { file, specifier, target } of own) {
    const known = target === undefined ||
      /^(base\/|inspect\/(?!jupyter|bench|commands|explain_page))/.test(target);
    assert.ok(known, `${file} imports ${specifier}`);
  }
});

Deno.test("imports go in no circle, those of types neither", () => {
  const all = [...imports.values()].flat();
  // What import() loads is loaded when it is needed, and may look back.
  const into = Map.groupBy(all.filter(({ dynamic }) => !dynamic), ({ file }) => file);
  const done = new Set<string>();
  const visit = (file: string, way: readonly string[]) => {
    assert.ok(!way.includes(file), [...way.slice(way.indexOf(file)), file].join(" → "));
    if (done.has(file)) return;
    for (const { target } of into.get(file) ?? []) if (target) visit(target, [...way, file]);
    done.add(file);
  };
  for (const file of into.keys()) visit(file, []);
  assert.ok(done.size > 350, `${done.size}`);
});

Deno.test("the oracle imports neither plan nor kernels, not even through others", () => {
  const reached = new Set(["engine/oracle/oracle.ts"]);
  for (const file of reached) {
    for (const { target } of imports.get("engine")!.filter((each) => each.file === file)) {
      // Of families it knows what the config says of them.
      const families = file.startsWith("engine/model/")
        ? /^engine\/model\/(families\/|family|keys|rope_scaling)/
        : /^$/;
      if (families.test(target!)) {
        reached.add(target!);
        continue;
      }
      assert.match(
        target!,
        /^(base\/|engine\/(oracle\/|model\/(config|hyperparameters)\.ts$|gguf\/))/,
        file,
      );
      reached.add(target!);
    }
  }
  assert.ok(reached.size >= 8, [...reached].join(", "));
});

Deno.test("WGSL is imported where it belongs: beside a kernel, and where pipelines are made", () => {
  for (const { file, target } of [...imports.values()].flat()) {
    if (!target?.endsWith(".wgsl")) continue;
    assert.ok(file.startsWith("kernels/") || file === "engine/webgpu/device.ts", file);
  }
});

Deno.test("what a kernel or a step does is read from its fields, never from a name", async () => {
  const kernels = [...KERNELS.values()];
  const parts = kernels.flatMap(({ epilogue, positions }) => [epilogue, positions].filter(Boolean));
  const fields = [...new Set(parts), "normed", "branches"].join("|");
  const words = [...kernels.map(({ operation }) => operation), fields].join("|");
  const readings = [
    new RegExp(
      `\\.(startsWith|endsWith|replace|replaceAll|match|split)\\(["'\`/^]*_?(${words})(?![a-z])`,
    ),
    new RegExp(`["'\`}|/](linear\\w*)?_(${fields})\\b`),
    /\bkernel\.name\s*(\.|\?|[!=]==)/,
    /\bKERNELS\.get\(/,
  ];
  for (
    const wrong of [
      'kernel.name.endsWith("_many")',
      '({ name }: Kernel) => name.startsWith("linear")',
      'kernel.name.replace(/_many$|_branches$/, "")',
      "KERNELS.get(kernel)",
      "const kernel = `${step.kernel}_normed`;",
      'step.kernel === "linear_qkv_normed"',
    ]
  ) assert.ok(readings.some((each) => each.test(wrong)), wrong);
  for (const folder of ["kernels", "engine", "inspect", "checkpoints"]) {
    for await (const file of sources(`${folder}/`)) {
      // The list itself, and what people are told.
      if (file === "kernels/mod.ts" || file.startsWith("inspect/commands/")) continue;
      const lines = withoutComments(await Deno.readTextFile(new URL(file, ROOT))).split("\n");
      const reading = lines.find((line) => readings.some((each) => each.test(line)));
      assert.equal(reading, undefined, file);
    }
  }
});
