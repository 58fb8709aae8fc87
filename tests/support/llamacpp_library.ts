import { llamaCppLibrary as fetchLibrary } from "../../checkpoints/references/llamacpp/library.ts";
import { needed } from "./needed.ts";

/**
 * The folder of llama.cpp's prebuilt libraries for this platform. Undefined where npm or the network is missing, or where there is
 * no such package.
 */
export function llamaCppLibrary(): Promise<string | undefined> {
  return needed("llama.cpp", async () => (await fetchLibrary()).folder);
}
