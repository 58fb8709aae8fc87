// One run in a process of its own; prints its digest. See determinism.ts.
import { load } from "../inspect/loading.ts";
import { type DeterminismCase, digestOf } from "./determinism.ts";

const { model, backend, ...each } = JSON.parse(Deno.args[0]) as DeterminismCase & {
  model: string;
  backend: "webgpu" | "cpu";
};
const { engine } = await load(model, { backend });
console.log(await digestOf(engine, each));
Deno.exit();
