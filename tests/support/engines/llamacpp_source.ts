import { join } from "node:path";
import { laminaHome } from "../../../models/cache.ts";
import { needed } from "../needed.ts";

/** The npm package whose git bundle holds llama.cpp's source at v0.5.0. */
const PACKAGE = "node-llama-cpp@3.22.1";

/** Those of its vocabularies that are of a kind which Lamina reads. */
export const LLAMA_CPP_VOCABULARIES: readonly string[] = [
  "aquila",
  "baichuan",
  "command-r",
  "deepseek-coder",
  "deepseek-llm",
  "falcon",
  "gpt-2",
  "gpt-neox",
  "llama-bpe",
  "llama-spm",
  "mpt",
  "phi-3",
  "qwen2",
  "qwen35",
  "refact",
  "starcoder",
];

/**
 * The folder of llama.cpp's own vocabularies (`ggml-vocab-*.gguf` with test vectors beside them), as
 * {@linkcode llamaCppModels} brings it.
 */
export function llamaCppVocabularies(): Promise<string | undefined> {
  return llamaCppModels("vocabularies", "models", "", (name) => {
    const vocabulary = /^ggml-vocab-(.*)\.gguf(\.inp|\.out)?$/.exec(name)?.[1] ?? "";
    return LLAMA_CPP_VOCABULARIES.includes(vocabulary);
  });
}

/** The folder of the chat templates in llama.cpp's source (`*.jinja`), as {@linkcode llamaCppModels} brings it. */
export function llamaCppTemplates(): Promise<string | undefined> {
  const isTemplate = (name: string) => name.endsWith(".jinja");
  return llamaCppModels("chat templates", "templates", "templates", isTemplate);
}

/**
 * A folder below llama.cpp's `models`, out of Lamina's cache or, the first time, out of the npm package
 * (35 MB). Undefined where npm, git or the network is missing.
 */
function llamaCppModels(
  what: string,
  kept: string,
  below: string,
  wanted: (name: string) => boolean,
): Promise<string | undefined> {
  return needed(`${what} of llama.cpp`, async () => {
    const home = laminaHome((name) => Deno.env.get(name));
    const folder = join(home, "tests", `llama.cpp-v0.5.0-${kept}`);
    if (!await exists(folder)) await bring(folder, below, wanted);
    return folder;
  });
}

async function bring(
  folder: string,
  below: string,
  wanted: (name: string) => boolean,
): Promise<void> {
  const work = await Deno.makeTempDir({ prefix: "lamina-llamacpp-" });
  try {
    // One try: a machine without a network shall not be waited for.
    const npm = Deno.build.os === "windows" ? "npm.cmd" : "npm";
    await run(work, npm, "pack", PACKAGE, "--loglevel=error", "--fetch-retries=0");
    const archive = [...Deno.readDirSync(work)].find((entry) => entry.name.endsWith(".tgz"));
    if (archive === undefined) throw new Error(`npm pack ${PACKAGE} left no archive`);
    await run(work, "tar", "-xzf", archive.name, "package/llama/gitRelease.bundle");
    await run(work, "git", "clone", "-q", "package/llama/gitRelease.bundle", "source");
    await keep(join(work, "source", "models", below), folder, wanted);
  } finally {
    await Deno.remove(work, { recursive: true });
  }
}

/** Copies beside the goal first, so that a folder of that name is always whole. */
async function keep(from: string, to: string, wanted: (name: string) => boolean): Promise<void> {
  const partial = `${to}.partial`;
  await Deno.remove(partial, { recursive: true }).catch(() => {});
  await Deno.mkdir(partial, { recursive: true });
  for await (const { name } of Deno.readDir(from)) {
    if (wanted(name)) await Deno.copyFile(join(from, name), join(partial, name));
  }
  await Deno.rename(partial, to);
}

async function run(cwd: string, command: string, ...args: string[]): Promise<void> {
  const { success, stderr } = await new Deno.Command(command, { args, cwd, stdout: "null" })
    .output();
  if (success) return;
  const reason = new TextDecoder().decode(stderr).trim().split("\n")[0];
  throw new Error(`${command} ${args[0]} failed: ${reason}`);
}

async function exists(path: string): Promise<boolean> {
  try {
    await Deno.stat(path);
    return true;
  } catch {
    return false;
  }
}
