// The charts' points: the chosen range, kept up to date by the stream.

import { call, on } from "./api.js";

export const WIDTHS = { "15m": 900, "6h": 21600, "7d": 604800 };
export const range = { span: "15m" };
let kept = { times: [], values: {} };
const listeners = new Set();

export const points = () => kept;
export const onPoints = (fn) => { listeners.add(fn); return () => listeners.delete(fn); };

export async function loadPoints(span = range.span) {
  range.span = span;
  try {
    const { times, values } = await call("admin.series", { span });
    if (span !== range.span) return;
    kept = { times, values };
    listeners.forEach((fn) => fn());
  } catch { /* the next time */ }
}

on("tick", (at, values) => {
  if (range.span !== "15m") return;
  const length = kept.times.length;
  kept.times.push(at);
  for (const name of new Set([...Object.keys(kept.values), ...Object.keys(values)])) {
    (kept.values[name] ||= Array(length).fill(null)).push(values[name] ?? null);
  }
  while (kept.times.length && kept.times[0] < at - WIDTHS["15m"]) {
    kept.times.shift();
    Object.values(kept.values).forEach((row) => row.shift());
  }
});

setInterval(() => { if (range.span !== "15m") loadPoints(); }, 60000);
