/** The operations that `forward` is written in: each appends a step and gives the value that it makes. */
import { kindOf, layerOf } from "../../base/layer_names.ts";
import { sizeOf } from "../../base/shape.ts";
import { ACTIVATIONS } from "../../kernels/elementwise/activations.ts";
import { GATINGS } from "../../kernels/experts/routing/route.ts";
import type { Computation, Operation } from "../../kernels/kernel.ts";
import { SAMPLING_WORDS } from "../../kernels/sampling/sampling.ts";
import type { Activation, Block, Config, Experts, QkNorm, Rope } from "../model/config.ts";
import type { Dim, Plan, Step, Value } from "./plan.ts";

/** What a step may say of its operation beside its name. */
type Fields = Pick<Computation, "sinks" | "biased">;

/** How positions are sent to experts. */
type Routing = Pick<Experts, "used" | "gating" | "normalized" | "scale" | "groups">;

/** Records steps; see {@linkcode recorder}. */
export type Recorder = ReturnType<typeof recorder>;

/** Begins an empty plan of a model. */
// deno-lint-ignore explicit-module-boundary-types
export function recorder(config: Config) {
  const steps: Step[] = [];
  const { heads, kvHeads: kv_heads, headWidth: head_width, normEpsilon: epsilon } = config;
  const ids: Value = { name: "ids", shape: ["T"], dtype: "u32", kind: "ids" };
  const history: Value = { name: "history", shape: ["S"], dtype: "u32", kind: "ids" };
  const sampling: Value = { name: "sampling", shape: [SAMPLING_WORDS], dtype: "bits", kind: "ids" };
  const tables = new Map(config.ropes.map(({ table, width }): [string, Value] => {
    const turns: Dim[] = ["S", width / 2, 2];
    return [table, { name: table, shape: turns, dtype: "f32", kind: "table" }];
  }));
  const has = (name: string) => config.optional.has(kindOf(name));

  function record(
    operation: Operation,
    name: string,
    shape: readonly Dim[],
    inputs: Value[],
    constants: Record<string, number>,
    weights: string[] = [],
    { dtype = "f32", kind = "result", ...fields }: Partial<Value> & Fields = {},
  ): Value {
    const output: Value = { name, shape, dtype, kind };
    steps.push({ operation, ...fields, inputs, weights, outputs: [output], constants });
    return output;
  }

  const columnsOf = (x: Value) =>
    x.shape.slice(1).reduce<number>((product, dim) => product * (dim as number), 1);

  /** Each of `groups` rows of a position divided by its root mean square, in LayerNorm less its mean. */
  function normalized(name: string, made: string, x: Value, groups: number): Value {
    const columns = columnsOf(x) / groups;
    const centred = config.normKind === "rms"
      ? x
      : record("center", `${name}_centered`, x.shape, [x], { columns, groups });
    const roots = groups === 1 ? [x.shape[0], 1] : [x.shape[0], groups, 1];
    const rms = record("rms", `${name}_rms`, roots, [centred], { columns, groups, epsilon });
    return record("normalize", made, x.shape, [centred, rms], { columns, groups });
  }

  /** A norm with what weights and biases the file has. */
  function norm(name: string, tensor: string, x: Value, over: QkNorm["over"] = "row"): Value {
    const groups = over === "row" ? 1 : x.shape[1] as number;
    const [weighted, biased] = [has(`${tensor}.weight`), has(`${tensor}.bias`)];
    const pre = normalized(name, weighted || biased ? `${name}_pre` : name, x, groups);
    const shared = over === "head" ? groups : 1;
    const sizes = { columns: columnsOf(x) / shared, groups: shared };
    const [made, gain] = [biased ? `${name}_scaled` : name, [`${tensor}.weight`]];
    const scaled = weighted ? record("scale_columns", made, x.shape, [pre], sizes, gain) : pre;
    return biased ? record("add_bias", name, x.shape, [scaled], sizes, [`${tensor}.bias`]) : scaled;
  }

  /** Each number times a factor. */
  function scale(name: string, x: Value, factor: number): Value {
    return record("scale", name, x.shape, [x], { columns: columnsOf(x), factor });
  }

  /** x · Wᵀ, and the bias that the file has with it. */
  function linear(name: string, tensor: string, x: Value, shape: number[]): Value {
    const columns = columnsOf(x);
    const rows = sizeOf(shape);
    const out = [x.shape[0], ...shape];
    const biased = has(`${tensor}.bias`);
    const product = record("linear", biased ? `${name}_product` : name, out, [x], {
      columns,
      rows,
    }, [
      `${tensor}.weight`,
    ]);
    return biased
      ? record("add_bias", name, out, [product], { columns: rows, groups: 1 }, [`${tensor}.bias`])
      : product;
  }

  return {
    steps: steps as Plan,

    embed: (name: string): Value =>
      record("embed", name, ["T", config.width], [ids], {
        columns: config.width,
        rows: config.vocabSize,
      }, [
        "token_embd.weight",
      ]),

    embedPositions: (name: string): Value =>
      record("embed_positions", name, ["T", config.width], [], {
        columns: config.width,
        rows: config.contextLength,
      }, ["position_embd.weight"]),

    /** The rows themselves where a model has no norm there. A tensor of a block is named without its layer. */
    norm: (name: string, tensor: string | undefined, x: Value): Value =>
      tensor === undefined ? x : norm(name, inLayerOf(name, tensor), x),

    /** The norm of queries or keys. */
    headNorm: (name: string, tensor: string, x: Value): Value =>
      norm(name, tensor, x, config.qkNorm!.over),

    /** What is added to the stream: the rows themselves, or after a norm, and times the model's factor. */
    added(name: string, tensor: string | undefined, x: Value): Value {
      const rows = tensor === undefined ? x : norm(name, inLayerOf(name, tensor), x);
      const { residualScale: factor } = config;
      return factor === 1 ? rows : scale(`${rows.name}_scaled`, rows, factor);
    },

    /** A product that makes queries, keys or values: they may be limited. */
    project(name: string, tensor: string, x: Value, shape: number[]): Value {
      const { qkvLimit: limit } = config;
      const product = linear(limit === 0 ? name : `${name}_unclamped`, tensor, x, shape);
      if (limit === 0) return product;
      const constants = { columns: columnsOf(product), limit };
      return record("clamp", name, product.shape, [product], constants);
    },

    linear,

    rope: (name: string, x: Value, { table, width, style }: Rope): Value =>
      record("rope", name, x.shape, [x, tables.get(table)!], {
        heads: x.shape[1] as number,
        head_width,
        rope_width: width,
        half_style: style === "half" ? 1 : 0,
        rope_start: 0,
      }),

    store: (name: string, x: Value): Value =>
      record(
        "store",
        name,
        ["S", ...x.shape.slice(1)],
        [x],
        { columns: columnsOf(x) },
        [],
        { kind: "cache" },
      ),

    scores: (name: string, q: Value, keys: Value, { window, chunk }: Block): Value =>
      record("scores", name, [heads, "T", "S"], [q, keys], {
        heads,
        kv_heads,
        head_width,
        scale: config.attentionScale,
        window,
        chunk,
        cap: config.attentionCap,
        max_bias: config.alibi,
      }),

    softmax: (name: string, x: Value): Value =>
      record("softmax", name, x.shape, [x], { columns: x.shape[1] as number, causal: 0 }),

    /** The softmax of scores [H, T, S] over the keys, and over the head's sink where the model has some. */
    attend(name: string, scores: Value): Value {
      const weights = config.sinks ? [inLayerOf(name, "attn_sinks.weight")] : [];
      const constants = { columns: heads, causal: 1 };
      const fields = config.sinks ? { sinks: true } : {};
      return record("softmax", name, scores.shape, [scores], constants, weights, fields);
    },

    mix: (name: string, probs: Value, values: Value): Value =>
      record("mix", name, ["T", heads, head_width], [probs, values], {
        heads,
        kv_heads,
        head_width,
        value_width: head_width,
      }),

    headResult: (name: string, tensor: string, x: Value): Value =>
      record("head_result", name, ["T", heads, config.width], [x], {
        heads,
        columns: columnsOf(x),
        rows: config.width,
      }, [`${tensor}.weight`]),

    add: (name: string, a: Value, b: Value): Value =>
      record("add", name, a.shape, [a, b], { columns: columnsOf(a) }),

    scale,

    scaleByPosition: (
      name: string,
      x: Value,
      { scale, period, offset }: NonNullable<Config["queryScaling"]>,
    ): Value =>
      record("scale_by_position", name, x.shape, [x], {
        ...{ columns: columnsOf(x), scale, period, offset },
      }),

    cap: (name: string, x: Value, cap: number): Value =>
      record("cap", name, x.shape, [x], { columns: columnsOf(x), cap }),

    glu: (name: string, gate: Value, up: Value): Value =>
      record("glu", name, gate.shape, [gate, up], {
        columns: columnsOf(gate),
        activation: activationNumber(config.activation),
      }),

    /** The numbers of xIELU are those of the layer. */
    activate(name: string, x: Value, layer: number): Value {
      const { activation, xielu } = config;
      if (!xielu) {
        const constants = { columns: columnsOf(x), activation: activationNumber(activation) };
        return record("activate", name, x.shape, [x], constants);
      }
      return record("xielu", name, x.shape, [x], {
        columns: columnsOf(x),
        alpha_n: xielu.alphaN[layer],
        alpha_p: xielu.alphaP[layer],
        beta: xielu.beta[layer],
        epsilon: xielu.epsilon[layer],
      });
    },

    sigmoid: (name: string, x: Value): Value =>
      record("activate", name, x.shape, [x], {
        columns: columnsOf(x),
        activation: ACTIVATIONS.indexOf("sigmoid"),
      }),

    /** Which experts each position goes to [T, K], by the router's logits [T, E]. */
    route(name: string, logits: Value, how: Routing): Value {
      const shape = [logits.shape[0], how.used];
      const constants = routing(columnsOf(logits), how);
      const biased = has("exp_probs_b.bias");
      const bias = biased ? [inLayerOf(name, "exp_probs_b.bias")] : [];
      return record("route", name, shape, [logits], constants, bias, {
        dtype: "i32",
        ...biased ? { biased } : {},
      });
    },

    /** The weights of chosen experts [T, K]. */
    expertWeights: (name: string, logits: Value, ids: Value, how: Routing): Value =>
      record("route_weights", name, ids.shape, [logits, ids], routing(columnsOf(logits), how)),

    /** Products with the matrices of chosen experts [T, K]; x has one row for all of a position's, or a row for each. */
    experts: (ids: Value) => (name: string, tensor: string, x: Value, rows: number): Value => {
      const used = ids.shape[1] as number;
      const shared = x.shape.length === 2;
      const biased = has(`${tensor}.bias`);
      const product = record(
        "linear_experts",
        biased ? `${name}_product` : name,
        [x.shape[0], used, rows],
        [x, ids],
        { columns: columnsOf(x) / (shared ? 1 : used), rows, used, shared: shared ? 1 : 0 },
        [`${tensor}.weight`],
      );
      const sizes = { rows, used };
      return biased
        ? record("add_expert_bias", name, product.shape, [product, ids], sizes, [`${tensor}.bias`])
        : product;
    },

    /** Each row times its position's weight. */
    weigh: (name: string, x: Value, weights: Value): Value =>
      record("weigh", name, x.shape, [x, weights], { columns: columnsOf(x), used: 1 }),

    /** The weighted sum of each position's rows. */
    combine(name: string, x: Value, weights: Value): Value {
      const used = weights.shape[1] as number;
      const columns = columnsOf(x) / used;
      return record("combine", name, [x.shape[0], columns], [x, weights], { columns, used });
    },

    takeRows: (name: string, x: Value): Value =>
      record("take_rows", name, ["R", ...x.shape.slice(1)], [x], { columns: columnsOf(x) }),

    argmax: (name: string, x: Value): Value =>
      record("argmax", name, ["R"], [x], { columns: columnsOf(x) }, [], { dtype: "i32" }),

    sample: (name: string, x: Value): Value =>
      record("sample", name, [1], [x, sampling, history], { columns: columnsOf(x) }, [], {
        dtype: "i32",
      }),
  };
}

/** What kernels are told of a mixture's routing. */
function routing(experts: number, { used, gating, normalized, scale, groups }: Routing) {
  return {
    experts,
    used,
    gating: GATINGS.indexOf(gating),
    normalize: normalized ? 1 : 0,
    groups: groups?.count ?? 1,
    groups_used: groups?.used ?? 1,
    scale,
  };
}

/** The tensor of a layer, which the name of a point is in; of no layer, the tensor itself. */
function inLayerOf(point: string, tensor: string): string {
  const layer = layerOf(point);
  return layer === undefined ? tensor : `blk.${layer}.${tensor}`;
}

/** How kernels know an activation. */
function activationNumber(name: Activation): number {
  return (ACTIVATIONS as readonly string[]).indexOf(name);
}
