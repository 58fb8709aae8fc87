/** The map of the pass: a row per layer, a column per operation, a cell to jump to each step. */
import { el, tip } from "./dom.js";

/** Groups of operations as the legend names them. */
const GROUPS = {
  norm: "norms",
  matrix: "matrices",
  position: "RoPE, cache",
  attention: "attention",
  ffn: "FFN",
  residual: "residual stream",
  ends: "tokens, output",
};

/** Draws it once; `jump(index)` is called with the step that was clicked. */
export function drawMap(page, jump) {
  const { steps, data: { texts } } = page;
  const layers = Map.groupBy(steps, ({ layer }) => layer);
  const inLayers = [...layers.keys()].filter((layer) => layer !== undefined);
  const kinds = (layers.get(inLayers[0]) ?? []).map(({ kind }) => kind);
  const firstInLayer = steps.findIndex(({ layer }) => layer !== undefined);
  const ends = layers.get(undefined) ?? [];
  const before = ends.filter(({ name }) => page.byName.get(name) < firstInLayer);
  const after = ends.filter(({ name }) => page.byName.get(name) > firstInLayer);

  const cell = (step) => {
    const { title, group } = texts[step.kind];
    const index = page.byName.get(step.name);
    const place = step.layer === undefined ? "" : `layer ${step.layer}: `;
    return el("a", {
      href: `#${step.name}`,
      class: `cell ${group}`,
      "data-step": index,
      "aria-label": `${place}${title}`,
      tabindex: "-1",
      onclick: (event) => (event.preventDefault(), jump(index)),
      onpointermove: (event) => tip([title, step.name], event.clientX, event.clientY),
      onpointerleave: () => tip(),
    });
  };
  const row = (label, cells, attributes = {}) =>
    el("div", { ...attributes, class: "row" }, el("span.label", label), cells);
  const split = kinds.indexOf("ffn_inp") + 1;
  const heading = el(
    "div.row.heading",
    el("span.label", ""),
    el("span", { style: `grid-column: span ${split}` }, "attention"),
    el("span", { style: `grid-column: span ${kinds.length - split}` }, "FFN"),
  );
  document.getElementById("cells").style.setProperty("--operations", kinds.length);
  document.getElementById("cells").replaceChildren(
    row("in", before.map(cell)),
    heading,
    ...inLayers.map((layer) => row(`${layer}`, layers.get(layer).map(cell))),
    row("out", after.map(cell), { style: "margin-top: 6px" }),
  );
  document.getElementById("legend").replaceChildren(
    ...Object.entries(GROUPS).map(([group, name]) =>
      el("li", el("span", { class: `cell ${group} here` }), name)
    ),
  );
}

/** Shows where the reader is. */
export function markMap(page, index) {
  for (const cell of document.querySelectorAll("#cells .here")) {
    cell.classList.remove("here");
    cell.removeAttribute("aria-current");
  }
  const cell = document.querySelector(`#cells [data-step="${index}"]`);
  cell.classList.add("here");
  cell.setAttribute("aria-current", "step");
  const { layer, kind } = page.steps[index];
  const place = layer === undefined ? "" : `Layer ${layer} · `;
  document.getElementById("under").textContent = `${place}${page.data.texts[kind].title}`;
}
