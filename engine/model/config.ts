/** The frozen hyperparameters of a model: what of its family and its file the forward pass depends on. */

/** A model's hyperparameters, in the field's terms. */
export interface Config {
  /** `general.architecture`: the family. */
  readonly architecture: string;
  /** `general.name`, or the file's name. */
  readonly name: string;
  /** Set where llama.cpp computes something else than the model was trained with, and this is read as llama.cpp does. */
  readonly like?: "llama.cpp";
  /** Positions that the model was trained for. */
  readonly contextLength: number;
  /** How many blocks. */
  readonly layers: number;
  /** D, the width of the residual stream. */
  readonly width: number;
  /** F, the width inside the FFN. */
  readonly ffnWidth: number;
  /** H, the query heads. */
  readonly heads: number;
  /** Hkv, the key and value heads; divides `heads`. */
  readonly kvHeads: number;
  /** d, the width of one head. */
  readonly headWidth: number;
  /** V, the tokens of the vocabulary. */
  readonly vocabSize: number;
  /** How the stream begins. */
  readonly embedding: Embedding;
  /** What norms divide by: a row's root mean square, or that of the row less its mean (LayerNorm). */
  readonly normKind: "rms" | "layer";
  /** Added to the mean square. */
  readonly normEpsilon: number;
  /** Which norms a block has, and under which name the file has their weights. */
  readonly norms: BlockNorms;
  /** Whether attention and FFN read the same residual stream, and both are added to it. */
  readonly parallel: boolean;
  /** Norms of queries and keys; undefined of most. */
  readonly qkNorm?: QkNorm;
  /** Factor on q·k before the softmax. */
  readonly attentionScale: number;
  /** Scores become cap · tanh(score / cap); 0 for none. */
  readonly attentionCap: number;
  /** ALiBi's largest bias (Press et al. 2022): head h subtracts slope(h) · distance; 0 for none. */
  readonly alibi: number;
  /** Whether each head has a sink (`attn_sinks`): a score of its own that takes a share of the probability and brings no value. */
  readonly sinks: boolean;
  /** q, k and v are clamped to ± this; 0 for none. */
  readonly qkvLimit: number;
  /** Queries times 1 + scale · ln(1 + ⌊(position + offset) / period⌋); undefined of most. */
  readonly queryScaling?: {
    readonly scale: number;
    readonly period: number;
    readonly offset: number;
    /** Whether queries that RoPE turns are left as they are (Llama 4). */
    readonly unturnedOnly?: boolean;
  };
  /** Tables of RoPE's turns; none of models that know positions otherwise. */
  readonly ropes: readonly Rope[];
  /** What layers differ in. */
  readonly blocks: readonly Block[];
  /** The FFN's nonlinearity. */
  readonly activation: Activation;
  /** Its numbers, where it is `xielu`. */
  readonly xielu?: Xielu;
  /** Whether the activation of a gate multiplies what goes up, or what goes up is activated itself. */
  readonly gated: boolean;
  /** Factor on what attention and FFN add to the stream; 1 of most. */
  readonly residualScale: number;
  /** Factor on the logits; 1 of most. */
  readonly logitScale: number;
  /** Logits become cap · tanh(logit / cap); 0 for none. */
  readonly logitCap: number;
  /** Name of the last norm's weight in the file: `output_norm`. */
  readonly outputNorm: string;
  /** Whether the embedding serves as output matrix: the file has no `output.weight`. */
  readonly tiedOutput: boolean;
  /** Which optional tensors the file has, by their names without layer: `attn_q.bias`. */
  readonly optional: ReadonlySet<string>;
  /** Matrices that the file has one below the other in a single tensor. */
  readonly fused: { readonly qkv: boolean; readonly gateUp: boolean };
}

/** How the residual stream begins. */
export interface Embedding {
  /** Factor on the embedding rows; 1 of most. */
  readonly scale: number;
  /** Whether a learned row for each position is added (`position_embd.weight`, as in GPT-2). */
  readonly positions: boolean;
  /** Whether a norm follows (`token_embd_norm`, as in BLOOM). */
  readonly norm: boolean;
}

/** Names of a block's norms in the file, without layer; undefined where a block has none at that place. */
export interface BlockNorms {
  /** In front of attention. */
  readonly attention?: string;
  /** Of what attention adds to the stream. */
  readonly attentionAfter?: string;
  /** In front of the FFN. Of parallel blocks without one both halves read attention's. */
  readonly ffn?: string;
  /** Of what the FFN adds to the stream. */
  readonly ffnAfter?: string;
}

/** Norms of queries and keys (`attn_q_norm`, `attn_k_norm`), of the kind that the model's other norms are. */
export interface QkNorm {
  /** What is a row: each head, with the same weights [d] or its own [H, d]; or all heads together [H · d]. */
  readonly over: "head" | "own_heads" | "row";
  /** Whether they come after RoPE instead of before. */
  readonly afterRope: boolean;
  /** Whether layers that RoPE does not turn have none (Llama 4). */
  readonly turnedOnly?: boolean;
  /** Whether they have no weights (Llama 4). */
  readonly weightless?: boolean;
}

