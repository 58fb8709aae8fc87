/** The cards below the pictures: formula, code, one number computed again, where things come from, numbers. */
import { bytes, el, markup, token } from "./dom.js";
import { recompute, show } from "./recompute.js";
import { placeName } from "./views.js";

/** All cards of a step. `context` is what views get. */
export function cardsOf(context) {
  const { page, step } = context;
  const numbers = isFloats(step) && page.width(step.name) > 1;
  return [
    el("div", { class: "two" }, formulaCard(context), codeCard(context)),
    step.operation === "ids" ? "" : recomputeCard(context),
    flowCard(context),
    numbers ? numbersCard(context) : "",
  ];
}

const isFloats = ({ operation }) => operation !== "ids" && operation !== "argmax";
/** The axes of a step's value and how long they are. */
export const shapeText = ({ axes, shape }) =>
  `[${
    axes.map((axis, i) => `${axis.replace("_", " ")} ${shape[i].toLocaleString("en")}`).join(", ")
  }]`;

/** The root of the mean of squares. */
export const rootMeanSquare = (values) =>
  Math.sqrt(values.reduce((sum, value) => sum + value * value, 0) / values.length);

function formulaCard({ page, step }) {
  const { formula, letters, paper } = page.data.texts[step.kind];
  const { text, url } = page.data.papers[paper];
  return el(
    "section",
    { class: "card formula" },
    el("h3", {}, "The formula"),
    el("div", { class: "scroll" }, markup(formula)),
    el("p", { class: "note" }, letters),
    el("p", { class: "paper" }, el("a", { href: url, rel: "noreferrer" }, text)),
  );
}

function codeCard({ page, step }) {
  const { source } = page.data;
  const { line, inner } = source.steps[step.kind];
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
      source.forward.map((each) => row(each, each.number === line)),
    ),
    inner
      ? [
        el(
          "p",
          { class: "note" },
          step.operation === "ids" ? "The ids are what it reads:" : "which records this step as",
        ),
        el("pre", { class: "code inner" }, inner.map((each) => row(each, false))),
      ]
      : "",
    el("p", { class: "paper" }, el("code", {}, `engine/plan/forward.ts:${line}`)),
  );
}

function recomputeCard({ page, step, position, place, go }) {
  const result = recompute(page, step, position, place);
  const where = `${placeName(page, step, place)}, position ${position} “${
    page.tokens[position].label
  }”`;
  const children = result.why
    ? [
      el("p", {}, result.why),
      step.operation === "linear"
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
        el(
          "b",
          {},
          step.operation === "argmax" ? `token ${result.captured}` : show(result.captured),
        ),
        !result.agree
          ? ": they differ"
          : step.operation === "argmax"
          ? ", the same"
          : ", the same within rounding",
      ),
    ];
  const about = step.operation === "argmax" || page.has(step.name) && page.width(step.name) === 1
    ? `position ${position} “${page.tokens[position].label}”`
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
function flowCard({ page, step, go }) {
  const { steps } = page;
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
    el("p", { class: "note" }, "kernel ", el("code", {}, step.operation)),
  );
}

/** Statistics, and the first numbers of each position (of attention: the map of the head as numbers). */
function numbersCard({ page, step, position, head }) {
  const { data } = page;
  const { data: all, shape } = page.tensor(step.name);
  const attention = step.axes.includes("key");
  const positions = step.axes[0] === "slot" ? page.tokens.map((_, i) => i) : page.positions;
  const own = page.vector(step.name, position);
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
  const from = attention ? head * shape[2] : 0;
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
        facts(`position ${position}`, own),
        facts(positions.length === 1 ? "the whole page" : `all ${positions.length} positions`, all),
      ),
    ),
    el(
      "p",
      { class: "note" },
      attention
        ? `Head ${head}: a row per query, a column per key. Statistics leave hidden keys out of the scores.`
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
        positions.map((each) => {
          const values = page.vector(step.name, each);
          return el(
            "tr",
            { class: each === position ? "here" : "" },
            el("th", {}, token(page.tokens[each].label)),
            Array.from(
              { length: count },
              (_, i) => el("td", {}, attention && i > each ? "·" : show(values[from + i])),
            ),
            rest > count ? el("td", {}, "…") : "",
          );
        }),
      ),
    ),
  );
}
