/** llama.cpp in the tests' own process: its tensors, by its own names, and its vocabularies. */
import {
  graphValue,
  type LlamaCpp,
  type LlamaTensor,
  openLlamaCpp,
} from "../../../checkpoints/references/llamacpp/ffi.ts";
import {
  type LlamaCppLibrary,
  llamaCppLibrary as fetchLibrary,
} from "../../../checkpoints/references/llamacpp/library.ts";
import type { GraphNode, GraphValue } from "../../../checkpoints/references/llamacpp/points.ts";
import { needed } from "../needed.ts";

/** llama.cpp's prebuilt libraries for this platform. Undefined where npm or the network is missing, or where there is no package. */
export function llamaCppLibrary(): Promise<LlamaCppLibrary | undefined> {
  return needed("llama.cpp", () => fetchLibrary());
}

/** The f32 tensors of a pass, in the order of computation. */
export class Graph {
  readonly nodes: GraphValue[] = [];

  /** Those of a name; undefined where there is none. */
  get(name: string): readonly GraphValue[] | undefined {
    const found = this.nodes.filter((node) => node.name === name);
    return found.length > 0 ? found : undefined;
  }
}

/** A model in llama.cpp whose passes are looked at. */
export interface ObservedModel {
  /** Runs ids at the positions after those of the passes before. */
  pass(ids: readonly number[], wanted?: (node: GraphNode) => boolean): Graph;
}

/** Libraries are opened once in a process. */
const opened = new Map<string, LlamaCpp>();

/** Opens llama.cpp. */
export function llamaCpp(library: LlamaCppLibrary): LlamaCpp {
  const llama = opened.get(library.folder) ?? openLlamaCpp(library);
  opened.set(library.folder, llama);
  return llama;
}

/**
 * A GGUF file in llama.cpp, on the CPU in one thread, exact and whole: flash attention off, F32 cache, logits for every row.
 *
 * @param positions of all passes together
 */
export function observedModel(
  library: LlamaCppLibrary,
  path: string,
  positions = 512,
): ObservedModel {
  let wants = (_node: GraphNode) => false;
  let seen = new Graph();
  function take(tensor: LlamaTensor): void {
    const value = graphValue(tensor);
    if (value) seen.nodes.push(value);
  }
  const context = llamaCpp(library).load(path, { gpu: false }).context({
    threads: 1,
    longestPass: Math.max(512, positions),
    positions: Math.max(512, positions),
    observer: { wants: (tensor) => wants(tensor), take },
  });
  return {
    pass(ids, wanted = () => true) {
      wants = wanted;
      seen = new Graph();
      context.pass(ids, ids.length);
      return seen;
    },
  };
}
