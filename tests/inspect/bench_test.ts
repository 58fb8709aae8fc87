/** `task bench`: how it counts, what it shows, and that it runs; never how fast. */
import assert from "node:assert/strict";
import denoJson from "../../deno.json" with { type: "json" };
import { openPeers } from "../../checkpoints/bench/peers.ts";
import { layerProducts } from "../../inspect/bench/device_share.ts";
import { barsOf } from "../../inspect/bench/bars.ts";
import type { Peer } from "../../inspect/bench/peer.ts";
import {
  byKind,
  medianProfiles,
  type PassProfile,
  profileText,
  profileTrace,
} from "../../inspect/bench/profile.ts";
import { benchModel } from "../../inspect/bench/model_bench.ts";
import {
  benchMarkdown,
  type BenchReport,
  benchTable,
  benchText,
} from "../../inspect/bench/report.ts";
import { alternate, ratios, seldom, spread } from "../../inspect/bench/rounds.ts";
import { type BenchRow, isKept } from "../../inspect/bench/bench_row.ts";
import { loadModel, type Model } from "../../inspect/run/model.ts";
import { benchRatios } from "../../inspect/figures/bench.ts";
import { readArrow } from "../../inspect/tables/files.ts";
import { findModel } from "../../models/mod.ts";
import { modelOnDisk } from "../../checkpoints/references/mod.ts";
import { tableRows } from "../support/tables/table_rows.ts";
import { deno } from "../support/command.ts";
import { Folder } from "../support/folder.ts";

Deno.test("rounds alternate, and the first one does not count", async () => {
  const order: string[] = [];
  const sample = (name: string) => () => {
    order.push(name);
    return Promise.resolve({ [name]: order.length });
  };
  const progress: string[] = [];
  const figures = await alternate([sample("a"), sample("b")], 2, {
    onProgress: (done, total) => progress.push(`${done}/${total}`),
  });
  assert.equal(order.join(""), "ababab");
  assert.deepEqual([...figures], [["a", [3, 5]], ["b", [4, 6]]]);
  assert.deepEqual(progress, ["1/6", "2/6", "3/6", "4/6", "5/6", "6/6"]);
  await assert.rejects(alternate([sample("a")], 1, { signal: AbortSignal.abort() }));
});

Deno.test("what takes long is taken in the first counting rounds only", async () => {
  let taken = 0;
  const sample = seldom(2, () => Promise.resolve({ slow: ++taken }));
  const figures = await alternate([sample, () => Promise.resolve({ quick: 1 })], 4);
  assert.deepEqual(figures.get("slow"), [1, 2]);
  assert.deepEqual(figures.get("quick"), [1, 1, 1, 1]);
});

Deno.test("medians, spread, and ratios round by round", () => {
  assert.deepEqual(spread([5, 1, 2]), { median: 2, low: 1, high: 5, rounds: 3 });
  assert.deepEqual(spread([4, 1, 2, 10]), { median: 3, low: 1, high: 10, rounds: 4 });
  assert.deepEqual(ratios([2, 9], [1, 3]), [2, 3]);
  assert.deepEqual(ratios([2, 9, 4], [1, 3]), [2, 3]);
});

const one = spread([1.5]);
const ROWS: BenchRow[] = [
  {
    ...{ section: "against others", what: "decode", engine: "llama.cpp", unit: "×" },
    ...{ ...spread([0.5, 2, 3]), atLeast: 1, againstBest: 1.25 },
  },
  { section: "against the device", what: "read", unit: "%", ...spread([50]), atLeast: 60 },
  { section: "against itself", what: "captured", unit: "×", ...one, atMost: 1.3, bytes: 2000 },
  { section: "speed", what: "decode", engine: "llama.cpp", unit: "tokens/s", ...spread([123.4]) },
];
const REPORT: BenchReport = {
  ...{ model: "m", device: "d", version: "1", deno: "2", time: "2026-01-01T00:00:00Z", rounds: 3 },
  rows: ROWS,
  peers: [{ name: "llama.cpp", description: "version 5" }],
  missing: [{ name: "pytorch", problem: "no Python" }],
};

Deno.test("a bar is kept or missed from either side", () => {
  assert.deepEqual(ROWS.map(isKept), [true, false, false, undefined]);
});

