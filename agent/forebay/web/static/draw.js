"use strict";
// Drawing: everything is made as elements with text, never as markup, so that no name can become code.
const SVG = "http://www.w3.org/2000/svg";

function element(name, attributes = {}, text = null, space = null) {
  const made = space ? document.createElementNS(space, name) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== null) made.textContent = text;
  return made;
}
const svg = (name, attributes, text = null) => element(name, attributes, text, SVG);

function amount(n) {
  if (n === null || n === undefined || !isFinite(n)) return "–";
  const size = Math.abs(n);
  if (size >= 1e9) return (n / 1e9).toFixed(1) + " G";
  if (size >= 1e6) return (n / 1e6).toFixed(1) + " M";
  if (size >= 1e4) return (n / 1e3).toFixed(1) + " k";
  return size >= 100 || Number.isInteger(n) ? n.toFixed(0) : n.toPrecision(3);
}
const withUnit = (n, unit) => unit === "B" ? amount(n) + (Math.abs(n) >= 1e4 ? "B" : " B") : `${amount(n)} ${unit}`;
// Of today the time alone: a date beside it does not fit a phone.
function moment(ms) {
  const at = new Date(ms), two = (n) => String(n).padStart(2, "0");
  const time = [at.getHours(), at.getMinutes(), at.getSeconds()].map(two).join(":");
  return at.toDateString() === new Date().toDateString() ? time : `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())} ${time}`;
}
const short = (text, most) => text.length > most ? text.slice(0, most - 1) + "…" : text;

// One row a pipeline: source, steps, mask and guard, then the common spool and link.
function drawFlow(facts, rates) {
  const names = Object.keys(facts.pipelines), row = 56, width = 1060, height = Math.max(1, names.length) * row + 8;
  const root = svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": "pipelines" });
  const middle = height / 2, spoolX = 800, linkX = 945;
  names.forEach((name, place) => {
    const p = facts.pipelines[name], y = place * row + row / 2 + 4, rate = rates[p.stream] || {};
    const live = rate.read > 0 ? "pipe live" : "pipe";
    root.append(svg("path", { class: live, d: `M150 ${y} H740 C775 ${y} 765 ${middle} ${spoolX} ${middle}` }));
    box(root, 4, y, 146, name, p.source, p.trouble || !p.reading);
    const steps = [...p.steps, "mask", "guard"], shown = steps.length > 5 ? [...steps.slice(0, 3), "…", ...steps.slice(-2)] : steps;
    const step = 390 / shown.length;
    shown.forEach((s, i) => box(root, 290 + i * step, y, step - 10, short(s, Math.floor(step / 8)), "", !p.working));
    root.append(svg("text", { x: 160, y: y - 6, class: "soft" }, `${amount(rate.read)} readings/s`));
    root.append(svg("text", { x: 692, y: y - 6, class: "soft" }, `${amount(rate.accepted)}/s`));
  });
  root.append(svg("path", { class: facts.link.state === "up" ? "pipe live" : "pipe", d: `M${spoolX + 100} ${middle} H${linkX}` }));
  box(root, spoolX, middle, 100, "spool", `${amount(facts.spool.pending_batches)} wait`, facts.spool.state !== "ok");
  box(root, linkX, middle, 110, "receiver", facts.link.state, facts.link.state !== "up" && facts.link.state !== "none");
  return root;
}

function box(root, x, y, width, title, below, bad) {
  root.append(svg("rect", { class: bad ? "box bad" : "box", x, y: y - 18, width, height: 36, rx: 6 }));
  root.append(svg("text", { x: x + width / 2, y: below ? y - 2 : y + 4, "text-anchor": "middle" }, short(title, Math.max(3, Math.floor(width / 7)))));
  if (below) root.append(svg("text", { x: x + width / 2, y: y + 13, class: "soft", "text-anchor": "middle" }, short(below, Math.floor(width / 7))));
}

