// Tables, lists and the words of a panel's `draw`: table, number, line, list, timeline.

import { button, empty, h } from "./dom.js";
import { lineChart } from "./charts.js";
import { isWord, label, moment, number, shown, when } from "./format.js";

const numeric = (rows, name) => !isWord(name) && rows.some((row) => typeof row[name] === "number") && rows.every((row) => row[name] === null || typeof row[name] === "number");

/**
 * A table. `columns`: [{name, label, cell(row), number}] or just names; `actions(row)` gives buttons; `key(row)` names
 * a row, for the focus.
 */
export function table(rows, { columns, actions, caption, none = "Nothing here." } = {}) {
  if (!rows || !rows.length) return empty(none);
  // Where nobody says which: what a row is called before how much it is.
  const found = [...new Set(rows.slice(0, 20).flatMap((row) => Object.keys(row)))];
  const names = columns || [...found.filter((name) => !numeric(rows, name)), ...found.filter((name) => numeric(rows, name))].slice(0, 12);
  const shape = names.map((column) => (typeof column === "string" ? { name: column } : column)).map((column) => ({
    label: label(column.name), cell: (row) => shown(column.name, row[column.name]), number: numeric(rows, column.name), ...column,
  }));
  // The roles are said aloud since a phone shows rows as blocks, which takes them from the elements.
  const head = h("tr", { role: "row" }, shape.map((column) => h("th", { scope: "col", role: "columnheader", class: column.number ? "number" : null }, column.label)), actions ? h("th", { scope: "col", role: "columnheader" }, h("span", { class: "unseen" }, "Actions")) : null);
  const cell = (column, place, row) => {
    const inside = column.cell(row);
    const kind = [column.number ? "number" : column.class, inside === "–" ? "none" : null].filter(Boolean).join(" ");
    return h(place ? "td" : "th", { scope: place ? null : "row", role: place ? "cell" : "rowheader", class: kind || null, "data-label": column.label }, inside);
  };
  const body = rows.map((row) => h("tr", { role: "row" }, shape.map((column, place) => cell(column, place, row)), actions ? h("td", { class: "actions", role: "cell" }, actions(row)) : null));
  const wide = shape.length + (actions ? 2 : 0) > 5;
  return h("div", { class: wide ? "scroll stack" : "scroll", tabindex: "0", role: "region", "aria-label": caption || "Table" },
    h("table", { role: "table" }, caption ? h("caption", { class: "unseen" }, caption) : null, h("thead", { role: "rowgroup" }, head), h("tbody", { role: "rowgroup" }, body)));
}

/** The first `few` of many rows, drawn by `draw(rows)`, and a button for the rest; `key` names it, for the focus. */
const unfolded = new Set();
export function some(rows, few, key, draw, again) {
  const all = unfolded.has(key);
  const turn = () => { if (all) unfolded.delete(key); else unfolded.add(key); again(); };
  return [draw(all ? rows : rows.slice(0, few)), rows.length > few ? h("p", { class: "buttons" }, button(all ? "Fewer" : `All ${rows.length}`, turn, { class: "small", "data-focus": `some ${key}` })) : null];
}

/** Names and values. */
export function facts(object, names = Object.keys(object)) {
  return h("dl", { class: "facts" }, names.map((name) => h("div", {}, h("dt", {}, label(name)), h("dd", {}, shown(name, object[name])))));
}

/** Whatever a command answers: rows as a table, an object as facts with a table for each list in it. */
export function anything(result, caption) {
  if (Array.isArray(result)) {
    if (result.every((row) => row && typeof row === "object" && !Array.isArray(row))) return table(result, { caption });
    return list(result);
  }
  if (!result || typeof result !== "object") return h("p", {}, shown(caption || "", result));
  const rows = (value) => !Array.isArray(value) && Object.values(value).length > 0 && Object.values(value).every((one) => one && typeof one === "object" && !Array.isArray(one));
  const nested = ([, value]) => value && typeof value === "object" && (Array.isArray(value) ? typeof value[0] === "object" : Object.keys(value).length > 4 || rows(value));
  const entries = Object.entries(result);
  const flat = entries.filter((entry) => !nested(entry)).map(([name]) => name);
  const parts = entries.filter(nested).map(([name, value]) => h("div", { class: "part" }, h("h3", {}, label(name)), Array.isArray(value) ? table(value, { caption: label(name) }) : rows(value) ? table(Object.entries(value).map(([key, row]) => ({ " ": key, ...row })), { caption: label(name) }) : facts(value)));
  return h("div", {}, flat.length ? facts(result, flat) : null, parts, entries.length ? null : empty("Nothing here."));
}

