"use strict";
const at = (id) => document.getElementById(id);
const EVERY_MS = 2000, SERIES_EVERY = 2, CONFIG_EVERY = 15;
let token = decodeURIComponent((location.hash.match(/token=([^&]*)/) || [])[1] || "") || sessionStorage.getItem("token") || "";
let before = null, looks = 0, stillAddress = null;

async function ask(path) {
  const answer = await fetch(path, { headers: { Authorization: `Bearer ${token}` } });
  if (answer.status === 401) throw new Error("denied");
  return answer;
}

function ratesSince(now) {
  const rates = {}, seconds = before ? now.uptime_s - before.uptime_s : 0;
  for (const [name, entry] of Object.entries(now.streams || {})) {
    const old = before && before.streams[name];
    rates[name] = {};
    for (const kind of ["read", "accepted", "delivered"]) rates[name][kind] = old && seconds > 0 ? (entry[kind] - old[kind]) / seconds : 0;
  }
  return rates;
}

function clock(seconds) {
  const days = Math.floor(seconds / 86400), hours = Math.floor(seconds % 86400 / 3600), minutes = Math.floor(seconds % 3600 / 60);
  return (days ? `${days} d ` : "") + (days || hours ? `${hours} h ` : "") + `${minutes} min`;
}

function showTroubles(facts) {
  const troubles = facts.troubles.slice().reverse().map((t) => {
    const said = Object.entries(t.facts).map(([k, v]) => `${k}: ${v}`).join(", ");
    return element("li", { class: t.level }, `${t.component}: ${t.message}${said ? ` (${said})` : ""}${t.times > 1 ? `, ${t.times} times` : ""}`);
  });
  at("troubles").replaceChildren(...(troubles.length ? troubles : [element("li", {}, "none")]));
}

function showReceiver(facts) {
  at("name").textContent = `${facts.center} · receiver`;
  at("line").textContent = `version ${facts.version}, up ${clock(facts.uptime_s)}, listens on ${facts.endpoint}, stores into ${Object.entries(facts.sinks).map(([n, t]) => `${n} (${t})`).join(", ")}`;
  at("alarm").hidden = !facts.held_batches;
  at("alarm").textContent = `${facts.held_batches} batches wait on their gateways: masked under a policy that is not listed`;
  const table = element("table"), head = element("tr");
  for (const name of ["gateway", "agent", "heard, seconds ago", "batches stored"]) head.append(element("th", {}, name));
  table.append(head);
  for (const [name, g] of Object.entries(facts.gateways)) {
    const row = element("tr");
    for (const cell of [name, g.agent, g.heard_s.toFixed(1), g.batches.toLocaleString("en")]) row.append(element("td", {}, cell));
    table.append(row);
  }
  at("flow").replaceChildren(table, element("div", {}, `${amount(facts.stored_batches)} batches stored since the start`));
  for (const id of ["spool", "link", "series", "ledger"]) at(id).closest("section").hidden = true;
  showTroubles(facts);
}

function show(facts) {
  if (facts.kind === "receiver") return showReceiver(facts);
  at("name").textContent = facts.gateway + (facts.site ? ` · ${facts.site}` : "");
  at("line").textContent = `version ${facts.version}, up ${clock(facts.uptime_s)}, clock ${facts.clock}, policy ${facts.policy.name} ${facts.policy.hash.slice(0, 12)}`;
  const alarm = facts.stuck || (facts.config.safe_mode && `Safe mode: ${facts.config.safe_mode}`) || (facts.balanced ? "" : "The ledger does not balance: please report this");
  at("alarm").hidden = !alarm;
  at("alarm").textContent = alarm;
  at("flow").replaceChildren(drawFlow(facts, ratesSince(facts)));
  showSpool(facts.spool);
  const link = facts.link, word = element("b", { class: link.state === "up" ? "up" : "down" }, link.state);
  at("link").replaceChildren(word, ` ${link.endpoint || ""} ${link.reason || ""}`, element("br"), `${amount(link.delivered_batches)} batches acknowledged`);
  at("ledger").replaceChildren(...drawLedger(facts.streams));
  showTroubles(facts);
  before = facts;
}

function showSpool(spool) {
  const share = Math.min(1, spool.file_bytes / spool.max_bytes), gauge = element("div", { class: "gauge" }), fill = element("i", share > 0.8 ? { class: "high" } : {});
  fill.style.width = `${(share * 100).toFixed(1)}%`;
  gauge.append(fill);
  const lines = [`${amount(spool.file_bytes)}B of ${amount(spool.max_bytes)}B, ${amount(spool.pending_batches)} batches wait`, `state ${spool.state} ${spool.detail}`];
  if (spool.full_in_s) lines.push(`at this rate full in ${clock(spool.full_in_s)}`);
  at("spool").replaceChildren(gauge, ...lines.map((text) => element("div", {}, text)));
}

async function showStill() {
  const answer = await ask("api/still");
  at("stillbox").hidden = answer.status !== 200;
  if (answer.status !== 200) return;
  const address = URL.createObjectURL(await answer.blob());
  at("still").src = address;
  if (stillAddress) URL.revokeObjectURL(stillAddress);
  stillAddress = address;
}

async function look() {
  try {
    show(await (await ask("api/facts")).json());
    at("login").hidden = true;
    at("facts").hidden = false;
    if (looks % SERIES_EVERY === 0) {
      const series = await (await ask("api/series")).json();
      at("series").replaceChildren(...series.map(drawSeries));
      await showStill();
    }
    if (looks % CONFIG_EVERY === 0) at("config").textContent = JSON.stringify(await (await ask("api/config")).json(), null, 1);
    looks += 1;
  } catch (error) {
    if (error.message === "denied") {
      at("denied").textContent = token ? "That is not the token." : "";
      at("login").hidden = false;
      at("facts").hidden = true;
      sessionStorage.removeItem("token");
      return;
    }
    at("alarm").hidden = false;
    at("alarm").textContent = "The agent does not answer.";
  }
  setTimeout(look, EVERY_MS);
}

at("login").addEventListener("submit", (event) => {
  event.preventDefault();
  token = at("token").value;
  sessionStorage.setItem("token", token);
  look();
});
if (location.hash) {
  sessionStorage.setItem("token", token);
  history.replaceState(null, "", location.pathname);
}
look();
