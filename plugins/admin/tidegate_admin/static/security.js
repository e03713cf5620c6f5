// Security: signals, blocks, the allowlist, rules, and what an address has done.

import { button, card, empty, h, missing, swap } from "./dom.js";
import { call, has, may } from "./api.js";
import { actButton } from "./act.js";
import { bar } from "./charts.js";
import { connectionTable, whereabouts } from "./clients.js";
import { anything, facts, severity, some, summary, table, timeline } from "./draw.js";
import { about, events, GROUPS, within } from "./events.js";
import { length, moment, number } from "./format.js";

const suspend = (user, after) => (may("account.suspend") ? actButton("Suspend account", "account.suspend", { user }, { fixed: ["user"], after }) : null);

function blockTable(rows, after) {
  return table(rows, {
    columns: [
      { name: "network", cell: (row) => whereabouts(row.network) }, { name: "severity", cell: (row) => severity(row.severity) }, { name: "reason" },
      { name: "actor", label: "by" }, { name: "since" }, { name: "left_s", label: "ends in", cell: (row) => (row.left_s === null ? "never" : length(row.left_s)), number: true }, { name: "soft" },
    ],
    actions: (row) => [actButton("Unblock", "security.unblock", { network: row.network }, { fixed: ["network"], danger: false, after })],
    caption: "Blocks", none: "Nobody is blocked.",
  });
}

function signalTable(rows, refresh) {
  return table(rows, {
    columns: [
      { name: "at", cell: (row) => moment(row.at) }, { name: "signal" }, { name: "prefix", label: "address", cell: (row) => whereabouts(row.prefix) }, { name: "user", label: "account" },
      { name: "points", cell: (row) => bar(number(row.points), row.points / 100), number: true }, { name: "score" }, { name: "detail" },
    ],
    actions: (row) => [
      row.prefix ? actButton("Block", "security.block", { network: row.prefix, for_s: 3600 }, { fixed: ["network"], after: refresh, focus: `block ${row.at} ${row.prefix}` }) : null,
      row.user ? suspend(row.user, refresh) : null,
    ],
    caption: "Signals, the newest first", none: "No signal yet.",
  });
}

