// What an operator leaves open: how much, how quick, how wrong, and what happens.

import { card, empty, h, missing, swap } from "./dom.js";
import { has, live } from "./api.js";
import { bar, lineChart } from "./charts.js";
import { actButton } from "./act.js";
import { severity, some, table, tiles, timeline } from "./draw.js";
import { whereabouts } from "./clients.js";
import { named, showMoment } from "./commands.js";
import { about, chooser, events, GROUPS, within } from "./events.js";
import { bytes, length, millis, moment, number, percent } from "./format.js";
import { points } from "./points.js";

const at = (name) => live.values[name];

export function overview({ go }) {
  const monitored = has("monitoring.metrics");
  const ofMoment = has("monitoring.series") ? { pick: showMoment, pickLabel: "Show the commands of this moment" } : {};
  const pickErrors = has("errors.groups") ? (moment) => go(`#/errors?at=${Math.round(moment)}`) : undefined;
  const charts = [
    ...(monitored ? [
      lineChart("Calls a second", [{ name: "calls.per_s", label: "calls" }], ofMoment),
      lineChart("Latency", [{ name: "calls.p50_ms", label: "p50" }, { name: "calls.p90_ms", label: "p90" }, { name: "calls.p99_ms", label: "p99" }], { format: millis, ...ofMoment }),
      lineChart("Failed calls", [{ name: "calls.failed_percent", label: "failed" }], { format: percent, pick: pickErrors, pickLabel: "Show the error groups of this moment" }),
    ] : []),
    lineChart("Connections", [{ name: "core.connections_open", label: "open" }, { name: "core.calls_running", label: "calls running" }]),
    ...(monitored ? [
      lineChart("Event loop lag", [{ name: "loop.lag_ms", label: "p99" }], { format: millis }),
      lineChart("Processor", [{ name: "monitoring.cpu_percent", label: "CPU" }], { format: percent }),
      lineChart("Memory", [{ name: "monitoring.rss_bytes", label: "resident" }], { format: bytes, base: 1024 }),
      lineChart("File descriptors", [{ name: "monitoring.descriptors_open", label: "open" }]),
    ] : []),
  ];

  const numbers = h("div", {});
  const grid = h("div", { class: "charts" }, charts.map((chart) => chart.root));
  const alerts = card("Alerts");
  const top = card("Top commands", { note: "last 10 seconds" });
  const codes = card("Errors by code", { note: "since the last reset" });
  const offenders = card("Top offenders");
  const line = card("Time line", { wide: true });
  const ask = has("security.status") ? "security.status" : null;
  if (!monitored) { swap(alerts.body, missing("monitoring", "Watching for trouble")); swap(top.body, missing("monitoring", "Rates and latencies")); }
  if (!has("errors.stats")) swap(codes.body, missing("errors", "Counting errors"));
  if (!ask) swap(offenders.body, missing("security", "Seeing attackers"));

  let group = "everything";
  const told = () => swap(line.body, chooser(group, (name) => { group = name; told(); }), some(events.filter((row) => within(row, GROUPS[group])), 25, "time line", (rows) => timeline(rows, about), told));
  told();

  function tick() {
    const raised = at("monitoring.alerts_raised");
    swap(numbers, tiles([
      ...(monitored ? [
        { label: "Calls a second", value: number(at("calls.per_s")) },
        { label: "p99 latency", value: millis(at("calls.p99_ms")) },
        { label: "Failed", value: percent(at("calls.failed_percent")), tone: at("calls.failed_percent") > 5 ? "warning" : null },
      ] : []),
      { label: "Connections", value: number(at("core.connections_open")) },
      ...(monitored ? [
        { label: "Loop lag", value: millis(at("loop.lag_ms")), tone: at("loop.lag_ms") > 100 ? "warning" : null },
        { label: "CPU", value: percent(at("monitoring.cpu_percent")), tone: at("monitoring.cpu_percent") > 90 ? "warning" : null },
        { label: "Memory", value: bytes(at("monitoring.rss_bytes")) },
        { label: "Alerts", value: number(raised), tone: raised ? "critical" : null },
      ] : []),
    ]));
    draw();
  }
  function draw() {
    const { times, values } = points();
    charts.forEach((chart) => chart.draw(times, values));
  }
  tick();

  const panels = {
    "monitoring.alerts": ({ result }) => swap(alerts.body, result.active.length ? table(result.active, {
      columns: [
        { name: "name", label: "alert", cell: (row) => [severity(row.severity), " ", h("span", { title: row.rule }, row.name)] },
        { name: "shown", label: "now" }, { name: "seconds", label: "for", cell: (row) => length(row.seconds), number: true },
      ],
      actions: (row) => [row.silenced ? h("small", {}, "silenced") : actButton("Silence", "monitoring.silence", { name: row.name, for_s: 3600 }, { fixed: ["name"], danger: false })],
      caption: "Raised alerts",
    }) : empty("No alert is raised.")),
    "monitoring.metrics": ({ result }) => {
      const most = Math.max(...result.calls.map((row) => row.per_s), 0.001);
      swap(top.body, table(result.calls.slice(0, 10), {
        columns: [
          { name: "command", cell: (row) => named(row.command) }, { name: "per_s", cell: (row) => bar(number(row.per_s), row.per_s / most), number: true },
          { name: "p50_ms", label: "p50" }, { name: "p99_ms", label: "p99" }, { name: "failed_percent", label: "failed" },
        ],
        caption: "Commands by calls a second", none: "No call in the last seconds.",
      }));
    },
    "errors.stats": ({ result }) => {
      const most = Math.max(...result.by_code.map((row) => row.count), 1);
      swap(codes.body, table(result.by_code.slice(0, 10), {
        columns: [
          { name: "code", cell: (row) => h("a", { href: `#/errors?code=${row.code}`, "data-focus": `c${row.code}` }, String(row.code)) },
          { name: "type", label: "fault" }, { name: "count", cell: (row) => bar(number(row.count), row.count / most), number: true },
          { name: "last", cell: (row) => moment(row.last) },
        ],
        caption: "Errors by code", none: "Nothing has failed.",
      }));
    },
    "security.status": ({ result }) => {
      const most = Math.max(...result.top.map((row) => row.score), 1);
      swap(offenders.body, table(result.top, {
        columns: [{ name: "prefix", label: "address", cell: (row) => whereabouts(row.prefix) }, { name: "score", cell: (row) => bar(number(row.score), row.score / most), number: true }],
        caption: "Addresses by reputation", none: "Nobody has misbehaved.",
      }), h("p", { class: "hint" }, `${result.blocks.active} blocks stand; mode ${result.mode}.`));
    },
  };
  return {
    root: h("div", {}, numbers, grid, h("div", { class: "cards" }, alerts.root, offenders.root, top.root, codes.root, line.root)),
    watch: ["monitoring.alerts", "monitoring.metrics", "errors.stats", ...(ask ? [ask] : [])],
    panel: (name, said) => { if (!said.fault) panels[name]?.(said); },
    tick, event: told, points: draw,
  };
}
