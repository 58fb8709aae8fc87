/** The pictures of a step's values: which one fits its axes. Each view is a list of elements. */
import { el, headings, hereIf, token } from "./dom.js";
import { drawMatrix, react, scaleFor } from "./pictures.js";
import { show } from "./recompute.js";

const LETTER = 7; // pixels of a label's letter

/** What a view needs: the page, the step, where the reader is, how wide it may be, and what clicks do. */
export function viewsOf(context) {
  const { step, page } = context;
  if (step.operation === "ids") return [idsView(context)];
  if (step.operation === "argmax") return [choiceView(context)];
  if (step.kind === "logits" || step.kind === "probs") return [likeliestView(context)];
  if (step.axes.includes("key")) return attentionViews(context);
  if (page.width(step.name) === 1) return [barsView(context)];
  return [vectorView(context), positionsView(context)];
}

function card(title, note, ...children) {
  return el("section.card", el("h3", title), note ? el("p.note", note) : "", children);
}

/** The scale's colours with its ends. */
function legend(scale) {
  const stops = scale.stops.map(([place, color]) => `${color} ${place * 100}%`).join(", ");
  const [low, high] = scale.kind === "sequential"
    ? ["0", "1"]
    : [`−${show(scale.limit)}`, show(scale.limit)];
  const count = scale.count?.toLocaleString("en");
  const beyond = scale.beyond > 0
    ? ` · ${scale.beyond} of ${count} are larger and have the last colour`
    : "";
  const style = `background: linear-gradient(90deg, ${stops})`;
  return el("p.scale", low, el("span.ramp", { style }), high + beyond);
}

function figure(label, scale, canvas) {
  return [el("div.scroll", { role: "img", "aria-label": label }, canvas), legend(scale)];
}

/** What a place in a vector is called. */
export function placeName(page, step, place) {
  if (step.axes.includes("key")) {
    const keys = page.tensor(step.name).shape[2];
    return `head ${Math.floor(place / keys)}, key ${place % keys}`;
  }
  if (step.kind === "logits" || step.kind === "probs") {
    const id = page.data.logits.columns[place];
    return `token ${id} “${page.data.vocabulary[id]}”`;
  }
  const d = headWidth(page, step);
  if (!d) return `number ${place}`;
  const kind = step.axes[1] === "kv_head" ? "key/value head" : "head";
  return `${kind} ${Math.floor(place / d)}, number ${place % d}`;
}

/** Numbers of a head; undefined where there are no heads. */
function headWidth(page, step) {
  return /head/.test(step.axes[1] ?? "") ? page.tensor(step.name).shape[2] : undefined;
}

/** Positions that a tensor has: those in the page, and all of a cache. */
function positionsOf({ page, step }) {
  return step.axes[0] === "slot" ? page.tokens.map((_, position) => position) : page.positions;
}

const named = (page, position) => `${position} “${page.tokens[position].label}”`;

function describe({ page, step }, position, place, value) {
  return [show(value), placeName(page, step, place), `position ${named(page, position)}`];
}

/** The vector of the position that is followed, in lines: a head each, or as many numbers as look well. */
function vectorView(context) {
  const { page, step, position, place, width, go } = context;
  const values = page.vector(step.name, position);
  const d = headWidth(page, step);
  const columns = d ?? lineLength(values.length);
  const rows = Math.ceil(values.length / columns);
  const left = d ? 52 : 36;
  const size = Math.max(3, Math.min(18, Math.floor((width - left) / columns)));
  const look = {
    cell: [size, Math.max(size, d ? 14 : 10)],
    left,
    rowLabel: (row) => d ? `head ${row}` : `${row * columns}`,
    mark: [Math.floor(place / columns), place % columns],
  };
  const scale = scaleFor(page.tensor(step.name).data, page.data.scales, "diverging");
  const matrix = { rows, columns, value: (row, column) => values[row * columns + column] };
  const canvas = el("canvas.vector");
  drawMatrix(canvas, matrix, scale, look);
  react(canvas, matrix, look, {
    describe: (row, column) => {
      const at = row * columns + column;
      return at < values.length ? describe(context, position, at, values[at]) : undefined;
    },
    pick: (row, column) => go({ place: row * columns + column }),
  });
  const what = d ? `${rows} heads of ${d} numbers` : `${values.length} numbers, ${columns} a line`;
  return card(
    ["The vector at position ", token(page.tokens[position].label)],
    `${what}. Orange is above zero, blue below. ${
      step.operation === "linear"
        ? "The framed one is computed below."
        : "Click a cell to see it computed below."
    }`,
    figure(`Values of ${step.name} at position ${named(page, position)}`, scale, canvas),
  );
}

