/** Loads a model file and prints the bytes of its weights and the most memory that the process has had (Linux). */
import { load } from "../../../inspect/run/loading.ts";

const [path, backend] = Deno.args;
const { engine } = await load(path, { backend: backend as "webgpu" | "cpu" });
const status = await Deno.readTextFile("/proc/self/status");
const [, kibibytes] = status.match(/^VmHWM:\s+(\d+) kB$/m)!;
console.log(JSON.stringify({ weights: engine.weightBytes, peak: Number(kibibytes) * 1024 }));
Deno.exit();
