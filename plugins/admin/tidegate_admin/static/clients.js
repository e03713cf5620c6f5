// Who is there: connections, accounts and their sessions.

import { button, card, empty, h, missing, swap } from "./dom.js";
import { call, has } from "./api.js";
import { actButton, open, say } from "./act.js";
import { facts, table } from "./draw.js";
import { length, moment } from "./format.js";

export const whereabouts = (address) => (address ? h("a", { href: `#/address?of=${encodeURIComponent(address)}`, "data-focus": `at ${address}` }, address.replace(/\/32$/, "")) : "–");

const account = (id, name) => (id && id !== "operator" ? h("a", { href: `#/clients?user=${encodeURIComponent(id)}`, "data-focus": `user ${id}` }, name || id) : id || "–");

export function connectionTable(rows, refresh) {
  return table(rows, {
    columns: [{ name: "id", class: "mono" }, { name: "kind" }, { name: "address", cell: (row) => whereabouts(row.address) }, { name: "user", cell: (row) => account(row.user, row.name) }, { name: "seconds", label: "for", cell: (row) => length(row.seconds), number: true }, { name: "calls" }, { name: "bytes_in", label: "in" }, { name: "bytes_out", label: "out" }],
    actions: (row) => [actButton("Close", "system.close", { id: row.id }, { fixed: ["id"], after: refresh })],
    caption: "Connections", none: "Nobody is connected.",
  });
}

export function clients({ query }) {
  const connections = card("Connections", { wide: true, note: "the oldest first" });
  const accounts = card("Accounts", { wide: true }), sessions = card("Sessions and tokens", { wide: true, note: "the youngest first" });
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
  let since = null;
  async function loadSessions() {
    let result;
    try { result = await call("account.list_sessions", { limit: 25, ...(since ? { after: since } : {}) }); } catch (error) { swap(sessions.body, empty(error.message)); return; }
    swap(sessions.body, table(result.sessions, {
      columns: [{ name: "name", label: "account", cell: (row) => account(row.user, row.name) }, { name: "kind" }, { name: "label" }, { name: "scopes", cell: (row) => (row.scopes ? row.scopes.join(", ") : "all") }, { name: "address", cell: (row) => whereabouts(row.address) }, { name: "used", label: "last used", cell: (row) => moment(row.used) }, { name: "expires", cell: (row) => moment(row.expires) }],
      actions: (row) => [actButton("End", "account.end_sessions", { user: row.user, session: row.id }, { fixed: ["user", "session"], whom: `${row.kind} of ${row.name}`, after: loadSessions })],
      caption: "Sessions and tokens of all accounts", none: "Nobody is logged in.",
    }), h("p", { class: "buttons" },
      since ? button("From the start", () => { since = null; loadSessions(); }, { "data-focus": "sessions first" }) : null,
      result.next ? button("More", () => { since = result.next; loadSessions(); }, { "data-focus": "sessions more" }) : null));
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
    swap(accounts.body, h("div", { class: "bar-of-tools" }, filter, actButton("New account", "account.create", {}, { danger: false, after: (made) => { reveal(made); loadAccounts(); } })), list);
    loadAccounts();
    if (query.get("user")) show(query.get("user"));
    loadSessions();
  } else swap(accounts.body, missing("accounts", "Users, roles and sessions"));
  loadConnections();
  let ticks = 0;
  return {
    root: h("div", { class: "cards" }, connections.root, accounts.root, has("account.list_sessions") ? sessions.root : null), watch: [],
    tick() { if ((ticks += 1) % 3 === 0 && !connections.body.contains(document.activeElement)) loadConnections(); },
  };
}

function accountActions(row, after) {
  const about = { fixed: ["user"], whom: row.name };
  return [
    row.suspended ? actButton("Reinstate", "account.reinstate", { user: row.id }, { ...about, danger: false, after }) : actButton("Suspend", "account.suspend", { user: row.id }, { ...about, after }),
    actButton("Role", "account.set_role", { user: row.id, role: row.role }, { ...about, after }),
    actButton("End sessions", "account.end_sessions", { user: row.id }, { ...about, after }),
    actButton("New password", "account.reset_password", { user: row.id }, { ...about, after: (made) => { reveal(made); after(); } }),
    actButton("New token", "account.create_token", { user: row.id }, { ...about, danger: false, after: (made) => { reveal(made); after(); } }),
  ];
}

/** A secret that the server tells this once. */
function reveal({ token, password }) {
  if (!token && !password) return;
  const words = token ? "token" : "password";
  open(`The new ${words}`, h("div", {}, h("p", {}, "It is shown this once; the server keeps only its hash."), h("pre", { tabindex: "0", "aria-label": `The new ${words}` }, token || password)));
}
