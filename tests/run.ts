/**
 * `./denow task test`: formatting, lint, types, all tests, the short bench; each test file in a process of its own, at the end one line
 * "N passed, N failed[, N skipped]". Formatting, lint, types and the bench count as one test each. `.ci/run` does the same on a clean
 * clone. On a machine without a GPU Mesa's software Vulkan driver is installed first, or one line says what to install. With `--quick` only
 * what takes no network, no other engine and no Python package: for use while working.
 */

import { hasGpu } from "../engine/webgpu/device.ts";
import { installSoftwareGpu } from "../engine/webgpu/software_gpu.ts";
import { filesBelow } from "./support/files.ts";

/**
 * What takes a network (models, engines, packages: pulled once, then cached), or long; the longest first. A new test file is quick
 * unless it stands here or below.
 */
const SLOW: readonly string[] = [
  "checkpoints/parity/parity",
  "checkpoints/diagnosis/engine_faults",
  "families/families",
  "checkpoints/diagnosis/file_faults",
  "checkpoints/diagnosis/diagnose_faults",
  "checkpoints/diagnosis/fault_injection",
  "checkpoints/files/diff_faults",
  "checkpoints/diagnosis/diagnose",
  "checkpoints/diagnosis/misread_weights",
  "checkpoints/references/pytorch_reference",
  "checkpoints/references/pytorch_rounded",
  "checkpoints/parity/rounded_engines",
  "checkpoints/references/python_environment",
  "kernels/kernels",
  "checkpoints/diagnosis/explain",
  "checkpoints/diagnosis/weight_faults",
  "checkpoints/parity/compared_generation",
  "checkpoints/parity/divergence",
  "checkpoints/parity/divergence_bundle",
  "checkpoints/parity/parity_library",
  "checkpoints/parity/sampler",
  "checkpoints/quantization/quantized_files",
  "checkpoints/quantization/ladder",
  "checkpoints/references/dumpers",
  "checkpoints/references/llamacpp_failures",
  "checkpoints/references/llamacpp_points",
  "checkpoints/references/llamacpp_reference",
  "checkpoints/references/reference_command",
  "engine/oracle/rope",
  "engine/rope_table",
  "families/perplexity",
  "engine/smollm2",
  "inspect/analyses/induction",
  "inspect/explain_page",
  "inspect/figures/pictures",
  "inspect/run/generation_captures",
  "inspect/tables/arrow_python",
  "kernels/build",
  "kernels/cpu_kernels",
  "kernels/tint",
  "project/docs",
  "project/readme",
  "text/jinja",
  "text/tokenizer_vocabularies",
];

/** What looks at time or memory, or starts a browser: one after the other, with nothing beside it. */
const ALONE: readonly string[] = [
  "notebooks/browser",
  "notebooks/notebooks",
  "engine/decoding",
  "engine/lifetime",
  "inspect/bench",
  "inspect/jupyter",
  "inspect/run/capture_memory",
  "inspect/run/loading",
  "inspect/tables/arrow_files",
];

const ROOT = new URL("../", import.meta.url);

/** A run of Deno. */
interface Job {
  readonly name: string;
  readonly args: readonly string[];
}

const CHECKS: readonly Job[] = [
  { name: "types", args: ["check", "."] },
  { name: "lint", args: ["lint"] },
  { name: "format", args: ["fmt", "--check"] },
];

/** Fails on errors, never on speed. */
const BENCH: Job = { name: "bench", args: ["task", "bench", "--quick"] };

/** How many tests went how. */
export interface Result {
  passed: number;
  failed: number;
  skipped: number;
}

/** What the last line says that `deno test` closes a run with. A run that dies without one, or runs nothing, has failed. */
export function testResult(output: string, success: boolean): Result {
  const closing =
    /^(?:ok|FAILED) \| (\d+) passed(?: \([^)]*\))?(?: \| (\d+) failed(?: \([^)]*\))?)?(?: \| (\d+) ignored)?/gm;
  const [, passed, failed, skipped] = [...output.matchAll(closing)].at(-1) ?? [];
  const result = { passed: +(passed ?? 0), failed: +(failed ?? 0), skipped: +(skipped ?? 0) };
  const nothing = result.passed + result.skipped === 0;
  return result.failed === 0 && (!success || nothing) ? { ...result, failed: 1 } : result;
}

/** Runs jobs, some at a time; says of each how it went, and shows the output of those that failed or left something out. */
async function runAll(jobs: readonly Job[], atOnce: number): Promise<Result> {
  const sum: Result = { passed: 0, failed: 0, skipped: 0 };
  const queue = jobs.values();
  const worker = async () => {
    for (const { name, args } of queue) {
      const start = performance.now();
      const { success, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
        args: [...args],
        cwd: ROOT,
        env: { NO_COLOR: "1" },
        stdin: "null",
      }).output();
      const [out, errors] = [stdout, stderr].map((bytes) => new TextDecoder().decode(bytes));
      const { passed, failed, skipped } = args[0] === "test"
        ? testResult(out, success)
        : { passed: +success, failed: +!success, skipped: 0 };
      sum.passed += passed;
      sum.failed += failed;
      sum.skipped += skipped;
      const seconds = ((performance.now() - start) / 1000).toFixed(1);
      if (failed + skipped > 0) console.log(out + errors);
      console.log(`${seconds.padStart(6)} s  ${name}: ${resultText({ passed, failed, skipped })}`);
    }
  };
  await Promise.all(Array.from({ length: atOnce }, worker));
  return sum;
}

function resultText({ passed, failed, skipped }: Result): string {
  return `${passed} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ""}`;
}

/** The files of tests, as jobs. */
export async function testFiles(): Promise<{ quick: Job[]; slow: Job[]; alone: Job[] }> {
  const files = await Array.fromAsync(filesBelow(new URL("tests/", ROOT)));
  const names = files.flatMap((file) => /^(.+)_test\.ts$/.exec(file)?.[1] ?? []).sort();
  const job = (name: string): Job => ({
    name,
    args: ["test", "-A", "--no-check", `tests/${name}_test.ts`], // types are checked once
  });
  for (const name of [...SLOW, ...ALONE]) {
    if (!names.includes(name)) throw new Error(`tests/run.ts names ${name}, which is no test`);
  }
  return {
    quick: names.filter((name) => ![...SLOW, ...ALONE].includes(name)).map(job),
    slow: SLOW.map(job),
    alone: ALONE.map(job),
  };
}

async function main(): Promise<number> {
  // `deno task` hands the `--` on.
  const args = Deno.args.filter((arg) => arg !== "--");
  if (args.some((arg) => arg !== "--quick")) {
    console.error(`error: ${args.join(" ")}: --quick is all that can be said`);
    return 2;
  }
  const start = performance.now();
  // Where it cannot be had, the tests that need it fail, and say so.
  if (!await hasGpu()) await installSoftwareGpu();
  const { quick, slow, alone } = await testFiles();
  const cores = navigator.hardwareConcurrency;
  const results = [await runAll([...CHECKS, ...quick], cores)];
  if (args.length === 0) {
    results.push(await runAll(slow, cores), await runAll([...alone, BENCH], 1));
  }
  const sum = (key: keyof Result) => results.reduce((total, result) => total + result[key], 0);
  console.log(`all: ${Math.round((performance.now() - start) / 1000)} s`);
  console.log(
    resultText({ passed: sum("passed"), failed: sum("failed"), skipped: sum("skipped") }),
  );
  return sum("failed") === 0 ? 0 : 1;
}

if (import.meta.main) Deno.exit(await main());
