// Elements from code. Everything that is shown goes through text nodes: no text can become markup.

const SVG = "http://www.w3.org/2000/svg";

function put(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "value") element.value = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** h("p", {class: "hint"}, "text", child, ...) */
export const h = (tag, attributes, ...children) => put(document.createElement(tag), attributes, children);
export const svg = (tag, attributes, ...children) => put(document.createElementNS(SVG, tag), attributes, children);

/** Replace what is in `container`; a control that had the focus gets it back in its new shape (by `data-focus`). */
export function swap(container, ...children) {
  const active = document.activeElement;
  const key = active && container.contains(active) ? active.dataset.focus : undefined;
  const scrolled = [...container.querySelectorAll(".scroll")].map((one) => one.scrollLeft);
  container.replaceChildren(...children.flat(Infinity).filter((child) => child !== null && child !== undefined));
  container.querySelectorAll(".scroll").forEach((one, place) => { one.scrollLeft = scrolled[place] || 0; });
  if (key) container.querySelector(`[data-focus="${CSS.escape(key)}"]`)?.focus();
}

export const button = (label, onclick, attributes) => h("button", { type: "button", onclick, ...attributes }, label);

/** A part of a page with its heading; `body` is where its content goes. */
export function card(title, { note, wide, id } = {}, ...children) {
  const body = h("div", { class: "body" }, ...children);
  const heading = h("h2", {}, title, note ? h("small", {}, note) : null);
  const root = h("section", { class: wide ? "card wide" : "card", "data-card": id || title }, heading, body);
  return { root, body, heading };
}

export const missing = (plugin, what) =>
  h("p", { class: "missing" }, `${what} needs the plugin “${plugin}”, which is not installed here: pip install tidegate-${plugin}`);

/** Text whose parts in backticks are code. */
export const coded = (text) => text.split("`").map((part, place) => (place % 2 ? h("code", {}, part) : part));

export const empty = (text) => h("p", { class: "empty" }, text);
