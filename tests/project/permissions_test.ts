/** The permission sets of deno.json repeat the same lists, so they are compared: with each other, and with the code. */
import assert from "node:assert/strict";
import denoJson from "../../deno.json" with { type: "json" };
import { PYTHONS } from "../../checkpoints/references/processes/python_environment.ts";
import { VULKAN_VARIABLES } from "../../engine/webgpu/driver.ts";
import { PIP_COMMANDS } from "../../models/pypi.ts";

const { default: standard } = denoJson.permissions;

const EVERYTHING = { read: true, write: true, net: true, run: true, env: true, sys: true };

/** Pulls models. */
const pulling = () => ({
  read: true,
  write: true,
  net: true,
  run: standard.run,
  env: standard.env,
});

Deno.test("-P may read the variables that models and the driver's name ask for, and no others", async () => {
  const models = new URL("../../models/", import.meta.url);
  const asked = new Set(VULKAN_VARIABLES);
  for await (const { name } of Deno.readDir(models)) {
    if (!name.endsWith(".ts")) continue;
    const source = await Deno.readTextFile(new URL(name, models));
    for (const [, variable] of source.matchAll(/\benv\("([A-Z_]+)"\)/g)) asked.add(variable);
  }
  assert.deepEqual(new Set(standard.env), asked);
});

Deno.test("-P may start every command that leads to pip", () => {
  assert.deepEqual(standard.run, [...new Set(PIP_COMMANDS.map(([command]) => command))]);
});

/** What each set is for. A new one has to be put here. */
const SETS: Readonly<Record<keyof typeof denoJson.permissions, object>> = {
  default: { ...pulling(), sys: ["systemMemoryInfo"] },
  model: pulling(),
  capture: { ...pulling(), import: true, sys: ["systemMemoryInfo"] }, // the Parquet writer is WebAssembly
  explain: { ...pulling(), sys: ["systemMemoryInfo"] },
  local: {
    read: true,
    sys: ["systemMemoryInfo"],
    env: standard.env.filter((each) => !["HF_TOKEN", "HF_ENDPOINT"].includes(each)),
  },
  doctor: {
    read: true,
    write: true,
    run: ["sh"], // software_gpu.sh
    sys: ["osRelease", "hostname", "systemMemoryInfo"],
    env: standard.env.filter((each) => !/^(HF|HUGGINGFACE)_/.test(each)),
  },
  // They start other engines, which may do anything.
  bench: EVERYTHING,
  parity: EVERYTHING,
  reference: EVERYTHING,
  proof: { read: true },
  kernels: { read: true, write: true, env: true }, // the compiler looks at CI and the like
  lab: { read: true, write: true, run: PYTHONS },
  notebooks: { read: true, write: true, run: PYTHONS },
};

for (const [name, set] of Object.entries(denoJson.permissions)) {
  Deno.test(`-P=${name} permits what it is for, and nothing else`, () => {
    assert.deepEqual(set, SETS[name as keyof typeof SETS]);
  });
}

Deno.test("every task runs with the set of its name", () => {
  const { test: _, ...tasks } = denoJson.tasks;
  assert.deepEqual(
    Object.entries(tasks).map(([name, { command }]) => [name, / -P=(\w+) /.exec(command)?.[1]]),
    Object.keys(tasks).map((name) => [name, name]),
  );
});
