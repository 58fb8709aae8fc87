/**
 * Shaders under Tint, the compiler of Chromium and Dawn: Deno's naga takes more than WGSL allows (missing parentheses, subgroup functions
 * where lanes may have parted) and refuses a directive that WGSL demands.
 */
import assert from "node:assert/strict";
import { kernelSource } from "../../engine/webgpu/device.ts";
import { PACKINGS } from "../../kernels/weights/packings.ts";
import { KERNELS } from "../../kernels/mod.ts";
import { EMPTY_WGSL, productKernels, readKernels } from "../../kernels/probes/probes.ts";
import { needed } from "../support/needed.ts";
import type { TintAnswer } from "../support/processes/tint_process.ts";

/** The settings of GPUs and of software drivers; of other knobs than `broadcast` no source depends. */
const SETTINGS = {
  GPUs: { lanes: 64, dotLanes: 32, columnLanes: 32, broadcast: false },
  "software drivers": { lanes: 64, dotLanes: 8, columnLanes: 1, broadcast: true },
};

/** Every source by what it is. */
function shaders(): [label: string, code: string][] {
  const labels = new Map([[EMPTY_WGSL, "probe: nothing"]]);
  for (const { name, wgsl } of [...readKernels(8), ...productKernels(8, true)]) {
    labels.set(wgsl, `probe: ${name}`);
  }
  for (const kernel of KERNELS.values()) {
    for (const [setting, knobs] of Object.entries(SETTINGS)) {
      for (const packing of kernel.packed ? PACKINGS.values() : [undefined]) {
        const label = [kernel.name, packing?.name, "for", setting].join(" ");
        labels.set(kernelSource(kernel, knobs, packing), label);
      }
    }
  }
  return [...labels].map(([code, label]) => [label, code]);
}

const LANE = "@builtin(local_invocation_index) lane: u32";
/** What Tint must refuse, or nothing is checked here. */
const WRONG: [label: string, code: string][] = [
  ["no parentheses", "fn f(a: u32) -> u32 { return a * 2u >> 3u; }"],
  [
    "lanes that have parted",
    `@compute @workgroup_size(8) fn main(${LANE}) { if (lane > 2u) { _ = subgroupAdd(lane); } }`,
  ],
];

/** What the process printed. */
async function underTint(shaders: [string, string][]): Promise<TintAnswer> {
  const { href } = new URL("../support/processes/tint_process.ts", import.meta.url);
  const child = new Deno.Command(Deno.execPath(), {
    args: ["run", "-q", "-A", href],
    stdin: "piped",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  const written = new Response(JSON.stringify(shaders)).body!.pipeTo(child.stdin).catch(() => {});
  const { success, stdout, stderr } = await child.output();
  await written;
  if (!success) throw new Error(new TextDecoder().decode(stderr).trim());
  // Dawn's warnings go to stdout too.
  const lines = new TextDecoder().decode(stdout).split("\n");
  return JSON.parse(lines.find((line) => line.startsWith("{"))!);
}

const all = shaders();
const answer = await needed("Tint", () => underTint([...all, ...WRONG]));

Deno.test({ name: "Tint compiles every shader", ignore: answer === undefined }, () => {
  const { refused } = answer!;
  assert.ok(all.length > 190, `${all.length}`);
  const wrong = new Set(WRONG.map(([label]) => label));
  assert.deepEqual(refused.filter(([label]) => !wrong.has(label)), []);
  assert.deepEqual(refused.map(([label]) => label), [...wrong]);
});

Deno.test({
  name: "on Dawn every kernel gives its twin's numbers",
  ignore: answer === undefined,
}, () => {
  const { ran, wrong } = answer!;
  assert.deepEqual(ran, [...KERNELS.keys()]);
  assert.deepEqual(wrong, []);
});
