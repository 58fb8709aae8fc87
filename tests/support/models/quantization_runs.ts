/** Quantized copies compared with their originals: which there are, and what a comparison says of each. */
import { parity, type ParityReport } from "../../../checkpoints/comparisons/parity.ts";
import { roundingText } from "../../../checkpoints/parity/compare.ts";
import {
  type QuantizationType,
  quantizeModel,
} from "../../../checkpoints/quantization/quantize.ts";
import { randomLlama, type RandomLlamaOptions } from "./random_llama.ts";

/** A comparison of a quantized copy. */
export interface QuantizationRun {
  /** A name or path, or what a random one is made of. */
  readonly model: string | RandomLlamaOptions;
  readonly type: QuantizationType;
  /** What it was quantized from, and is compared with: copies of the model in these types. */
  readonly from: "F32" | "F16";
  readonly against: "F32" | "F16";
  /** `Hello` and the long prompt after it, or so many made-up tokens. */
  readonly prompt: "default" | number;
}

/** A comparison's outcome. */
export interface RunOutcome extends QuantizationRun {
  readonly report: ParityReport;
  /** Largest share of what rounding may make, and where. */
  readonly worst: { readonly share: number; readonly text: string; readonly point: string };
  readonly seconds: number;
}

/** All types that llama.cpp's quantizer makes and we run. */
export const TYPES: readonly QuantizationType[] = [
  ...["Q8_0", "Q5_0", "Q4_0", "F16", "BF16", "Q4_K_M", "Q6_K", "Q5_1", "Q4_1"] as const,
  ...["Q5_K_M", "Q5_K_S", "Q4_K_S", "Q3_K_L", "Q3_K_M", "Q3_K_S", "Q2_K"] as const,
];

/** Tokens that each comparison generates: its passes run on the same weights. */
const GENERATE = 2;

/** Quantizes and compares. */
export async function quantizationRun(run: QuantizationRun, folder: string): Promise<RunOutcome> {
  const { type, from, against, prompt } = run;
  const model = typeof run.model === "string" ? run.model : await written(run.model, folder);
  const original = (type: "F32" | "F16") => quantizeModel(model, type);
  const copy = await quantizeModel(await original(from), type);
  const start = performance.now();
  const report = await parity(copy, prompt === "default" ? undefined : madeUp(prompt), {
    against: await original(against),
    generate: GENERATE,
  });
  const seconds = (performance.now() - start) / 1000;
  const rounded = report.result.rows.flatMap(({ point, local }) =>
    local?.rounding ? [{ point, share: local.share, text: roundingText(local.rounding) }] : []
  );
  const none = { point: "", share: 0, text: "the same numbers" };
  const worst = rounded.reduce((a, b) => b.share > a.share ? b : a, none);
  return { ...run, report, worst, seconds };
}

async function written(options: RandomLlamaOptions, folder: string): Promise<string> {
  const path = `${folder}/${nameOf(options)}.gguf`;
  await Deno.writeFile(path, randomLlama(options));
  return path;
}

function nameOf(model: QuantizationRun["model"]): string {
  if (typeof model === "string") return model;
  const { width = 64, ffnWidth = 128, heads = 4, kvHeads = 4, biases = false } = model;
  return `random-${width}x${ffnWidth}-${heads}-${kvHeads}${biases ? "-biases" : ""}`;
}

/** Ids below 256 that every vocabulary has, the same every time. */
function madeUp(count: number): number[] {
  return Array.from({ length: count }, (_, i) => 3 + (7919 * (i + 1)) % 90);
}

/** Heading of a table of outcomes in Markdown. */
export const TABLE_HEAD =
  "| model | type | from | against | prompt | verdict | worst share | by | at | seconds |\n" +
  "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |\n";

/** A row of it. */
export function tableRow({ worst, report, seconds, ...run }: RunOutcome): string {
  const { first, result } = report;
  const at = first ? `${first.point}: ${first.explanation.cause}` : worst.point;
  const cells = [
    nameOf(run.model),
    run.type,
    run.from,
    run.against,
    `${run.prompt}`,
    result.passed ? "pass" : "FAIL",
    worst.share.toFixed(2),
    worst.text,
    at,
    seconds.toFixed(1),
  ];
  return `| ${cells.join(" | ")} |\n`;
}

/** Random models of odd shapes: widths that only some types' blocks fit, few heads, biases. */
const ODD: readonly RandomLlamaOptions[] = [
  { width: 96, ffnWidth: 160, heads: 3, kvHeads: 1, vocab: 96 },
  { width: 256, ffnWidth: 512, heads: 4, kvHeads: 2, vocab: 110, biases: true },
  { width: 64, ffnWidth: 96, heads: 4, kvHeads: 4, vocab: 96, tied: true },
  { width: 512, ffnWidth: 768, heads: 2, kvHeads: 1, vocab: 100, layers: 1, seed: 5 },
];

/** All runs, those that tell most first. */
export function allRuns(): QuantizationRun[] {
  const runs: QuantizationRun[] = [];
  const same = { from: "F32", against: "F32" } as const;
  for (const model of ["tiny", ...ODD]) {
    for (const type of TYPES) runs.push({ model, type, ...same, prompt: 39 });
  }
  const smol = TYPES.filter(isRunOn576).map((type) => ({ model: "smollm2-135m", type }));
  for (const each of smol) runs.push({ ...each, ...same, prompt: "default" });
  for (const type of TYPES) {
    const tiny = { model: "tiny", type };
    runs.push({ ...tiny, from: "F16", against: "F32", prompt: "default" });
    runs.push({ ...tiny, from: "F32", against: "F16", prompt: 39 });
    runs.push({ ...tiny, from: "F16", against: "F16", prompt: 39 });
    runs.push({ ...tiny, ...same, prompt: 500 });
  }
  for (const each of smol) {
    runs.push({ ...each, from: "F16", against: "F32", prompt: 39 });
    runs.push({ ...each, ...same, prompt: 500 });
  }
  return runs;
}

/** Where 256 does not divide the width llama.cpp takes IQ4_NL in place of these, which we do not run. */
function isRunOn576(type: QuantizationType): boolean {
  return !/^Q[23]_K/.test(type);
}