export function security({ refresh }) {
  const line = card("Security events", { wide: true });
  const told = () => swap(line.body, some(events.filter((row) => within(row, GROUPS.security)), 25, "security events", (rows) => timeline(rows, (row) => [about(row), blockFrom(row, refresh)]), told));
  told();
  if (!has("security.status")) return { root: h("div", { class: "cards" }, card("Security", {}, missing("security", "Seeing and answering attacks")).root, line.root), watch: [], event: told };

  const state = card("State"), offenders = card("Top offenders"), signals = card("Signals", { wide: true }), blocks = card("Blocks", { wide: true });
  const allowed = card("Allowlist", { wide: true }), rules = card("Rules", { wide: true }), report = card("Report", { wide: true }), trail = auditCard();
  let seen = [];
  const drawSignals = () => swap(signals.body, some(seen, 12, "signals", (rows) => signalTable(rows, refresh), drawSignals));

  const category = h("input", { type: "search", id: "rule-filter", placeholder: "Filter…", "aria-label": "Rules that have" });
  const list = h("div", {});
  let known = [];
  const drawRules = () => swap(list, table(known.filter((row) => JSON.stringify(row).toLowerCase().includes(category.value.toLowerCase())).slice(0, category.value ? 200 : 15), {
    columns: [{ name: "id", class: "mono" }, { name: "category" }, { name: "score" }, { name: "description" }, { name: "refs" }, { name: "on" }],
    actions: (row) => [actButton(row.on ? "Switch off" : "Switch on", "security.rule", { id: row.id, on: !row.on }, { fixed: ["id", "on"], danger: row.on, after: loadRules })],
    caption: "Rules", none: "No rule fits.",
  }));
  async function loadRules() {
    try { known = await call("security.rules"); drawRules(); } catch (error) { swap(list, empty(error.message)); }
  }
  category.addEventListener("input", drawRules);
  swap(rules.body, h("div", { class: "bar-of-tools" }, category, h("span", { class: "hint" }, "The first 15 are shown; filter for others.")), list);
  loadRules();
  swap(report.body, h("p", { class: "hint" }, "What happened in a day, what changed against the day before, and what to do about it."), h("p", { class: "buttons" }, button("Make the report", async () => {
    try { swap(report.body, anything(await call("security.report"), "Report")); } catch (error) { swap(report.body, empty(error.message)); }
  })));

  return {
    root: h("div", { class: "cards" }, state.root, offenders.root, blocks.root, signals.root, line.root, allowed.root, report.root, trail.root, rules.root),
    watch: ["security.status", "security.events", "security.blocks", "security.allowlist"],
    event: told,
    panel(name, { result, fault }) {
      if (fault) return;
      if (name === "security.status") {
        const { top, warnings, ...rest } = result;
        swap(state.body, (warnings || []).map((text) => h("p", { class: "problem" }, text)),
          facts({ mode: rest.mode, ...(rest.under_attack === undefined ? {} : { "under attack": rest.under_attack ? "yes" : "no" }), "blocks active": rest.blocks?.active, "of them soft": rest.blocks?.soft, "addresses tracked": rest.tracked?.addresses, "scan mean": `${rest.scanner?.mean_us ?? "–"} µs`, "audit entries": rest.audit?.entries, "audit lost": rest.audit?.lost, "audit trail": rest.audit?.broken || "written" }),
          rest.detections?.length ? table(rest.detections, { caption: "Detections" }) : null,
          h("p", { class: "buttons" }, actButton(result.mode === "observe" ? "Enforce" : "Only observe", "security.mode", { mode: result.mode === "observe" ? "enforce" : "observe" }, { fixed: ["mode"], after: refresh })));
        const most = Math.max(...top.map((row) => row.score), 1);
        swap(offenders.body, table(top, { columns: [{ name: "prefix", label: "address", cell: (row) => whereabouts(row.prefix) }, { name: "score", cell: (row) => bar(number(row.score), row.score / most), number: true }], caption: "Addresses by reputation", none: "Nobody has misbehaved." }));
      } else if (name === "security.events") { seen = result; drawSignals(); }
      else if (name === "security.blocks") swap(blocks.body, blockTable(result, refresh), h("p", { class: "buttons" }, actButton("Block a network", "security.block", { for_s: 3600 }, { after: refresh })));
      else swap(allowed.body, table(result, {
        columns: [{ name: "network" }, { name: "reason" }, { name: "actor", label: "by" }],
        actions: (row) => [row.actor ? actButton("Take off", "security.disallow", { network: row.network }, { fixed: ["network"], after: refresh }) : null],
        caption: "Networks that are never blocked", none: "None.",
      }), h("p", { class: "buttons" }, actButton("Allow a network", "security.allow", {}, { after: refresh })));
    },
  };
}

/** The audit trail: a search, and whether somebody has changed it. */
function auditCard() {
  const trail = card("Audit trail", { wide: true, note: "the newest first" });
  const field = (name, words) => h("input", { type: "search", name, placeholder: words, "aria-label": `Entries with this ${words}`, autocomplete: "off", spellcheck: "false" });
  const inputs = [field("text", "text"), field("event", "event"), field("address", "address"), field("user", "account")];
  const found = h("div", {}, h("p", { class: "hint" }, "Every signal, block and administrator's act, in a chain that shows whether it was changed."));
  async function search(before) {
    const asked = Object.fromEntries(inputs.filter((input) => input.value).map((input) => [input.name, input.value.trim()]));
    try {
      const { entries, next } = await call("security.audit", { ...asked, limit: 50, ...(before ? { before } : {}) });
      swap(found, table(entries.map((row) => ({ ...row, what: Object.fromEntries(Object.entries(row).filter(([name, value]) => !COLUMNS.has(name) && value !== null && value !== "")) })), {
        columns: [{ name: "ts", label: "at", cell: (row) => moment(Date.parse(row.ts) / 1000) }, { name: "seq", label: "number" }, { name: "event" }, { name: "severity", cell: (row) => (row.severity ? severity(row.severity) : "–") }, { name: "address", cell: (row) => whereabouts(row.address || row.prefix) }, { name: "who", cell: (row) => row.actor || row.user_id || "–" }, { name: "what", cell: (row) => summary(row.what) || "–" }],
        caption: "Entries of the audit trail", none: next ? "None on this page." : "No entry fits.",
      }), next ? h("p", { class: "buttons" }, button("Older ones", () => search(next), { "data-focus": "audit older" })) : null);
    } catch (error) { swap(found, empty(error.message)); }
  }
  async function verify() {
    swap(found, empty("Every entry is being checked…"));
    try {
      const said = await call("security.audit_verify");
      swap(found, h("p", { class: said.ok ? "good" : "problem" }, said.ok ? `All ${number(said.entries)} entries are as they were written.` : `${number(said.problems_in_all)} of ${number(said.entries)} entries are not as they were written.`),
        said.problems.length ? table(said.problems.slice(0, 100), { caption: "What is wrong with the trail" }) : null);
    } catch (error) { swap(found, empty(error.message)); }
  }
  if (has("security.audit")) swap(trail.body, h("form", { class: "bar-of-tools", onsubmit: (event) => { event.preventDefault(); search(); } }, inputs, h("button", { class: "primary" }, "Search"), button("Verify", verify)), found);
  else swap(trail.body, empty("This version of the plugin has no search."));
  return trail;
}
const COLUMNS = new Set(["ts", "seq", "event", "severity", "address", "prefix", "actor", "user_id", "mac", "prev", "key", "connection_id"]);

