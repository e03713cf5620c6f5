// The server: commands over HTTP, and its live stream.

const BASE = "/api/v1";

export class Problem extends Error {
  constructor(said) {
    super(said.detail || said.title || "The server did not answer");
    this.said = said;
  }
}

/** Commands by name: {scope, plugin, summary, description, params: [{name, required, schema, description}]} */
export const commands = new Map();
export const has = (name) => commands.has(name);
/** The first of several names that this server has. */
export const first = (...names) => names.find(has);

export const me = { scopes: [] };
export const may = (name) => has(name) && me.scopes.includes(commands.get(name).scope);

function proof() {
  const name = `tidegate-${location.port || (location.protocol === "https:" ? 443 : 80)}-csrf=`;
  const found = document.cookie.split("; ").find((part) => part.replace("__Host-", "").startsWith(name));
  return found ? found.slice(found.indexOf("=") + 1) : "";
}

async function send(method, path, body) {
  let reply;
  try {
    reply = await fetch(path, {
      method,
      headers: { ...(body === undefined ? {} : { "Content-Type": "application/json" }), ...(method === "GET" ? {} : { "X-CSRF-Token": proof() }) },
      body: body === undefined ? undefined : JSON.stringify(body),
      redirect: "manual",
    });
  } catch {
    throw new Problem({ detail: "The server can't be reached", status: 0 });
  }
  if (reply.status === 401) location.assign("/login");
  if (reply.type === "opaqueredirect") return null;
  const said = await reply.json().catch(() => ({ detail: `HTTP ${reply.status}`, status: reply.status }));
  if (!reply.ok) throw new Problem(said);
  return said;
}

export const call = (name, params = {}) => send("POST", `${BASE}/commands/${encodeURIComponent(name)}`, params);

export async function logout() {
  await send("POST", "/logout");
  location.assign("/login");
}

export async function load() {
  const [who, api] = await Promise.all([send("GET", `${BASE}/whoami`), send("GET", `${BASE}/openapi.json`)]);
  Object.assign(me, who);
  for (const [path, methods] of Object.entries(api.paths)) {
    for (const [method, entry] of Object.entries(methods)) {
      const body = entry.requestBody?.content["application/json"].schema;
      const params = (entry.parameters || []).map(({ name, required, schema, description }) => ({ name, required, schema, description }));
      for (const [name, schema] of Object.entries(body?.properties || {})) {
        params.push({ name, schema, required: (body.required || []).includes(name), description: schema.description });
      }
      commands.set(entry.operationId, {
        name: entry.operationId, scope: entry["x-scope"], plugin: entry["x-plugin"], summary: entry.summary,
        description: entry.description, deprecated: entry.deprecated, method: method.toUpperCase(), path: BASE + path, params,
        result: entry.responses["200"].content["application/json"].schema,
      });
    }
  }
}

// --- live ------------------------------------------------------------------------------------------

const heard = { tick: new Set(), event: new Set(), panel: new Set(), state: new Set() };
const tell = (kind, ...what) => heard[kind].forEach((fn) => fn(...what));
let source = null;
let watching = "";
let retry = null;
export const live = { state: "connecting", paused: false, at: 0, values: {} };

/** Hear of `tick`, `event`, `panel` or `state`; gives the function that ends it. */
export function on(kind, fn) {
  heard[kind].add(fn);
  return () => heard[kind].delete(fn);
}

function become(state) {
  live.state = state;
  tell("state", state);
}

/** Watch these commands; events and the charts' numbers always come. */
export function watch(names) {
  const wanted = [...new Set(names)].filter((name) => may(name)).sort();
  watching = wanted.map((name) => `watch=${encodeURIComponent(name)}`).join("&");
  open();
}

function open() {
  clearTimeout(retry);
  source?.close();
  if (live.paused) return;
  const mine = (source = new EventSource(`${BASE}/stream?${watching}`));
  const parsed = (fn) => (message) => { if (mine === source) fn(JSON.parse(message.data)); };
  mine.onopen = () => mine === source && become("live");
  mine.onerror = () => {
    if (mine !== source) return;
    mine.close();
    become("away");
    retry = setTimeout(async () => {
      // A stream can't tell why it was refused; a call can, and leads to the login when that is the reason.
      try { await call("admin.whoami"); } catch { /* still away */ }
      open();
    }, 3000);
  };
  mine.addEventListener("tick", parsed((said) => { live.at = said.at; live.values = said.values; tell("tick", said.at, said.values); }));
  mine.addEventListener("event", parsed((said) => tell("event", said)));
  mine.addEventListener("panel", parsed((said) => tell("panel", said.name, said)));
  mine.addEventListener("ended", () => location.assign("/login"));
}

export function pause(paused) {
  live.paused = paused;
  if (paused) { source?.close(); source = null; clearTimeout(retry); become("paused"); } else open();
}
