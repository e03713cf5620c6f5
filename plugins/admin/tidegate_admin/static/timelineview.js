// All events, by kind, with a filter.

import { card, h, swap } from "./dom.js";
import { timeline } from "./draw.js";
import { about, chooser, events, GROUPS, within } from "./events.js";

export function history({ query }) {
  const box = card("Events", { wide: true, note: "the newest first" });
  const filter = h("input", { type: "search", id: "event-filter", placeholder: "Filter…", "aria-label": "Events that have", value: query.get("has") || "" });
  const list = h("div", {}), choices = h("div", {});
  let group = "everything";
  function draw() {
    const text = filter.value.toLowerCase();
    const rows = events.filter((row) => within(row, GROUPS[group]) && (!text || JSON.stringify(row).toLowerCase().includes(text)));
    swap(choices, chooser(group, (name) => { group = name; draw(); }));
    swap(list, timeline(rows.slice(0, 200), about));
  }
  filter.addEventListener("input", draw);
  swap(box.body, h("div", { class: "bar-of-tools" }, choices, filter), list);
  draw();
  return { root: h("div", { class: "cards" }, box.root), watch: [], event: draw };
}
