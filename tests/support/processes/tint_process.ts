/**
 * The engine's device on Dawn (npm `webgpu`) in place of Deno's WebGPU, and so with Tint, Chromium's compiler. Reads [label, code] pairs
 * of shaders as JSON from stdin, compiles them, runs kernels, and prints a {@linkcode TintAnswer}.
 */
import { create } from "npm:webgpu@0.6.2";
import { kernelCases } from "../../../engine/check/cases.ts";
import { Device } from "../../../engine/webgpu/device.ts";
import { checkKernels } from "../../../engine/webgpu/check/kernel_check.ts";
import { PACKINGS } from "../../../kernels/weights/packings.ts";
import { KERNELS } from "../../../kernels/mod.ts";

/** What the process found out. */
export interface TintAnswer {
  /** What Tint does not compile, with its reason. */
  readonly refused: readonly (readonly [label: string, reason: string])[];
  /** The kernels that ran, and those of them whose numbers are not their twins'. */
  readonly ran: readonly string[];
  readonly wrong: readonly string[];
}

// Dawn dies when this is collected.
const dawn = create([]);
Object.defineProperty(navigator, "gpu", { value: dawn });
const device = await Device.open();
const { gpu } = device;
for (const name of ["shader-f16", "subgroups"] as const) {
  if (!gpu.features.has(name)) throw new Error(`Dawn's adapter has no ${name}`);
}
// From Deno, Dawn does not take a DataView.
const write = gpu.queue.writeBuffer.bind(gpu.queue);
Object.defineProperty(gpu.queue, "writeBuffer", {
  value: (buffer: GPUBuffer, offset: number, data: DataView<ArrayBuffer> | ArrayBuffer) =>
    write(buffer, offset, data instanceof DataView ? data.buffer : data),
});

async function refusal(code: string): Promise<string | undefined> {
  gpu.pushErrorScope("validation");
  const { messages } = await device.module(code).getCompilationInfo();
  await gpu.popErrorScope();
  const error = messages.find(({ type }) => type === "error");
  return error && `line ${error.lineNum}: ${error.message}`;
}

const refused: [string, string][] = [];
const shaders: [string, string][] = await new Response(Deno.stdin.readable).json();
for (const [label, code] of shaders) {
  const reason = await refusal(code);
  if (reason) refused.push([label, reason]);
}
const ran: string[] = [];
const wrong: string[] = [];
const packings = [PACKINGS.get("Q4_1")!];
for (const kernel of KERNELS.values()) {
  const results = await checkKernels(device, kernelCases(kernel, { packings }));
  ran.push(kernel.name);
  for (const result of results) if (!result.passed) wrong.push(JSON.stringify(result));
}
console.log(JSON.stringify({ refused, ran, wrong } satisfies TintAnswer));
Deno.exit();
