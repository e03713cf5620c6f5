// Numbers, times and sizes as people read them.

import { h } from "./dom.js";

const plain = new Intl.NumberFormat("en", { maximumFractionDigits: 2 });
const short = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });

export function number(value) {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  const size = Math.abs(value);
  if (size >= 100000) return short.format(value);
  if (size >= 10 && size < 100) return new Intl.NumberFormat("en", { maximumFractionDigits: 1 }).format(value);
  if (size >= 100) return new Intl.NumberFormat("en", { maximumFractionDigits: 0 }).format(value);
  return plain.format(value);
}

export function bytes(value) {
  if (value === null || value === undefined) return "–";
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let place = 0;
  while (Math.abs(value) >= 1024 && place < units.length - 1) { value /= 1024; place += 1; }
  return `${place ? value.toFixed(value < 10 ? 1 : 0) : value} ${units[place]}`;
}

export const percent = (value) => (value === null || value === undefined ? "–" : `${number(value)} %`);

export function millis(value) {
  if (value === null || value === undefined) return "–";
  if (value >= 1000) return `${number(value / 1000)} s`;
  return value > 0 && value < 0.1 ? `${number(value * 1000)} µs` : `${number(value)} ms`;
}

/** Seconds as a length of time. */
export function length(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  if (seconds < 1) return millis(seconds * 1000);
  if (seconds < 60) return `${number(seconds)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${Math.floor(seconds % 60)} s`;
  if (seconds < 86400) return `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} min`;
  return `${Math.floor(seconds / 86400)} d ${Math.floor((seconds % 86400) / 3600)} h`;
}

const two = (value) => String(value).padStart(2, "0");
export const clock = (at) => { const d = new Date(at * 1000); return `${two(d.getHours())}:${two(d.getMinutes())}:${two(d.getSeconds())}`; };
export const day = (at) => { const d = new Date(at * 1000); return `${d.getFullYear()}-${two(d.getMonth() + 1)}-${two(d.getDate())}`; };

/** The time of day, with the day when it is another one. */
export const when = (at) => (new Date(at * 1000).toDateString() === new Date().toDateString() ? clock(at) : `${day(at)} ${clock(at)}`);

export function moment(at) {
  if (!at) return "–";
  const date = new Date(at * 1000);
  return h("time", { datetime: date.toISOString(), title: date.toISOString() }, when(at));
}

const TIMES = /^(at|first|last|since|until|from|counted_from|to|created|expires|last_used|used|started|opened|ends|told|seen|first_seen|last_seen)$/;

/** A number that says when, or which one, and not how much. */
export const isWord = (name) => TIMES.test(name) || /code$|^id$|^pid$|^port$/.test(name);

/** A value for a table or a list; its name says what it measures. */
export function shown(name, value) {
  if (value === null || value === undefined || value === "") return "–";
  if (typeof value === "boolean") return value ? "yes" : "no";
  if (typeof value === "number") {
    if (TIMES.test(name) && value > 1e9) return moment(value);
    if (/(^|_)bytes(_|$)/.test(name)) return bytes(value);
    if (/percent/.test(name)) return percent(value);
    if (/_ms$/.test(name)) return millis(value);
    if (/_us$/.test(name)) return `${number(value)} µs`;
    if (/^seconds$|[^r]_s$|_seconds$/.test(name)) return length(value);
    if (/code$|^pid$|^port$/.test(name)) return String(value);
    return number(value);
  }
  if (Array.isArray(value)) {
    if (!value.length) return "–";
    if (value.every((item) => typeof item !== "object" || item === null)) return value.join(", ");
    return h("details", {}, h("summary", {}, `${value.length} entries`), h("pre", {}, JSON.stringify(value, null, 1)));
  }
  if (typeof value === "object") {
    const entries = Object.entries(value);
    if (!entries.length) return "–";
    if (entries.length <= 4 && entries.every(([, item]) => typeof item !== "object")) {
      return entries.map(([key, item]) => `${key}: ${TIMES.test(key) && item > 1e9 ? when(item) : item}`).join(", ");
    }
    return h("details", {}, h("summary", {}, `${entries.length} values`), h("pre", {}, JSON.stringify(value, null, 1)));
  }
  const text = String(value);
  if (text.length > 160 || text.includes("\n")) return h("details", {}, h("summary", {}, `${text.slice(0, 60).replaceAll("\n", " ")}…`), h("pre", {}, text));
  return /^[0-9a-f-]{32,36}$/.test(text) ? h("span", { class: "mono" }, text) : text;
}

/** `failed_percent` -> `failed %`; what a person reads above a column. */
export const label = (name) =>
  name.replace(/_percent\b/, " %").replace(/^per_s$/, "a second").replace(/_(ms|us|s|bytes)$/, "").replaceAll("_", " ").replaceAll(".", " ");
