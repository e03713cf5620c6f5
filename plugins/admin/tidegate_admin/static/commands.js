// Commands over time: one of them, or all at one moment.

import { button, empty, h, swap } from "./dom.js";
import { call, has } from "./api.js";
import { open } from "./act.js";
import { bar, lineChart } from "./charts.js";
import { table } from "./draw.js";
import { millis, number, percent, when } from "./format.js";
import { range, WIDTHS } from "./points.js";

const STEPS = { "15m": 10, "6h": 60, "7d": 900 };
const MOST = 40; // commands of which a moment is asked

/** A command's name, which opens what it did in the time range. */
export const named = (name) => (has("monitoring.series") ? button(name, () => show(name), { class: "link", "data-focus": `command ${name}` }) : name);

async function show(name) {
  const measures = { "a second": `rate(calls.${name})`, p50: `p50(calls.${name})`, p99: `p99(calls.${name})`, failed: `percent(errors.${name})` };
  const line = (label) => ({ name: measures[label], label });
  const charts = [
    lineChart(`Calls of ${name}`, [line("a second")]), lineChart("Latency", [line("p50"), line("p99")], { format: millis }), lineChart("Failed calls", [line("failed")], { format: percent }),
  ];
  const problem = h("div", {});
  const leave = (hash) => () => { dialog.close(); location.hash = hash; };
  const dialog = open(name, h("div", { class: "detail" }, problem, charts.map((chart) => chart.root)), [
    has("errors.groups") ? button("Its errors", leave(`/errors?command=${encodeURIComponent(name)}`)) : null,
    button("What a call passes", leave(`/server?method=${encodeURIComponent(name)}`)),
  ]);
  const until = Date.now() / 1000;
  try {
    const { times, values } = await call("monitoring.series", { names: Object.values(measures), since: until - WIDTHS[range.span], until, step_s: STEPS[range.span] });
    charts.forEach((chart) => chart.draw(times, values));
  } catch (error) { swap(problem, empty(error.message)); }
}

/** Which commands were called, slow or failing at a moment of the charts. */
export async function showMoment(at) {
  const body = h("div", { class: "detail" }, empty("…"));
  open(`Commands at ${when(at)}`, body);
  try {
    const span = Date.now() / 1000 - at < 900 ? "15m" : "1d";
    const [report, now] = await Promise.all([call("monitoring.report", { span }), call("monitoring.metrics", { seconds: 60 })]);
    const names = [...new Set([report.slowest, report.busiest, report.failing, now.calls].flat().map((row) => row.command))].slice(0, MOST);
    const step = STEPS[range.span];
    const measures = (name) => [`rate(calls.${name})`, `p99(calls.${name})`, `percent(errors.${name})`];
    const { times, values } = await call("monitoring.series", { names: names.flatMap(measures), since: at - 2 * step, until: at + 2 * step, step_s: step });
    // A point stands at the start of its step.
    const place = Math.max(0, times.findLastIndex((one) => one <= at));
    const rows = names.map((name) => [name, ...measures(name).map((measure) => values[measure]?.[place])]).filter(([, rate]) => rate)
      .map(([command, rate, p99, failed]) => ({ command, rate, p99, failed })).sort((a, b) => (b.p99 || 0) - (a.p99 || 0));
    const most = Math.max(...rows.map((row) => row.p99 || 0), 0.001);
    swap(body, h("p", { class: "hint" }, `In ${step} seconds, the slowest first.`), table(rows, {
      columns: [
        { name: "command", cell: (row) => named(row.command) }, { name: "rate", label: "a second", number: true, cell: (row) => number(row.rate) },
        { name: "p99", number: true, cell: (row) => bar(millis(row.p99), row.p99 / most) }, { name: "failed", number: true, cell: (row) => percent(row.failed) },
      ],
      caption: "Commands at this moment", none: "Nothing is kept of this moment, or nothing was called.",
    }));
  } catch (error) { swap(body, empty(error.message)); }
}
