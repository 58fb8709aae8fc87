/** What a family of models is: data that says where it differs from Llama. */
import type {
  Activation,
  BlockNorms,
  Config,
  Embedding,
  Experts,
  QkNorm,
  Rope,
  RopeScaling,
  Xielu,
} from "./config.ts";
import type { Keys } from "./keys.ts";

/** The sizes of a model, which are read first. */
export type Sizes = Pick<Config, "layers" | "width" | "heads" | "kvHeads" | "headWidth">;

/** A value, or how it is read from a file. */
export type Rule<T> = T | ((keys: Keys, sizes: Sizes) => T);

/**
 * A family: whatever is not said is as in Llama. The fields are those of {@linkcode Config}, which says what they mean; the
 * oracle (`engine/oracle/`) reads the config and knows no family.
 */
export interface Family {
  /** Where a file says nothing else. */
  readonly ropeStyle: Rope["style"];
  readonly ffnWidth?: Rule<number>;
  readonly embedding?: Rule<Partial<Embedding>>;
  readonly normKind?: Config["normKind"];
  readonly norms?: Rule<BlockNorms>;
  /** Whether norms have no weights; false. */
  readonly weightlessNorms?: boolean;
  readonly parallel?: Rule<boolean>;
  readonly qkNorm?: Rule<QkNorm | undefined>;
  readonly attentionScale?: Rule<number>;
  readonly attentionCap?: Rule<number>;
  readonly alibi?: Rule<number>;
  readonly sinks?: boolean;
  readonly qkvLimit?: Rule<number>;
  readonly queryScaling?: Rule<Config["queryScaling"]>;
  readonly activation?: Rule<Activation>;
  readonly xielu?: Rule<Xielu>;
  readonly gated?: boolean;
  /** Whether `ffn_up` holds the gate's rows and, below them, those of what goes up. */
  readonly fusedGateUp?: boolean;
  readonly residualScale?: Rule<number>;
  readonly logitScale?: Rule<number>;
  readonly logitCap?: Rule<number>;
  readonly outputNorm?: string;
  /** The mixture of experts, where the file has one; {@linkcode mixture} reads most. Without it files with experts are refused. */
  readonly experts?: Rule<Experts | undefined>;
  /** Layers whose FFN is one all the same; none. */
  readonly denseLayers?: Rule<readonly boolean[]>;
  /** Windows (or chunks) and which layers have them. */
  readonly window?: Window;
  /** The table of layers without a window, or of all; false where positions are known otherwise. */
  readonly rope?: false | RopeRule;
  /** The table of layers with a window, where it is another one; false where those are not turned. */
  readonly windowRope?: false | RopeRule;
  /** Layers that are not turned, by layer; where it does not depend on windows. */
  readonly unturned?: Rule<readonly boolean[]>;
  /** Tensors that files of this family may have and that its pass does not read. */
  readonly unread?: RegExp;
  /** How Hugging Face's files of this family differ from a Llama's. */
  readonly huggingFace?: HuggingFace;
  /** Where llama.cpp computes something else than the model was trained with: in words that follow "llama.cpp", and in rules. */
  readonly likeLlamaCpp?: { readonly does: string; readonly rules: Partial<Family> };
}

/** What converters know of Hugging Face's files. */
export interface HuggingFace {
  /** `model_type`s of `config.json`, where there are others than the architecture's name. */
  readonly types?: readonly string[];
  /** GGUF's names (without layer) by modules, where they are others than a Llama's: `post_attention_layernorm`. */
  readonly modules?: Readonly<Record<string, string>>;
  /** Which numbers of a head RoPE turns together there; `half`. Where {@linkcode Family.ropeStyle} is another, rows are reordered. */
  readonly ropeStyle?: Rope["style"];
  /** What converters add to the weights of norms; 0. */
  readonly normOffset?: number;
  /** Whether blocks have their matrices as [columns, rows] (GPT-2's `Conv1D`). */
  readonly transposed?: boolean;
  /** Whether q, k and v of each key head stand together in one tensor, instead of all queries first. */
  readonly qkvByHeads?: boolean;
}

/** A window, and the layers that have it. */
export interface Window {
  /** Positions; 0 for none. */
  readonly size: Rule<number>;
  /** Whether a position sees the last so many, or its chunk of so many. */
  readonly kind?: "sliding" | "chunk";
  /** Which layers have it; all without. */
  readonly layers?: Rule<readonly boolean[]>;
}