/** What layers differ in. */
export interface Block {
  /** Keys that a query sees: the last so many, its own included; 0 for all. */
  readonly window: number;
  /** A query sees the keys of its own chunk of so many positions only; 0 for all. */
  readonly chunk: number;
  /** Which of the tables turns queries and keys; undefined where none does. */
  readonly rope?: Rope;
  /** The mixture that stands in place of the FFN; undefined where the FFN is one. */
  readonly experts?: Experts;
}

/** A mixture of experts (Shazeer et al. 2017): a router sends each position to a few of many FFNs. */
export interface Experts {
  /** E, how many there are. */
  readonly count: number;
  /** K, how many a position goes to. */
  readonly used: number;
  /** F, the width inside each. */
  readonly width: number;
  /** What the router's logits are made into: probabilities over all experts, each by itself, or over the chosen ones only. */
  readonly gating: "softmax" | "sigmoid" | "softmax_chosen";
  /** Whether the chosen experts' weights are divided by their sum. */
  readonly normalized: boolean;
  /** Factor on the weights; 1 of most. */
  readonly scale: number;
  /** Experts are chosen from the best groups only (DeepSeek-V3); undefined where there are no groups. */
  readonly groups?: { readonly count: number; readonly used: number };
  /** Whether weights multiply what an expert reads instead of what it makes (Llama 4). */
  readonly weighsInput: boolean;
  /** An FFN that every position goes to as well. */
  readonly shared?: {
    /** The width inside. */
    readonly width: number;
    /** Whether a sigmoid of a product with the position's row multiplies what it makes. */
    readonly gated: boolean;
  };
}

/** RoPE (Su et al. 2021): pair i turns by position · base^(−2i / width). */
export interface Rope {
  /** The table's name in the plan: `rope_table`. */
  readonly table: string;
  /** θ of the paper. */
  readonly base: number;
  /** Numbers of a head that are turned, from its start; the rest stays. */
  readonly width: number;
  /** Which numbers make a pair: 2i and 2i + 1, or i and i + width / 2. */
  readonly style: "adjacent" | "half";
  /** How positions beyond the first training length are squeezed. */
  readonly scaling: RopeScaling;
  /** Name of the tensor [width / 2] that divides each pair's angle (Llama 3.1 and later: `rope_freqs.weight`); undefined without. */
  readonly factors?: string;
  /** Factor on cosines and sines; 1 of most. */
  readonly magnitude: number;
}

/** How positions are squeezed before RoPE. */
export type RopeScaling =
  | { readonly type: "none" }
  | {
    readonly type: "linear";
    /** Divides every position. */
    readonly factor: number;
  }
  | Yarn
  | LongRope;

/** YaRN (Peng et al. 2023): slow pairs as with linear scaling, fast ones unscaled, a ramp between. */
export interface Yarn {
  /** Which of the ways this is. */
  readonly type: "yarn";
  /** Divides the positions of slow pairs. */
  readonly factor: number;
  /** Positions before scaling. */
  readonly originalLength: number;
  /** Turns within `originalLength` from which on pairs are fast. */
  readonly betaFast: number;
  /** Turns up to which they are slow. */
  readonly betaSlow: number;
  /** Share of the ramp: 1, or 0 where all pairs are slow. */
  readonly share: number;
}

/** LongRoPE (Ding et al. 2024): a divisor of each pair's angle, others where more positions are kept than the model first had. */
export interface LongRope {
  /** Which of the ways this is. */
  readonly type: "longrope";
  /** Positions up to which the short ones hold. */
  readonly originalLength: number;
  /** Name of the tensor [width / 2] of divisors for short sessions. */
  readonly short: string;
  /** The same for long ones. */
  readonly long: string;
}

/** Nonlinearities of FFNs: `kernels/elementwise/` says what each computes. */
export type Activation =
  | "silu"
  | "gelu_tanh"
  | "gelu"
  | "relu"
  | "relu2"
  | "swiglu_clamped"
  | "xielu";

/** The learned numbers of xIELU (Huang & Schlag 2025), one for each layer. */
export interface Xielu {
  /** α of numbers below zero, before its softplus. */
  readonly alphaN: readonly number[];
  /** α of numbers above zero, before its softplus. */
  readonly alphaP: readonly number[];
  /** β, the slope at zero. */
  readonly beta: readonly number[];
  /** ε, at most zero: what the exponential is given at most. */
  readonly epsilon: readonly number[];
}

/** The table of a name, in a model that has it. */
export function ropeOfTable({ ropes }: Config, table: string): Rope {
  return ropes.find((rope) => rope.table === table)!;
}