// The same for a phone: a card a pipeline, steps as words.
function listFlow(facts, rates) {
  return Object.entries(facts.pipelines).map(([name, p]) => {
    const card = element("div", { class: p.trouble || !p.reading ? "card bad" : "card" }), rate = rates[p.stream] || {}, way = element("div", { class: "way" });
    const head = element("div", { class: "head" });
    head.append(element("b", {}, name), element("span", {}, `${amount(rate.read)} → ${amount(rate.accepted)} readings/s`));
    for (const step of [p.source, ...p.steps, "mask", "guard", "spool"]) way.append(element("span", {}, step));
    card.append(head, way);
    return card;
  });
}

function drawSeries(one) {
  const figure = element("figure"), caption = element("figcaption"), points = one.points;
  const values = points.map((p) => p[1]), last = values.length ? values[values.length - 1] : NaN;
  caption.append(element("span", {}, one.field), element("b", {}, withUnit(last, one.unit)));
  const low = Math.min(...values), high = Math.max(...values), span = high - low;
  const from = points.length ? points[0][0] : 0, width = points.length ? points[points.length - 1][0] - from || 1 : 1;
  const curve = svg("svg", { viewBox: "0 0 200 48", preserveAspectRatio: "none", height: 48 });
  const path = points.map(([t, v], i) => `${i ? "L" : "M"}${((t - from) * 200 / width).toFixed(1)} ${(span ? 45 - (v - low) / span * 42 : 24).toFixed(1)}`).join("");
  curve.append(svg("path", { class: "curve", d: path || "M0 24", "vector-effect": "non-scaling-stroke" }));
  const range = span ? `${amount(low)} to ${amount(high)}` : "steady";
  figure.append(caption, curve, element("div", { class: "range" }, points.length > 1 ? `${range} in ${(width / 1000).toFixed(0)} s` : ""));
  return figure;
}

// One part a stream, those of the pipelines first; flags as words, charts for the rest. A stream with many is shut.
const shut = new Map();
function drawStreams(all, order) {
  const streams = new Map();
  for (const one of all.filter((s) => !s.stream.endsWith("_alarms"))) streams.set(one.stream, [...(streams.get(one.stream) || []), one]);
  const place = (name) => (order.indexOf(name) + order.length + 1) % (order.length + 1);
  return [...streams.keys()].sort((a, b) => (streams.get(a).length > 12) - (streams.get(b).length > 12) || place(a) - place(b)).map((name) => {
    const part = element("details"), charts = element("div", { class: "charts" }), flags = element("div", { class: "flags" });
    part.open = shut.has(name) ? !shut.get(name) : streams.get(name).length <= 12;
    part.addEventListener("toggle", () => shut.set(name, !part.open));
    for (const one of streams.get(name)) {
      if (one.type !== "bool") charts.append(drawSeries(one));
      else if (one.points.length) flags.append(element("span", {}, `${one.field}: ${one.points[one.points.length - 1][1] ? "yes" : "no"}`));
    }
    part.append(element("summary", {}, `${name} (${streams.get(name).length})`), flags, charts);
    return part;
  });
}

function drawTable(heads, rows) {
  const lines = [element("tr")];
  for (const head of heads) lines[0].append(element("th", {}, head));
  for (const cells of rows) {
    const line = element("tr");
    for (const cell of cells) line.append(cell instanceof Node ? cell : element("td", {}, typeof cell === "number" ? cell.toLocaleString("en") : cell));
    lines.push(line);
  }
  return lines;
}

function drawLedger(streams) {
  const sum = (counts) => Object.values(counts).reduce((a, b) => a + b, 0);
  return drawTable(["stream", "read", "filtered", "guarded", "rejected", "accepted", "delivered", "pending", "lost"], Object.entries(streams).map(
    ([name, e]) => [name, e.read, sum(e.filtered), e.guarded, sum(e.rejected), e.accepted, e.delivered, e.pending, sum(e.evicted) + sum(e.dead_lettered) + sum(e.quarantined)]));
}
