// Alerts: raised, silenced, and the rules behind them.

import { card, empty, h, missing, swap } from "./dom.js";
import { has } from "./api.js";
import { actButton } from "./act.js";
import { severity, table } from "./draw.js";
import { length, moment } from "./format.js";

export function alerts({ refresh }) {
  if (!has("monitoring.alerts")) return { root: h("div", { class: "cards" }, card("Alerts", {}, missing("monitoring", "Watching for trouble")).root), watch: [] };
  const active = card("Raised", { wide: true });
  const silences = card("Silences");
  const channels = card("Who is told");
  const rules = card("Thresholds", { wide: true });
  const history = card("History", { wide: true });
  return {
    root: h("div", { class: "cards" }, active.root, silences.root, channels.root, rules.root, history.root),
    watch: ["monitoring.alerts", "monitoring.thresholds"],
    panel(name, { result, fault }) {
      if (fault) return;
      if (name === "monitoring.alerts") {
        swap(active.body, result.active.length ? table(result.active, {
          columns: [
            { name: "name", label: "alert", cell: (row) => [severity(row.severity), " ", row.name] }, { name: "shown", label: "now" },
            { name: "rule", class: "mono" }, { name: "subject" }, { name: "since" }, { name: "acknowledged", label: "looked after by" },
          ],
          actions: (row) => [
            row.acknowledged ? null : actButton("Acknowledge", "monitoring.acknowledge", { name: row.name }, { fixed: ["name"], danger: false, after: refresh }),
            row.silenced ? h("small", {}, "silenced") : actButton("Silence", "monitoring.silence", { name: row.name, for_s: 3600 }, { fixed: ["name"], danger: false, after: refresh }),
          ],
          caption: "Raised alerts",
        }) : empty("No alert is raised."));
        swap(silences.body, table(result.silences, {
          columns: [{ name: "pattern" }, { name: "until" }, { name: "actor", label: "by" }, { name: "reason" }],
          actions: (row) => [actButton("End", "monitoring.silence", { name: row.pattern, for_s: 0 }, { fixed: ["name", "for_s"], words: "People are told of it again.", danger: false, after: refresh })],
          caption: "Silences", none: "Nothing is silenced.",
        }), h("p", { class: "buttons" }, actButton("Silence more", "monitoring.silence", { for_s: 3600 }, { danger: false, after: refresh })));
        swap(channels.body, Array.isArray(result.channels) ? table(result.channels, { caption: "Channels", none: "The log, and nobody else." }) : table(Object.entries(result.channels || {}).map(([channel, said]) => ({ channel, ...(typeof said === "object" ? said : { value: said }) })), { caption: "Channels", none: "The log, and nobody else." }));
        swap(history.body, table(result.history, {
          columns: [{ name: "at", cell: (row) => moment(row.at) }, { name: "name", label: "alert", cell: (row) => [severity(row.severity), " ", row.name] }, { name: "state" }, { name: "shown", label: "value" }, { name: "seconds", label: "after", cell: (row) => (row.state === "cleared" ? length(row.seconds) : "–") }, { name: "rule", class: "mono" }],
          caption: "What was raised and cleared", none: "Nothing yet.",
        }));
      } else {
        swap(rules.body, table(result, {
          columns: [{ name: "name" }, { name: "severity", cell: (row) => (row.raised ? severity(row.severity) : row.severity) }, { name: "rule", class: "mono" }, { name: "shown", label: "now", number: true }, { name: "raised" }, { name: "origin", label: "set by" }],
          actions: (row) => [actButton("Change", "monitoring.threshold", { name: row.name, severity: row.severity, rule: row.rule }, { fixed: ["name", "severity"], danger: false, after: refresh })],
          caption: "Rules",
        }), h("p", { class: "buttons" }, actButton("New rule", "monitoring.threshold", {}, { danger: false, after: refresh })));
      }
    },
  };
}
