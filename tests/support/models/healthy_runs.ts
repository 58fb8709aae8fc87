/** Comparisons of what is right with what is right: which there are, and what parity says of each. None may accuse anybody. */
import { parity, type ParityReport } from "../../../checkpoints/comparisons/parity.ts";
import { roundingText } from "../../../checkpoints/parity/compare.ts";
import {
  type QuantizationType,
  quantizeModel,
} from "../../../checkpoints/quantization/quantize.ts";
import { extractReference } from "../../../checkpoints/references/reference_run.ts";
import { writeNpyFolder } from "../../../checkpoints/references/extract.ts";
import { f32Copy } from "../../../checkpoints/files/f32_copy.ts";
import { openFound } from "../../../inspect/run/loading.ts";
import { findModel } from "../../../models/mod.ts";
import { llamaCppLibrary } from "../engines/llamacpp_library.ts";
import { GUIDED, importanceOf, quantizeByImportance } from "./importance.ts";
import { breakFile } from "./broken_files.ts";
import { randomLlama, type RandomLlamaOptions } from "./random_llama.ts";

/** Types of files that others are quantized from, and compared with. */
type PlainType = "F32" | "F16" | "BF16";

/** A comparison of two right sides. */
export type HealthyRun =
  & {
    /** A name, or one of {@linkcode ODD_MODELS}. */
    readonly model: string;
    /** `Hello` and the long prompt after it, or so many made-up tokens. */
    readonly prompt: "default" | number;
  }
  & (
    /** A quantized copy, what it was quantized from, and what it is compared with: copies of the model in these types. */
    | {
      readonly type: QuantizationType;
      readonly from: PlainType;
      readonly against: PlainType;
      /** Whether the quantizer was told which columns matter. */
      readonly byImportance?: true;
    }
    /** The model in another engine, as `--reference` names it. */
    | { readonly engine: string }
    /** Another engine's tensors in a folder. */
    | { readonly folder: string }
    /** A copy whose metadata stand the other way round, and its original. */
    | { readonly reordered: true }
  );

/** A comparison's outcome. */
export interface HealthyOutcome {
  readonly run: HealthyRun;
  readonly report: ParityReport;
  /** Largest share of what an operation may be off by; of quantized copies, of what rounding may make. */
  readonly worst: { readonly share: number; readonly text: string; readonly point: string };
  readonly seconds: number;
}

/** All types that llama.cpp's quantizer makes and we run. */
export const TYPES: readonly QuantizationType[] = [
  ...["Q8_0", "Q5_0", "Q4_0", "F16", "BF16", "Q4_K_M", "Q6_K", "Q5_1", "Q4_1"] as const,
  ...["Q5_K_M", "Q5_K_S", "Q4_K_S", "Q3_K_L", "Q3_K_M", "Q3_K_S", "Q2_K"] as const,
];

const CONTEXT = 640;
/** Random models of odd shapes: widths that only some types' blocks fit, few heads, biases, narrow or many layers. */
export const ODD_MODELS: Readonly<Record<string, RandomLlamaOptions>> = Object.fromEntries(
  Object.entries<RandomLlamaOptions>({
    "1 of 3 heads": { width: 96, ffnWidth: 160, heads: 3, kvHeads: 1 },
    "biases": { width: 256, ffnWidth: 512, heads: 4, kvHeads: 2, vocab: 110, biases: true },
    "tied, 64 wide": { width: 64, ffnWidth: 96, heads: 4, kvHeads: 4, tied: true },
    "heads of 256": { width: 512, ffnWidth: 768, heads: 2, kvHeads: 1, layers: 1, seed: 5 },
    "3 of 9 heads of 22": {
      ...{ width: 144, heads: 9, kvHeads: 3, headWidth: 22 },
      ...{ ffnWidth: 160, vocab: 197 },
    },
    "1 head": { width: 64, heads: 1, kvHeads: 1, headWidth: 64, ffnWidth: 96, layers: 3 },
    "tied, base 500000": { width: 96, heads: 6, kvHeads: 2, tied: true, ropeBase: 5e5 },
    "narrow FFN": { width: 160, heads: 5, kvHeads: 5, ffnWidth: 32, layers: 6, vocab: 331 },
  }).map(([name, shape]) => [name, { ...shape, contextLength: CONTEXT }]),
);

const PROMPTS = ["default", 39, 500] as const;
/** Tokens that a comparison generates. Copies have the same weights in each pass. */
const GENERATE = { copies: 2, engines: 8 };

/** Makes both sides and compares them. */
export async function healthyRun(run: HealthyRun, folder: string): Promise<HealthyOutcome> {
  const model = await modelOf(run, folder);
  const prompt = run.prompt === "default" ? undefined : madeUp(run.prompt);
  const [path, options] = await sidesOf(run, model, prompt, folder);
  const start = performance.now();
  const report = await parity(path, prompt, options);
  const seconds = (performance.now() - start) / 1000;
  const shares = report.result.rows.flatMap(({ point, local }) =>
    local && (local.rounding || !("type" in run))
      ? [{ point, share: local.share, text: local.rounding ? roundingText(local.rounding) : "" }]
      : []
  );
  const none = { point: "", share: 0, text: "the same numbers" };
  const worst = shares.reduce((a, b) => b.share > a.share ? b : a, none);
  return { run, report, worst, seconds };
}

