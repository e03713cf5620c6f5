// Who is there: connections, accounts and their sessions.

import { button, card, empty, h, missing, swap } from "./dom.js";
import { call, has } from "./api.js";
import { actButton, open, say } from "./act.js";
import { facts, table } from "./draw.js";
import { length } from "./format.js";

export const whereabouts = (address) => (address ? h("a", { href: `#/address?of=${encodeURIComponent(address)}`, "data-focus": `at ${address}` }, address) : "–");

export function connectionTable(rows, refresh) {
  return table(rows, {
    columns: [{ name: "id", class: "mono" }, { name: "kind" }, { name: "address", cell: (row) => whereabouts(row.address) }, { name: "user" }, { name: "seconds", label: "for", cell: (row) => length(row.seconds), number: true }, { name: "calls" }, { name: "bytes_in", label: "in" }, { name: "bytes_out", label: "out" }],
    actions: (row) => [actButton("Close", "system.close", { id: row.id }, { fixed: ["id"], after: refresh })],
    caption: "Connections", none: "Nobody is connected.",
  });
}

export function clients({ query }) {
  const connections = card("Connections", { wide: true, note: "the oldest first" });
  const accounts = card("Accounts", { wide: true });
  let after = "", page = [];
  const LIMIT = 50;

  async function loadConnections() {
    try { page = await call("system.connections", { after, limit: LIMIT }); } catch (error) { swap(connections.body, empty(error.message)); return; }
    swap(connections.body, connectionTable(page, loadConnections), h("p", { class: "buttons" },
      after ? button("From the start", () => { after = ""; loadConnections(); }, { "data-focus": "first" }) : null,
      page.length === LIMIT ? button("More", () => { after = page.at(-1).id; loadConnections(); }, { "data-focus": "more" }) : null,
      button("Refresh", loadConnections, { "data-focus": "refresh" })));
  }

  const filter = h("input", { type: "search", id: "account-filter", placeholder: "Name begins with…", "aria-label": "Accounts whose name begins with", value: "" });
  const list = h("div", {});
  let from = null;
  async function loadAccounts() {
    let result;
    try { result = await call("account.list", { ...(filter.value ? { text: filter.value } : {}), ...(from ? { after: from } : {}) }); } catch (error) { swap(list, empty(error.message)); return; }
    const rows = result.accounts;
    swap(list, table(rows, {
      columns: [{ name: "name", cell: (row) => button(row.name, () => show(row.id), { class: "link", "data-focus": row.id }) }, { name: "role" }, { name: "suspended", cell: (row) => (row.suspended ? h("span", { class: "severity warning" }, "suspended") : "–") }, { name: "reason" }, { name: "until" }, { name: "connections" }, { name: "created" }],
      actions: (row) => accountActions(row, loadAccounts), caption: "Accounts", none: "No account fits.",
    }), h("p", { class: "buttons" },
      from ? button("From the start", () => { from = null; loadAccounts(); }, { "data-focus": "accounts first" }) : null,
      result.next ? button("More", () => { from = result.next; loadAccounts(); }, { "data-focus": "accounts more" }) : null));
  }
  async function show(id) {
    try {
      const result = await call("account.show", { user: id });
      const { sessions, ...rest } = result;
      open(`Account ${rest.name || id}`, h("div", { class: "detail" }, facts(rest), h("h3", {}, "Sessions and tokens"), table(sessions || [], { caption: "Sessions", none: "None." })), accountActions({ ...rest, id: rest.id || id }, loadAccounts));
    } catch (error) { say(error.message, "bad"); }
  }
  if (has("account.list")) {
    let wait;
    filter.addEventListener("input", () => { clearTimeout(wait); from = null; wait = setTimeout(loadAccounts, 250); });
    swap(accounts.body, h("div", { class: "bar-of-tools" }, filter, actButton("New account", "account.create", {}, { danger: false, after: loadAccounts })), list);
    loadAccounts();
    if (query.get("user")) show(query.get("user"));
  } else swap(accounts.body, missing("accounts", "Users, roles and sessions"));
  loadConnections();
  let ticks = 0;
  return {
    root: h("div", { class: "cards" }, connections.root, accounts.root), watch: [],
    tick() { if ((ticks += 1) % 3 === 0 && !connections.body.contains(document.activeElement)) loadConnections(); },
  };
}

function accountActions(row, after) {
  return [
    row.suspended ? actButton("Reinstate", "account.reinstate", { user: row.id }, { fixed: ["user"], danger: false, after }) : actButton("Suspend", "account.suspend", { user: row.id }, { fixed: ["user"], after }),
    actButton("Role", "account.set_role", { user: row.id, role: row.role }, { fixed: ["user"], after }),
    actButton("End sessions", "account.end_sessions", { user: row.id }, { fixed: ["user"], after }),
    actButton("New token", "account.create_token", { user: row.id }, { fixed: ["user"], danger: false, after }),
  ];
}
