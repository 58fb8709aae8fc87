/** References in processes of their own: every way in which such a process can end badly is one clear line. */
import assert from "node:assert/strict";
import { ReferenceFailure } from "../../../checkpoints/references/reference.ts";
import { writeFrame } from "../../../checkpoints/references/processes/frames.ts";
import { type FrameProcess, runFrames } from "../../../checkpoints/references/processes/process.ts";

const FRAMES = new URL("../../../checkpoints/references/processes/frames.ts", import.meta.url).href;

/** A process that runs a line of TypeScript, in which `frame(header, body?)` writes one. */
function script(code: string, more: Partial<FrameProcess> = {}): FrameProcess {
  const start = `import { writeFrame } from "${FRAMES}";
    const frame = (header, body) => writeFrame((bytes) => Deno.stdout.writeSync(bytes), header, body);`;
  return { command: Deno.execPath(), args: ["eval", "--no-config", start + code], ...more };
}

async function kinds(process: FrameProcess): Promise<string[]> {
  const found: string[] = [];
  for await (const { header, body } of runFrames("engine", process)) {
    found.push(`${header.kind} ${[...body]}`);
  }
  return found;
}

async function failure(process: FrameProcess): Promise<string> {
  const error = await kinds(process).then(() => undefined, (reason: unknown) => reason);
  assert.ok(error instanceof ReferenceFailure, `${error}`);
  assert.equal(error.reference, "engine");
  assert.doesNotMatch(error.message, /\n/);
  return error.message;
}

Deno.test("frames come through, with what the process was given", async () => {
  const chunks: Uint8Array[] = [];
  writeFrame((bytes) => chunks.push(bytes.slice()) && bytes.length, { kind: "request", text: "é" });
  const process = script(
    `import { readFrames } from "${FRAMES}";
     for await (const { header } of readFrames("", Deno.stdin.readable)) frame({ kind: header.text });
     console.error("for people");
     frame({ kind: "tensor", shape: [2] }, new Float32Array([1.5, NaN]));
     frame({ kind: "done" });`,
    { input: chunks },
  );
  assert.deepEqual(await kinds(process), ["é ", "tensor 1.5,NaN", "done "]);
});

Deno.test("what goes wrong is one line", async (t) => {
  const cases: [string, FrameProcess, RegExp][] = [
    [
      "it says why",
      script(`frame({ kind: "failure", problem: "no such file" })`),
      /^engine: no such file$/,
    ],
    [
      "exit code",
      script(`console.error("Reading\\nerror: bad weights\\nbye"); Deno.exit(7)`),
      /^engine: its process ended with exit code 7: error: bad weights$/,
    ],
    [
      "exception",
      script(`throw new Error("oh")`),
      /^engine: its process ended with exit code 1: error: Uncaught .*Error: oh$/,
    ],
    [
      "no end",
      script(`frame({ kind: "tensor", shape: [1] }, new Float32Array(1))`),
      /^engine: its output ended before it was done$/,
    ],
    [
      "no frames",
      script(`console.log("Hello, this is a program for people")`),
      /^engine: its output is no frame$/,
    ],
    [
      "hang",
      script(`setTimeout(() => {}, 1e6)`, { timeout: 300 }),
      /^engine: no sign of life for 0.3 s; its process was stopped$/,
    ],
    [
      "hang within a tensor",
      script(
        `frame({ kind: "a" }); Deno.stdout.writeSync(new Uint8Array(3)); setTimeout(() => {}, 1e6)`,
        { timeout: 700 },
      ),
      /^engine: no sign of life for 0.7 s/,
    ],
    [
      "no such program",
      { command: "no-such-program", args: [] },
      /^engine: cannot start no-such-program: /,
    ],
  ];
  for (const [name, process, line] of cases) {
    await t.step(name, async () => assert.match(await failure(process), line));
  }
  await t.step({
    name: "killed in the middle of a tensor",
    ignore: Deno.build.os === "windows", // has no signals
    async fn() {
      const code = `Deno.stdout.writeSync(new Uint8Array(3)); Deno.kill(Deno.pid, "SIGKILL")`;
      assert.match(await failure(script(code)), /^engine: its process died of SIGKILL$/);
    },
  });
});

Deno.test("an aborted run ends at once, and so does one that nobody reads on", async () => {
  const process = script(`frame({ kind: "a" }); setTimeout(() => {}, 1e6)`);
  const abort = new AbortController();
  const run = kinds({ ...process, signal: abort.signal });
  setTimeout(() => abort.abort(new Error("enough")), 300);
  await assert.rejects(run, { message: "enough" });
  await assert.rejects(kinds({ ...process, signal: abort.signal }), { message: "enough" });
  for await (const _ of runFrames("engine", process)) break; // the test's sanitizers look for what is left
});