async function modelOf({ model }: HealthyRun, folder: string): Promise<string> {
  if (!Object.hasOwn(ODD_MODELS, model)) return model;
  const path = `${folder}/${model}.gguf`;
  await Deno.writeFile(path, randomLlama(ODD_MODELS[model]));
  return path;
}

/** The model's file, and what it is compared with. */
async function sidesOf(
  run: HealthyRun,
  model: string,
  prompt: readonly number[] | undefined,
  folder: string,
): Promise<[string, Parameters<typeof parity>[2]]> {
  if ("type" in run) {
    const from = await quantizeModel(model, run.from);
    const copy = run.byImportance
      ? await copyByImportance(from, run.type, folder)
      : await quantizeModel(from, run.type);
    return [copy, {
      against: await quantizeModel(model, run.against),
      generate: GENERATE.copies,
    }];
  }
  if ("engine" in run) return [model, { reference: run.engine, generate: GENERATE.engines }];
  const found = await findModel(model);
  if ("folder" in run) {
    const out = `${folder}/tensors`;
    const file = await openFound(found);
    const ids = prompt ?? madeUp(60);
    const how = { reference: run.folder, generate: GENERATE.engines };
    await writeNpyFolder(out, await extractReference({ found, file }, ids, how));
    file.close();
    return [model, { engine: out }];
  }
  const [against, copy] = [found.path ?? await f32Copy(found), `${folder}/reordered.gguf`];
  await breakFile(against, copy, ({ metadata }) => ({
    metadata: new Map([...metadata].reverse()),
  }));
  return [copy, { against, generate: GENERATE.engines }];
}

async function copyByImportance(
  from: string,
  type: QuantizationType,
  folder: string,
): Promise<string> {
  const copy = `${folder}/by-importance.gguf`;
  const library = await llamaCppLibrary();
  quantizeByImportance(library!, from, copy, type, await importanceOf(from, madeUp(256)));
  return copy;
}

/** Ids below 256 that every vocabulary has, the same every time. */
function madeUp(count: number): number[] {
  return Array.from({ length: count }, (_, i) => 3 + (7919 * (i + 1)) % 90);
}

/** What is compared, in words. */
export function whatOf(run: HealthyRun): string {
  if ("type" in run) {
    const how = run.byImportance ? " by importance" : "";
    return `${run.type} of ${run.from}${how}, against ${run.against}`;
  }
  if ("engine" in run) return run.engine;
  return "folder" in run ? `folder of ${run.folder}` : "metadata reordered";
}

/** All runs, those that tell most first. */
export function allRuns(): HealthyRun[] {
  return PROMPTS.flatMap((prompt) =>
    ["tiny", ...Object.keys(ODD_MODELS), "smollm2-135m"].flatMap((model) => [
      ...copiesOf(model, prompt),
      { model, prompt, reordered: true } as const,
      // transformers leaves biases out.
      ...(model === "biases" ? ["llama.cpp"] : ENGINES).flatMap((engine) => [
        { model, prompt, engine },
        { model, prompt, folder: engine },
      ]),
    ])
  );
}

const ENGINES = ["llama.cpp", "pytorch", "pytorch:bf16", "pytorch:f16"];

/** What is quantized from what and compared with what, so that each model and each prompt has another part of all. */
function copiesOf(model: string, prompt: HealthyRun["prompt"]): HealthyRun[] {
  const both = { model, prompt };
  const pairs = pairsOf(model, prompt);
  const copies: HealthyRun[] = pairs.flatMap(([from, against]) =>
    TYPES.filter((type) => isRun(type, model) && !(type === from && type === against))
      .map((type) => ({ ...both, type, from, against }))
  );
  if (model === "tiny" && prompt === 39) {
    const same = { from: "F32", against: "F32", byImportance: true } as const;
    copies.push(...GUIDED.map((type) => ({ ...both, type, ...same })));
  }
  return pairs.length === 0
    ? []
    : [...copies, { ...both, type: "F16", from: "F32", against: "BF16" }];
}

function pairsOf(
  model: string,
  prompt: HealthyRun["prompt"],
): [from: PlainType, against: PlainType][] {
  if (model === "smollm2-135m") {
    return prompt === 39 ? [["F16", "F32"]] : prompt === 500 ? [["F32", "F16"]] : [["F32", "F32"]];
  }
  if (model === "tiny") {
    const all = [["F32", "F32"], ["F16", "F32"], ["F32", "F16"], ["F16", "F16"]] as const;
    const [first, last] = prompt === 39 ? [0, 4] : prompt === 500 ? [0, 2] : [1, 3];
    return all.slice(first, last).map(([from, against]) => [from, against]);
  }
  const isFirst = Object.keys(ODD_MODELS).indexOf(model) < 4;
  if (prompt === "default") return [];
  return isFirst === (prompt === 39) ? [["F32", "F32"]] : isFirst ? [] : [["F16", "F32"]];
}

/** Where 256 does not divide the width llama.cpp takes IQ4_NL in place of these, which we do not run. */
function isRun(type: QuantizationType, model: string): boolean {
  return !(model === "smollm2-135m" && /^Q[23]_K/.test(type));
}
