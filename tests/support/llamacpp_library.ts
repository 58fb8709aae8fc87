import { llamaCppLibrary as fetchLibrary } from "../../checkpoints/references/llamacpp_library.ts";

/**
 * The folder of llama.cpp's prebuilt libraries for this platform. Undefined where npm or the network is missing, or where there is
 * no such package.
 */
export async function llamaCppLibrary(): Promise<string | undefined> {
  try {
    return (await fetchLibrary()).folder;
  } catch (error) {
    console.warn(`no llama.cpp: ${error instanceof Error ? error.message : error}`);
    return undefined;
  }
}
