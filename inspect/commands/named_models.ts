/**
 * The part of `./denow task model` that lists models, pulls and verifies them, and shows what is in a file. What compares files is in
 * checkpoints/commands/model.ts, which is the task.
 *
 * @module
 */
import { checkIsModel } from "../../engine/model/hyperparameters.ts";
import { parseForeignJson } from "../../models/foreign_json.ts";
import {
  KNOWN_MODELS,
  listModels,
  ModelError,
  nearest,
  pullModel,
  verifyModel,
} from "../../models/mod.ts";
import { openFound } from "../run/loading.ts";
import { tokenizerOf } from "../run/vocabulary.ts";
import { flag, text, UsageError } from "./args.ts";
import { findOrPull } from "./find_model.ts";
import { formatBytes, formatTable } from "../format.ts";
import { infoJson, infoText } from "./model_info.ts";
import { printLine } from "./print.ts";
import { createLoadProgress, createProgress } from "./progress.ts";
import { defineCommand, runCommand } from "./run_command.ts";
import { jsonLine, printable } from "../escape.ts";

const NAME = "./denow task model";

const pull = defineCommand({
  name: `${NAME} pull`,
  summary: "Pulls a model into the cache, checks it, and prints its path.",
  options: { json: flag("show no progress") },
  positionals: ["NAME"],
  async main({ options, positionals: [name], signal }) {
    const progress = createLoadProgress(name, { quiet: options.json });
    const path = await pullModel(name, {
      signal,
      onProgress: (done, total) => progress.onProgress("pull", done, total),
      onWait: progress.onWait,
    }).finally(progress.finish);
    printLine(options.json ? jsonLine({ name, path }) : printable(path));
  },
});

const info = defineCommand({
  name: `${NAME} info`,
  summary: "Shows a GGUF file: its metadata, its tensors and how many bits they take.",
  options: { json: flag("print one line of JSON, with every value whole") },
  positionals: ["FILE|NAME"],
  async main({ options, positionals: [nameOrPath], signal }) {
    const file = await openFound(await findOrPull(nameOrPath, { quiet: options.json, signal }));
    printLine(options.json ? infoJson(file) : infoText(file));
    file.close();
  },
});

const verify = defineCommand({
  name: `${NAME} verify`,
  summary: "Computes a model's SHA-256 anew and compares it with the one that it should have.",
  options: { json: flag("print one line of JSON") },
  positionals: ["NAME|FILE"],
  async main({ options, positionals: [name], signal }) {
    const progress = createProgress(`verifying ${name}`, { quiet: options.json });
    const found = await verifyModel(name, { signal, onProgress: progress.update })
      .finally(progress.finish);
    const { path, sha256 } = found;
    const files = found.parts ?? [found];
    const wrong = files.find(({ expected, sha256 }) => (expected ?? sha256) !== sha256);
    const unstated = files.find(({ expected }) => expected === undefined);
    // Nobody states what the embedded model should be but the repository that it is part of.
    const verified = !wrong && (!unstated || path === undefined);
    if (options.json) {
      printLine(jsonLine({ ...found, verified }));
    } else if (path === undefined) {
      printLine(`${printable(found.name)}: part of Lamina, SHA-256 ${sha256}`);
    } else if (wrong) {
      throw new ModelError(
        found.parts ? wrong.path! : name,
        `checksum mismatch, SHA-256 is ${wrong.sha256} where ${wrong.expected} is expected; delete ` +
          `${wrong.path} and pull it again`,
      );
    } else if (unstated) {
      throw new ModelError(
        found.parts ? unstated.path! : name,
        `nothing to compare with; its SHA-256 is ${unstated.sha256} (put the right one into ` +
          `${unstated.path}.sha256)`,
      );
    } else {
      printLine(printable(`${found.name}: good, SHA-256 ${sha256} (${path})`));
    }
    return verified ? 0 : 1;
  },
});

