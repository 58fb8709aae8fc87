import assert from "node:assert/strict";
import {
  choice,
  choices,
  flag,
  helpText,
  number,
  numbers,
  parseCommandLine,
  text,
  texts,
  UsageError,
} from "../../inspect/commands/args.ts";
import { formatBytes, formatDuration, formatTable } from "../../inspect/format.ts";
import {
  createLoadProgress,
  createProgress,
  type ProgressOptions,
} from "../../inspect/commands/progress.ts";

const SYNTAX = {
  name: "thing",
  summary: "Does a thing.",
  options: {
    json: flag("print JSON"),
    model: text("model to take", "FILE|NAME", "tiny"),
    out: text("where it goes", "DIR"),
    temperature: number("divides the logits", { min: 0, default: 0.5 }),
    "top-p": number("keeps this much", { above: 0, max: 1 }),
    "min-p": number("keeps this share", { min: 0, below: 1 }),
    "max-tokens": number("how many", { integer: true, min: 1 }),
    seed: number("seed", { integer: true, min: 0, max: 2 ** 53 - 1 }),
    offset: number("any number"),
    rope: choice("which table", ["exact", "ggml"], "exact"),
    reference: choices("which", ["llama.cpp", "oracle"]),
    points: texts("which points", "POINTS"),
    "prompt-ids": numbers("ids", "1,2,3", { integer: true, min: 0 }),
  },
  positionals: ["PROMPT", "[EXTRA]"],
};

function parse(...args: string[]) {
  return parseCommandLine(SYNTAX, args);
}

function fails(args: string[], message: string | RegExp) {
  assert.throws(() => parse(...args), (error) => {
    assert.ok(error instanceof UsageError, String(error));
    if (typeof message === "string") assert.equal(error.message, message);
    else assert.match(error.message, message);
    assert.ok(!error.message.includes("\n"));
    return true;
  });
}

Deno.test("options have the types and defaults of their definition", () => {
  const { options, positionals, help, debug } = parse("Once");
  assert.deepEqual(positionals, ["Once"]);
  assert.deepEqual([help, debug], [false, false]);
  const json: boolean = options.json;
  const model: string = options.model;
  const out: string | undefined = options.out;
  const temperature: number = options.temperature;
  const rope: "exact" | "ggml" = options.rope;
  const ids: number[] | undefined = options["prompt-ids"];
  assert.deepEqual([json, model, out, temperature, rope, ids], [
    false,
    "tiny",
    undefined,
    0.5,
    "exact",
    undefined,
  ]);
});

Deno.test("options are given with a space or =, anywhere, and the last one counts", () => {
  const { options, positionals } = parse(
    ...["--model", "a.gguf", "Once", "--model=b=c.gguf", "--json", "--seed", "7", "upon"],
    ...["--top-p=1", "--max-tokens", "1e2", "--offset", "-1.5", "--reference", "oracle, llama.cpp"],
    ...["--points", "blk.*.q,logits", "--prompt-ids", "1,2,3", "--rope", "ggml"],
  );
  assert.deepEqual(positionals, ["Once", "upon"]);
  assert.deepEqual(options, {
    json: true,
    model: "b=c.gguf",
    out: undefined,
    temperature: 0.5,
    "top-p": 1,
    "min-p": undefined,
    "max-tokens": 100,
    seed: 7,
    offset: -1.5,
    rope: "ggml",
    reference: ["oracle", "llama.cpp"],
    points: ["blk.*.q", "logits"],
    "prompt-ids": [1, 2, 3],
  });
});

Deno.test("after -- nothing is an option", () => {
  assert.deepEqual(parse("--json", "--", "--model", "-x").positionals, ["--model", "-x"]);
});

Deno.test("unknown options name the nearest", () => {
  fails(["--temprature", "1", "x"], "unknown option --temprature; did you mean --temperature?");
  fails(["--max_tokens=1", "x"], "unknown option --max_tokens; did you mean --max-tokens?");
  fails(["--topp", "1"], "unknown option --topp; did you mean --top-p?");
  fails(["--xyzzy"], "unknown option --xyzzy; --help lists the options");
  fails(["-x"], "unknown option -x; --help lists the options");
  fails(["--toString"], /^unknown option --toString/);
});

