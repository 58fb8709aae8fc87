/** The CPU kernels that are committed. */
import assert from "node:assert/strict";
import { base64Lines, buildKernels } from "../../kernels/build.ts";

Deno.test("the committed kernels are what the sources compile to", async () => {
  const committed = await Deno.readTextFile(
    new URL("../../kernels/kernels.wasm.base64", import.meta.url),
  );
  assert.ok(
    base64Lines(await buildKernels()) === committed,
    "kernels.wasm.base64 is not what the sources compile to: run ./denow task kernels",
  );
});