/** A line length that divides the vector where possible. */
function lineLength(count) {
  return [64, 72, 48, 60, 80, 96].find((length) => count % length === 0) ?? 64;
}

/** All positions below each other. */
function positionsView(context) {
  const { page, step, position, width, go } = context;
  const { data } = page.tensor(step.name);
  const positions = positionsOf(context);
  const columns = page.width(step.name);
  const left = labelWidth(page, positions);
  const w = Math.max(1, (width - left) / columns);
  const look = {
    cell: [w, positions.length > 24 ? 11 : 18],
    left,
    gap: headWidth(page, step),
    size: positions.length > 24 ? 9.5 : 11,
    rowLabel: (row) => page.tokens[positions[row]].label,
    markRow: positions.indexOf(position),
  };
  const scale = scaleFor(data, page.data.scales, "diverging");
  const matrix = { rows: positions.length, columns, value: (r, c) => data[r * columns + c] };
  const canvas = el("canvas.positions");
  drawMatrix(canvas, matrix, scale, look);
  react(canvas, matrix, look, {
    describe: (row, column) =>
      describe(context, positions[row], column, data[row * columns + column]),
    pick: (row, column) => go({ position: positions[row], place: column }),
  });
  const slot = step.axes[0] === "slot";
  const heads = headWidth(page, step) ? ", the heads side by side" : "";
  return card(
    slot ? "The whole cache" : "All positions",
    `A row per ${slot ? "slot" : "position"}, a column for each of ${columns} numbers${heads}. ` +
      "Click a row to follow its token.",
    figure(`Values of ${step.name} at all positions`, scale, canvas),
  );
}

function labelWidth(page, positions) {
  const longest = Math.max(...positions.map((each) => [...page.tokens[each].label].length));
  return Math.min(120, longest * LETTER + 12);
}

/** One number per position. */
function barsView({ page, step, position, go }) {
  const { data } = page.tensor(step.name);
  const most = Math.max(...data);
  return card(
    "One number per position",
    "The length of a bar is the value.",
    el(
      "div.bars",
      page.positions.map((each, row) =>
        bar({
          label: page.tokens[each].label,
          share: data[row] / most,
          text: show(data[row]),
          here: each === position,
          onclick: () => go({ position: each }),
        })
      ),
    ),
  );
}

function bar({ label, share, text, here, onclick, note }) {
  return el(
    `button.line${hereIf(here)}`,
    { onclick },
    token(label),
    el("span.track", el("span", { style: `width: ${Math.max(0, share) * 100}%` })),
    el("span.value", text),
    note ? el("span.aside", note) : "",
  );
}

/** The map of one head, all heads small, and what the query that is followed looks at. */
function attentionViews(context) {
  const { page, step, position, head, place, width, go } = context;
  const { data, shape: [heads, queries, keys] } = page.tensor(step.name);
  const probs = step.kind === "attn_probs";
  const seen = (query, key) => key <= page.positions[query];
  const valueOf = (h) => (query, key) =>
    seen(query, key) ? data[(h * queries + query) * keys + key] : undefined;
  const scale = scaleFor(data, page.data.scales, probs ? "sequential" : "diverging");
  const matrix = { rows: queries, columns: keys, value: valueOf(head) };
  const left = labelWidth(page, page.positions);
  const top = Math.max(30, labelWidth(page, page.tokens.map((_, i) => i)) * 0.87 + 6);
  const size = Math.max(
    9,
    Math.min(34, Math.floor((Math.min(width, 620) - left - top * 0.5) / keys)),
  );
  const look = {
    cell: [size, size],
    left,
    top,
    rowLabel: (row) => page.tokens[page.positions[row]].label,
    columnLabel: (column) => page.tokens[column].label,
    mark: [page.row(position), place % keys],
    size: size < 12 ? 9 : 11,
  };
  const large = el("canvas.attention");
  drawMatrix(large, matrix, scale, look);
  // Column labels lean out to the right.
  large.style.marginRight = `${top * 0.5}px`;
  react(large, matrix, look, {
    describe: (row, column) => {
      const value = matrix.value(row, column);
      return [
        value === undefined ? "not seen" : show(value),
        `query ${named(page, page.positions[row])}`,
        `key ${named(page, column)}`,
      ];
    },
    pick: (row, column) => go({ position: page.positions[row], place: head * keys + column }),
  });

  const small = Math.max(2, Math.min(9, Math.floor(72 / keys)));
  const thumbnails = Array.from({ length: heads }, (_, h) => {
    const canvas = el("canvas");
    drawMatrix(canvas, { ...matrix, value: valueOf(h) }, scale, {
      cell: keys > 36 ? [72 / keys, 72 / queries] : [small, small],
    });
    const attributes = { "aria-pressed": `${h === head}`, onclick: () => go({ head: h }) };
    return el(`button${hereIf(h === head)}`, attributes, canvas, `head ${h}`);
  });
  const meaning = probs ? "Each row sums to 1." : "Orange fits, blue does not.";
  const label = `Attention ${probs ? "weights" : "scores"} of head ${head}`;
  return [
    card(
      `Head ${head}: who looks at whom`,
      `A row per query, a column per key. ${meaning} Keys after the query are hidden from it.`,
      el("div.beside", el("div", figure(label, scale, large)), looksAt(context, probs)),
    ),
    card(`All ${heads} heads`, "Click one to look closer.", el("div.heads", thumbnails)),
  ];
}