Deno.test("wrong values say what they must be", () => {
  fails(["--temperature", "NaN", "x"], '--temperature must be a number at least 0; it is "NaN"');
  fails(["--temperature=-1", "x"], '--temperature must be a number at least 0; it is "-1"');
  fails(["--temperature", "-1", "x"], '--temperature must be a number at least 0; it is "-1"');
  fails(["--temperature=Infinity"], /must be a number at least 0/);
  fails(["--temperature= "], /must be a number/);
  fails(["--top-p", "0"], '--top-p must be a number above 0 and at most 1; it is "0"');
  fails(["--min-p", "1"], '--min-p must be a number at least 0 and below 1; it is "1"');
  fails(["--max-tokens", "1.5"], '--max-tokens must be an integer at least 1; it is "1.5"');
  fails(
    ["--seed", "9007199254740992"],
    '--seed must be an integer from 0 to 9007199254740991; it is "9007199254740992"',
  );
  fails(["--offset", "x"], '--offset must be a number; it is "x"');
  fails(["--rope", "Exact"], '--rope must be one of exact, ggml; it is "Exact"');
  fails(["--reference", "oracle,"], /must be one of llama.cpp, oracle; it is "oracle,"/);
  fails(["--points", "a,,b"], /must be a list without gaps/);
  fails(["--prompt-ids", "1,x"], '--prompt-ids must be an integer at least 0; it is "1,x"');
  fails(["--prompt-ids", "1,,2"], /must be an integer/);
});

Deno.test("missing and superfluous things are named", () => {
  fails(["x", "--model"], "--model needs a value: --model FILE|NAME");
  fails(["x", "--model", "--json"], "--model needs a value: --model FILE|NAME");
  fails(["x", "--model="], "--model needs a value: --model FILE|NAME");
  fails(["x", "--json=yes"], "--json takes no value");
  fails([], "PROMPT is missing; usage: thing [OPTIONS] PROMPT [EXTRA]");
  const { positionals } = parseCommandLine({ ...SYNTAX, positionals: ["[FILES...]"] }, [
    "a",
    "b",
    "c",
  ]);
  assert.deepEqual(positionals, ["a", "b", "c"]);
  fails([""], "PROMPT is empty; usage: thing [OPTIONS] PROMPT [EXTRA]");
  assert.deepEqual(parse("a", "").positionals, ["a", ""], "what may be missing may be empty");
  fails(["a", "b", "c"], 'unexpected argument "c" (quote a text with spaces in it)');
});

Deno.test("--help needs nothing else and lists everything", () => {
  assert.equal(parse("--help").help, true);
  const help = helpText(SYNTAX);
  for (const name of [...Object.keys(SYNTAX.options), "help", "debug"]) {
    assert.ok(help.includes(`  --${name} `), name);
  }
  assert.match(help, /^Does a thing\.\n\nUsage: thing \[OPTIONS\] PROMPT \[EXTRA\]\n\n/);
  assert.match(help, /--model FILE\|NAME +model to take \(default tiny\)\n/);
  assert.match(help, /--json +print JSON\n/);
});

Deno.test("sizes and durations", () => {
  assert.deepEqual(
    [0, 999, 1000, 98_362_432, 999_499, 999_500, 4_081_004_224, 1e15].map(formatBytes),
    ["0 B", "999 B", "1.00 kB", "98.4 MB", "999 kB", "1.00 MB", "4.08 GB", "1000 TB"],
  );
  assert.deepEqual(
    [0.04, 9.94, 9.96, 59.4, 59.6, 185, 3599.6, 7620].map(formatDuration),
    ["0.0 s", "9.9 s", "10 s", "59 s", "1 min 00 s", "3 min 05 s", "1 h 00 min", "2 h 07 min"],
  );
  assert.equal(formatTable([["a", "1", "x"], ["bcd", "20", ""]], "lrl"), "a     1  x\nbcd  20");
});

/** A progress display on a clock of its own. */
function bench(terminal: boolean, columns = 80) {
  return benchOf((options) => createProgress("pulling x", { ...options, terminal, columns }));
}

function benchOf<T>(create: (options: ProgressOptions) => T) {
  let time = 0;
  let output = "";
  const progress = create({ write: (text) => output += text, now: () => time });
  return { progress, wait: (milliseconds: number) => time += milliseconds, output: () => output };
}

Deno.test("without a terminal there is a plain line per tenth", () => {
  const { progress, wait, output } = bench(false);
  for (let done = 0; done <= 1000; done++) {
    progress.update(done * 1e5, 1e8);
    wait(10);
  }
  progress.finish();
  const lines = output().trimEnd().split("\n");
  assert.equal(lines.length, 10);
  assert.equal(lines[0], "pulling x: 10 %, 10.0 of 100 MB, 10.0 MB/s, 9.0 s left");
  assert.equal(lines[9], "pulling x: 100 %, 100 of 100 MB, 10.0 MB/s");
  assert.ok(!output().includes("\r") && !output().includes("\x1b"));
});