const list = (items) => (items.length ? h("ul", {}, items.map((item) => h("li", {}, typeof item === "object" ? JSON.stringify(item) : String(item)))) : empty("Nothing here."));

/** Big numbers. `items`: [{label, value, note, tone}] */
export const tiles = (items) => h("ul", { class: "tiles" }, items.map(({ label: text, value, note, tone }) =>
  h("li", { class: tone || null }, h("span", { class: "what" }, text), h("strong", {}, value), note ? h("small", {}, note) : null)));

const SEVERITIES = { critical: "▲", warning: "●", info: "·" };
export const severity = (word) => h("span", { class: `severity ${word === "high" ? "critical" : word === "medium" ? "warning" : word}` }, h("span", { "aria-hidden": "true" }, SEVERITIES[word] || "●"), ` ${word}`);

/** What happened, the newest first. `about(row)` gives links and buttons. */
export function timeline(rows, about = () => []) {
  if (!rows.length) return empty("Nothing has happened yet.");
  return h("ol", { class: "timeline" }, folded(rows).map(({ row, count }) => {
    const fields = row.fields || Object.fromEntries(Object.entries(row).filter(([name]) => !["at", "topic", "severity", "title", "number"].includes(name)));
    const links = about(row);
    return h("li", { class: row.severity || "info" }, moment(row.last || row.at), " ",
      h("b", {}, row.topic || row.title || ""), " ", h("span", { class: "unseen" }, row.severity || ""),
      count > 1 ? h("span", { class: "many" }, `${count} times`) : null, h("span", { class: "words" }, summary(fields, links.length > 0)), " ", links);
  }));
}

/** A run of one topic shows each address once, with how often. */
function folded(rows) {
  const shown = [];
  let run = new Map(), topic = null;
  const latest = (row) => row.last || row.at;
  for (const row of [...rows].sort((a, b) => latest(b) - latest(a))) {
    if (row.topic !== topic) { run = new Map(); topic = row.topic; }
    const key = row.topic === undefined || row.severity === "critical" ? row : `${row.fields?.address} ${row.fields?.prefix} ${row.topic === "rate.exceeded" ? "" : row.fields?.method} ${row.fields?.name} ${row.fields?.code}`;
    if (run.has(key)) run.get(key).count += row.count || 1;
    else { const one = { row, count: row.count || 1 }; run.set(key, one); shown.push(one); }
  }
  return shown;
}

const HIDDEN = new Set(["connection_id", "proof", "fingerprint", "params", "rules", "prefix", "severity", "field", "retry_after", "count"]);
export function summary(fields, linked) {
  return Object.entries(fields)
    .filter(([name, value]) => !HIDDEN.has(name) && !(linked && name === "address") && value !== null && value !== "" && value !== undefined && !(name === "user_id" && value === fields.actor) && !(name === "mode" && value === "enforce"))
    .map(([name, value]) => `${label(name)} ${typeof value === "object" ? JSON.stringify(value) : typeof value === "number" ? (name === "until" ? when(value) : /code|port/.test(name) ? value : number(value)) : value}`)
    .join(" · ");
}

/** What draws a panel: {root, update(result)}. */
export function drawing(word, title) {
  const root = h("div", {});
  if (word === "line") return lines(root, title);
  const by = {
    number: (result) => tiles((typeof result === "object" && result ? Object.entries(result).filter(([, value]) => typeof value === "number") : [[title, result]]).map(([name, value]) => ({ label: label(name), value: shown(name, value) }))),
    list: (result) => (Array.isArray(result) ? list(result) : anything(result, title)),
    timeline: (result) => timeline(Array.isArray(result) ? result : []),
  }[word] || ((result) => anything(result, title));
  return { root, update: (result) => root.replaceChildren(by(result)) };
}

/** Numbers over time: the command answers with the numbers of now, by name, or with one. */
function lines(root, title) {
  let chart = null, times = [], values = {};
  return {
    root,
    update(result) {
      const now = typeof result === "number" ? { [title]: result } : Object.fromEntries(Object.entries(result || {}).filter(([, value]) => typeof value === "number").slice(0, 5));
      if (!chart) { chart = lineChart(title, Object.keys(now).map((name) => ({ name, label: label(name) }))); root.replaceChildren(chart.root); }
      times = [...times, Date.now() / 1000].slice(-200);
      for (const name of Object.keys(now)) values[name] = [...(values[name] || Array(times.length - 1).fill(null)), now[name]].slice(-200);
      chart.draw(times, values);
    },
  };
}
