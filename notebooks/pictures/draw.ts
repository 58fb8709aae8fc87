/**
 * Draws the pictures of the README, with the figures that notebooks show.
 *
 *     ./denow run -A notebooks/pictures/draw.ts
 */
import {
  attentionMap,
  type Figure,
  loadModel,
  logitLens,
  logitLensMap,
  patchingMap,
  patchingSweep,
  quantizationDivergence,
  quantizationLadder,
} from "../../mod.ts";

async function save(name: string, figure: Figure): Promise<void> {
  await Deno.writeFile(
    new URL(`${name}.png`, import.meta.url),
    await figure.png({ scale: 1.25 }),
  );
  console.log(`${name}.png: ${figure.caption}`);
}

using tiny = await loadModel("tiny");
const text = '"Moon, shell, drum, kite," said Mia. "Moon, shell, drum, kite," said the parrot.';
const repeated = await tiny.run(text, { capture: ["blk.4.attn_probs"] });
await save("attention", attentionMap(repeated, { layer: 4, head: 7 }));

using smol = await loadModel("smollm2-135m");
await save("logit_lens", logitLensMap(await logitLens(smol, "The Eiffel Tower is in the city of")));

const prompts = {
  clean: "When Mary and John went to the store, John gave a drink to",
  corrupted: "When Mary and John went to the store, Mary gave a drink to",
};
const sweep = await patchingSweep(smol, prompts, {
  metric: [" Mary", " John"],
  point: "head_out",
  over: ["head", "position"],
  positions: [-1],
});
await save("patching", patchingMap(sweep));

const story = "Once upon a time, in a far away village, there lived a kind girl called Lily.";
await save("quantization", quantizationDivergence((await quantizationLadder(tiny, story)).table()));