/** Acting on an event of the time line. */
function blockFrom(row, after) {
  const place = row.fields?.prefix;
  if (!place) return null;
  if (row.topic === "address.blocked") return actButton("Unblock", "security.unblock", { network: place }, { fixed: ["network"], danger: false, after, focus: `unblock ${row.number}` });
  if (row.topic === "address.unblocked") return null;
  return actButton("Block", "security.block", { network: place, for_s: 3600 }, { fixed: ["network"], after, focus: `block ${row.number}` });
}

/** Everything that is known of one address. */
export function address({ query, refresh }) {
  const of = query.get("of") || "";
  const plain = of.replace(/\/(32|128)$/, "");
  const evidence = card(`Address ${of}`, { wide: true, id: "Address" }), here = card("Connections", { wide: true }), line = card("Events", { wide: true });
  const belongs = (row) => row.fields && [row.fields.address, row.fields.prefix].some((one) => one && (one === of || one === plain || one === `${plain}/32` || (row.fields.prefix === of)));
  const told = () => swap(line.body, timeline(events.filter(belongs).slice(0, 100)));
  async function load() {
    if (has("security.reputation")) {
      try {
        const said = await call("security.reputation", { address: of });
        swap(evidence.body, facts({ ...said, block: said.block ? `${said.block.reason}, by ${said.block.actor || "the server itself"}` : "none" }, ["prefix", "score", "connections", "accounts", "earlier_blocks", "never_blocked", "block"]),
          h("p", { class: "buttons" },
            said.block ? actButton("Unblock", "security.unblock", { network: said.block.network }, { fixed: ["network"], danger: false, after: load }) : actButton("Block", "security.block", { network: said.prefix, for_s: 3600 }, { fixed: ["network"], after: load }),
            actButton("Never block", "security.allow", { network: said.prefix }, { fixed: ["network"], after: load }),
            said.accounts.map((user) => suspend(user, load))),
          h("h3", {}, "Evidence"), table(said.evidence, { columns: [{ name: "at", cell: (row) => moment(row.at) }, { name: "signal" }, { name: "points" }, { name: "score" }, { name: "user", label: "account" }, { name: "detail" }], caption: "Evidence, the newest first", none: "Nothing speaks against it." }));
      } catch (error) { swap(evidence.body, empty(error.message)); }
    } else swap(evidence.body, missing("security", "Knowing what an address has done"));
    try {
      const rows = await call("system.connections", { limit: 1000 });
      swap(here.body, connectionTable(rows.filter((row) => row.address === plain || row.prefix === of), load));
    } catch (error) { swap(here.body, empty(error.message)); }
  }
  load();
  told();
  return { root: h("div", { class: "cards" }, evidence.root, here.root, line.root), watch: [], event(row) { if (belongs(row)) { told(); load(); } } };
}
