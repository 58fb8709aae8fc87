/** `./denow task model synth`: a model file of any shape with random weights. */
import { choice, flag, number, text, UsageError } from "../../inspect/commands/args.ts";
import { formatBytes } from "../../inspect/format.ts";
import { printLine } from "../../inspect/commands/print.ts";
import { createProgress } from "../../inspect/commands/progress.ts";
import { defineCommand, runCommand } from "../../inspect/commands/run_command.ts";
import { ggufSize } from "../../engine/gguf/writer.ts";
import { nearest } from "../../models/nearest.ts";
import { writeChecked } from "../files/f32_copy.ts";
import { RANDOM_TYPES } from "../files/random.ts";
import {
  type Shape,
  ShapeError,
  SHAPES,
  syntheticModel,
  VOCABULARIES,
} from "../files/synthetic_model.ts";

const count = (help: string) =>
  number(`${help}, in place of the shape's`, { integer: true, min: 1 });

const synth = defineCommand({
  name: "./denow task model synth",
  summary:
    "Writes a GGUF file with random weights, to measure what a model of that shape costs. SHAPE is " +
    `one of ${Object.keys(SHAPES).join(", ")}; options change it.`,
  options: {
    out: text("file to write", "FILE"),
    type: choice("of all matrices", RANDOM_TYPES, "Q4_0"),
    vocabulary: choice("tokens: ids only, or made-up ones as in Llama 2", VOCABULARIES, "none"),
    layers: count("blocks"),
    width: count("width of the residual stream"),
    "ffn-width": count("width inside the FFN"),
    heads: count("query heads"),
    "kv-heads": count("key and value heads"),
    "head-width": count("width of one head"),
    vocab: count("tokens"),
    context: count("positions"),
    "rope-base": number("base of RoPE, in place of the shape's", { above: 0 }),
    tied: flag("the embedding is the output matrix too"),
    seed: number("of the weights", { integer: true, min: 0, max: 2 ** 32 - 1, default: 0 }),
    json: flag("print one line of JSON, and nothing on the way"),
  },
  positionals: ["SHAPE"],
  async main({ options, positionals: [base], signal }) {
    const { out, type, vocabulary, seed, json } = options;
    if (out === undefined) throw new UsageError("where to? --out FILE");
    if (!Object.hasOwn(SHAPES, base)) {
      const [likely] = nearest(base, Object.keys(SHAPES), 1);
      const hint = likely
        ? `did you mean ${likely}`
        : `there are ${Object.keys(SHAPES).join(", ")}`;
      throw new UsageError(`unknown shape ${JSON.stringify(base)}; ${hint}`);
    }
    const known = SHAPES[base];
    const shape: Shape = {
      layers: options.layers ?? known.layers,
      width: options.width ?? known.width,
      ffnWidth: options["ffn-width"] ?? known.ffnWidth,
      heads: options.heads ?? known.heads,
      kvHeads: options["kv-heads"] ?? known.kvHeads,
      headWidth: options["head-width"] ?? known.headWidth,
      vocabSize: options.vocab ?? known.vocabSize,
      contextLength: options.context ?? known.contextLength,
      ropeBase: options["rope-base"] ?? known.ropeBase,
      normEpsilon: known.normEpsilon,
      tiedOutput: options.tied || known.tiedOutput,
    };
    const content = asUsage(() =>
      syntheticModel({ name: `synthetic ${base}`, shape, type, vocabulary, seed })
    );
    const progress = createProgress(`writing ${out}`, { quiet: json });
    await writeChecked(base, out, content, {
      durable: false,
      signal,
      onProgress: progress.update,
    }).finally(progress.finish);
    const bytes = ggufSize(content);
    printLine(
      json ? JSON.stringify({ path: out, bytes, type, ...shape }) : `${out}: ${formatBytes(bytes)}`,
    );
  },
});

/** A shape that cannot be is wrong usage. */
function asUsage<T>(make: () => T): T {
  try {
    return make();
  } catch (error) {
    if (error instanceof ShapeError) throw new UsageError(error.message);
    throw error;
  }
}

/** The command, run to the end of the process. */
export const runSynth = (args: readonly string[]): Promise<never> => runCommand(synth, args);
