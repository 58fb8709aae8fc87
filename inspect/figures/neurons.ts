/** What neurons of the FFNs do over a text, in pictures. */
import type { Neuron } from "../analyses/neurons.ts";
import type { Run } from "../run/run.ts";
import { cellMap } from "./drawing/cell_map.ts";
import type { Figure } from "./drawing/figure.ts";
import { positionSide, type SequenceOption } from "./lens.ts";
import { colouredText } from "./coloured_text.ts";
import { titled } from "./drawing/theme.ts";

/**
 * Activations (`ffn_act`) of neurons over a text: of one as coloured text, of several as a row each. Orange: positive; blue: negative.
 *
 * @throws {NotCapturedError} when the run did not capture `blk.<layer>.ffn_act`
 * @throws {RangeError} for no neurons, or one that is not there
 */
export function neuronActivations(
  run: Run,
  neurons: Neuron | readonly Neuron[],
  options: SequenceOption = {},
): Figure {
  const list = [neurons].flat();
  if (list.length === 0) throw new RangeError("Cannot draw no neurons: name one or more");
  const { sequence = 0 } = options;
  const tensors = list.map(({ layer, neuron }) =>
    run.tensor(`blk.${layer}.ffn_act`, { sequence }).at({ feature: neuron })
  );
  const [first] = tensors;
  const positions = first.labels.position ?? Array.from({ length: first.size }, (_, i) => i);
  const all = run.tokens(sequence);
  const tokens = positions.map((position) => all[position] ?? "");
  const { model } = run.meta;
  if (list.length === 1) {
    const [{ layer, neuron }] = list;
    return colouredText({
      title: titled(`activation of neuron ${neuron}`, { model, layer }),
      tokens,
      positions,
      values: first.toFloat32Array(),
      legend: "activation",
      signed: true,
    });
  }
  return cellMap({
    title: titled("activations of neurons", { model }),
    rows: {
      title: "layer, neuron",
      labels: list.map(({ layer, neuron }) => `${layer}, ${neuron}`),
    },
    columns: positionSide(positions, new Map(positions.map((at, i) => [at, tokens[i]]))),
    values: tensors.map((tensor) => tensor.toFloat32Array()),
    legend: "activation",
    signed: true,
  });
}
