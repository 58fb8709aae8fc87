import { join } from "node:path";
import { laminaHome } from "../../models/cache.ts";

const VERSION = "3.22.1";

/**
 * The folder of llama.cpp's prebuilt libraries (v0.5.0, CPU) for this platform: out of Lamina's cache or, the first time, out of
 * the npm package. Undefined where npm or the network is missing, or where there is no such package.
 */
export async function llamaCppLibrary(): Promise<string | undefined> {
  if (Deno.build.os !== "linux") return undefined;
  const platform = `linux-${Deno.build.arch === "aarch64" ? "arm64" : "x64"}`;
  const folder = join(
    laminaHome((name) => Deno.env.get(name)),
    "tests",
    `node-llama-cpp-${VERSION}-${platform}`,
  );
  const bins = join(folder, "bins", platform);
  if (await exists(bins)) return bins;
  const work = await Deno.makeTempDir({ prefix: "lamina-llamacpp-" });
  try {
    await run(
      work,
      "npm",
      "pack",
      `@node-llama-cpp/${platform}@${VERSION}`,
      "--loglevel=error",
      "--fetch-retries=0",
    );
    const archive = [...Deno.readDirSync(work)].find((entry) => entry.name.endsWith(".tgz"))!;
    await run(work, "tar", "-xzf", archive.name);
    await Deno.mkdir(join(folder, ".."), { recursive: true });
    // Copied under another name first, so that a folder of the final name is always whole.
    const partial = `${folder}.${crypto.randomUUID()}`;
    await run(work, "cp", "-r", "package", partial);
    await Deno.rename(partial, folder).catch(() => Deno.remove(partial, { recursive: true }));
    return bins;
  } catch (error) {
    console.warn(`no llama.cpp: ${error instanceof Error ? error.message : error}`);
    return undefined;
  } finally {
    await Deno.remove(work, { recursive: true });
  }
}

async function exists(path: string): Promise<boolean> {
  return await Deno.stat(path).then(() => true, () => false);
}

async function run(cwd: string, command: string, ...args: string[]): Promise<void> {
  const { success, stderr } = await new Deno.Command(command, { args, cwd, stdout: "null" })
    .output();
  if (!success) throw new Error(`${command} failed: ${new TextDecoder().decode(stderr).trim()}`);
}
