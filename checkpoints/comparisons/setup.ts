/** What a comparison needs: another engine on the model's file, another file, or a folder of somebody's own engine's tensors. */
import deno from "../../deno.json" with { type: "json" };
import type { GgufFile } from "../../engine/gguf/reader.ts";
import { llamaCppDoes } from "../../engine/model/hyperparameters.ts";
import { ropeFactors } from "../../engine/model/rope_table.ts";
import { readConfig } from "../../engine/plan/tensors.ts";
import type { Loaded, LoadModelOptions } from "../../inspect/run/loading.ts";
import { hasVocabulary, tokenizerOf } from "../../inspect/run/vocabulary.ts";
import type { Prompt } from "../../inspect/run/prompt.ts";
import type { WorkOptions } from "../../inspect/work.ts";
import {
  DEFAULT_PROMPT,
  type ParityCase,
  parityCases,
  type ParityOptions,
} from "../parity/cases.ts";
import { anglesOf } from "../references/engine_folder/angles.ts";
import { folderReference } from "../references/engine_folder/engine_folder.ts";
import { deviceOf, openModel, tokenizeOf } from "../files/model_argument.ts";
import { OtherWeights } from "../parity/weights/other_weights.ts";
import type { Reference } from "../references/reference.ts";
import { laminaReference } from "../parity/lamina.ts";
import { oracleReference } from "../references/oracle.ts";
import { openEngine } from "../references/mod.ts";

/** What a model is compared with, and over which prompts. */
export interface ComparisonOptions extends WorkOptions, Pick<LoadModelOptions, "backend" | "tune"> {
  /**
   * Another engine: `llama.cpp`, `llama.cpp:vulkan`, `pytorch`, `pytorch:bf16`, `pytorch:f16`, `hf:DIR` (a folder with the original's
   * safetensors) or `oracle`.
   * Default `llama.cpp`, unless something else is named.
   */
  readonly reference?: string;
  /** Another GGUF file, by path or name: a conversion's original, a quantization's. Run by Lamina, or by a `reference` that is named too. */
  readonly against?: string;
  /** A folder of tensors that somebody's own engine wrote; checkpoints/references/engine_folder/README.md says how it looks. */
  readonly engine?: string;
  /** Tokens to generate after each prompt, as far as the context goes; default 64. */
  readonly generate?: number;
  /** Seconds that another engine's process may be silent; default 300. */
  readonly timeout?: number;
}

/**
 * The model as its reference computes it: where llama.cpp leaves out what the file says, comparing it with the model as it was meant
 * would find that again and again. The weights are shared.
 */
export async function asCompared(
  model: Loaded,
  { reference = "llama.cpp", against, engine, signal }: ComparisonOptions,
): Promise<Loaded & Disposable> {
  const { file, engine: own } = model;
  const alone = against === undefined && engine === undefined && reference.startsWith("llama.cpp");
  if (!alone || own.config.like !== undefined || llamaCppDoes(file) === undefined) {
    return { ...model, [Symbol.dispose]() {} };
  }
  const variant = await own.variant(file, readConfig(file, { like: "llama.cpp" }), { signal });
  return { ...model, engine: variant, [Symbol.dispose]: () => variant.dispose() };
}

/** A comparison that can begin; its reference is open until it is disposed of. */
export interface Setup extends AsyncDisposable {
  readonly reference: Reference;
  /** What is run on both sides. */
  readonly cases: readonly ParityCase[];
  /** How the comparison is judged. */
  readonly judging: Pick<ParityOptions, "oracle" | "weights" | "file" | "localOnly">;
  /** The file that the other side runs, where it runs one of its own. */
  readonly other?: GgufFile;
  /** What it does not show, where that is known before: a line each. */
  readonly absent?: readonly string[];
  /** What it shows that the model cannot have: one line, which fails the foundation. */
  readonly beyond?: string;
  /** A conversation of one message, and the text that the other side's chat template made of it. */
  readonly templated?: { readonly prompt: string; readonly text: string };
}

