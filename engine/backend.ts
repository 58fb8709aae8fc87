/** What the two backends have in common: a model on a device, and sessions that run passes. */
import { NO_NEXT } from "../kernels/sampling/surprisal.ts";
import type { Pass } from "../kernels/kernel.ts";
import type { PassRequest } from "./pass_request.ts";
import type { HostTensor } from "./host_tensor.ts";
import { kindOf, layerOf } from "../base/layer_names.ts";
import { checkCapacity, type Room } from "./model/capacity.ts";
import type { Config } from "./model/config.ts";
import type { GgufFile } from "./gguf/reader.ts";
import { Lifetime } from "./lifetime.ts";
import { type PassKind, passTokens } from "./plan/pass_size.ts";
import type { BranchSize } from "./plan/passes/branch.ts";
import type { Lengths, Plan } from "./plan/plan.ts";
import type { RopeBuilder } from "./model/rope_table.ts";

/** What a step of a pass costs on the device. Fused steps are one. */
export interface StepCost {
  /** The point that it makes. */
  readonly name: string;
  readonly kernel: string;
  readonly ms: number;
  /** Bytes of weights that it reads, as they lie on the device. */
  readonly weightBytes: number;
  /** Bytes of values that it reads and writes, each once. */
  readonly valueBytes: number;
  /** Multiplications and additions of a product with a weight; 0 for others. */
  readonly flops: number;
}

/** A pass that is run step by step, in any order: every value is kept until it is disposed. */
export interface StepRun {
  /** The steps, edits and requested points among them. */
  readonly plan: Plan;
  /** What T, S and R of its shapes are. */
  readonly lengths: Lengths;
  /** Absolute position of the pass's first row. */
  readonly start: number;
  /** Runs the steps `from` to `to` (exclusive). */
  run(from: number, to: number): Promise<void>;
  /** The value of a step that has run, or of the cache. */
  read(name: string): Promise<HostTensor>;
  /** Changes a value for the steps that run afterwards. */
  write(name: string, data: Float32Array): void;
  /** Moves the session past the pass's positions: all steps have run. */
  finish(): void;
  /** Frees its values; a step that is running is the last one. */
  dispose(): void;
}

/** The KV cache and the positions of one sequence. */
export interface Session {
  /** Positions in the cache; the next pass begins here. */
  readonly position: number;
  /** Positions that the cache can hold. */
  readonly capacity: number;
  /** Most positions that a pass of the kind it was made for takes; a longer prompt is several passes. */
  readonly maxTokens: number;
  /** Whether the previous pass chose an id, so that `"next"` can follow. */
  readonly hasNext: boolean;
  /**
   * Runs one pass. Passes may be started before the previous one's result has arrived: they run in order.
   *
   * @throws {RangeError} for no ids, ids outside the vocabulary, `"next"` after a pass that chose none, more positions than
   *   the capacity or `maxTokens`, or an unknown point
   * @throws {EditError} for an edit that cannot be made
   * @throws {DisposedError} when the session or its model was disposed before the pass began
   */
  pass(request: PassRequest): Promise<Map<string, HostTensor>>;
  /**
   * Runs one pass and gives what each of its steps cost, in order. Steps run one after the other, which takes longer than
   * the pass itself.
   *
   * @internal
   */
  profile?(request: PassRequest): Promise<readonly StepCost[]>;
  /** Prepares a pass to be run step by step; nothing is fused. Points that only run when named are named in `wanted`. */
  steps(request: PassRequest): StepRun;
  /** Forgets all positions from `position` on, and the choice of what follows them. */
  rewind(position: number): void;
  /**
   * Goes on from a cache that was made elsewhere, as if `position` positions had run. Their ids are unknown: no penalty counts them.
   *
   * @param cache rows [position, Hkv, d] by value name (`blk.0.cache_k`); what is left out stays as it is
   * @throws {RangeError} for more positions than the capacity, an unknown name, or rows of another size
   */
  restore(position: number, cache: ReadonlyMap<string, Float32Array>): void;
  /**
   * Whether a pass could begin.
   *
   * @throws {DisposedError} when it or its model was disposed
   */
  check(): void;
  /** Nothing begins any more; the cache is freed when nothing uses it. */
  dispose(): void;
}

/** What a session is made for. */
export interface SessionOptions {
  /** Positions that the cache must hold. */
  readonly capacity: number;
  /** What its passes will ask for; by default the logits of all rows. */
  readonly passes?: PassKind;
  /** How RoPE's angles are made; default `exact`. */
  readonly ropeBuilder?: RopeBuilder;
  /** Disposes of the session, in the middle of a prompt's pass too; passes then fail with its reason. */
  readonly signal?: AbortSignal;
}

