/** The cards below the pictures: formula, code, one number computed again, where things come from, numbers. */
import { bytes, el, headings, hereIf, markup, tableRow, token } from "./dom.js";
import { recompute, show } from "./recompute.js";
import { placeName } from "./views.js";

/** All cards of a step. `context` is what views get. */
export function cardsOf(context) {
  const { page, step } = context;
  const numbers = isFloats(step) && page.width(step.name) > 1;
  return [
    el("div.two", formulaCard(context), codeCard(context)),
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
    "section.card.formula",
    el("h3", "The formula"),
    el("div.scroll", markup(formula)),
    el("p.note", letters),
    el("p.paper", el("a", { href: url, rel: "noreferrer" }, text)),
  );
}

function codeCard({ page, step }) {
  const { forward, steps } = page.data.source;
  const { line, inner } = steps[`${step.kind} ${step.operation}`];
  const row = ({ number, text, comment }, here) =>
    el(`div${hereIf(here)}`, el("i", `${number}`), text, comment ? el("em", comment) : "");
  const about = step.operation === "ids"
    ? "The ids are what it reads:"
    : "which records this step as";
  return el(
    "section.card",
    el("h3", "The line of forward()"),
    el("pre.code", { tabindex: "0" }, forward.map((each) => row(each, each.number === line))),
    inner ? [el("p.note", about), el("pre.code.inner", inner.map((each) => row(each)))] : "",
    el("p.paper", el("code", `engine/plan/forward.ts:${line}`)),
  );
}

function recomputeCard({ page, step, position, place, go }) {
  const { why, agree, lines, captured } = recompute(page, step, position, place);
  const choice = step.operation === "argmax";
  const only = choice || page.has(step.name) && page.width(step.name) === 1;
  const where = `position ${position} “${page.tokens[position].label}”`;
  const back = () => go({ place: step.pick });
  const verdict = !agree ? ": they differ" : choice ? ", the same" : ", the same within rounding";
  return el(
    "section.card.recompute",
    { "data-agree": why ? "" : `${agree}` },
    el("h3", "Recompute it yourself"),
    el("p.note", only ? where : `${placeName(page, step, place)}, ${where}`),
    why
      ? [
        el("p", why),
        step.operation === "linear"
          ? el("button", { onclick: back }, "Show the number that it can compute")
          : "",
      ]
      : [
        el("div.sum", lines.map((line) => el("div", line))),
        el(
          `p.verdict.${agree ? "good" : "bad"}`,
          `${agree ? "✓" : "✗"} captured: `,
          el("b", choice ? `token ${captured}` : show(captured)),
          verdict,
        ),
      ],
  );
}

/** What the step reads, with links, and its weights. */
function flowCard({ page, step, go }) {
  const link = (name, more = "") => {
    const step = page.byName.get(name);
    if (step === undefined) return el("span.chip", el("code", name), " cosines and sines");
    const onclick = (event) => (event.preventDefault(), go({ step }));
    return el("a.chip", { href: `#${name}`, onclick }, el("code", name), more);
  };
  const inputs = step.inputs.map((name) => {
    const found = page.steps[page.byName.get(name)];
    return link(name, found && ` ${shapeText(found)}`);
  });
  const weights = step.weights.map(({ name, type, shape, bytes: size }) => {
    const sizes = shape.map((n) => n.toLocaleString("en")).join(" × ");
    return el("span.chip", el("code", name), ` [${sizes}] ${type}, ${bytes(size)}`);
  });
  const readers = page.steps.filter(({ inputs }) => inputs.includes(step.name))
    .map(({ name }) => link(name));
  const line = (label, chips) => chips.length > 0 ? [el("dt", label), el("dd", chips)] : [];
  return el(
    "section.card.flow",
    el("h3", "Where it comes from, where it goes"),
    el("dl", line("reads", inputs), line("weights", weights), line("read by", readers)),
    el("p.note", "kernel ", el("code", step.operation)),
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
    const numbers = [sorted[0], sorted.at(-1), mean, rootMeanSquare(finite)];
    return tableRow([label, ...numbers.map(show)]);
  };
  const partly = step.kind === "logits" || step.kind === "probs";
  const rest = attention ? shape[2] : own.length;
  const count = Math.min(rest, attention ? 64 : 8);
  const from = attention ? head * shape[2] : 0;
  const heading = (i) =>
    attention
      ? token(page.tokens[i].label)
      : partly
      ? token(data.vocabulary[data.logits.columns[i]])
      : `${i}`;
  const note = attention
    ? `Head ${head}: a row per query, a column per key. Statistics leave hidden keys out of the scores.`
    : partly
    ? "Of the tokens in the page; the first of them:"
    : `The first ${count} of ${rest} numbers at each position:`;
  const range = (of) => Array.from({ length: count }, (_, i) => of(i));
  const more = rest > count ? ["…"] : [];
  return el(
    "section.card.numbers",
    el("h3", "Numbers"),
    el(
      "div.scroll",
      el(
        "table",
        headings(["", "least", "largest", "mean", "root mean square"]),
        facts(`position ${position}`, own),
        facts(positions.length === 1 ? "the whole page" : `all ${positions.length} positions`, all),
      ),
    ),
    el("p.note", note),
    el(
      "div.scroll.tall",
      el(
        "table.slice",
        headings(["", ...range(heading), ...more]),
        positions.map((each) => {
          const values = page.vector(step.name, each);
          const numbers = range((i) => attention && i > each ? "·" : show(values[from + i]));
          const cells = [token(page.tokens[each].label), ...numbers, ...more];
          return tableRow(cells, `tr${hereIf(each === position)}`);
        }),
      ),
    ),
  );
}
