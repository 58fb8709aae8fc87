// One run in a process of its own; prints its digest. See determinism.ts.
import { load } from "../../inspect/run/loading.ts";
import { digestOf, type ProcessCase } from "./determinism.ts";

const { model, backend, tune, ...each } = JSON.parse(Deno.args[0]) as ProcessCase;
const { engine } = await load(model, { backend, tune });
console.log(await digestOf(engine, each));
Deno.exit();
