// The events of the time line: the newest few hundred, and what can be done from one.

import { button, h } from "./dom.js";
import { call, has, on } from "./api.js";

const KEPT = 500;
export const events = [];

export async function loadEvents() {
  try {
    const found = await call("admin.events", { limit: KEPT });
    const known = new Set(found.map((row) => row.number));
    events.splice(0, events.length, ...events.filter((row) => !known.has(row.number) && row.number > (found[0]?.number || 0)), ...found);
  } catch { /* the stream brings what comes */ }
}

on("event", (row) => {
  const known = events.findIndex((one) => one.number === row.number);
  if (known >= 0) { events[known] = row; return; } // its count grew
  if (events.length && row.number < events[0].number) return;
  events.unshift(row);
  events.length = Math.min(events.length, KEPT);
});

/** The network or address that an event is about. */
export const whose = (fields) => fields.prefix || fields.address || null;

/** Links from an event to the address, the account and the errors behind it. */
export function about(row) {
  const fields = row.fields || {};
  const links = [];
  const place = whose(fields);
  if (place) links.push(h("a", { href: `#/address?of=${encodeURIComponent(place)}`, "data-focus": `a${row.number}` }, fields.address || place));
  const user = fields.user_id || (row.topic.startsWith("account.") ? fields.user : null);
  if (user && user !== "operator" && has("account.list")) links.push(h("a", { href: `#/clients?user=${encodeURIComponent(user)}`, "data-focus": `u${row.number}` }, "account"));
  if (row.topic === "breaker.changed") links.push(h("a", { href: "#/errors" }, "breakers"));
  if (row.topic.startsWith("alert.")) links.push(h("a", { href: "#/alerts" }, "alerts"));
  if (row.topic === "plugin.failed" || row.topic === "loop.blocked") links.push(h("a", { href: "#/server" }, "server"));
  return links.flatMap((link) => [link, " "]);
}

export const GROUPS = {
  everything: [],
  security: ["threat.", "attack.", "address.", "login.", "connection.refused", "protocol.", "rate."],
  trouble: ["plugin.", "loop.", "log.", "breaker.", "retry.", "load.", "database.", "alert."],
  people: ["operator.", "account.", "config.", "maintenance.", "server."],
};
export const within = (row, topics) => !topics.length || topics.some((topic) => (topic.endsWith(".") ? row.topic.startsWith(topic) : row.topic === topic));

export function chooser(now, choose) {
  return h("div", { class: "choices", role: "group", "aria-label": "Which events" }, Object.keys(GROUPS).map((name) =>
    button(name, () => choose(name), { "aria-pressed": String(name === now), "data-focus": `group ${name}` })));
}