/** How the processor runs a model. */
export interface ProcessorUse {
  /** How many compute. */
  readonly threads: number;
  /** Kernels that there are no others of than their 64-bit twins, as far as they have been asked for: right and slow. */
  readonly twins: ReadonlySet<string>;
}

/** A handle on a model's weights on a device, ready to run. */
export interface Engine {
  /** Where it runs. */
  readonly backend: "webgpu" | "cpu";
  /** The hyperparameters. */
  readonly config: Config;
  /** The steps of a forward pass. */
  readonly plan: Plan;
  /** Bytes of weights on the device. */
  readonly weightBytes: number;
  /** Most positions that any pass takes. */
  readonly maxTokens: number;
  /** What computes where no GPU does. */
  readonly processor?: ProcessorUse;
  /**
   * Looks whether a session can have so many positions.
   *
   * @throws {CapacityError} when it cannot
   */
  checkCapacity(positions: number): void;
  /**
   * Most positions that a pass of a session with these options would take.
   *
   * @throws {CapacityError} when there can be no such session, or not one position of its passes fits
   * @throws {EditError} when an edit brings along more than fits
   */
  passTokens(options: SessionOptions): number;
  /**
   * Begins a sequence of its own, with an empty cache.
   *
   * @throws {DisposedError | CapacityError}, and the signal's reason when it is aborted
   */
  session(options: SessionOptions): Session;
  /**
   * The model with some of its metadata or tensors replaced: only tensors that are not this one's very own are loaded, the
   * others are shared. To be disposed before this engine.
   *
   * @param file made from this engine's file
   * @internal
   */
  variant(file: GgufFile, config: Config, options?: { signal?: AbortSignal }): Promise<Engine>;
  /**
   * Another handle on the same weights, for another user.
   *
   * @throws {DisposedError}
   */
  share(): Engine;
  /**
   * Ends this handle and its sessions: no pass begins any more, those that had begun finish. The last handle frees the weights
   * when nothing runs on them.
   */
  dispose(): void;
}

/** Checks what {@linkcode Session.rewind} is given. */
export function checkRewind(position: number, session: Session): void {
  if (!Number.isInteger(position) || position < 0 || position > session.position) {
    throw new RangeError(
      `Cannot rewind to position ${position}: the session stands at ${session.position}`,
    );
  }
}

/** Checks what {@linkcode Session.restore} is given. */
export function checkRestore(
  position: number,
  cache: ReadonlyMap<string, Float32Array>,
  session: Session,
  { kvHeads, headWidth, layers }: Config,
): void {
  if (!Number.isInteger(position) || position < 0 || position > session.capacity) {
    throw new RangeError(
      `Cannot restore ${position} positions: the session holds ${session.capacity}`,
    );
  }
  const size = position * kvHeads * headWidth;
  for (const [name, { length }] of cache) {
    const layer = layerOf(name) ?? layers;
    if (layer >= layers || !/^cache_[kv]$/.test(kindOf(name))) {
      throw new RangeError(`Cannot restore ${name}: it is no cache of this model`);
    }
    if (length !== size) {
      throw new RangeError(`Cannot restore ${name}: it has ${length} numbers instead of ${size}`);
    }
  }
}

/** A step run that begins nothing any more when its session has ended. */
export function withinSession(steps: StepRun, session: Lifetime): StepRun {
  const life = new Lifetime("step run", () => steps.dispose(), session);
  return {
    ...steps,
    run: (from, to) => life.use("run steps", () => steps.run(from, to)),
    read: (name) => life.use("read a value", () => steps.read(name)),
    write(name, data) {
      life.check("change a value");
      steps.write(name, data);
    },
    dispose: () => life.end(),
  };
}

/** What a backend makes an engine of. */
export interface EngineParts
  extends Omit<Engine, "checkCapacity" | "passTokens" | "session" | "share" | "dispose"> {
  /** What there is for a session's caches. */
  room(): Room;
  /** @param maxTokens most positions of its passes */
  session(options: SessionOptions, maxTokens: number, handle: Lifetime): Session;
  /** Frees the weights. */
  free(): void;
}

