// The API: every administrators' command, with a form to try it.

import { button, card, coded, empty, h, swap } from "./dom.js";
import { call, commands, may } from "./api.js";
import { act, fields } from "./act.js";
import { anything, table } from "./draw.js";

export function reference({ query }) {
  const filter = h("input", { type: "search", id: "api-filter", placeholder: "Filter…", "aria-label": "Commands that have", value: query.get("has") || "" });
  const list = h("div", { class: "reference" });
  function draw() {
    const text = filter.value.toLowerCase();
    const found = [...commands.values()].filter((one) => `${one.name} ${one.summary}`.toLowerCase().includes(text)).sort((a, b) => (a.name < b.name ? -1 : 1));
    swap(list, found.map(entry), found.length ? null : empty("No command fits."));
  }
  filter.addEventListener("input", draw);
  draw();
  const box = card("API", { wide: true, note: `${commands.size} commands` }, h("p", { class: "hint" }, "Each is also there as ", h("code", {}, "POST /api/v1/commands/NAME"), ". The document is at ", h("a", { href: "/api/v1/openapi.json" }, "/api/v1/openapi.json"), "; numbers for Prometheus are at ", h("a", { href: "/metrics" }, "/metrics"), "."), h("div", { class: "bar-of-tools" }, filter), list);
  return { root: h("div", { class: "cards" }, box.root), watch: [] };
}

function entry(one) {
  const answer = h("div", {});
  const rest = h("div", {});
  const root = h("details", { class: "command", ontoggle: () => { if (root.open && !rest.hasChildNodes()) fill(); } },
    h("summary", {}, h("span", { class: `verb ${one.method.toLowerCase()}` }, one.method), " ", h("code", {}, one.path.replace("/api/v1", "")), " ", h("b", {}, one.name), " ", h("span", { class: "scope" }, one.scope), h("span", { class: "hint" }, " ", coded(one.summary))), rest);
  async function run(params) {
    try {
      const result = params === undefined ? await act(one.name) : await call(one.name, params);
      if (result !== undefined) swap(answer, h("h3", {}, "Answer"), anything(result, one.name), h("details", {}, h("summary", {}, "As JSON"), h("pre", { tabindex: "0" }, JSON.stringify(result, null, 1))));
    } catch (error) { swap(answer, h("p", { class: "problem", role: "alert" }, error.message), h("pre", {}, JSON.stringify(error.said, null, 1))); }
  }
  function fill() {
    const params = one.params.length ? table(one.params.map((param) => ({ name: param.name, type: [param.schema.type || "any"].flat().join(" or "), required: param.required, limits: limits(param.schema), help: param.description || "" })), { caption: `Parameters of ${one.name}` }) : empty("It takes no parameters.");
    const parts = [one.description ? h("p", { class: "text" }, coded(one.description)) : null, params];
    if (!may(one.name)) parts.push(h("p", { class: "hint" }, `Your token does not have the scope “${one.scope}”.`));
    else if (one.scope === "read") {
      const form = fields(one.name);
      parts.push(h("form", { onsubmit: (event) => { event.preventDefault(); run(form.values()); } }, form.root, h("p", { class: "buttons" }, h("button", { class: "primary" }, "Run"))));
    } else parts.push(h("p", { class: "buttons" }, button("Run…", () => run(undefined))));
    swap(rest, parts, answer);
  }
  return root;
}

function limits(schema) {
  const said = [];
  if (schema.enum) said.push(schema.enum.join(", "));
  if (schema.minimum !== undefined) said.push(`at least ${schema.minimum}`);
  if (schema.maximum !== undefined) said.push(`at most ${schema.maximum}`);
  if (schema.maxLength !== undefined) said.push(`at most ${schema.maxLength} characters`);
  if (schema.default !== undefined && schema.default !== null && schema.default !== "") said.push(`${schema.default} by default`);
  return said.join("; ");
}