Deno.test("a report is shown as text, as Markdown, as a table", () => {
  assert.equal(
    benchText(REPORT),
    [
      "m on d; Lamina 1, Deno 2; medians of 3 alternating rounds",
      "",
      "Lamina's speed over another engine's",
      "  decode, to llama.cpp        2.00 ×  0.500 – 3.00  at least 1: kept     its best: 1.25",
      "",
      "of what the device can do",
      "  read                        50.0 %                at least 60: missed",
      "",
      "time over that of the plain run",
      "  captured                    1.50 ×                at most 1.3: missed         2.00 kB",
      "",
      "speed",
      "  llama.cpp: decode     123 tokens/s",
      "",
      "llama.cpp: version 5",
      "",
      "pytorch: not measured: no Python",
    ].join("\n"),
  );
  const markdown = benchMarkdown(REPORT);
  assert.ok(
    markdown.includes(
      "| decode, to llama.cpp | 2.00 × | 0.500 – 3.00 | at least 1: kept | its best: 1.25 |  |",
    ),
    markdown,
  );
  const rows = tableRows(benchTable(REPORT));
  assert.deepEqual(rows[0], {
    ...{ section: "against others", what: "decode", engine: "llama.cpp", unit: "×" },
    ...{ median: 2, low: 0.5, high: 3, rounds: 3, at_least: 1, at_most: null },
    ...{ against_best: 1.25, captured_bytes: null, note: null },
  });
});

Deno.test("the ratios are drawn, each at its place", async () => {
  const figure = benchRatios(benchTable(REPORT));
  const medians = figure.data.filter((trace) => trace.type === "scatter" && trace.name);
  assert.deepEqual(medians.map((trace) => "x" in trace && trace.x), [[2], [0.5], [1.5]]);
  assert.deepEqual([...(await figure.png()).subarray(1, 4)], [...new TextEncoder().encode("PNG")]);
  const speeds = { ...REPORT, rows: ROWS.slice(3) };
  assert.throws(() => benchRatios(benchTable(speeds)), /no ratios/);
});

for (const backend of ["webgpu", "cpu"] as const) {
  Deno.test(`products of a layer are counted as the plan fuses them: ${backend}`, async () => {
    using model = await loadModel("tiny", { backend });
    const { width, layers, tiedOutput, vocabSize } = model.config;
    const [profile, prefill] = await medianProfiles(model, 16, 1);
    const counted = layerProducts(model.config, 16)
      .reduce((sum, { positions, rows, columns }) => sum + 2 * positions * rows * columns, 0);
    const done = prefill.steps.filter(({ name }) => name !== "logits")
      .reduce((sum, { flops }) => sum + flops, 0);
    assert.equal(done, layers * counted);
    // All weights are read once for a token, of the embedding (tied: it is the output matrix as well) one more row.
    const read = profile.steps.reduce((sum, { weightBytes }) => sum + weightBytes, 0);
    const all = model.weightBytes + (tiedOutput ? 2 * width : -2 * width * (vocabSize - 1));
    // On the processor each matrix has a few words in front, which nobody counts.
    const more = backend === "cpu" ? all - read : 0;
    assert.equal(read, all - more);
    assert.ok(more >= 0 && more < 0.001 * all, `${more} bytes`);
  });
}

Deno.test("a profile has every step, by kind too, and as a trace", async () => {
  using model = await loadModel("tiny", { backend: "webgpu" });
  const profiles = await medianProfiles(model, 16, 2);
  assert.deepEqual(profiles.map(({ pass }) => pass), [
    "decode after 16 tokens",
    "prefill, 16 tokens",
  ]);
  const [{ steps }] = profiles;
  assert.ok(steps.every(({ ms }) => ms > 0));
  const kinds = byKind(steps);
  const { layers } = model.config;
  assert.equal(kinds.find(({ name }) => name === "blk.*.ffn_act")!.count, layers);
  const total = (all: readonly { readonly ms: number }[]) =>
    all.reduce((sum, { ms }) => sum + ms, 0);
  assert.ok(Math.abs(total(kinds) / total(steps) - 1) < 1e-9);
  assert.ok(kinds.every(({ ms }, i) => i === 0 || ms <= kinds[i - 1].ms));
  assert.match(profileText(profiles[0], 10), /^decode after 16 tokens: \d+ steps, /);

  const { traceEvents } = JSON.parse(profileTrace("tiny", profiles));
  const events = traceEvents.filter(({ ph }: { ph: string }) => ph === "X");
  assert.equal(events.length, profiles.reduce((sum, { steps }) => sum + steps.length, 0));
  for (const [i, { ts, tid }] of events.entries()) {
    const before = events[i - 1];
    if (before?.tid === tid) assert.ok(Math.abs(ts - before.ts - before.dur) < 1e-6);
  }
});

