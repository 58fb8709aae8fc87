/** What a kind of point is: its axes, what it means, and what other engines call it. */
import type { Config } from "../../engine/model/config.ts";

/**
 * What an axis of a point counts. `slot` is a place in the KV cache; slot s holds position s. `expert` is a place among the experts that a
 * position goes to, the best first.
 */
export type Axis =
  | "position"
  | "head"
  | "kv_head"
  | "feature"
  | "query"
  | "key"
  | "slot"
  | "expert";

/** What of a model its aliases depend on. */
export interface AliasModel {
  readonly config: Config;
  /** Whether the model has points of a kind. */
  has(kind: string): boolean;
}

/** Templates of aliases, or which a model has. */
export type Templates = readonly string[] | ((model: AliasModel) => readonly string[]);

/**
 * A kind of point: the name without its `blk.<layer>.`.
 *
 * In the templates of aliases `{L}` stands for the layer, `{next}` for the following one (what the stream begins with comes before
 * layer 0; the last layer has none) and `{layers}` for the number of layers.
 */
export interface PointKind {
  readonly axes: readonly Axis[];
  readonly meaning: string;
  /** Captured only when it is named, not by a star. */
  readonly onRequest?: boolean;
  /** Its heads are in the order that the file's RoPE asks for. */
  readonly rotary?: boolean;
  /**
   * Names without another owner; same numbers. Those like `resid_post.3` are the standard addresses of `interp-engine`
   * (Neuronpedia).
   */
  readonly own?: Templates;
  /**
   * Tensors of llama.cpp's graph. Where it has several tensors of one name, the plain name is the last, and a `#` says which
   * other one is meant.
   */
  readonly llamaCpp?: Templates;
  /** Hooks of TransformerLens's `HookedTransformer`, nothing folded or centred. Rotary points are in half order. */
  readonly transformerLens?: Templates;
  /**
   * What modules of Hugging Face's `LlamaForCausalLM`, and of classes that are built like it, give (of a tuple: its first), what they take (`.input`), and fields of
   * the model's output. Rotary points are in half order.
   */
  readonly huggingFace?: Templates;
  /** Factor on our numbers which gives those of the alias with this template; 1 without it. */
  readonly factors?: Readonly<Record<string, (config: Config) => number>>;
}
