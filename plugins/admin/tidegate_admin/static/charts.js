// Small charts: lines over time, with a cursor for mouse and keyboard, and bars in tables.

import { h, svg, swap } from "./dom.js";
import { clock, day, number, when } from "./format.js";

const HEIGHT = 130, LEFT = 58, RIGHT = 6, TOP = 8, BOTTOM = 8; // pixels
const label = (step) => (step < 60 ? 76 : 54); // how wide one of the time axis is, with the room around it
const TIMES = [5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400, 172800];

/** Round numbers for an axis from 0 to at least `top`; `base` 1024 for bytes. */
function steps(top, base = 10) {
  const rough = (top || 1) / 3;
  const unit = base === 10 ? 1 : base ** Math.max(0, Math.floor(Math.log(rough) / Math.log(base)));
  const power = 10 ** Math.floor(Math.log10(rough / unit)) * unit;
  const step = [1, 2, 2.5, 5, 10].find((factor) => factor * power >= rough) * power;
  return [0, 1, 2, 3].map((place) => place * step).filter((value, place) => place === 0 || value - step < top);
}

/** Round times of day from `since` to `until`, as many as there is room for, and what each is called. */
function moments(since, until, room) {
  const step = TIMES.find((seconds) => (until - since) / seconds <= Math.max(1, room / label(seconds))) || TIMES.at(-1);
  const zone = new Date(until * 1000).getTimezoneOffset() * 60; // a day begins at the operator's midnight
  const found = [];
  for (let at = Math.ceil((since - zone) / step) * step + zone; at <= until; at += step) {
    found.push([at, (at - zone) % 86400 === 0 ? day(at).slice(5) : clock(at).slice(0, step < 60 ? 8 : 5)]);
  }
  return found;
}

/**
 * A chart of lines. `lines`: [{name, label}]; `format` words a value; `pick(at)` is called when a moment is chosen.
 * draw(times, values): values by name, null where there is none.
 */
export function lineChart(title, lines, { format = number, base, pick, pickLabel } = {}) {
  const plot = svg("svg", { "aria-hidden": "true" });
  const labels = h("div", { class: "axis", "aria-hidden": "true" });
  const tip = h("div", { class: "tip", hidden: true });
  const said = h("span", { class: "unseen", role: "status" });
  const legend = h("ul", { class: "legend" });
  const area = h("div", { class: "plot", tabindex: "0", role: "img" }, plot, labels, tip);
  const root = h("figure", { class: "chart", "data-chart": title }, h("figcaption", {}, title), legend, area, said);
  let times = [], values = {}, cursor = null, top = 1, width = 400;

  const x = (at) => LEFT + ((at - times[0]) / ((times.at(-1) - times[0]) || 1)) * (width - LEFT - RIGHT);
  const y = (value) => HEIGHT - BOTTOM - (value / top) * (HEIGHT - TOP - BOTTOM);
  const last = (name) => (values[name] || []).findLast((value) => value !== null);

  function path(points) {
    let text = "", pen = false;
    points.forEach((value, place) => {
      if (value === null || value === undefined) { pen = false; return; }
      const point = `${x(times[place]).toFixed(1)} ${y(value).toFixed(1)}`;
      text += pen ? `L${point}` : `M${point}h0`; // a point that stands alone is a dot
      pen = true;
    });
    return text;
  }

  function render() {
    width = area.clientWidth || width;
    const all = lines.flatMap(({ name }) => values[name] || []).filter((value) => value !== null);
    const ticks = steps(Math.max(0, ...all), base);
    top = ticks.at(-1) || 1;
    const grid = ticks.map((value) => svg("line", { class: "grid", x1: LEFT, x2: width - RIGHT, y1: y(value), y2: y(value) }));
    const shownMoments = times.length > 1 ? moments(times[0], times.at(-1), width - LEFT - RIGHT) : [];
    grid.push(...shownMoments.map(([moment]) => svg("line", { class: "grid", x1: x(moment), x2: x(moment), y1: TOP, y2: HEIGHT - BOTTOM })));
    const drawn = lines.map(({ name }, place) => svg("path", { class: `line line-${place}`, d: path(values[name] || []) }));
    const marker = cursor === null ? [] : [svg("line", { class: "cursor", x1: x(times[cursor]), x2: x(times[cursor]), y1: TOP, y2: HEIGHT - BOTTOM })];
    plot.replaceChildren(...grid, ...drawn, ...marker);
    const marks = ticks.map((value) => at(h("span", { class: "y" }, format(value)), 0, y(value)));
    for (const [moment, word] of shownMoments) {
      const half = word.length * 3.2, left = Math.min(width - RIGHT - half, Math.max(LEFT + half, x(moment)));
      marks.push(at(h("span", { class: "x" }, word), left, HEIGHT));
    }
    labels.replaceChildren(...marks);
    swap(legend, ...lines.map(({ name, label: text }, place) => h("li", { class: `key-${place}` }, h("i", {}), `${text} `, h("b", {}, format(last(name))))));
    const words = lines.map(({ name, label }) => `${label} ${format(last(name))}`).join(", ");
    area.setAttribute("aria-label", times.length ? `${title}: now ${words}; highest ${format(Math.max(0, ...all))}. Arrow keys read the past.` : `${title}: no numbers yet`);
  }

  function at(element, left, down) {
    element.style.left = `${left}px`;
    element.style.top = `${down}px`;
    return element;
  }

  function show(place) {
    cursor = place;
    tip.hidden = place === null;
    render();
    if (place === null) return "";
    const words = lines.map(({ name, label }) => `${label} ${format(values[name]?.[place])}`);
    tip.replaceChildren(h("b", {}, when(times[place])), ...words.map((word, line) => h("span", { class: `key-${line}` }, h("i", {}), word)));
    const left = x(times[place]);
    tip.style.left = `${left}px`;
    tip.classList.toggle("left", left > width * 0.6);
    return `${when(times[place])}: ${words.join(", ")}`;
  }

  function nearest(event) {
    const box = area.getBoundingClientRect();
    const where = times[0] + (event.clientX - box.left - LEFT) / (width - LEFT - RIGHT) * (times.at(-1) - times[0]);
    let best = 0;
    times.forEach((moment, place) => { if (Math.abs(moment - where) < Math.abs(times[best] - where)) best = place; });
    return best;
  }

  area.addEventListener("pointermove", (event) => times.length && show(nearest(event)));
  area.addEventListener("pointerleave", () => show(null));
  area.addEventListener("blur", () => show(null));
  area.addEventListener("keydown", (event) => {
    const move = { ArrowLeft: -1, ArrowRight: 1, Home: -Infinity, End: Infinity }[event.key];
    if (move && times.length) {
      event.preventDefault();
      said.textContent = show(Math.min(times.length - 1, Math.max(0, (cursor ?? times.length) + move)));
    } else if (event.key === "Enter" && pick && cursor !== null) pick(times[cursor]);
  });
  if (pick) {
    area.classList.add("pickable");
    area.title = pickLabel || "";
    area.addEventListener("click", (event) => times.length && pick(times[nearest(event)]));
  }
  new ResizeObserver(render).observe(area);
  return {
    root,
    draw(newTimes, newValues) {
      times = newTimes;
      values = newValues;
      if (cursor !== null) show(Math.min(cursor, times.length - 1)); else render();
    },
  };
}

/** A bar as wide as `part` of the whole, behind a number. */
export function bar(text, part) {
  const inner = h("i", {});
  inner.style.width = `${Math.max(0, Math.min(1, part || 0)) * 100}%`;
  return h("span", { class: "bar" }, inner, h("span", {}, text));
}