Deno.test("a peer's times become ratios: its time over ours", async () => {
  using model = await loadModel("tiny");
  const asked: string[] = [];
  const peer: Peer = {
    name: "slow",
    description: "takes an hour for everything",
    kinds: ["prefill", "decode", "patching sweep"],
    measure({ kind, tokens }) {
      asked.push(`${kind} ${tokens}`);
      return Promise.resolve(3_600_000);
    },
    [Symbol.asyncDispose]: () => Promise.resolve(),
  };
  const { rows } = await benchModel(model, 1, {
    ...{ prompts: [8], contexts: [4], captures: true, peers: [peer] },
  });
  assert.deepEqual([...new Set(asked)], ["decode 4", "prefill 8", "patching sweep 16"]);
  const against = rows.filter(({ section }) => section === "against others");
  assert.deepEqual(against.map(({ what }) => what), [
    "decode after 4 tokens",
    "prefill, 8 tokens",
    "patching sweep, layers × positions, 16 tokens",
  ]);
  for (const { median, engine, atLeast } of against) {
    assert.equal(engine, "slow");
    assert.ok(median > 10, `${median}`);
    assert.equal(atLeast, undefined, "bars are for SmolLM2");
  }
  const speeds = rows.filter(({ engine, section }) => section === "speed" && engine === "slow");
  assert.deepEqual(speeds.map(({ median, unit }) => [median, unit]), [
    [1 / 3600, "tokens/s"],
    [8 / 3600, "tokens/s"],
    [3_600_000, "ms"],
  ]);
});

