/** Where the time of a pass goes: step by step, as text, as a table and as a trace. */
import { inLayer } from "../../base/layer_names.ts";
import type { StepCost } from "../../engine/backend.ts";
import { formatTable } from "../format.ts";
import type { Model } from "../run/model.ts";
import { float64, int32, rowsTable, type Table, utf8 } from "../tables/mod.ts";
import { benchPrompt } from "./prompt.ts";
import { spread } from "./rounds.ts";

/** What the steps of a pass cost. */
export interface PassProfile {
  /** `prefill, 128 tokens`. */
  readonly pass: string;
  readonly steps: readonly StepCost[];
}

/** A prompt's pass and that of the token after it. */
export interface ModelProfile {
  readonly prefill: readonly StepCost[];
  readonly decode: readonly StepCost[];
}

/** Runs one pass over a prompt and one token after it, and gives what each step cost. */
export async function profileModel(
  model: Model,
  tokens: number,
): Promise<ModelProfile> {
  const session = model.engine.session({ capacity: tokens + 1 });
  try {
    const ids = benchPrompt(model, tokens);
    const wanted = ["argmax"];
    const prefill = await session.profile!({ ids, wanted });
    return { prefill, decode: await session.profile!({ ids: [ids[0]], wanted }) };
  } finally {
    session.dispose();
  }
}

/** The medians over some rounds; a first one, which compiles, does not count. */
export async function medianProfiles(
  model: Model,
  tokens: number,
  rounds: number,
  signal?: AbortSignal,
): Promise<PassProfile[]> {
  const all: ModelProfile[] = [];
  for (let round = 0; round <= rounds; round++) {
    signal?.throwIfAborted();
    const profile = await profileModel(model, tokens);
    if (round > 0) all.push(profile);
  }
  const median = (of: (profile: ModelProfile) => readonly StepCost[]) =>
    of(all[0]).map((step, i) => ({
      ...step,
      ms: spread(all.map((each) => of(each)[i].ms)).median,
    }));
  return [
    { pass: `decode after ${tokens} tokens`, steps: median(({ decode }) => decode) },
    { pass: `prefill, ${tokens} tokens`, steps: median(({ prefill }) => prefill) },
  ];
}

/** Steps of one kind, in all layers together. */
export interface StepGroup extends StepCost {
  /** How many there are. */
  readonly count: number;
}

/** Adds up what the layers' steps of one kind cost; the most expensive first. */
export function byKind(steps: readonly StepCost[]): StepGroup[] {
  const groups = new Map<string, StepGroup>();
  for (const step of steps) {
    const name = inLayer(step.name, "*");
    const key = `${name} ${step.kernel}`;
    const group = groups.get(key);
    groups.set(key, {
      ...{ name, kernel: step.kernel, count: (group?.count ?? 0) + 1 },
      ms: (group?.ms ?? 0) + step.ms,
      weightBytes: (group?.weightBytes ?? 0) + step.weightBytes,
      valueBytes: (group?.valueBytes ?? 0) + step.valueBytes,
      flops: (group?.flops ?? 0) + step.flops,
    });
  }
  return [...groups.values()].sort((a, b) => b.ms - a.ms);
}

/** 10⁹ bytes of weights and values per second. */
function bandwidth({ weightBytes, valueBytes, ms }: StepCost): number {
  return (weightBytes + valueBytes) / ms / 1e6;
}

/**
 * A profile for people, steps of one kind in one line.
 *
 * @param readLimit the streaming read in GB/s, where it was measured
 */
export function profileText({ pass, steps }: PassProfile, readLimit?: number): string {
  const total = steps.reduce((sum, { ms }) => sum + ms, 0);
  const lines = byKind(steps).map((group) => {
    const { name, kernel, count, ms, flops } = group;
    const rate = bandwidth(group);
    return [
      name,
      kernel,
      String(count),
      ms.toFixed(2),
      `${(100 * ms / total).toFixed(1)} %`,
      rate.toFixed(2),
      readLimit ? `${(100 * rate / readLimit).toFixed(0)} %` : "",
      flops > 0 ? (flops / ms / 1e6).toFixed(2) : "",
    ];
  });
  const head = ["step", "kernel", "", "ms", "share", "GB/s", "of read", "GFLOP/s"];
  return [
    `${pass}: ${steps.length} steps, ${total.toFixed(2)} ms one after the other`,
    formatTable([head, ...lines], "llrrrrrr"),
  ].join("\n");
}

/** Profiles as an Arrow table, a row for each step. */
export function profileTable(profiles: readonly PassProfile[], readLimit?: number): Table {
  const rows = profiles.flatMap(({ pass, steps }) =>
    steps.map((step, index) => ({ ...step, pass, index }))
  );
  return rowsTable("profile", {
    pass: utf8(rows.map(({ pass }) => pass)),
    index: int32(rows.map(({ index }) => index)),
    name: utf8(rows.map(({ name }) => name)),
    kernel: utf8(rows.map(({ kernel }) => kernel)),
    ms: float64(rows.map(({ ms }) => ms)),
    weight_bytes: float64(rows.map(({ weightBytes }) => weightBytes)),
    value_bytes: float64(rows.map(({ valueBytes }) => valueBytes)),
    flops: float64(rows.map(({ flops }) => flops)),
    gb_per_s: float64(rows.map(bandwidth)),
    read_share: float64(rows.map((row) => readLimit ? bandwidth(row) / readLimit : undefined)),
  }, { meaning: "what each step of a pass costs on the device, one after the other" });
}

/**
 * Profiles as a trace for Perfetto (ui.perfetto.dev): JSON in Chrome's trace event format, a track for each pass, steps one behind
 * another.
 */
export function profileTrace(model: string, profiles: readonly PassProfile[]): string {
  const events: unknown[] = [{ name: "process_name", ph: "M", pid: 1, args: { name: model } }];
  for (const [i, { pass, steps }] of profiles.entries()) {
    events.push({ name: "thread_name", ph: "M", pid: 1, tid: i + 1, args: { name: pass } });
    let ts = 0;
    for (const step of steps) {
      const { name, kernel, ms, weightBytes, valueBytes, flops } = step;
      const dur = 1000 * ms;
      const args = { weightBytes, valueBytes, flops, gigabytesPerSecond: bandwidth(step) };
      events.push({ name, cat: kernel, ph: "X", pid: 1, tid: i + 1, ts, dur, args });
      ts += dur;
    }
  }
  return JSON.stringify({ displayTimeUnit: "ms", traceEvents: events });
}