/** Where a table of turns differs from the usual one. */
export interface RopeRule {
  readonly base?: Rule<number>;
  readonly width?: Rule<number>;
  readonly scaling?: Rule<RopeScaling>;
  readonly magnitude?: Rule<number>;
  readonly style?: Rule<Rope["style"]>;
  /** Whether `rope_freqs.weight` divides its angles where the file has it; true. */
  readonly factors?: boolean;
}

/** A number under a key; 0, or what is given, where the file has none. */
export function real(key: string, otherwise = 0): (keys: Keys) => number {
  return (keys) => keys.real(key, () => true, otherwise);
}

/** A whole number under a key; 0, or what is given, where the file has none. */
export function whole(key: string, otherwise = 0): (keys: Keys) => number {
  return (keys) => keys.real(key, (value) => Number.isSafeInteger(value) && value >= 0, otherwise);
}

/** Every nth layer: the last of each n. */
export function every(n: number): (keys: Keys, sizes: Sizes) => boolean[] {
  return (_keys, { layers }) => Array.from({ length: layers }, (_, layer) => layer % n === n - 1);
}

/** The file's list of layers, or its number n for all but every nth, else what is given. */
export function pattern(key: string, n: number): (keys: Keys, sizes: Sizes) => boolean[] {
  return (keys, sizes) =>
    keys.flags(key, sizes.layers) ??
      every(whole(key, n)(keys))(keys, sizes).map((isNth) => !isNth);
}

/** No window, whatever the file says of one. */
export const NO_WINDOW: Window = {
  size(keys) {
    keys.get("attention.sliding_window");
    return 0;
  },
};

/** Where the experts of a family differ from Mixtral's. */
export type MixtureRule =
  & { readonly [K in Exclude<keyof Experts, "shared">]?: Rule<Experts[K]> }
  & {
    /** Whether the FFN that all positions go to, where there is one, is gated; false. */
    readonly sharedGate?: boolean;
    /** Its width; 0 for none, which is usual. */
    readonly sharedWidth?: Rule<number>;
  };

/**
 * A mixture of experts as files describe it: `expert_count`, `expert_used_count`, `expert_feed_forward_length` (the FFN's own without),
 * and groups where there are some. Softmax over all, weights divided by their sum, as in Mixtral, unless the rule says otherwise.
 */
export function mixture(rule: MixtureRule = {}): (keys: Keys, sizes: Sizes) => Experts | undefined {
  return (keys, sizes) => {
    const count = whole("expert_count")(keys);
    if (count === 0) return undefined;
    const used = keys.sameInLayers("expert_used_count", sizes.layers);
    if (used > count) throw keys.error("expert_used_count", `${used} of ${count} experts`);
    const usual = keys.sameInLayers("feed_forward_length", sizes.layers, 1);
    const given = <T>(rule: Rule<T> | undefined, otherwise: T): T =>
      rule === undefined ? otherwise : valueOf(rule, keys, sizes);
    const sharedWidth = given(rule.sharedWidth, 0);
    return {
      ...{ count, used },
      width: given(
        rule.width,
        keys.sameInLayers("expert_feed_forward_length", sizes.layers, usual),
      ),
      gating: given(rule.gating, "softmax"),
      normalized: given(rule.normalized, true),
      scale: given(rule.scale, 1) || 1, // files write 0 for none
      groups: given(rule.groups, groupsOf(keys, count)),
      weighsInput: given(rule.weighsInput, false),
      shared: sharedWidth === 0
        ? undefined
        : { width: sharedWidth, gated: rule.sharedGate ?? false },
    };
  };
}

function groupsOf(keys: Keys, experts: number): Experts["groups"] {
  const count = whole("expert_group_count")(keys);
  const used = whole("expert_group_used_count")(keys);
  if (count <= 1) return undefined;
  if (experts % count !== 0) {
    throw keys.error("expert_group_count", `${count}, which does not divide ${experts} experts`);
  }
  if (used === 0 || used > count) {
    throw keys.error("expert_group_used_count", `${used} of ${count} groups`);
  }
  return { count, used };
}

/** What a rule gives for a file. */
export function valueOf<T>(rule: Rule<T>, keys: Keys, sizes: Sizes): T {
  return typeof rule === "function" ? (rule as (keys: Keys, sizes: Sizes) => T)(keys, sizes) : rule;
}
