// What an operator does: a form made from the command's own schema, asked for confirmation and a reason.

import { button, coded, h } from "./dom.js";
import { call, commands, may } from "./api.js";
import { label } from "./format.js";

/** Say something for a while, aloud too. */
export function say(text, tone = "good") {
  const note = h("p", { class: tone }, text);
  document.getElementById("notes").append(note);
  setTimeout(() => note.remove(), tone === "bad" ? 12000 : 6000);
}

function field({ name, required: needed, schema, description }, given, id) {
  const required = needed || name === "reason"; // who and why is what an audit trail is for
  const kinds = [schema.type || "string"].flat();
  const value = given ?? schema.default;
  const attributes = { id, name, required: required && !kinds.includes("null"), "aria-describedby": description ? `${id}-help` : null };
  let input;
  if (schema.enum) input = h("select", attributes, required ? null : h("option", { value: "" }, ""), schema.enum.map((one) => h("option", { value: one, selected: one === value }, String(one))));
  else if (kinds.includes("boolean")) input = h("select", attributes, required ? null : h("option", { value: "" }, ""), ["true", "false"].map((one) => h("option", { value: one, selected: String(value) === one }, one === "true" ? "yes" : "no")));
  else if (kinds.includes("integer") || kinds.includes("number")) input = h("input", { ...attributes, type: "number", step: kinds.includes("integer") && !kinds.includes("number") ? "1" : "any", min: schema.minimum, max: schema.maximum, value: value ?? "" });
  else if (kinds.includes("object")) input = h("textarea", { ...attributes, rows: 3, spellcheck: "false" }, value === undefined ? "" : JSON.stringify(value));
  else input = h("input", { ...attributes, type: schema.writeOnly ? "password" : "text", maxlength: schema.maxLength, autocomplete: "off", spellcheck: "false", autocapitalize: "none", value: Array.isArray(value) ? value.join(", ") : value ?? "" });
  return h("div", { class: "field" }, h("label", { for: id }, label(name), unit(name), required ? null : h("small", {}, " optional")), input, description ? h("small", { id: `${id}-help` }, description) : null);
}

const UNITS = { s: "seconds", ms: "milliseconds", bytes: "bytes" };
const unit = (name) => { const word = UNITS[name.split("_").at(-1)]; return word && name.includes("_") ? h("small", {}, ` in ${word}`) : null; };

let forms = 0;
/** {root, values()}: fields for a command's parameters, those in `given` filled in, those in `hidden` not shown. */
export function fields(name, given = {}, hidden = []) {
  const params = commands.get(name).params.filter((param) => !hidden.includes(param.name));
  const prefix = `f${(forms += 1)}`;
  const root = h("div", { class: "fields" }, params.map((param) => field(param, given[param.name], `${prefix}-${param.name}`)));
  function values() {
    const found = {};
    for (const { name: key, schema, required } of params) {
      const text = root.querySelector(`[name="${CSS.escape(key)}"]`).value;
      const kinds = [schema.type || "string"].flat();
      if (text === "") {
        if (required) found[key] = kinds.includes("null") ? null : "";
        continue;
      }
      if (kinds.includes("boolean")) found[key] = text === "true";
      else if (kinds.includes("integer") || kinds.includes("number")) found[key] = Number(text);
      else if (kinds.includes("array")) found[key] = text.split(",").map((part) => part.trim()).filter(Boolean);
      else if (kinds.includes("object")) { try { found[key] = JSON.parse(text); } catch { found[key] = text; } }
      else found[key] = text;
    }
    return found;
  }
  return { root, values };
}

let dialogs = 0;
/** Show something in a dialog. */
export function open(title, content, actions = []) {
  const name = `dialog-${(dialogs += 1)}`; // one may open over another
  const dialog = h("dialog", { "aria-labelledby": name });
  const close = button("Close", () => dialog.close());
  dialog.append(h("h2", { id: name, tabindex: "-1", autofocus: true }, title), content, h("p", { class: "buttons" }, actions, close));
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
  return dialog;
}

/**
 * Ask, then run a command. `given` fills the form in; those in `fixed` can't be changed; `whom` says in words who or
 * what it is about. Resolves with the result, or undefined when it was not wanted.
 */
export function act(name, given = {}, { title, fixed = [], words, whom, danger = true } = {}) {
  const about = commands.get(name);
  const set = Object.fromEntries(fixed.map((key) => [key, given[key]]));
  const form = fields(name, given, fixed);
  const problem = h("p", { role: "alert", class: "problem", hidden: true });
  const known = Object.entries(set).map(([key, value]) => h("div", {}, h("dt", {}, label(key)), h("dd", {}, String(value))));
  return new Promise((resolve) => {
    const dialog = h("dialog", { "aria-labelledby": "act-title" });
    const confirm = h("button", { class: danger ? "danger" : "primary" }, title || about.name);
    const submit = async (event) => {
      event.preventDefault();
      confirm.disabled = true;
      try {
        const result = await call(name, { ...form.values(), ...set });
        say(`${title || about.name}: done`);
        dialog.close();
        resolve(result);
      } catch (error) {
        const errors = (error.said?.errors || []).map((one) => one.message).filter((text) => text !== error.message);
        problem.textContent = [error.message, ...errors].join(" · ");
        problem.hidden = false;
      } finally { confirm.disabled = false; }
    };
    dialog.append(h("form", { onsubmit: submit }, h("h2", { id: "act-title" }, title || about.name, whom ? `: ${whom}` : null), h("p", { class: "hint" }, coded(words || about.summary)),
      known.length ? h("dl", { class: "facts" }, known) : null, form.root, problem, h("p", { class: "buttons" }, confirm, button("Cancel", () => dialog.close()))));
    dialog.addEventListener("close", () => { dialog.remove(); resolve(undefined); });
    document.body.append(dialog);
    dialog.showModal();
    (form.root.querySelector("input, select, textarea") || confirm).focus();
  });
}

/** A button for a command, where it is installed and this token may run it; `after` is called when it was done. */
export function actButton(text, name, given = {}, options = {}) {
  if (!may(name)) return null;
  const { after, focus, ...rest } = options;
  const run = async () => { const result = await act(name, given, { title: text, ...rest }); if (result !== undefined) after?.(result); };
  return button(text, run, { "data-focus": focus || `${name} ${JSON.stringify(given)}`, class: "small" });
}
