/** The permission sets of deno.json repeat the same lists, so they are compared: with each other, and with the code. */
import assert from "node:assert/strict";
import denoJson from "../deno.json" with { type: "json" };
import { VULKAN_VARIABLES } from "../engine/webgpu/driver.ts";
import { PIP_COMMANDS } from "../models/pypi.ts";

interface PermissionSet {
  readonly read?: boolean;
  readonly net?: boolean;
  /** Programs and variables; true for all. */
  readonly run?: boolean | readonly string[];
  readonly env?: boolean | readonly string[];
}

const SETS: Readonly<Record<string, PermissionSet>> = denoJson.permissions;
const { default: standard, local } = denoJson.permissions;

Deno.test("-P may read the variables that models and the driver's name ask for, and no others", async () => {
  const models = new URL("../models/", import.meta.url);
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

for (const [name, { net, run, env }] of Object.entries(SETS)) {
  Deno.test(`-P=${name} has whole lists`, () => {
    const has = (list: boolean | readonly string[] | undefined, all: readonly string[]) =>
      list === true || (list && all.every((each) => list.includes(each)));
    if (net) {
      // It pulls models, as -P does.
      assert.ok(has(env, standard.env));
      assert.ok(has(run, standard.run));
    } else if (env) {
      assert.ok(has(env, standard.env.filter((each) => !/^(HF|HUGGINGFACE)_/.test(each))));
    }
  });
}

Deno.test("-P=local finds what -P has pulled", () => {
  const pulling = ["HF_TOKEN", "HF_ENDPOINT"];
  assert.deepEqual(local.env, standard.env.filter((each) => !pulling.includes(each)));
});