Deno.test("of an unknown whole there is a plain line every ten seconds", () => {
  const { progress, wait, output } = bench(false);
  for (let second = 0; second <= 25; second++) {
    progress.update(second * 1e6);
    wait(1000);
  }
  progress.finish();
  assert.equal(output(), "pulling x: 10.0 MB, 1.00 MB/s\npulling x: 20.0 MB, 1.00 MB/s\n");
});

Deno.test("on a terminal one line is drawn over, at most ten times a second", () => {
  const { progress, wait, output } = bench(true);
  for (let done = 0; done < 2000; done++) {
    progress.update(done, 2000);
    wait(1);
  }
  progress.finish();
  const draws = output().split("\r").slice(1);
  assert.equal(draws.length, 16, "fifteen after the first half second, and the last state");
  assert.ok(output().endsWith("\x1b[K\n"));
  assert.equal(
    draws.at(-1),
    "pulling x [#########-] 99 %, 2.00 of 2.00 kB, 1.00 kB/s, 0.0 s left\x1b[K\n",
  );
});

Deno.test("a line never wraps", () => {
  const { progress, wait, output } = bench(true, 30);
  wait(1000);
  progress.update(500, 1000);
  progress.finish();
  assert.equal(output(), "\rpulling x [#####-----] 50 %, \x1b[K\n");
});

Deno.test("what is done at once is not shown", () => {
  for (const terminal of [false, true]) {
    const { progress, wait, output } = bench(terminal);
    progress.update(1, 2);
    wait(400);
    progress.update(2, 2);
    progress.finish();
    assert.equal(output(), "");
  }
});

Deno.test("progress that starts again, finishes early or is quiet does no harm", () => {
  const { progress, wait, output } = bench(false);
  progress.update(500, 1000);
  wait(1000);
  progress.update(0, 1000);
  wait(1000);
  progress.update(700, 1000);
  progress.finish();
  assert.ok(output().includes("70 %, 0.70 of 1.00 kB, 700 B/s"), output());
  const empty = bench(true);
  empty.progress.finish();
  assert.equal(empty.output(), "");
  const quiet = createProgress("x", { quiet: true, write: () => assert.fail() });
  quiet.update(1, 1);
  quiet.finish();
});

/** Loading on a clock of its own. */
function loadBench(options: ProgressOptions) {
  return benchOf((own) => createLoadProgress("x", { ...own, ...options }));
}

Deno.test("each phase of loading has its own name, and its own half second of patience", () => {
  for (const terminal of [false, true]) {
    const { progress, wait, output } = loadBench({ terminal, columns: 80 });
    progress.onWait();
    progress.onProgress("pull", 0, 1000);
    wait(1000);
    progress.onProgress("pull", 500, 1000);
    wait(5000);
    progress.onProgress("load", 100, 400);
    wait(400);
    progress.onProgress("load", 200, 400);
    wait(600);
    progress.onProgress("load", 300, 400);
    progress.finish();
    const lines = output().replaceAll(/.*\r/g, "").replaceAll("\x1b[K", "").trimEnd().split("\n");
    assert.equal(lines.length, 3, output());
    assert.equal(lines[0], "waiting for another process to pull x");
    assert.match(lines[1], /^pulling x.* 50 %, 0.50 of 1.00 kB/);
    assert.match(lines[2], /^loading x.* 75 %, 300 of 400 B/);
  }
});

const NOTICE = "checking the GPU's kernels (first time on this device)\n";

Deno.test("the check of the kernels is one line, and only where it takes longer than a second", () => {
  const check = (seconds: number, options: ProgressOptions = {}) => {
    const { progress, wait, output } = loadBench({ terminal: true, columns: 80, ...options });
    for (let done = 0; done <= 10; done++) {
      progress.onProgress("check", done, 10);
      wait(seconds * 100);
    }
    progress.finish();
    return output();
  };
  assert.equal(check(5), NOTICE);
  assert.equal(check(0.9), "");
  assert.equal(check(5, { quiet: true }), "");
});

Deno.test("the check of the kernels is announced while nothing moves, too", async () => {
  const { progress, output } = loadBench({ terminal: false });
  progress.onProgress("check", 10, 10);
  await new Promise((resolve) => setTimeout(resolve, 1_200));
  progress.finish();
  assert.equal(output(), NOTICE);
});