/**
 * Opens what a model is compared with.
 *
 * @param prompt the prompt of record where it is left out
 * @throws {ReferenceFailure} when it cannot be opened
 * @throws {RangeError} for another name of a reference
 */
export async function setUp(
  model: Loaded,
  prompt: Prompt | undefined,
  options: ComparisonOptions,
): Promise<Setup> {
  const { engine: folder, against, reference: name = "llama.cpp" } = options;
  if (folder !== undefined) return await folderSetup(model, folder, prompt, options.generate);
  const { config } = model.engine;
  const cases = parityCases(prompt ?? DEFAULT_PROMPT, tokenizeOf(model), config, options.generate);
  await using open = new AsyncDisposableStack();
  let other: Loaded | undefined;
  if (against !== undefined) other = open.use(await openModel(against, options));
  const reference = other && options.reference === undefined
    ? laminaReference(other.engine, {
      provenance: {
        version: deno.version,
        device: deviceOf(other),
        weights: against!,
        rope: "exact",
      },
      tokenize: tokenizeOf(other),
    })
    : await openEngine(name, other ?? model, options, open);
  const { rope } = reference.provenance;
  const oracle = other || name === "oracle" ? undefined : oracleReference(model.file, {
    rope,
    like: config.like,
  });
  const opened = open.move();
  return {
    reference,
    cases,
    judging: {
      oracle,
      weights: other && new OtherWeights(model.file, other.file),
      file: model.file,
    },
    other: other?.file,
    [Symbol.asyncDispose]: () => opened.disposeAsync(),
  };
}

async function folderSetup(
  model: Loaded,
  dir: string,
  given: Prompt | undefined,
  asked: number | undefined,
): Promise<Setup> {
  const { config } = model.engine;
  const folder = await folderReference(dir, config);
  const { promptIds, generatedIds = [], templateText } = folder;
  const written = typeof given === "string"
    ? given
    : given === undefined
    ? folder.prompt
    : undefined;
  // What a template made is the text of the ids.
  const text = written !== undefined && templateText !== undefined
    ? withoutBos(templateText, model)
    : written;
  const prompt = text ?? given;
  const [first] = parityCases(prompt ?? DEFAULT_PROMPT, tokenizeOf(model), config);
  const rope = folder.angles ?? await anglesOf(
    folder,
    promptIds ?? first.ids,
    config,
    await ropeFactors(model.file, config),
  );
  const generate = generatedIds.length;
  const only: ParityCase = {
    ...first,
    // The folder's own ids are of a text that nobody has told.
    text: prompt === undefined && promptIds ? undefined : first.text,
    ids: promptIds ?? first.ids,
    // Its ids are judged where the text that they are of is known.
    ownIds: typeof prompt === "string" && promptIds ? first.ids : undefined,
    generate,
    forced: generatedIds,
    steps: Array.from({ length: generate + 1 }, (_, step) => step),
    oracle: false,
  };
  return {
    reference: { ...folder, provenance: { ...folder.provenance, rope } },
    cases: [only],
    judging: { localOnly: true, file: model.file },
    absent: asked !== undefined && generate < asked
      ? [...folder.absent, `the folder has ${generate} generated ids; ${asked} were asked for`]
      : folder.absent,
    beyond: folder.beyond,
    templated: written !== undefined && templateText !== undefined
      ? { prompt: written, text: templateText }
      : undefined,
    [Symbol.asyncDispose]: () => folder.close(),
  };
}

/** A text without the BOS that a template wrote: encoding adds it. */
function withoutBos(text: string, { file }: Loaded): string {
  if (!hasVocabulary(file)) return text;
  const tokenizer = tokenizerOf(file);
  const first = tokenizer.addBos ? tokenizer.piece(tokenizer.bos!) : "";
  return text.startsWith(first) ? text.slice(first.length) : text;
}
