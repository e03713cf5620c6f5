// The server itself: plugins, the layers of each command, configuration, maintenance.

import { button, card, empty, h, swap } from "./dom.js";
import { call, has, me } from "./api.js";
import { actButton } from "./act.js";
import { bar } from "./charts.js";
import { facts, table } from "./draw.js";
import { length, millis } from "./format.js";

export function server({ query }) {
  const state = card("State", { wide: true }), plugins = card("Plugins", { wide: true }), layers = card("What a call passes", { wide: true }), config = card("Configuration", { wide: true });

  let rows = [];
  async function loadState() {
    const [info, ready, settings] = await Promise.all([call("admin.whoami"), call("admin.ready"), call("system.config")]).catch((error) => [null, error]);
    if (!info) { swap(state.body, empty(ready.message)); return; }
    rows = settings;
    draw();
    const level = settings.find((row) => row.key === "server.log_level")?.value;
    Object.assign(me, info);
    document.dispatchEvent(new Event("maintenance"));
    swap(state.body, facts({ server: info.server, version: info.version, up: length(info.uptime_s), ready: ready.ready, why: ready.reasons.join("; "), maintenance: info.maintenance || "off", "log level": level, "you are": info.name, "you may": info.scopes }),
      h("p", { class: "buttons" },
        info.maintenance ? actButton("End maintenance", "system.maintenance", { on: false, message: "" }, { fixed: ["on", "message"], danger: false, after: loadState, words: "New calls are answered again." }) : actButton("Begin maintenance", "system.maintenance", { on: true }, { fixed: ["on"], after: loadState, words: "New calls get 1309 with this message; administrators still work." }),
        actButton("Log level", "system.log_level", { level }, { danger: false, after: loadState }),
        actButton("Reload configuration", "system.reload", {}, { after: loadState })));
  }

  async function loadPlugins() {
    const rows = await call("system.plugins").catch((error) => { swap(plugins.body, empty(error.message)); });
    if (rows) swap(plugins.body, table(rows, { columns: [{ name: "name" }, { name: "version" }, { name: "distribution" }, { name: "rings" }, { name: "hooks" }, { name: "commands" }, { name: "state", cell: (row) => (row.reason ? `${row.state}: ${row.reason}` : row.state) }], caption: "Plugins" }));
  }

  const method = h("input", { type: "search", id: "explain", list: "methods", placeholder: "message.send", "aria-label": "Command", autocomplete: "off", spellcheck: "false", value: query.get("method") || "" });
  const names = h("datalist", { id: "methods" });
  const onion = h("div", {});
  async function explain(cost) {
    if (!method.value) return;
    swap(onion, empty(cost ? "Waiting for 20 calls, at most 2 seconds…" : "…"));
    try {
      const said = await call("system.explain", { method: method.value.trim(), cost });
      const most = Math.max(...said.layers.map((layer) => layer.seconds || 0));
      const measured = cost && said.calls > 0;
      swap(onion, h("p", { class: "hint" }, `Time limit ${said.timeout_s} s.`, cost ? ` Measured in ${said.calls} call${said.calls === 1 ? "" : "s"}.` : ""),
        table(said.layers, { columns: [{ name: "ring" }, { name: "plugin" }, ...(measured ? [{ name: "seconds", label: "takes", number: true, cell: (row) => (row.seconds === null || row.seconds === undefined ? "–" : bar(millis(row.seconds * 1000), row.seconds / most)) }] : []), { name: "where", class: "mono" }, ...(said.layers.some((layer) => layer.explain) ? [{ name: "explain" }] : [])], caption: `Layers of ${said.method}, outermost first` }));
    } catch (error) { swap(onion, empty(error.message)); }
  }
  swap(layers.body, h("form", { class: "bar-of-tools", onsubmit: (event) => { event.preventDefault(); explain(false); } }, method, names, h("button", { class: "primary" }, "Show"), button("Measure", () => explain(true))), onion);
  if (method.value) explain(false);
  if (has("monitoring.metrics")) call("monitoring.metrics", { seconds: 60 }).then((said) => names.append(...said.calls.map((row) => h("option", { value: row.command })))).catch(() => null);

  const filter = h("input", { type: "search", id: "config-filter", placeholder: "Filter…", "aria-label": "Settings whose name has" });
  const all = h("input", { type: "checkbox", id: "config-all" });
  const values = h("div", {});
  const draw = () => swap(values, table(rows.filter((row) => row.key.includes(filter.value) && (all.checked || filter.value || row.origin !== "default")).map((row) => ({ ...row, value: typeof row.value === "object" && row.value !== null ? JSON.stringify(row.value) : row.value })), { columns: [{ name: "key", class: "mono" }, { name: "value", class: "mono", number: false, cell: (row) => (row.value === null ? "–" : String(row.value)) }, { name: "origin" }], caption: "Effective configuration", none: "No setting fits." }));
  filter.addEventListener("input", draw);
  all.addEventListener("change", draw);
  swap(config.body, h("div", { class: "bar-of-tools" }, filter, h("label", {}, all, " defaults too")), values);
  loadState(); loadPlugins();
  return { root: h("div", { class: "cards" }, state.root, plugins.root, layers.root, config.root), watch: [], event: (row) => { if (/^(maintenance|config|server|database)\./.test(row.topic)) loadState(); } };
}
