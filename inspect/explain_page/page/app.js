/** The page: where the reader is, and what is shown there. */
import { bytes, el, markup, tip, token } from "./dom.js";
import { drawMap, markMap } from "./map.js";
import { Page, unpackNumbers } from "./numbers.js";
import { isDark } from "./pictures.js";
import { recompute, show } from "./recompute.js";
import { placeName, viewsOf } from "./views.js";

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

const isFloats = ({ kernel }) => kernel !== "ids" && kernel !== "argmax";
const shapeText = ({ axes, shape }) =>
  `[${
    axes.map((axis, i) => `${axis.replace("_", " ")} ${shape[i].toLocaleString("en")}`).join(", ")
  }]`;

function render(moved) {
  tip();
  const step = steps[state.step];
  const { title } = data.texts[step.kind];
  document.title = `${title} · ${step.name}`;
  at("where").replaceChildren(
    el("b", {}, title),
    el(
      "span",
      {},
      `${step.layer === undefined ? "" : `layer ${step.layer} · `}step ${
        state.step + 1
      } of ${steps.length}`,
    ),
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
    return el("button", {
      type: "button",
      role: "option",
      "aria-selected": `${position === state.position}`,
      class: `${position === state.position ? "here" : ""} ${
        position >= data.promptLength ? "generated" : ""
      }`,
      title: held
        ? `position ${position}`
        : `position ${position}: its vectors are not in this page`,
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
      token(answer, { class: "answer" }),
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
    el("h3", {}, "This vector, layer by layer"),
    el(
      "div",
      { class: "columns-chart" },
      same.map((each, i) =>
        el("button", {
          type: "button",
          class: each === step ? "here" : "",
          "aria-label": `layer ${each.layer}`,
          onclick: () => go({ step: page.byName.get(each.name) }),
          onpointermove: (event) =>
            tip([`root mean square ${show(sizes[i])}`, each.name], event.clientX, event.clientY),
          onpointerleave: () => tip(),
        }, el("span", { style: `height: ${sizes[i] / most * 100}%` }))
      ),
    ),
    el("p", { class: "note" }, "Root mean square at the position that is followed"),
  );
}

const rootMeanSquare = (values) =>
  Math.sqrt(values.reduce((sum, value) => sum + value * value, 0) / values.length);

function renderStep(step) {
  const text = data.texts[step.kind];
  const main = at("step");
  const style = getComputedStyle(main);
  const width = main.clientWidth - parseFloat(style.paddingLeft) - parseFloat(style.paddingRight) -
    34;
  const place = placeIn(step);
  const context = { page, step, go, width, place, position: state.position, head: state.head };
  main.className = text.group;
  main.dataset.step = step.name;
  const known = step.axes[0] === "slot" ? state.position < page.tokens.length : true;
  main.replaceChildren(
    el(
      "header",
      {},
      el(
        "p",
        { class: "over" },
        step.layer === undefined ? "" : `Layer ${step.layer} (0–${data.model.layers - 1})`,
      ),
      el("h2", {}, text.title),
      el("p", { class: "name" }, el("code", {}, step.name), " ", el("span", {}, shapeText(step))),
      el("p", { class: "what" }, text.what),
      el("p", { class: "look" }, el("b", {}, "Look for: "), text.look),
    ),
    ...(known ? viewsOf(context) : []),
    el("div", { class: "two" }, formulaCard(text), codeCard(step)),
    step.kernel === "ids" ? "" : recomputeCard(step, place),
    flowCard(step),
    ...(isFloats(step) && page.width(step.name) > 1 ? [numbersCard(step)] : []),
  );
  const line = main.querySelector(".code .here");
  if (line) {
    line.parentElement.scrollTop = line.offsetTop - line.parentElement.clientHeight / 2 + 10;
  }
}

function formulaCard({ formula, letters, paper }) {
  const { text, url } = data.papers[paper];
  return el(
    "section",
    { class: "card formula" },
    el("h3", {}, "The formula"),
    el("div", { class: "scroll" }, markup(formula)),
    el("p", { class: "note" }, letters),
    el("p", { class: "paper" }, el("a", { href: url, rel: "noreferrer" }, text)),
  );
}

function codeCard(step) {
  const { line, inner } = data.source.steps[step.kind];
  const row = ({ number, text, comment }, here) =>
    el(
      "div",
      { class: here ? "here" : "" },
      el("i", {}, `${number}`),
      text,
      comment ? el("em", {}, comment) : "",
    );
  return el(
    "section",
    { class: "card code-card" },
    el("h3", {}, "The line of forward()"),
    el(
      "pre",
      { class: "code", tabindex: "0" },
      data.source.forward.map((each) => row(each, each.number === line)),
    ),
    inner
      ? [
        el(
          "p",
          { class: "note" },
          step.kernel === "ids" ? "The ids are what it reads:" : "which records this step as",
        ),
        el("pre", { class: "code inner" }, inner.map((each) => row(each, false))),
      ]
      : "",
    el("p", { class: "paper" }, el("code", {}, `engine/forward.ts:${line}`)),
  );
}

function recomputeCard(step, place) {
  const result = recompute(page, step, state.position, place);
  const where = `${placeName(page, step, place)}, position ${state.position} “${
    page.tokens[state.position].label
  }”`;
  const children = result.why
    ? [
      el("p", {}, result.why),
      step.kernel === "linear"
        ? el("button", {
          type: "button",
          onclick: () => go({ place: step.pick }),
        }, "Show the number that it can compute")
        : "",
    ]
    : [
      el("div", { class: "sum" }, result.lines.map((line) => el("div", {}, line))),
      el(
        "p",
        { class: `verdict ${result.agree ? "good" : "bad"}` },
        result.agree ? "✓ " : "✗ ",
        "captured: ",
        el("b", {}, step.kernel === "argmax" ? `token ${result.captured}` : show(result.captured)),
        result.agree ? ", the same within rounding" : ": they differ",
      ),
    ];
  const about = step.kernel === "argmax" || page.has(step.name) && page.width(step.name) === 1
    ? `position ${state.position} “${page.tokens[state.position].label}”`
    : where;
  return el(
    "section",
    { class: "card recompute", "data-agree": result.why ? "" : `${result.agree}` },
    el("h3", {}, "Recompute it yourself"),
    el("p", { class: "note" }, about),
    children,
  );
}

/** What the step reads, with links, and its weights. */
function flowCard(step) {
  const inputs = step.inputs.map((name) => {
    const index = page.byName.get(name);
    if (index === undefined) {
      return el("span", { class: "chip" }, el("code", {}, name), " cosines and sines");
    }
    return el(
      "a",
      {
        class: "chip",
        href: `#${name}`,
        onclick: (event) => (event.preventDefault(), go({ step: index })),
      },
      el("code", {}, name),
      ` ${shapeText(steps[index])}`,
    );
  });
  const weights = step.weights.map(({ name, type, shape, bytes: size }) =>
    el(
      "span",
      { class: "chip weight" },
      el("code", {}, name),
      ` [${shape.map((n) => n.toLocaleString("en")).join(" × ")}] ${type}, ${bytes(size)}`,
    )
  );
  const readers = steps.filter(({ inputs }) => inputs.includes(step.name)).map(({ name }) =>
    el("a", {
      class: "chip",
      href: `#${name}`,
      onclick: (event) => (event.preventDefault(), go({ step: page.byName.get(name) })),
    }, el("code", {}, name))
  );
  const line = (label, chips) => chips.length > 0 ? [el("dt", {}, label), el("dd", {}, chips)] : [];
  return el(
    "section",
    { class: "card flow" },
    el("h3", {}, "Where it comes from, where it goes"),
    el("dl", {}, line("reads", inputs), line("weights", weights), line("read by", readers)),
    el("p", { class: "note" }, "kernel ", el("code", {}, step.kernel)),
  );
}

/** Statistics, and the first numbers of each position (of attention: the map of the head as numbers). */
function numbersCard(step) {
  const { data: all, shape } = page.tensor(step.name);
  const attention = step.axes.includes("key");
  const positions = step.axes[0] === "slot" ? page.tokens.map((_, i) => i) : page.positions;
  const own = page.vector(step.name, state.position);
  const facts = (label, values) => {
    const finite = values.filter(Number.isFinite);
    const mean = finite.reduce((sum, value) => sum + value, 0) / finite.length;
    const sorted = finite.toSorted();
    return el(
      "tr",
      {},
      [label, show(sorted[0]), show(sorted.at(-1)), show(mean), show(rootMeanSquare(finite))].map((
        cell,
        i,
      ) => el(i ? "td" : "th", {}, cell)),
    );
  };
  const partly = step.kind === "logits" || step.kind === "probs";
  const rest = attention ? shape[2] : own.length;
  const count = Math.min(rest, attention ? 64 : 8);
  const from = attention ? state.head * shape[2] : 0;
  return el(
    "section",
    { class: "card numbers" },
    el("h3", {}, "Numbers"),
    el(
      "div",
      { class: "scroll" },
      el(
        "table",
        {},
        el(
          "tr",
          {},
          ["", "least", "largest", "mean", "root mean square"].map((text) => el("th", {}, text)),
        ),
        facts(`position ${state.position}`, own),
        facts(positions.length === 1 ? "the whole page" : `all ${positions.length} positions`, all),
      ),
    ),
    el(
      "p",
      { class: "note" },
      attention
        ? `Head ${state.head}: a row per query, a column per key. Statistics leave hidden keys out of the scores.`
        : partly
        ? "Of the tokens in the page; the first of them:"
        : `The first ${count} of ${rest} numbers at each position:`,
    ),
    el(
      "div",
      { class: "scroll tall" },
      el(
        "table",
        { class: "slice" },
        el(
          "tr",
          {},
          el("th", {}, ""),
          Array.from({ length: count }, (_, i) =>
            el(
              "th",
              {},
              attention
                ? token(page.tokens[i].label)
                : partly
                ? token(data.vocabulary[data.logits.columns[i]])
                : `${i}`,
            )),
          rest > count ? el("th", {}, "…") : "",
        ),
        positions.map((position) => {
          const values = page.vector(step.name, position);
          return el(
            "tr",
            { class: position === state.position ? "here" : "" },
            el("th", {}, token(page.tokens[position].label)),
            Array.from(
              { length: count },
              (_, i) => el("td", {}, attention && i > position ? "·" : show(values[from + i])),
            ),
            rest > count ? el("td", {}, "…") : "",
          );
        }),
      ),
    ),
  );
}

function renderAround() {
  const { model } = data;
  const chosen = data.vocabulary[data.chosen.at(-1)];
  at("headline").replaceChildren(
    `${model.name} reads “${data.prompt}” and goes on with `,
    token(chosen, { class: "answer" }),
  );
  at("facts").textContent = data.facts;
  at("about").replaceChildren(...data.about.map((text) => el("p", {}, text)));
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
