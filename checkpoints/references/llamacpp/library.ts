/** llama.cpp's prebuilt libraries: which there are, and how they come here. */
import { basename, join } from "node:path";
import { acquireLock, laminaHome, statOf } from "../../../models/cache.ts";
import { guarded } from "../../../models/part_file.ts";
import type { Environment } from "../../../models/mod.ts";
import { ReferenceFailure } from "../reference.ts";

/** What references to llama.cpp are called. */
export const LLAMA_CPP = "llama.cpp";

/** Version of the npm packages `@node-llama-cpp/*`. */
const PACKAGE_VERSION = "3.22.1";
/** The release of llama.cpp that they hold. */
export const LLAMA_CPP_RELEASE = "v0.5.0";

/** The files of llama.cpp that are opened, in this order: each finds those before it loaded. */
export interface LlamaCppLibrary {
  /** Where they are, and the CPU's and GPU's backends beside them. */
  readonly folder: string;
  readonly base: string;
  readonly ggml: string;
  readonly llama: string;
  /** `@node-llama-cpp/linux-x64 3.22.1`, or the folder's name where somebody brought their own. */
  readonly origin: string;
}

/** Which library, and how it may be fetched. */
export interface LibraryOptions {
  /** The build that runs on GPUs. */
  readonly vulkan?: boolean;
  /** A folder that holds the libraries already. */
  readonly folder?: string;
  readonly onFetch?: (packageName: string) => void;
  readonly env?: Environment;
  readonly signal?: AbortSignal;
}

/** The npm package of a platform; undefined where there is none. macOS on Apple's own processors has one build for CPU and GPU. */
export function llamaCppPackage(
  os: string,
  arch: string,
  vulkan: boolean,
): string | undefined {
  const platforms: Readonly<Record<string, readonly [plain: string, vulkan?: string]>> = {
    "linux-x86_64": ["linux-x64", "linux-x64-vulkan"],
    "linux-aarch64": ["linux-arm64"],
    "darwin-x86_64": ["mac-x64"],
    "darwin-aarch64": ["mac-arm64-metal"],
    "windows-x86_64": ["win-x64", "win-x64-vulkan"],
    "windows-aarch64": ["win-arm64"],
  };
  const name = platforms[`${os}-${arch}`]?.[vulkan ? 1 : 0];
  return name && `@node-llama-cpp/${name}`;
}

/**
 * The libraries for this machine: out of Lamina's cache or, the first time, with the user's own npm out of the package.
 *
 * @throws {ReferenceFailure} when there is no such package or it cannot be fetched
 */
export async function llamaCppLibrary(options: LibraryOptions = {}): Promise<LlamaCppLibrary> {
  const { vulkan = false, env = Deno.env.get, signal } = options;
  if (options.folder !== undefined) {
    return findLibraries(options.folder, basename(options.folder));
  }
  const { os, arch } = Deno.build;
  const name = llamaCppPackage(os, arch, vulkan);
  if (name === undefined) {
    const build = vulkan ? "Vulkan build" : "build";
    throw new ReferenceFailure(LLAMA_CPP, `there is no ${build} of it for ${os} on ${arch}`);
  }
  const origin = `${name} ${PACKAGE_VERSION}`;
  const folder = join(laminaHome(env), "llama.cpp", origin.replaceAll(/[^\w.-]+/g, "-").slice(1));
  if (!await statOf(folder)) {
    await guarded("llama.cpp's library", folder, async () => {
      using _lock = await acquireLock(`${folder}.lock`, { signal });
      if (await statOf(folder)) return;
      options.onFetch?.(origin);
      await fetchPackage(`${name}@${PACKAGE_VERSION}`, folder, signal);
    });
  }
  return findLibraries(join(folder, "bins", basename(name)), origin);
}

/** Fetches and unpacks a package beside its place first, so that a folder of the final name is always whole. */
async function fetchPackage(
  specifier: string,
  folder: string,
  signal?: AbortSignal,
): Promise<void> {
  const work = `${folder}.partial`;
  await Deno.remove(work, { recursive: true }).catch(() => {});
  await Deno.mkdir(work, { recursive: true });
  try {
    const npm = Deno.build.os === "windows" ? "npm.cmd" : "npm";
    // One try: a machine without a network shall not be waited for.
    const settings = ["--loglevel=error", "--fetch-retries=0"];
    await run(npm, ["pack", specifier, ...settings], work, signal);
    const archive = [...Deno.readDirSync(work)].find(({ name }) => name.endsWith(".tgz"));
    if (archive === undefined) throw new ReferenceFailure(LLAMA_CPP, `npm packed no ${specifier}`);
    await run("tar", ["-xzf", archive.name], work, signal);
    await Deno.rename(join(work, "package"), folder);
  } finally {
    await Deno.remove(work, { recursive: true }).catch(() => {});
  }
}

async function run(
  command: string,
  args: readonly string[],
  cwd: string,
  signal?: AbortSignal,
): Promise<void> {
  const failed = (reason: string) =>
    new ReferenceFailure(LLAMA_CPP, `its library cannot be fetched: ${command}: ${reason}`);
  try {
    const child = new Deno.Command(command, { args: [...args], cwd, stdout: "null", signal });
    const { success, stderr } = await child.output();
    signal?.throwIfAborted();
    if (success) return;
    // npm's first line is a code, its second the reason.
    const lines = new TextDecoder().decode(stderr).split("\n").filter((line) => line !== "");
    throw failed(lines.slice(0, 2).map((line) => line.replace(/^npm error /, "")).join(", "));
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) throw failed("no such program; install Node.js");
    throw error;
  }
}

/** Names carry the release, and on Windows no `lib`: `libllama.v0.5.0.so`, `libllama.vulkan.v0.5.0.so`, `llama.dll`. */
function findLibraries(folder: string, origin: string): LlamaCppLibrary {
  let names: string[] = [];
  try {
    names = [...Deno.readDirSync(folder)].map(({ name }) => name);
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
  const find = (stem: string) => {
    const pattern = new RegExp(`^(lib)?${stem}(\\..*)?\\.(so|dylib|dll)$`);
    const name = names.find((each) => pattern.test(each));
    if (name === undefined) {
      throw new ReferenceFailure(LLAMA_CPP, `there is no library ${stem} in ${folder}`);
    }
    return join(folder, name);
  };
  return { folder, base: find("ggml-base"), ggml: find("ggml"), llama: find("llama"), origin };
}
