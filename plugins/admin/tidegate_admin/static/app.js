// The page: its frame, its views by the part behind #, and its keys.

import { button, empty, h, swap } from "./dom.js";
import { has, live, load, logout, me, on, pause, watch } from "./api.js";
import { open, say } from "./act.js";
import { loadEvents } from "./events.js";
import { loadPoints, onPoints, range } from "./points.js";
import { overview } from "./overview.js";
import { errors } from "./errors.js";
import { alerts } from "./alerts.js";
import { address, security } from "./security.js";
import { clients } from "./clients.js";
import { transactions } from "./transactions.js";
import { server } from "./server.js";
import { history } from "./timelineview.js";
import { panels } from "./panels.js";
import { reference } from "./reference.js";

const VIEWS = [
  ["overview", "Overview", overview], ["alerts", "Alerts", alerts], ["errors", "Errors", errors], ["security", "Security", security],
  ["clients", "Clients", clients], ["transactions", "Transactions", transactions], ["server", "Server", server], ["events", "Events", history],
  ["panels", "Panels", panels], ["api", "API", reference], ["address", "Address", address],
];
const IN_MENU = VIEWS.filter(([name]) => name !== "address");
const main = document.getElementById("view");
const $ = (id) => document.getElementById(id);
let view = {}, current = "", turn = 0;

const go = (hash) => { location.hash = hash.replace(/^#/, ""); };
const refresh = () => watch(view.watch || []); // asks the server anew for what is shown

async function show() {
  const [path, search = ""] = location.hash.replace(/^#\/?/, "").split("?");
  const [name, title, make] = VIEWS.find(([one]) => one === path) || VIEWS[0];
  const mine = (turn += 1);
  for (const link of document.querySelectorAll("nav a")) {
    if (link.dataset.view === name) { link.setAttribute("aria-current", "page"); link.scrollIntoView({ block: "nearest", inline: "center" }); } else link.removeAttribute("aria-current");
  }
  document.title = `${title} · ${me.server}`;
  $("title").textContent = title;
  let made;
  try { made = await make({ query: new URLSearchParams(search), go, refresh }); } catch (error) { made = { root: empty(error.message), watch: [] }; }
  if (mine !== turn) return;
  view = made;
  swap(main, view.root);
  main.scrollTop = 0;
  if (current && current !== name) $("title").focus();
  current = name;
  refresh();
}

on("tick", (at, values) => { view.tick?.(at, values); badge(); });
on("event", (row) => {
  view.event?.(row);
  if (row.severity === "critical") say(`${row.topic} ${Object.values(row.fields).filter((one) => typeof one === "string").slice(0, 2).join(" · ")}`, "bad");
});
on("panel", (name, said) => view.panel?.(name, said));
onPoints(() => view.points?.());
on("state", (state) => {
  const words = { live: "live", away: "not connected", paused: "paused", connecting: "connecting" };
  $("live").textContent = words[state];
  $("live").className = `pill ${state}`;
  $("pause").textContent = state === "paused" ? "Go on" : "Pause";
  if (state === "live") loadEvents().then(() => view.event?.({ topic: "", fields: {} }));
});
document.addEventListener("maintenance", banner);
on("event", (row) => { if (row.topic === "maintenance.changed") { me.maintenance = row.fields.on ? row.fields.message || "on" : null; banner(); } });

function badge() {
  const raised = live.values["monitoring.alerts_raised"] || 0;
  const mark = document.querySelector('nav a[data-view="alerts"] .count');
  mark.textContent = raised || "";
  mark.hidden = !raised;
}

function banner() {
  $("banner").hidden = !me.maintenance;
  $("banner").textContent = me.maintenance ? `Maintenance: ${me.maintenance}. New calls are refused; administrators still work.` : "";
}

// --- theme, keys ----------------------------------------------------------------------------------

const THEMES = ["auto", "light", "dark"];
function theme(name) {
  if (name === "auto") delete document.documentElement.dataset.theme; else document.documentElement.dataset.theme = name;
  $("theme").replaceChildren(h("span", { "aria-hidden": "true" }, "◐ "), h("span", { class: "if-wide" }, "Theme: "), name);
  $("theme").setAttribute("aria-label", `Theme: ${name}`);
  try { localStorage.setItem("theme", name); } catch { /* it is not kept, then */ }
  theme.now = name;
}
const turnTheme = () => theme(THEMES[(THEMES.indexOf(theme.now) + 1) % THEMES.length]);

const KEYS = [
  ["1 … 9, 0", "the views, in the order of the menu"], ["/", "filter what is shown"], ["r", "time range"], ["p", "pause, and go on"],
  ["t", "theme"], ["← →", "in a chart: read its points; Enter shows what happened at a moment"], ["Esc", "close a dialog"], ["?", "this"],
];
const help = () => open("Keys", h("dl", { class: "keys" }, KEYS.map(([key, words]) => h("div", {}, h("dt", {}, h("kbd", {}, key)), h("dd", {}, words)))));

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, select, textarea, dialog")) return;
  const number = "1234567890".indexOf(event.key);
  if (number >= 0 && IN_MENU[number]) go(`#/${IN_MENU[number][0]}`);
  else if (event.key === "/") { const field = main.querySelector('input[type="search"]'); if (field) { event.preventDefault(); field.focus(); } }
  else if (event.key === "r") $("range").focus();
  else if (event.key === "p") pause(!live.paused);
  else if (event.key === "t") turnTheme();
  else if (event.key === "?") help();
});

// --- start ----------------------------------------------------------------------------------------

let saved = "auto";
try { saved = localStorage.getItem("theme") || "auto"; } catch { /* the system's, then */ }
theme(THEMES.includes(saved) ? saved : "auto");
$("theme").addEventListener("click", turnTheme);
$("pause").addEventListener("click", () => pause(!live.paused));
$("help").addEventListener("click", help);
$("logout").addEventListener("click", () => logout().catch((error) => say(error.message, "bad")));
$("range").addEventListener("change", () => loadPoints($("range").value));
window.addEventListener("hashchange", () => {
  for (const dialog of document.querySelectorAll("dialog")) dialog.close(); // it was about the view that is left
  show();
});

const NEEDS = { errors: "errors.stats", alerts: "monitoring.alerts", security: "security.status", transactions: "transactions.totals" };
try {
  await load();
  $("menu").append(...IN_MENU.map(([name, title], place) => h("li", {}, h("a", { href: `#/${name}`, "data-view": name, class: NEEDS[name] && !has(NEEDS[name]) ? "absent" : null, title: `${title} (${(place + 1) % 10})` }, title, h("span", { class: "count", hidden: true })))));
  $("name").textContent = me.server;
  $("who").textContent = me.name;
  banner();
  await Promise.all([loadPoints(range.span), loadEvents()]);
  await show();
} catch (error) {
  swap(main, empty(error.message), button("Try again", () => location.reload()));
}