/** The first handle on a model's weights. */
export function engineOf({ room, session, free, ...parts }: EngineParts): Engine {
  const { config, plan } = parts;
  const check = (positions: number) => checkCapacity(positions, config, plan, room());
  const tokens = ({ capacity, passes = {} }: SessionOptions): number => {
    check(capacity);
    const { maxTokens: most } = parts;
    return Math.min(capacity, passTokens(plan, passes, { capacity, most, room: room() }));
  };
  let handles = 0;
  const open = (): Engine => {
    handles++;
    const handle = new Lifetime("model", () => {
      if (--handles === 0) free();
    });
    return {
      ...parts,
      checkCapacity: check,
      passTokens: tokens,
      session(options) {
        handle.check("run");
        options.signal?.throwIfAborted();
        return session(options, tokens(options), handle);
      },
      share() {
        handle.check("share it");
        return open();
      },
      dispose: () => handle.end(),
    };
  };
  return open();
}

function checkBranches(
  branches: readonly BranchSize[],
  { tokens, rows, position }: { tokens: number; rows: number; position: number },
): void {
  const sum = (numbers: readonly number[]) => numbers.reduce((a, b) => a + b, 0);
  const wrong = branches.find((each) =>
    each.tokens < 1 || each.rows < 1 || each.rows > each.tokens
  );
  if (wrong) {
    throw new RangeError(
      `Cannot run a branch of ${wrong.tokens} positions with logits for ${wrong.rows}`,
    );
  }
  const ahead = branches.find(({ from }) => !Number.isInteger(from) || from < 0 || from > position);
  if (ahead) {
    throw new RangeError(
      `Cannot go on from ${ahead.from} positions: the session has ${position}`,
    );
  }
  if (
    sum(branches.map(({ tokens }) => tokens)) !== tokens ||
    sum(branches.map(({ rows }) => rows)) !== rows
  ) throw new RangeError("Cannot run branches that are not the whole pass");
}

/** Checks a pass's request against its session and gives the number of positions. */
function checkRequest(request: PassRequest, session: Session, config: Config): number {
  const { ids } = request;
  if (ids === "next") {
    if (session.position === 0) {
      throw new RangeError('Cannot continue with "next": no pass has run yet');
    }
    if (!session.hasNext) {
      throw new RangeError(
        'Cannot continue with "next": the pass before was not asked for argmax or sample',
      );
    }
  } else {
    if (ids.length === 0) {
      throw new RangeError("Cannot run a pass over no tokens: give at least one id");
    }
    const wrong = ids.findIndex((id) => !Number.isInteger(id) || id < 0 || id >= config.vocabSize);
    if (wrong >= 0) {
      throw new RangeError(
        `Cannot run token id ${ids[wrong]} (number ${
          wrong + 1
        } of ${ids.length}): ids go from 0 to ${config.vocabSize - 1}`,
      );
    }
    if (ids.length > session.maxTokens) {
      throw new RangeError(
        `Cannot run ${ids.length} positions in one pass: at most ${session.maxTokens}`,
      );
    }
  }
  const tokens = ids === "next" ? 1 : ids.length;
  if (session.position + tokens > session.capacity) {
    throw new RangeError(
      `Cannot run ${tokens} more positions after ${session.position}: the session holds ${session.capacity}`,
    );
  }
  const rows = request.rows ?? 1;
  if (!Number.isInteger(rows) || rows < 1 || rows > tokens) {
    throw new RangeError(`Cannot give logits for ${rows} rows of a pass over ${tokens} positions`);
  }
  if (request.branches) {
    checkBranches(request.branches, { tokens, rows, position: session.position });
  }
  return tokens;
}

/** The numbers of a pass, over all its rows and over the last ones. */
export interface PassNumbers {
  readonly pass: Pass;
  readonly tail: Pass;
  readonly lengths: Lengths;
}

/** Checks a pass's request against its session and works out its numbers. */
export function passNumbers(request: PassRequest, session: Session, config: Config): PassNumbers {
  const tokens = checkRequest(request, session, config);
  const { rows = 1 } = request;
  const start = session.position;
  return {
    pass: { tokens, start, rows },
    tail: { tokens: rows, start: start + tokens - rows, rows },
    lengths: { T: tokens, S: start + tokens, R: rows },
  };
}

/** Absolute positions of a point's rows that come back; all of them where undefined. */
export function rowsWanted(
  { positions, whole, lastRow }: Pick<PassRequest, "positions" | "whole" | "lastRow">,
  name: string,
  { pass }: PassNumbers,
): readonly number[] | undefined {
  if (lastRow?.includes(name)) return [pass.start + pass.tokens - 1];
  return whole?.includes(name) ? undefined : positions;
}

/** The ids that follow the last rows, as the device reads them. */
export function nextIds({ nextIds = [] }: PassRequest, { rows }: Pass): Uint32Array<ArrayBuffer> {
  return Uint32Array.from({ length: rows }, (_, i) => nextIds[i] ?? NO_NEXT);
}
