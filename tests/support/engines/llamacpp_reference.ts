/** llama.cpp as a reference on small models, for tests. */
import assert from "node:assert/strict";
import { type Reference, ReferenceFailure } from "../../../checkpoints/references/reference.ts";
import {
  type LlamaCppOptions,
  llamaCppReference,
} from "../../../checkpoints/references/llamacpp/reference.ts";
import type { Config } from "../../../engine/model/config.ts";
import { readConfig } from "../../../engine/plan/tensors.ts";
import type { GgufFile } from "../../../engine/gguf/reader.ts";
import { openFound } from "../../../inspect/run/loading.ts";
import type { FoundModel } from "../../../models/mod.ts";
import { llamaCppLibrary } from "./llamacpp_library.ts";
import { randomLlama, type RandomLlamaOptions } from "../models/random_llama.ts";

export const library = (await llamaCppLibrary())?.folder;
export const live = { ignore: library === undefined };

export const KINDS = [
  ...["attn_norm_pre", "attn_norm", "q", "k", "v", "q_rope", "k_rope", "cache_k", "cache_v"],
  ...["attn_scores", "attn_probs", "head_out", "attn_out", "ffn_inp", "ffn_norm_pre", "ffn_norm"],
  ...["ffn_gate", "ffn_up", "ffn_act", "ffn_out", "out"],
];

/** All that llama.cpp shows. */
export function shownPoints({ layers }: Config): string[] {
  const blocks = Array.from(
    { length: layers },
    (_, layer) => KINDS.map((kind) => `blk.${layer}.${kind}`),
  );
  return ["token_embd", ...blocks.flat(), "output_norm_pre", "output_norm", "logits"];
}

/** A random model's bytes, as a found model. */
export function randomModel(options: RandomLlamaOptions): FoundModel {
  return { name: "random", bytes: randomLlama(options) };
}

export async function withReference(
  options: LlamaCppOptions,
  use: (reference: Reference, config: Config, file: GgufFile) => Promise<void>,
): Promise<void> {
  // Copies of what is made for a test go with it.
  const home = options.model.name === "random" ? await Deno.makeTempDir() : undefined;
  const env = (name: string) => name === "LAMINA_HOME" ? home : undefined;
  const reference = await llamaCppReference(home ? { library, env, ...options } : options);
  const file = await openFound(options.model);
  try {
    await use(reference, readConfig(file), file);
  } finally {
    file.close();
    await reference.close();
    if (home) await Deno.remove(home, { recursive: true });
  }
}

export async function failure(work: () => Promise<unknown>): Promise<string> {
  const error: unknown = await work().then(() => undefined, (reason) => reason);
  assert.ok(error instanceof ReferenceFailure, `${error}`);
  assert.doesNotMatch(error.message, /\n/);
  assert.match(error.message, /^llama\.cpp: /);
  return error.message;
}

export const PROMPT = "Once upon a time there was a little girl who had a red ball.";
