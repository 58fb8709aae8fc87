/** What a comparison needs: another engine on the model's file, another file, or a folder of somebody's own engine's tensors. */
import deno from "../../deno.json" with { type: "json" };
import type { GgufFile } from "../../engine/gguf/reader.ts";
import type { Loaded, LoadModelOptions } from "../../inspect/run/loading.ts";
import type { Prompt } from "../../inspect/run/prompt.ts";
import type { WorkOptions } from "../../inspect/work.ts";
import { DEFAULT_PROMPT, parityCases } from "../parity/cases.ts";
import { folderReference } from "../references/engine_folder/engine_folder.ts";
import { deviceOf, openModel, tokenizeOf } from "../files/model_argument.ts";
import type { ParityOptions } from "../parity/cases.ts";
import type { ParityCase } from "../parity/cases.ts";
import { OtherWeights } from "../parity/other_weights.ts";
import type { Reference } from "../references/reference.ts";
import { laminaReference } from "../parity/lamina.ts";
import { oracleReference } from "../references/oracle.ts";
import { openEngine } from "../references/mod.ts";

/** What a model is compared with, and over which prompts. */
export interface ComparisonOptions extends WorkOptions, Pick<LoadModelOptions, "backend" | "tune"> {
  /**
   * Another engine: `llama.cpp`, `llama.cpp:vulkan`, `pytorch`, `hf:DIR` (a folder with the original's safetensors) or `oracle`.
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

/** A comparison that can begin; its reference is open until it is disposed of. */
export interface Setup extends AsyncDisposable {
  readonly reference: Reference;
  /** What is run on both sides. */
  readonly cases: readonly ParityCase[];
  /** How the comparison is judged. */
  readonly judging: Pick<ParityOptions, "oracle" | "weights" | "localOnly">;
  /** The file that the other side runs, where it runs one of its own. */
  readonly other?: GgufFile;
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
  const cases = parityCases(
    prompt ?? DEFAULT_PROMPT,
    tokenizeOf(model),
    model.engine.config,
    options.generate,
  );
  if (folder !== undefined) return await folderSetup(model, folder, cases[0], prompt);
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
  const rope = name.startsWith("llama.cpp") ? "ggml" : "exact";
  const oracle = other || name === "oracle" ? undefined : oracleReference(model.file, { rope });
  const opened = open.move();
  return {
    reference,
    cases,
    judging: { oracle, weights: other && new OtherWeights(model.file, other.file) },
    other: other?.file,
    [Symbol.asyncDispose]: () => opened.disposeAsync(),
  };
}

async function folderSetup(
  model: Loaded,
  dir: string,
  asked: ParityCase,
  prompt: Prompt | undefined,
): Promise<Setup> {
  const folder = await folderReference(dir, model.engine.config);
  const { promptIds, generatedIds = [] } = folder;
  // Its ids are judged where the text that they are of is known.
  const reference: Reference = typeof prompt !== "string" || !promptIds
    ? folder
    : { ...folder, tokenize: () => Promise.resolve(promptIds) };
  const generate = generatedIds.length;
  const only: ParityCase = {
    ...asked,
    // The folder's own ids are of a text that nobody has told.
    text: prompt === undefined && promptIds ? undefined : asked.text,
    ids: promptIds ?? asked.ids,
    ownIds: asked.ids,
    generate,
    forced: generatedIds,
    steps: Array.from({ length: generate + 1 }, (_, step) => step),
    oracle: false,
  };
  return {
    reference,
    cases: [only],
    judging: { localOnly: true },
    [Symbol.asyncDispose]: () => folder.close(),
  };
}
