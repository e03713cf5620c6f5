// Whatever plugins offer to show, ours and everybody's.

import { card, empty, h } from "./dom.js";
import { call } from "./api.js";
import { drawing } from "./draw.js";

export async function panels() {
  const found = await call("admin.panels");
  const drawn = found.map((panel) => ({ ...panel, ...card(panel.title, { note: panel.plugin, wide: !["number", "line", "list"].includes(panel.draw) }), draws: drawing(panel.draw, panel.title) }));
  for (const { body, title, draws } of drawn) {
    body.append(h("div", { class: "panel", tabindex: "0", role: "region", "aria-label": title }, draws.root)); // a long one scrolls by itself
  }
  return {
    root: h("div", { class: "cards" }, drawn.length ? drawn.map(({ root }) => root) : empty("No plugin offers a panel.")),
    watch: drawn.map(({ command }) => command),
    panel(name, { result, fault }) {
      drawn.filter(({ command }) => command === name).forEach(({ draws }) => (fault ? draws.root.replaceChildren(empty(`${fault.code} ${fault.message}`)) : draws.update(result)));
    },
  };
}
