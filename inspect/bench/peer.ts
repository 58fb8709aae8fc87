/** Other engines that are measured beside ours. What starts them is in checkpoints/bench/. */

/** What is measured of an engine; each with so many tokens of prompt. */
export type TaskKind =
  /** Milliseconds to run the prompt, with the logits of its last token. */
  | "prefill"
  /** The same, with every tensor kept. */
  | "prefill captured"
  /** Milliseconds per token after the prompt. */
  | "decode"
  /** The same, with every tensor read. */
  | "decode captured"
  /** Milliseconds for the prompt run once for each layer and position, with the residual stream before that layer patched at that position. */
  | "patching sweep";

/** Something to measure. */
export interface Task {
  readonly kind: TaskKind;
  /** Of the prompt. */
  readonly tokens: number;
}

/** Another engine with the model, or one of the same shape. */
export interface Peer extends AsyncDisposable {
  /** As people ask for it: `llama.cpp`. */
  readonly name: string;
  /** Version, device, weights. */
  readonly description: string;
  /** What it can be measured at. */
  readonly kinds: readonly TaskKind[];
  measure(task: Task): Promise<number>;
}