Deno.test("peers are measured in processes of their own", async () => {
  using model = await loadModel("tiny");
  await using onDisk = await modelOnDisk(await findModel("tiny"));
  const { peers, missing } = await openPeers(["llama.cpp", "pytorch", "transformerlens"], {
    path: onDisk.path,
    name: "tiny",
    ...{ config: model.config, backend: model.backend },
    onProgress: () => {},
  });
  assert.deepEqual(missing, []);
  try {
    for (const peer of peers) {
      for (const kind of peer.kinds) {
        const few = await peer.measure({ kind, tokens: 4 });
        assert.ok(few > 0 && Number.isFinite(few), `${peer.name}, ${kind}: ${few}`);
      }
    }
    assert.deepEqual(peers.map(({ name }) => name), ["llama.cpp", "pytorch", "transformerlens"]);
    assert.match(
      peers[0].description,
      /^llama\.cpp v\S+ .*CPU, the faster of .* threads; tiny as it is$/,
    );
    assert.match(peers[1].description, /^transformers \S+ on PyTorch .*random weights/);
    assert.match(peers[2].description, /^TransformerLens 4\.\S+ \(TransformerBridge, .*random/);
  } finally {
    for (const peer of peers) await peer[Symbol.asyncDispose]();
  }
});

Deno.test("a peer on the GPU is none where Lamina runs on the CPU", async () => {
  using model = await loadModel("tiny", { backend: "cpu" });
  const { peers, missing } = await openPeers(["llama.cpp:vulkan"], {
    ...{ path: "/nowhere", name: "tiny", config: model.config, backend: model.backend },
    onProgress: () => {},
  });
  assert.deepEqual(peers, []);
  assert.match(missing[0].problem, /runs on a GPU/);
});

Deno.test("bars are those of the model and of where it runs", () => {
  const named = (name: string, backend: "cpu" | "webgpu", weightBytes: number) => {
    const tensors = new Map([["a", { shape: [32, 32], type: { blockSize: 32 } }]]);
    const device = backend === "cpu" ? undefined : { fallback: false };
    return { name, backend, weightBytes, device, loaded: { file: { tensors } } };
  };
  const bars = (...model: Parameters<typeof named>) => barsOf(named(...model) as unknown as Model);
  const small = bars("smollm2-135m", "cpu", 1e8);
  assert.equal(small.against["decode pytorch"], 4);
  assert.equal(small.against["prefill captured transformerlens"], 1);
  assert.deepEqual([small.read, small.longContext, small.start.tiny], [undefined, 1.25, 250]);
  const large = bars("7b", "cpu", 4e9);
  assert.deepEqual([large.read, large.memory, large.against], [50, 2 ** 29, {}]);
  const gpu = bars("smollm2-135m", "webgpu", 1e8);
  assert.deepEqual([gpu.read, gpu.memory, gpu.against], [70, undefined, {}]);
});

async function bench(args: readonly string[], env: Record<string, string> = {}) {
  const command = ["run", "-q", "--no-prompt", "-P=bench", "checkpoints/commands/bench.ts"];
  return await deno([...command, ...args], { env });
}

Deno.test("task bench gives its figures as JSON, as tables, as a picture and as a trace", async () => {
  assert.match(denoJson.tasks.bench.command, /-P=bench checkpoints\/commands\/bench\.ts$/);
  using folder = new Folder();
  const trace = folder.at("trace.json");
  const args = [
    "--backend",
    "webgpu",
    "--quick",
    "--json",
    "--profile",
    "--out",
    folder.path,
    "--trace",
    trace,
  ];
  const { code, out, err } = await bench(args);
  assert.equal(err, "");
  assert.equal(code, 0);
  assert.equal(out.trimEnd().split("\n").length, 1);
  const report: BenchReport & { profiles: unknown[] } = JSON.parse(out);
  assert.deepEqual(report.rows.map(({ what }) => what), [
    "weights read while decoding, of the streaming read",
    "prefill, 32 tokens, of plain f32 products of its shapes",
    "its products alone, of the same",
    "prompt of 128, residual streams + attention maps captured",
    "prompt of 128, everything captured",
    "decoding 32, residual streams + attention maps captured",
    "decoding 32, everything captured",
    "prefill, 32 tokens",
    "decode after 16 tokens",
    "load, again",
    "first token after 16 tokens, right after loading",
    "most resident memory: loaded, a prompt of 16, 8 tokens",
    "weights on the device",
    "all buffers on the device",
    "streaming read",
    "f32 matrix products",
    "empty dispatch",
    "read-back",
  ]);
  for (const { what, median, low, high } of report.rows) {
    assert.ok(median > 0 && low <= median && median <= high, what);
  }
  // 11 residual streams of 256 numbers and 40 maps, at 128 positions.
  const prompt = report.rows.find(({ what }) => what.startsWith("prompt of 128"))!;
  assert.equal(prompt.bytes, 4 * (11 * 128 * 256 + 40 * 128 * 128));
  assert.equal(report.profiles.length, 2);
  assert.ok(!Number.isNaN(Date.parse(report.time)));

  const rows = tableRows(await readArrow(folder.at("bench.arrow")));
  assert.deepEqual(rows.map(({ median }) => median), report.rows.map(({ median }) => median));
  const steps = tableRows(await readArrow(folder.at("profile.arrow")));
  assert.ok(steps.some(({ name }) => name === "blk.4.out"));
  assert.ok((await Deno.readFile(folder.at("bench.png"))).length > 1000);
  assert.ok(JSON.parse(await Deno.readTextFile(trace)).traceEvents.length > steps.length);
  const { layout } = JSON.parse(await Deno.readTextFile(folder.at("bench.plotly.json")));
  assert.match(layout.title.text, /tiny/);
});

Deno.test("task bench on the CPU: what only a GPU has is left out with a reason; another model beside", async () => {
  const args = ["--backend", "cpu", "--threads", "2", "--quick", "--json", "--profile"];
  const { code, out, err } = await bench([...args, "--captures", "none", "--besides", "tiny"]);
  assert.equal(err, "");
  assert.equal(code, 0);
  const report: BenchReport & { profiles: PassProfile[] } = JSON.parse(out);
  assert.deepEqual(report.rows.map(({ what }) => what), [
    "weights read while decoding, of the streaming read",
    "prefill, 32 tokens, of plain f32 products of its shapes",
    "its products alone, of the same",
    "tiny: weights read while decoding, of the streaming read",
    "tiny: prefill, 32 tokens, of plain f32 products of its shapes",
    "prefill, 32 tokens",
    "decode after 16 tokens",
    "load, again",
    "first token after 16 tokens, right after loading",
    "tiny: prefill, 32 tokens",
    "tiny: decode after 16 tokens",
    "most resident memory: loaded, a prompt of 16, 8 tokens",
    "weights on the device",
    "tiny: most resident memory: loaded, a prompt of 16, 8 tokens",
    "streaming read",
    "f32 matrix products",
  ]);
  for (const { what, median, low, high } of report.rows) {
    assert.ok(median > 0 && low <= median && median <= high, what);
  }
  assert.match(report.device, /, 2 threads$/);
  assert.deepEqual(report.missing.map(({ name }) => name), ["empty dispatch", "read-back"]);
  for (const { steps } of report.profiles) {
    assert.ok(steps.length > 40 && steps.every(({ ms }) => ms >= 0));
    assert.ok(steps.some(({ name, weightBytes }) => name === "logits" && weightBytes > 0));
  }
});

Deno.test("a peer that cannot be had is a line that says why; a wrong one is wrong usage", async () => {
  using home = new Folder();
  const args = ["--backend", "webgpu", "--quick", "--captures", "none", "--markdown"];
  args.push("--peers", "llama.cpp,pytorch");
  const { code, out } = await bench(args, { PATH: "/nowhere", LAMINA_HOME: home.path });
  assert.equal(code, 0);
  assert.match(out, /^llama\.cpp: not measured: .*npm: no such program; install Node\.js$/m);
  assert.match(out, /^pytorch: not measured: .*there is no Python here/m);
  assert.match(out, /^\| streaming read \| /m);
  const wrong = await bench(["--peers", "vllm"]);
  assert.equal(wrong.code, 2);
  assert.match(wrong.err, /--peers must be one of llama\.cpp, .*transformerlens, none/);
  const both = await bench(["--peers", "none,pytorch"]);
  assert.equal(both.code, 2);
});
