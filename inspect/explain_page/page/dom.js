/** Elements, tokens as people read them, and the tip beside the pointer. */

/** An element: `el("p", { class: "x", onclick }, "text", other)`. */
export function el(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== undefined && value !== false) element.setAttribute(name, value);
  }
  element.append(
    ...children.flat(Infinity).filter((child) => child !== undefined && child !== null),
  );
  return element;
}

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
export function token(label, attributes = {}) {
  return el("code", { ...attributes, class: `token ${attributes.class ?? ""}` }, label);
}

/** Bytes for people. */
export function bytes(count) {
  return count < 1e6 ? `${(count / 1e3).toPrecision(3)} kB` : `${(count / 1e6).toPrecision(3)} MB`;
}
