// Errors: what fails, why, and what is left alone because of it.

import { button, card, empty, h, missing, swap } from "./dom.js";
import { call, has, may } from "./api.js";
import { act, actButton, open } from "./act.js";
import { bar } from "./charts.js";
import { anything, facts, table } from "./draw.js";
import { moment, number } from "./format.js";

const NEAR_S = 60; // a group belongs to a moment when it was seen so near

export function errors({ query, refresh, go }) {
  const groups = card("Error groups", { wide: true });
  const codes = card("By code");
  const commands = card("By command");
  const rest = card("Recovery", { wide: true });
  const breakers = card("Circuit breakers", { wide: true });
  if (!has("errors.stats")) return { root: h("div", { class: "cards" }, card("Errors", {}, missing("errors", "Counting errors, retry and breakers")).root), watch: [] };

  const code = query.get("code"), at = Number(query.get("at")) || 0, command = query.get("command");
  const chosen = (row) => (!code || String(row.code) === code) && (!command || row.commands.includes(command)) && (!at || (row.first <= at + NEAR_S && row.last >= at - NEAR_S));
  const filter = code || at || command ? h("p", { class: "filter" }, "Only ", code ? `code ${code}` : command ? `groups of ${command}` : "groups seen near ", at ? moment(at) : null, " ", button("Show all", () => go("#/errors"), { class: "small" })) : null;

  async function detail(row) {
    const logged = h("p", {}, "In the log under request id ", h("code", {}, row.request_id || "–"));
    open(`${row.code} ${row.type}`, h("div", { class: "detail" }, facts(row, ["error", "where", "count", "first", "last", "commands"]), logged, h("h3", {}, "A sample trace"), h("pre", { class: "trace", tabindex: "0" }, row.trace || "none was kept")));
  }

  const watch = ["errors.stats", "errors.groups", "breakers.list"];
  return {
    root: h("div", { class: "cards" }, groups.root, codes.root, commands.root, breakers.root, rest.root),
    watch,
    panel(name, { result, fault }) {
      if (fault) return;
      if (name === "errors.groups") {
        swap(groups.body, filter, table(result.filter(chosen), {
          columns: [
            { name: "error", cell: (row) => button(row.error || row.type, () => detail(row), { class: "link", "data-focus": row.fingerprint }) }, { name: "code" },
            { name: "where", class: "mono" }, { name: "count" }, { name: "commands" }, { name: "first" }, { name: "last" },
          ],
          caption: "Error groups, the one seen last first", none: filter ? "No group fits." : "Nothing has failed for a reason of ours.",
        }));
      } else if (name === "errors.stats") {
        const most = Math.max(...result.by_code.map((row) => row.count), 1);
        swap(codes.body, table(result.by_code, {
          columns: [{ name: "code" }, { name: "type", label: "fault" }, { name: "count", cell: (row) => bar(number(row.count), row.count / most), number: true }, { name: "last" }],
          caption: "Errors by code", none: "Nothing has failed.",
        }), may("errors.reset") ? h("p", { class: "buttons" }, actButton("Reset the counts", "errors.reset", {}, { after: refresh })) : null);
        swap(commands.body, table(result.by_command.map((row) => ({ ...row, method: row.method || "before there was a call" })), { columns: [{ name: "method", label: "command" }, { name: "count" }, { name: "codes" }], caption: "Errors by command", none: "Nothing has failed." }));
        const { by_code: _1, by_command: _2, ...others } = result;
        swap(rest.body, anything(others, "Recovery"));
      } else if (name === "breakers.list") {
        swap(breakers.body, result.length ? table(result.map((row) => ({ ...row })), {
          actions: (row) => [
            actButton("Force open", "breakers.force", { name: row.name, state: "open" }, { fixed: ["name", "state"], words: "Every call that needs it is refused until it decides by itself again.", after: refresh }),
            actButton("Force closed", "breakers.force", { name: row.name, state: "closed" }, { fixed: ["name", "state"], words: "Every call is let through, whatever fails.", after: refresh }),
            actButton("Auto", "breakers.force", { name: row.name, state: "auto" }, { fixed: ["name", "state"], words: "It decides by itself again.", danger: false, after: refresh }),
            actButton("Reset", "breakers.reset", { name: row.name }, { fixed: ["name"], danger: false, after: refresh }),
          ],
          caption: "Circuit breakers",
        }) : empty("No command has a breaker."));
      }
    },
  };
}
