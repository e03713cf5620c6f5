// Transactions: open ones, slow ones, and what became of all.

import { card, h, missing, swap } from "./dom.js";
import { has } from "./api.js";
import { actButton } from "./act.js";
import { anything, table } from "./draw.js";
import { length, moment } from "./format.js";

const COMMON = [{ name: "seconds", label: "took", number: true, cell: (row) => length(row.seconds) }, { name: "user" }, { name: "state" }, { name: "statements" }, { name: "rows" }, { name: "savepoints" }, { name: "read", label: "reads only" }, { name: "isolation" }, { name: "operations" }, { name: "id" }];
const METHOD = { name: "method", label: "command", cell: (row) => row.method || "the server itself" };

export function transactions({ refresh }) {
  if (!has("transactions.totals")) return { root: h("div", { class: "cards" }, card("Transactions", {}, missing("transactions", "The database")).root), watch: [] };
  const open = card("Open now", { wide: true }), slow = card("The slowest", { wide: true, note: "since the start" }), totals = card("Totals", { wide: true });
  return {
    root: h("div", { class: "cards" }, open.root, slow.root, totals.root),
    watch: ["transactions.active", "transactions.slow", "transactions.totals"],
    panel(name, { result, fault }) {
      if (fault) return;
      if (name === "transactions.active") swap(open.body, table(result, { columns: [METHOD, { ...COMMON[0], label: "for" }, ...COMMON.slice(1)], actions: (row) => [actButton("Roll back", "transactions.cancel", { id: row.id }, { fixed: ["id"], after: refresh })], caption: "Open transactions", none: "None is open." }));
      if (name === "transactions.slow") swap(slow.body, table(result, { columns: [METHOD, { name: "ended", cell: (row) => moment(row.ended) }, ...COMMON], caption: "The slowest transactions", none: "There was none yet." }));
      if (name === "transactions.totals") {
        const { "-": own, ...methods } = result.by_method;
        swap(totals.body, anything({ ...result, by_method: own ? { ...methods, "the server itself": own } : methods }, "Totals"));
      }
    },
  };
}
