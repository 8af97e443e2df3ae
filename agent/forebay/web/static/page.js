"use strict";
const at = (id) => document.getElementById(id);
const EVERY_MS = 2000, SERIES_EVERY = 2, CONFIG_EVERY = 15, LATE_S = 60, NARROW = matchMedia("(max-width: 640px)");
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
  if (seconds < 60) return `${Math.floor(seconds)} s`;
  const days = Math.floor(seconds / 86400), hours = Math.floor(seconds % 86400 / 3600), minutes = Math.floor(seconds % 3600 / 60);
  return (days ? `${days} d ` : "") + (days || hours ? `${hours} h ` : "") + `${minutes} min`;
}

function showTroubles(facts) {
  const troubles = facts.troubles.slice().reverse().map((t) => {
    const said = Object.entries(t.facts).map(([k, v]) => `${k}: ${v}`).join(", ");
    const line = element("li", { class: t.level }, `${t.component}: ${t.message}${said ? ` (${said})` : ""}`);
    const when = [`${moment(t.wall_ns / 1e6)}${t.times > 1 ? `, ${t.times} times` : ""}`, t.do ? `What to do: ${t.do}` : ""];
    line.append(...when.filter(Boolean).map((text) => element("div", { class: "soft" }, text)));
    return line;
  });
  at("troubles").replaceChildren(...(troubles.length ? troubles : [element("li", {}, "none")]));
}

function showAlarms(alarms) {
  at("alarmbox").hidden = !alarms.length;
  const devices = alarms.some((a) => a.device);
  at("alarms").replaceChildren(...drawTable(["state", "alarm", "stream", ...(devices ? ["device"] : []), "when"], alarms.map((a) => [
    element("td", { class: a.state === "raised" ? "down" : "up" }, a.state), a.alarm, a.stream, ...(devices ? [a.device] : []), moment(a.time)])));
}

function showReceiver(facts) {
  at("name").textContent = `${facts.center} · receiver`;
  at("line").textContent = `version ${facts.version}, up ${clock(facts.uptime_s)}, listens on ${facts.endpoint}, stores into ${Object.entries(facts.sinks).map(([n, t]) => `${n} (${t})`).join(", ")}`;
  at("alarm").hidden = !facts.held_batches;
  at("alarm").textContent = `${facts.held_batches} batches wait on their gateways: masked under a policy that is not listed`;
  const gateways = Object.entries(facts.gateways), scroll = element("div", { class: "scroll" }), table = element("table");
  table.append(...drawTable(["gateway", "agent", "heard", "batches stored"], gateways.map(([name, g]) => [
    name, g.agent, element("td", { class: g.heard_s > LATE_S ? "down" : "up" }, `${clock(g.heard_s)} ago`), g.batches])));
  scroll.append(table);
  at("flowname").textContent = "Gateways";
  at("flow").replaceChildren(gateways.length ? scroll : "No gateway was heard since the start.", element("p", {}, `${amount(facts.stored_batches)} batches stored since the start`));
  for (const id of ["spool", "link", "series", "ledger"]) at(id).closest("section").hidden = true;
  showTroubles(facts);
}

function show(facts) {
  if (facts.kind === "receiver") return showReceiver(facts);
  at("name").textContent = facts.gateway + (facts.site ? ` · ${facts.site}` : "");
  at("line").textContent = `version ${facts.version}, up ${clock(facts.uptime_s)}, ${withUnit(facts.process.rss_bytes, "B")} of memory, clock ${facts.clock}, policy ${facts.policy.name} ${facts.policy.hash.slice(0, 12)}`;
  const alarm = facts.stuck || (facts.config.safe_mode && `Safe mode: ${facts.config.safe_mode}`) || (facts.balanced ? "" : "The ledger does not balance: please report this");
  at("alarm").hidden = !alarm;
  at("alarm").textContent = alarm;
  const rates = ratesSince(facts), wrongs = Object.entries(facts.pipelines).filter(([, p]) => p.trouble);
  at("flow").replaceChildren(...(NARROW.matches ? listFlow(facts, rates) : [drawFlow(facts, rates)]),
    ...wrongs.map(([name, p]) => element("p", { class: "down" }, `${name}: ${p.trouble}`)));
  showSpool(facts.spool);
  const link = facts.link, word = element("b", { class: link.state === "up" ? "up" : "down" }, link.state);
  at("link").replaceChildren(word, ` ${link.endpoint}`, ...[link.reason, `${amount(link.delivered_batches)} batches acknowledged`].filter(Boolean).map((text) => element("div", {}, text)));
  at("ledger").replaceChildren(...drawLedger(facts.streams));
  showTroubles(facts);
  before = facts;
}

function showSpool(spool) {
  const share = Math.min(1, spool.file_bytes / spool.max_bytes), gauge = element("div", { class: "gauge" }), fill = element("i", share > 0.8 ? { class: "high" } : {});
  fill.style.width = `${(share * 100).toFixed(1)}%`;
  gauge.append(fill);
  const lines = [`${withUnit(spool.file_bytes, "B")} of ${withUnit(spool.max_bytes, "B")}, ${amount(spool.pending_batches)} ${spool.pending_batches === 1 ? "batch waits" : "batches wait"}`, `state ${spool.state} ${spool.detail}`];
  lines.push(spool.full_in_s === null ? "does not fill: nothing waits for long" : `full in ${clock(spool.full_in_s)} if nothing is delivered from now on`);
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
    const facts = await (await ask("api/facts")).json();
    show(facts);
    if (facts.kind !== "receiver") showAlarms(await (await ask("api/alarms")).json());
    at("login").hidden = true;
    at("facts").hidden = false;
    if (looks % SERIES_EVERY === 0 && facts.kind !== "receiver") {
      const series = await (await ask("api/series")).json();
      at("series").replaceChildren(...drawStreams(series, Object.values(facts.pipelines).map((p) => p.stream)));
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