/** The keys of one query, the largest first. */
function looksAt({ page, step, position, head, place, go }, probs) {
  const { shape: [, , keys] } = page.tensor(step.name);
  const row = page.vector(step.name, position)
    .subarray(head * keys, head * keys + position + 1);
  const order = [...row.keys()].sort((a, b) => row[b] - row[a]).slice(0, 9);
  const most = Math.max(...row.map(Math.abs));
  return el(
    "div.bars.looks",
    el("p.note", "Query ", token(page.tokens[position].label), probs ? " looks at" : " fits"),
    order.map((key) =>
      bar({
        label: page.tokens[key].label,
        share: probs ? row[key] : row[key] / most,
        text: probs ? `${(row[key] * 100).toFixed(1)} %` : show(row[key]),
        note: `${key}`,
        here: key === place % keys,
        onclick: () => go({ place: head * keys + key }),
      })
    ),
    row.length > order.length ? el("p.note", `and ${row.length - order.length} more`) : "",
  );
}

/** The likeliest next tokens after the position that is followed. */
function likeliestView({ page, step, position, place, go }) {
  const values = page.vector(step.name, position);
  const { columns } = page.data.logits;
  const probs = step.kind === "probs";
  const order = [...values.keys()].sort((a, b) => values[b] - values[a]).slice(0, 16);
  const [best, worst] = [values[order[0]], Math.min(0, values[order.at(-1)])];
  const { vocabulary } = page.data.model;
  const all = vocabulary.toLocaleString("en");
  const left = columns.length < vocabulary
    ? ` The page holds ${columns.length} of ${all} tokens: the likeliest at each position.`
    : "";
  return card(
    ["What may follow ", token(page.tokens[position].label)],
    `The 16 largest${probs ? " probabilities, bars as parts of the first" : " logits"}.${left}`,
    el(
      "div.bars",
      order.map((at) =>
        bar({
          label: page.data.vocabulary[columns[at]],
          share: probs ? values[at] / best : (values[at] - worst) / (best - worst || 1),
          text: probs ? `${(values[at] * 100).toPrecision(3)} %` : show(values[at]),
          note: `id ${columns[at]}`,
          here: at === place,
          onclick: () => go({ place: at }),
        })
      ),
    ),
  );
}

/** Every position's choice, beside what really follows. */
function choiceView({ page, position, go }) {
  const { chosen, vocabulary, logits } = page.data;
  const last = page.tokens.length - 1;
  return card(
    ["The model goes on with ", token(vocabulary[chosen.at(-1)], "code.token.answer")],
    "Each position's likeliest next token, its probability, and the token that really follows.",
    el(
      "div.scroll",
      el(
        "table.choices",
        headings(["after", "likeliest next", "probability", "really follows"]),
        page.positions.map((each, row) => {
          const [, sum] = logits.normalizers[row];
          const next = page.tokens[each + 1];
          const right = next && next.id === chosen[row];
          return el(
            `tr${hereIf(each === position)}`,
            { onclick: () => go({ position: each }) },
            el("td", token(page.tokens[each].label)),
            el(
              "td",
              token(vocabulary[chosen[row]], each === last ? "code.token.answer" : "code.token"),
            ),
            el("td", `${(100 / sum).toPrecision(3)} %`),
            el("td", next ? token(next.label) : "?", right ? " ✓" : ""),
          );
        }),
      ),
    ),
  );
}

/** Text, tokens, ids. */
function idsView({ page, position, go }) {
  return card(
    "Text and ids",
    "Spaces in tokens show as ·, new lines as ⏎.",
    el("p.prompt", page.data.prompt),
    el(
      "div.ids",
      page.tokens.map(({ id, label }, each) =>
        el(
          `button${hereIf(each === position)}`,
          { disabled: page.row(each) < 0, onclick: () => go({ position: each }) },
          el("small", `${each}`),
          token(label),
          el("b", `${id}`),
        )
      ),
    ),
  );
}
