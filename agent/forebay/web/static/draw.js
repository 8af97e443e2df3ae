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
const short = (text, most) => text.length > most ? text.slice(0, most - 1) + "…" : text;

// One row a pipeline: source, steps, mask and guard, then the common spool and link.
function drawFlow(facts, rates) {
  const names = Object.keys(facts.pipelines), row = 56, width = 1060, height = Math.max(1, names.length) * row + 8;
  const root = svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": "pipelines" });
  const middle = height / 2, spoolX = 800, linkX = 945;
  names.forEach((name, place) => {
    const p = facts.pipelines[name], y = place * row + row / 2 + 4, rate = rates[p.stream] || {};
    const live = rate.read > 0 ? "pipe live" : "pipe";
    root.append(svg("path", { class: live, d: `M150 ${y} H690 C750 ${y} 740 ${middle} ${spoolX} ${middle}` }));
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

function drawSeries(one) {
  const figure = element("figure"), caption = element("figcaption"), points = one.points;
  const last = points.length ? points[points.length - 1][1] : NaN;
  caption.append(element("span", {}, `${one.stream} · ${one.field}`), element("b", {}, `${amount(last)} ${one.unit}`));
  const values = points.map((p) => p[1]), low = Math.min(...values), high = Math.max(...values), span = high - low || 1;
  const curve = svg("svg", { viewBox: "0 0 200 48", preserveAspectRatio: "none", height: 48 });
  const path = values.map((v, i) => `${i ? "L" : "M"}${(i * 200 / Math.max(1, values.length - 1)).toFixed(1)} ${(45 - (v - low) / span * 42).toFixed(1)}`).join("");
  curve.append(svg("path", { class: "curve", d: path || "M0 24", "vector-effect": "non-scaling-stroke" }));
  figure.append(caption, curve);
  return figure;
}

function drawLedger(streams) {
  const rows = [element("tr")];
  for (const name of ["stream", "read", "filtered", "guarded", "rejected", "accepted", "delivered", "pending", "lost"]) rows[0].append(element("th", {}, name));
  const sum = (counts) => Object.values(counts).reduce((a, b) => a + b, 0);
  for (const [name, e] of Object.entries(streams)) {
    const row = element("tr"), lost = sum(e.evicted) + sum(e.dead_lettered) + sum(e.quarantined);
    for (const cell of [name, e.read, sum(e.filtered), e.guarded, sum(e.rejected), e.accepted, e.delivered, e.pending, lost]) row.append(element("td", {}, typeof cell === "number" ? cell.toLocaleString("en") : cell));
    rows.push(row);
  }
  return rows;
}