const tokenize = defineCommand({
  name: `${NAME} tokenize`,
  summary:
    "Prints token ids as JSON, one list per line. Special tokens in the text count as such; " +
    "whether BOS stands in front the file says.",
  options: { json: text("file with a JSON list of strings to tokenize", "FILE") },
  positionals: ["FILE|NAME", "[TEXT]"],
  async main({ options, positionals: [nameOrPath, given], signal }) {
    if ((given === undefined) === (options.json === undefined)) {
      throw new UsageError("give either a TEXT or --json FILE with a list of strings");
    }
    const strings = given === undefined ? await readStrings(options.json!) : [given];
    const file = await openFound(await findOrPull(nameOrPath, { signal }));
    file.close();
    checkIsModel(file);
    const tokenizer = tokenizerOf(file);
    for (const each of strings) printLine(JSON.stringify(Array.from(tokenizer.encode(each))));
  },
});

async function readStrings(path: string): Promise<string[]> {
  let parsed: unknown;
  try {
    parsed = parseForeignJson(await Deno.readFile(path));
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) throw new Error(`${path}: no such file`);
    if (error instanceof SyntaxError) throw new Error(`${path}: not JSON: ${error.message}`);
    throw error;
  }
  if (Array.isArray(parsed) && parsed.every((each) => typeof each === "string")) return parsed;
  throw new Error(`${path}: not a JSON list of strings`);
}

/** Commands by their word; each runs to the end of the process. */
export type ModelCommands = Readonly<Record<string, (args: readonly string[]) => Promise<never>>>;

/** Those that need nothing but the models. */
export const MODEL_COMMANDS: ModelCommands = {
  pull: (args) => runCommand(pull, args),
  info: (args) => runCommand(info, args),
  verify: (args) => runCommand(verify, args),
  tokenize: (args) => runCommand(tokenize, args),
};

/** What the task does without a command. */
const list = (commands: ModelCommands) =>
  defineCommand({
    name: NAME,
    summary: `Lists the models that have a name. Commands: ${Object.keys(commands).join(", ")}; ` +
      "--help after a command says more.",
    options: { json: flag("print one line of JSON") },
    positionals: ["[COMMAND]"],
    async main({ options, positionals: [word] }) {
      if (word !== undefined) throw unknownCommand(word, Object.keys(commands));
      const models = await listModels();
      if (options.json) {
        const rows = models.map(({ name, description, license, bytes, source, path }) => ({
          name,
          description,
          license,
          bytes,
          source: source.kind,
          path,
        }));
        printLine(jsonLine(rows));
        return;
      }
      const rows = models.map(({ name, description, license, bytes, source, path }) => [
        name,
        bytes === undefined ? "-" : formatBytes(bytes),
        source.kind === "embedded" ? "embedded" : path === undefined ? "not pulled" : "pulled",
        `${description} (${license})`,
      ]);
      printLine(formatTable(rows, "lrll"));
    },
  });

function unknownCommand(word: string, names: readonly string[]): UsageError {
  const near = nearest(word, names, 1);
  const isModel = /\.gguf$/i.test(word) || KNOWN_MODELS.some(({ name }) => name === word);
  let hint = `commands: ${names.join(", ")}`;
  if (isModel) hint = `did you mean info ${word}?`;
  if (near.length > 0) hint = `did you mean ${near[0]}?`;
  return new UsageError(`unknown command ${JSON.stringify(word)}; ${hint}`);
}

/** Runs `./denow task model` to the end of the process. */
export async function runModelTask(
  commands: ModelCommands,
  args: readonly string[] = Deno.args,
): Promise<never> {
  const [first, ...rest] = args;
  if (Object.hasOwn(commands, first ?? "")) return await commands[first](rest);
  // A word that is no command is wrong whatever follows it.
  return await runCommand(list(commands), first?.startsWith("-") === false ? [first] : args);
}
