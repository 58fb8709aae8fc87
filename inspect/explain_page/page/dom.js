/** Elements, tokens as people read them, and the tip beside the pointer. */

/** An element: `el("p.note", "text", other)`, with attributes `el("button.cell", { type: "button", onclick }, "text")`. */
export function el(kind, ...children) {
  const [tag, ...classes] = kind.split(".");
  const element = document.createElement(tag);
  const given = Object.getPrototypeOf(children[0] ?? "") === Object.prototype;
  const { class: more = "", ...attributes } = given ? children.shift() : {};
  const all = [...classes, more].join(" ").trim();
  if (all) element.className = all;
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== undefined && value !== false) {
      element.setAttribute(name, value === true ? "" : value);
    }
  }
  element.append(...children.flat(Infinity).filter((child) => child != null));
  return element;
}

/** What a class list of `el` ends with where the reader is. */
export const hereIf = (here) => here ? ".here" : "";

/** A row of a table, its first cell a heading. */
export const tableRow = (cells, kind = "tr", attributes = {}) =>
  el(kind, attributes, cells.map((cell, i) => el(i ? "td" : "th", cell)));

/** A row of headings. */
export const headings = (texts) => el("tr", texts.map((text) => el("th", text)));

/** Elements of markup that the page was built with (formulas). */
export function markup(html) {
  const template = document.createElement("template");
  template.innerHTML = html;
  return template.content;
}

/** Shows lines beside a place on the screen; without lines hides them. */
export function tip(lines, x, y) {
  const box = document.getElementById("tip");
  box.hidden = lines === undefined;
  if (!lines) return;
  box.replaceChildren(...lines.map((line, i) => el(i ? "div" : "b", {}, line)));
  const { width, height } = box.getBoundingClientRect();
  const left = Math.min(x + 14, innerWidth - width - 6);
  const top = y + height + 24 > innerHeight ? y - height - 14 : y + 18;
  box.style.transform = `translate(${Math.max(6, left)}px, ${Math.max(6, top)}px)`;
}

/** A token as an element: letters of one width, so that spaces can be counted. */
export function token(label, kind = "code.token") {
  return el(kind, label);
}

/** Bytes for people. */
export function bytes(count) {
  return count < 1e6 ? `${(count / 1e3).toPrecision(3)} kB` : `${(count / 1e6).toPrecision(3)} MB`;
}
