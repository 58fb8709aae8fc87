/** The page: where the reader is, and what is shown there. */
import { cardsOf, rootMeanSquare, shapeText } from "./cards.js";
import { el, hereIf, tip, token } from "./dom.js";
import { drawMap, markMap } from "./map.js";
import { Page, unpackNumbers } from "./numbers.js";
import { isDark } from "./pictures.js";
import { show } from "./recompute.js";
import { viewsOf } from "./views.js";

const at = (id) => document.getElementById(id);

/** Inflates the page's numbers. */
async function readPage() {
  const data = JSON.parse(at("data").textContent);
  const packed = Uint8Array.from(atob(at("numbers").textContent.trim()), (c) => c.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate-raw"));
  const inflated = new Uint8Array(await new Response(stream).arrayBuffer());
  return new Page(data, unpackNumbers(inflated, data.width));
}

const page = await readPage();
const { data, steps } = page;
/** Where the reader is. `places` are the numbers that were picked, by step. */
const state = { step: 0, position: page.positions.at(-1), head: 0, places: new Map() };

/** Changes where the reader is, and shows it. */
function go(change) {
  const step = steps[change.step ?? state.step];
  if (change.step !== undefined) state.step = Math.max(0, Math.min(steps.length - 1, change.step));
  if (change.position !== undefined) state.position = change.position;
  if (change.head !== undefined) {
    state.head = change.head;
    state.places.delete(step.name);
  }
  if (change.place !== undefined) state.places.set(step.name, change.place);
  history.replaceState(null, "", hash());
  render(change.step !== undefined);
}

/** `#blk.3.attn_probs&position=4&head=2`: a link to what is shown. */
function hash() {
  const { name, axes } = steps[state.step];
  const head = axes.includes("key") ? `&head=${state.head}` : "";
  return `#${name}&position=${state.position}${head}`;
}

/** Goes where a link says; false for a link to nothing. */
function follow(link) {
  const [name, ...rest] = decodeURIComponent(link.replace(/^#/, "")).split("&");
  const step = page.byName.get(name);
  const facts = new URLSearchParams(rest.join("&"));
  const position = Number(facts.get("position") ?? NaN);
  const head = Number(facts.get("head") ?? NaN);
  if (page.row(position) >= 0) state.position = position;
  if (Number.isInteger(head) && head >= 0 && head < data.model.heads) state.head = head;
  if (step === undefined) return false;
  state.step = step;
  return true;
}

/** The step of the same kind in the next layer (1) or the one before (−1); from the ends, the nearest layer. */
function otherLayer(by) {
  const { layer, kind } = steps[state.step];
  const same = steps.findIndex((step) => step.kind === kind && step.layer === layer + by);
  if (layer !== undefined && same >= 0) return same;
  const inLayers = steps.map((_, i) => i).filter((i) => steps[i].layer !== undefined);
  const [first, last] = [inLayers[0], inLayers.at(-1)];
  if (layer !== undefined) return by < 0 ? first - 1 : last + 1;
  if (by > 0) return state.step < first ? first : state.step + 1;
  return state.step > last ? last : state.step - 1;
}

/** The number of the step that is computed again: the one that was picked, or the step's own. */
function placeIn(step) {
  const picked = state.places.get(step.name);
  if (!step.axes.includes("key")) return picked ?? step.pick;
  const keys = page.tensor(step.name).shape[2];
  if (picked !== undefined && Math.floor(picked / keys) === state.head) {
    if (picked % keys <= state.position) return picked;
  }
  const row = page.vector(step.name, state.position);
  const own = row.subarray(state.head * keys, state.head * keys + state.position + 1);
  return state.head * keys + own.reduce((best, value, key) => value > own[best] ? key : best, 0);
}

function render(moved) {
  tip();
  const step = steps[state.step];
  const { title } = data.texts[step.kind];
  const inLayer = step.layer === undefined ? "" : `layer ${step.layer} · `;
  document.title = `${title} · ${step.name}`;
  at("where").replaceChildren(
    el("b", title),
    el("span", `${inLayer}step ${state.step + 1} of ${steps.length}`),
  );
  at("previous").disabled = state.step === 0;
  at("next").disabled = state.step === steps.length - 1;
  markMap(page, state.step);
  renderTokens();
  renderLayers(step);
  renderStep(step);
  if (moved) at("step").scrollIntoView({ block: "nearest" });
}

function renderTokens() {
  const row = page.row(state.position);
  const chips = page.tokens.map(({ label }, position) => {
    const held = page.row(position) >= 0;
    const here = position === state.position;
    const generated = position >= data.promptLength ? ".generated" : "";
    return el(`button${hereIf(here)}${generated}`, {
      role: "option",
      "aria-selected": `${here}`,
      title: `position ${position}${held ? "" : ": its vectors are not in this page"}`,
      disabled: !held,
      onclick: () => go({ position }),
    }, token(label));
  });
  const answer = data.vocabulary[data.chosen[row]];
  at("tokens").replaceChildren(
    ...chips,
    el(
      "span",
      { class: "then", title: "the likeliest token after the position that is followed" },
      "→ ",
      token(answer, "code.token.answer"),
    ),
  );
  const here = at("tokens").querySelector(".here");
  const box = at("tokens");
  box.scrollLeft = here.offsetLeft - box.offsetLeft - box.clientWidth / 2 + here.offsetWidth / 2;
}

/** How large this operation's vector is in each layer, to be compared at a glance. */
function renderLayers(step) {
  const same = steps.filter(({ kind }) => kind === step.kind);
  const box = at("layers");
  box.hidden = same.length < 2 || step.axes.includes("key");
  if (box.hidden) return;
  const sizes = same.map(({ name }) => rootMeanSquare(page.vector(name, state.position)));
  const most = Math.max(...sizes);
  box.replaceChildren(
    el("h3", "This vector, layer by layer"),
    el(
      "div.columns-chart",
      same.map((each, i) =>
        el(`button${hereIf(each === step)}`, {
          "aria-label": `layer ${each.layer}`,
          onclick: () => go({ step: page.byName.get(each.name) }),
          onpointermove: (event) =>
            tip([`root mean square ${show(sizes[i])}`, each.name], event.clientX, event.clientY),
          onpointerleave: () => tip(),
        }, el("span", { style: `height: ${sizes[i] / most * 100}%` }))
      ),
    ),
    el("p.note", "Root mean square at the position that is followed"),
  );
}

function renderStep(step) {
  const text = data.texts[step.kind];
  const main = at("step");
  const width = main.clientWidth - 34; // a card's padding and borders
  const place = placeIn(step);
  const context = { page, step, go, width, place, position: state.position, head: state.head };
  const inLayer = step.layer === undefined
    ? ""
    : `Layer ${step.layer} (0–${data.model.layers - 1})`;
  main.className = text.group;
  main.dataset.step = step.name;
  const known = step.axes[0] === "slot" ? state.position < page.tokens.length : true;
  main.replaceChildren(
    el(
      "header",
      el("p.over", inLayer),
      el("h2", text.title),
      el("p.name", el("code", step.name), " ", el("span", shapeText(step))),
      el("p.what", text.what),
      el("p.look", el("b", "Look for: "), text.look),
    ),
    ...(known ? viewsOf(context) : []),
    ...cardsOf(context),
  );
  const line = main.querySelector(".code .here");
  if (line) {
    line.parentElement.scrollTop = line.offsetTop - line.parentElement.clientHeight / 2 + 10;
  }
}

function renderAround() {
  const writes = data.written ? `, writes “${data.written.trim()}”` : "";
  at("headline").replaceChildren(
    `${data.model.name} reads “${data.prompt}”${writes} and goes on with `,
    token(data.vocabulary[data.chosen.at(-1)], "code.token.answer"),
  );
  at("facts").textContent = data.facts;
  at("about").replaceChildren(...data.about.map((text) => el("p", text)));
}

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.closest?.("input, textarea, select")) return;
  const position = page.positions[page.row(state.position) + (event.key === "ArrowRight" ? 1 : -1)];
  const moves = {
    ArrowRight: { step: Math.min(steps.length - 1, state.step + 1) },
    ArrowLeft: { step: Math.max(0, state.step - 1) },
    ArrowDown: { step: otherLayer(1) },
    ArrowUp: { step: otherLayer(-1) },
    Home: { step: 0 },
    End: { step: steps.length - 1 },
  };
  const sideways = event.key === "ArrowRight" || event.key === "ArrowLeft";
  const move = event.shiftKey && sideways
    ? position !== undefined && { position }
    : moves[event.key];
  if (!move || move.step < 0 || move.step >= steps.length) return;
  event.preventDefault();
  go(move);
}

at("app").hidden = false;
renderAround();
drawMap(page, (step) => go({ step }));
if (matchMedia("(max-width: 900px)").matches) at("map").open = false;
follow(location.hash);
render(false);

addEventListener("keydown", onKey);
addEventListener("hashchange", () => follow(location.hash) && render(true));
let widthBefore = innerWidth;
addEventListener("resize", () => {
  // Phones resize the height whenever their bars come and go.
  if (innerWidth === widthBefore) return;
  widthBefore = innerWidth;
  render(false);
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => render(false));
at("previous").addEventListener("click", () => go({ step: state.step - 1 }));
at("next").addEventListener("click", () => go({ step: state.step + 1 }));
at("up").addEventListener("click", () => go({ step: Math.max(0, otherLayer(-1)) }));
at("down").addEventListener("click", () => go({ step: Math.min(steps.length - 1, otherLayer(1)) }));
at("theme").addEventListener("click", () => {
  document.documentElement.style.colorScheme = isDark() ? "light" : "dark";
  render(false);
});
